//! Envoy's `RateLimitService`.

use std::sync::Arc;

use rateguard_engine::engine::Engine;
use rateguard_proto::envoy::service::ratelimit::v3::rate_limit_service_server::RateLimitService;
use rateguard_proto::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use tonic::{Request, Response, Status};

use super::{Call, answer, open_by_key};
use crate::convert::envoy::{described_call, rate_limit_response};

/// The service over the engine.
pub struct EnvoyRateLimits(pub Arc<Engine>);

#[tonic::async_trait]
impl RateLimitService for EnvoyRateLimits {
    async fn should_rate_limit(
        &self,
        request: Request<RateLimitRequest>,
    ) -> Result<Response<RateLimitResponse>, Status> {
        let Call { who: caller, message, .. } = open_by_key(&self.0, request)?;
        answer(async {
            let call = described_call(message)?;
            Ok(rate_limit_response(&self.0.check_described(&caller, &call).await?))
        })
        .await
    }
}
