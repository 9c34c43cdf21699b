//! The baseline of checks: a bare tonic server that takes the same message and answers a fixed one.

use std::path::Path;
use std::pin::Pin;

use futures::{Stream, TryStreamExt};
use prost::Message;
use rateguard_proto::v1;
use rateguard_proto::v1::quota_service_server::{QuotaService, QuotaServiceServer};
use tokio::net::TcpListener;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};
use tracing::subscriber::{NoSubscriber, set_global_default};

use crate::table::say;

/// As many calls of one connection at once as RateGuard takes.
const STREAMS_PER_CONNECTION_MAX: u32 = 1_024;

struct Echo(v1::CheckQuotaResponse);

/// Serves until it is killed, on a runtime like the server's own.
///
/// # Errors
/// When the answer cannot be read or nothing can be bound.
#[tokio::main]
pub async fn serve(answer: &Path) -> anyhow::Result<()> {
    // Without any subscriber the spans of the HTTP library are written out for the older facade.
    set_global_default(NoSubscriber::default())?;
    let echo = Echo(v1::CheckQuotaResponse::decode(std::fs::read(answer)?.as_slice())?);
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    say(&format!("ready at http://{}", listener.local_addr()?))?;
    let connections = TcpIncoming::from(listener).with_nodelay(Some(true));
    let mut server = Server::builder().max_concurrent_streams(STREAMS_PER_CONNECTION_MAX);
    Ok(server.add_service(QuotaServiceServer::new(echo)).serve_with_incoming(connections).await?)
}

#[tonic::async_trait]
impl QuotaService for Echo {
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

fn only_checks() -> Status {
    Status::unimplemented("the echo answers checks alone")
}
