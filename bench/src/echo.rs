//! The baseline of calls: a bare tonic server that takes the same message and answers a fixed one.

use std::path::Path;
use std::pin::Pin;

use futures::{Stream, TryStreamExt};
use prost::Message;
use rateguard_proto::envoy::service::ratelimit::v3::rate_limit_service_server::{
    RateLimitService, RateLimitServiceServer,
};
use rateguard_proto::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use rateguard_proto::v1;
use rateguard_proto::v1::quota_service_server::{QuotaService, QuotaServiceServer};
use tokio::net::TcpListener;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};
use tracing::subscriber::{NoSubscriber, set_global_default};

use crate::process::Echoed;
use crate::table::say;

/// As many calls of one connection at once as RateGuard takes.
const STREAMS_PER_CONNECTION_MAX: u32 = 1_024;

struct Echo<A>(A);

/// Serves until it is killed, on a runtime like the server's own.
///
/// # Errors
/// When the answer cannot be read or nothing can be bound.
#[tokio::main]
pub async fn serve(answer: &Path, echoed: Echoed) -> anyhow::Result<()> {
    // Without any subscriber the spans of the HTTP library are written out for the older facade.
    set_global_default(NoSubscriber::default())?;
    let answer = std::fs::read(answer)?;
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    say(&format!("ready at http://{}", listener.local_addr()?))?;
    let connections = TcpIncoming::from(listener).with_nodelay(Some(true));
    let mut server = Server::builder().max_concurrent_streams(STREAMS_PER_CONNECTION_MAX);
    let served = match echoed {
        Echoed::Checks => {
            let echo = Echo(v1::CheckQuotaResponse::decode(answer.as_slice())?);
            server.add_service(QuotaServiceServer::new(echo)).serve_with_incoming(connections).await
        }
        Echoed::Descriptors => {
            let echo = Echo(RateLimitResponse::decode(answer.as_slice())?);
            server.add_service(RateLimitServiceServer::new(echo)).serve_with_incoming(connections).await
        }
    };
    Ok(served?)
}

#[tonic::async_trait]
impl QuotaService for Echo<v1::CheckQuotaResponse> {
    type StreamCheckQuotaStream =
        Pin<Box<dyn Stream<Item = Result<v1::StreamCheckQuotaResponse, Status>> + Send>>;

    async fn stream_check_quota(
        &self,
        request: Request<Streaming<v1::StreamCheckQuotaRequest>>,
    ) -> Result<Response<Self::StreamCheckQuotaStream>, Status> {
        let answer = self.0.clone();
        let echo = move |question: v1::StreamCheckQuotaRequest| v1::StreamCheckQuotaResponse {
            request_id: question.check.unwrap_or_default().request_id,
            result: Some(v1::stream_check_quota_response::Result::Response(answer.clone())),
        };
        Ok(Response::new(Box::pin(request.into_inner().map_ok(echo))))
    }

    async fn check_quota(
        &self,
        _: Request<v1::CheckQuotaRequest>,
    ) -> Result<Response<v1::CheckQuotaResponse>, Status> {
        Ok(Response::new(self.0.clone()))
    }

    async fn batch_check_quota(
        &self,
        _: Request<v1::BatchCheckQuotaRequest>,
    ) -> Result<Response<v1::BatchCheckQuotaResponse>, Status> {
        Err(only_checks())
    }

    async fn get_quota(
        &self,
        _: Request<v1::GetQuotaRequest>,
    ) -> Result<Response<v1::GetQuotaResponse>, Status> {
        Err(only_checks())
    }

    async fn release_reservation(
        &self,
        _: Request<v1::ReleaseReservationRequest>,
    ) -> Result<Response<v1::ReleaseReservationResponse>, Status> {
        Err(only_checks())
    }

    async fn renew_reservation(
        &self,
        _: Request<v1::RenewReservationRequest>,
    ) -> Result<Response<v1::RenewReservationResponse>, Status> {
        Err(only_checks())
    }

    async fn lease_quota(
        &self,
        _: Request<v1::LeaseQuotaRequest>,
    ) -> Result<Response<v1::LeaseQuotaResponse>, Status> {
        Err(only_checks())
    }

    async fn return_lease(
        &self,
        _: Request<v1::ReturnLeaseRequest>,
    ) -> Result<Response<v1::ReturnLeaseResponse>, Status> {
        Err(only_checks())
    }

    async fn reset_quota(
        &self,
        _: Request<v1::ResetQuotaRequest>,
    ) -> Result<Response<v1::ResetQuotaResponse>, Status> {
        Err(only_checks())
    }
}

#[tonic::async_trait]
impl RateLimitService for Echo<RateLimitResponse> {
    async fn should_rate_limit(
        &self,
        _: Request<RateLimitRequest>,
    ) -> Result<Response<RateLimitResponse>, Status> {
        Ok(Response::new(self.0.clone()))
    }
}

fn only_checks() -> Status {
    Status::unimplemented("the echo answers checks alone")
}
