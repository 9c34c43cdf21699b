//! `QuotaService`.

use std::sync::Arc;

use rateguard_core::ids::ReservationId;
use rateguard_core::limits::BATCH_CHECKS_MAX;
use rateguard_core::money::Currency;
use rateguard_engine::caller::Caller;
use rateguard_engine::engine::Engine;
use rateguard_engine::error::EngineError;
use rateguard_engine::ports::ReleaseOutcome;
use rateguard_proto::v1;
use rateguard_proto::v1::quota_service_server::QuotaService;
use tonic::{Request, Response, Status};

use super::{Call, answer, open_by_key};
use crate::convert::check::{
    batch_size, check_error, check_request, check_response, limit_status, quota_call, reservation_state,
};
use crate::status::status;

/// The service over the engine.
pub struct Quota(pub Arc<Engine>);

impl Quota {
    async fn check(
        &self,
        caller: &Caller,
        currency: Currency,
        message: v1::CheckQuotaRequest,
    ) -> Result<v1::CheckQuotaResponse, EngineError> {
        let request = check_request(message, currency)?;
        Ok(check_response(self.0.check(caller, &request).await?, request.explain, currency))
    }
}

#[tonic::async_trait]
impl QuotaService for Quota {
    async fn check_quota(
        &self,
        request: Request<v1::CheckQuotaRequest>,
    ) -> Result<Response<v1::CheckQuotaResponse>, Status> {
        let Call { who: caller, view, message } = open_by_key(&self.0, request)?;
        answer(self.check(&caller, view.workspace.currency, message)).await
    }

    async fn batch_check_quota(
        &self,
        request: Request<v1::BatchCheckQuotaRequest>,
    ) -> Result<Response<v1::BatchCheckQuotaResponse>, Status> {
        let Call { who: caller, view, message } = open_by_key(&self.0, request)?;
        batch_size("requests", message.requests.len(), BATCH_CHECKS_MAX).map_err(|e| status(&e))?;
        let mut results = Vec::with_capacity(message.requests.len());
        for request in message.requests {
            let result = match self.check(&caller, view.workspace.currency, request).await {
                Ok(response) => v1::batch_check_result::Result::Response(response),
                Err(error) => v1::batch_check_result::Result::Error(check_error(&error)),
            };
            results.push(v1::BatchCheckResult { result: Some(result) });
        }
        Ok(Response::new(v1::BatchCheckQuotaResponse { results }))
    }

    async fn get_quota(
        &self,
        request: Request<v1::GetQuotaRequest>,
    ) -> Result<Response<v1::GetQuotaResponse>, Status> {
        let Call { who: caller, view, message } = open_by_key(&self.0, request)?;
        answer(async {
            let statuses = self.0.quota(&caller, &quota_call(message)?).await?;
            let convert = |s| limit_status(s, None, view.workspace.currency);
            Ok(v1::GetQuotaResponse { limits: statuses.iter().map(convert).collect() })
        })
        .await
    }

    async fn release_reservation(
        &self,
        request: Request<v1::ReleaseReservationRequest>,
    ) -> Result<Response<v1::ReleaseReservationResponse>, Status> {
        let Call { who: caller, message, .. } = open_by_key(&self.0, request)?;
        answer(async {
            let id = ReservationId::parse("reservation_id", &message.reservation_id)?;
            match self.0.release(&caller, &id).await? {
                ReleaseOutcome::State(state) => {
                    Ok(v1::ReleaseReservationResponse { state: reservation_state(state)?.into() })
                }
                ReleaseOutcome::Unknown => Err(EngineError::not_found("reservation", id.as_str())),
            }
        })
        .await
    }
}
