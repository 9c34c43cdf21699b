//! `QuotaService`.

mod stream;

use std::pin::Pin;
use std::sync::Arc;

use futures::Stream;
use rateguard_core::ids::{ReservationId, RuleId};
use rateguard_core::limits::BATCH_CHECKS_MAX;
use rateguard_core::money::Currency;
use rateguard_engine::caller::Caller;
use rateguard_engine::engine::Engine;
use rateguard_engine::error::EngineError;
use rateguard_engine::ports::ReleaseOutcome;
use rateguard_proto::access::Access;
use rateguard_proto::v1;
use rateguard_proto::v1::quota_service_server::QuotaService;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use self::stream::{Asker, answers};
use super::managed::to_the_end;
use super::{Call, answer, open, open_by_key};
use crate::auth::{method_of, shown_key};
use crate::convert::check::{
    batch_size, check_error, check_request, check_response, limit_status, quota_call, reservation_state,
    reset_draft, ttl_ms,
};
use crate::convert::leases::{lease_question, lease_response, lease_return};
use crate::convert::{resource_id, timestamp, unit_amounts};
use crate::status::status;

/// The path of the method whose callers stay.
const STREAM_CHECK_QUOTA: &str = "/rateguard.v1.QuotaService/StreamCheckQuota";

/// The service over the engine.
pub struct Quota {
    /// The engine.
    pub engine: Arc<Engine>,
    /// Ends the streams, so that a server that drains need not wait for them.
    pub drain: CancellationToken,
}

/// Decides one question.
async fn decide(
    engine: &Engine,
    caller: &Caller,
    currency: Currency,
    message: v1::CheckQuotaRequest,
) -> Result<v1::CheckQuotaResponse, EngineError> {
    let request = check_request(message, currency)?;
    Ok(check_response(engine.check(caller, &request).await?, request.explain, currency))
}

/// Whoever asks on a stream: let in by the layer in front, and looked up again as long as they stay.
fn asker<M>(engine: &Arc<Engine>, request: Request<M>) -> Result<(Asker, M), Status> {
    let headers = request.metadata().clone().into_headers();
    let Call { who: caller, message, .. } = open_by_key(engine, request)?;
    let access = match access_of(STREAM_CHECK_QUOTA) {
        Some(Access::Named(named)) => named,
        _ => return Err(status(&EngineError::internal("the method of streams is in no table"))),
    };
    let shown = shown_key(&headers, caller.principal().by_gateway).map_err(|error| status(&error))?;
    Ok((Asker { engine: engine.clone(), shown, access }, message))
}

fn access_of(path: &str) -> Option<Access> {
    method_of(path).map(|method| method.access)
}

#[tonic::async_trait]
impl QuotaService for Quota {
    type StreamCheckQuotaStream =
        Pin<Box<dyn Stream<Item = Result<v1::StreamCheckQuotaResponse, Status>> + Send>>;

    async fn stream_check_quota(
        &self,
        request: Request<Streaming<v1::StreamCheckQuotaRequest>>,
    ) -> Result<Response<Self::StreamCheckQuotaStream>, Status> {
        let (asker, questions) = asker(&self.engine, request)?;
        Ok(Response::new(Box::pin(answers(asker, questions, self.drain.clone()))))
    }

    async fn renew_reservation(
        &self,
        request: Request<v1::RenewReservationRequest>,
    ) -> Result<Response<v1::RenewReservationResponse>, Status> {
        let Call { who: caller, message, .. } = open_by_key(&self.engine, request)?;
        answer(async {
            let id = ReservationId::parse("reservation_id", &message.reservation_id)?;
            let expires_at = self.engine.renew(&caller, &id, ttl_ms("ttl_ms", message.ttl_ms)?).await?;
            Ok(v1::RenewReservationResponse { expire_time: Some(timestamp(expires_at)) })
        })
        .await
    }

    async fn lease_quota(
        &self,
        request: Request<v1::LeaseQuotaRequest>,
    ) -> Result<Response<v1::LeaseQuotaResponse>, Status> {
        let Call { who: caller, view, message } = open_by_key(&self.engine, request)?;
        let engine = self.engine.clone();
        answer(async {
            let question = lease_question(message)?;
            // What is lent is remembered also when the caller goes away in the middle.
            let answer = to_the_end(async move { engine.lease_quota(&caller, &question).await }).await?;
            Ok(lease_response(answer, view.workspace.currency))
        })
        .await
    }

    async fn return_lease(
        &self,
        request: Request<v1::ReturnLeaseRequest>,
    ) -> Result<Response<v1::ReturnLeaseResponse>, Status> {
        let Call { who: caller, message, .. } = open_by_key(&self.engine, request)?;
        let engine = self.engine.clone();
        answer(async {
            let (id, unspent) = lease_return(message)?;
            let returned =
                to_the_end(async move { engine.return_lease(&caller, &id, &unspent).await }).await?;
            Ok(v1::ReturnLeaseResponse { returned: unit_amounts(&returned) })
        })
        .await
    }

    async fn reset_quota(
        &self,
        request: Request<v1::ResetQuotaRequest>,
    ) -> Result<Response<v1::ResetQuotaResponse>, Status> {
        let Call { who, message, .. } = open(&self.engine, request)?;
        let engine = self.engine.clone();
        answer(async {
            let rule = RuleId::parse("rule_id", resource_id("rule_id", &message.rule_id)?)?;
            let draft = reset_draft(message.counters)?;
            // Noted and done together, also when the caller goes away in the middle.
            let (reset_at, count) =
                to_the_end(async move { engine.reset_quota(&who, &rule, &draft).await }).await?;
            Ok(v1::ResetQuotaResponse {
                reset_counters: i64::try_from(count).unwrap_or(i64::MAX),
                reset_time: Some(timestamp(reset_at)),
            })
        })
        .await
    }

    async fn check_quota(
        &self,
        request: Request<v1::CheckQuotaRequest>,
    ) -> Result<Response<v1::CheckQuotaResponse>, Status> {
        let Call { who: caller, view, message } = open_by_key(&self.engine, request)?;
        answer(decide(&self.engine, &caller, view.workspace.currency, message)).await
    }

    async fn batch_check_quota(
        &self,
        request: Request<v1::BatchCheckQuotaRequest>,
    ) -> Result<Response<v1::BatchCheckQuotaResponse>, Status> {
        let Call { who: caller, view, message } = open_by_key(&self.engine, request)?;
        batch_size("requests", message.requests.len(), BATCH_CHECKS_MAX).map_err(|e| status(&e))?;
        let mut results = Vec::with_capacity(message.requests.len());
        for request in message.requests {
            let result = match decide(&self.engine, &caller, view.workspace.currency, request).await {
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
        let Call { who: caller, view, message } = open_by_key(&self.engine, request)?;
        answer(async {
            let statuses = self.engine.quota(&caller, &quota_call(message)?).await?;
            let convert = |s| limit_status(s, None, view.workspace.currency);
            Ok(v1::GetQuotaResponse { limits: statuses.iter().map(convert).collect() })
        })
        .await
    }

    async fn release_reservation(
        &self,
        request: Request<v1::ReleaseReservationRequest>,
    ) -> Result<Response<v1::ReleaseReservationResponse>, Status> {
        let Call { who: caller, message, .. } = open_by_key(&self.engine, request)?;
        answer(async {
            let id = ReservationId::parse("reservation_id", &message.reservation_id)?;
            match self.engine.release(&caller, &id).await? {
                ReleaseOutcome::State(state) => {
                    Ok(v1::ReleaseReservationResponse { state: reservation_state(state)?.into() })
                }
                ReleaseOutcome::Unknown => Err(EngineError::not_found("reservation", id.as_str())),
            }
        })
        .await
    }
}
