//! What the gateway asks its control server: the public services and the gateway's own, through the
//! generated clients and under one deadline each.

mod error;
mod transport;

use std::fmt;
use std::time::Duration;

use rateguard_proto::internal_v1::gateway_service_client::GatewayServiceClient;
use rateguard_proto::internal_v1::{
    PriceUsageRequest, PriceUsageResponse, ResolveRouteRequest, Route, WatchRoutesRequest,
    WatchRoutesResponse,
};
use rateguard_proto::v1::quota_service_client::QuotaServiceClient;
use rateguard_proto::v1::usage_service_client::UsageServiceClient;
use rateguard_proto::v1::{
    CheckQuotaRequest, CheckQuotaResponse, RecordResult, ReleaseReservationRequest, ReportUsageRequest,
    UsageRecord,
};
use sha2::{Digest, Sha256};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::{Request, Response, Status, Streaming};

pub use self::error::ControlError;
pub use self::transport::Transport;
use crate::secret::Secret;

/// The metadata in which a gateway names the key of the app that it acts for.
pub const ON_BEHALF_OF: &str = "x-rateguard-on-behalf-of";

const AUTHORIZATION: &str = "authorization";

/// The key of the app that a call is made for.
#[derive(Clone)]
pub struct AppKey {
    metadata: MetadataValue<Ascii>,
    digest: KeyDigest,
}

/// SHA-256 of a key: what caches and queues are keyed by instead of the key itself.
pub type KeyDigest = [u8; 32];

/// A credential that cannot be sent as metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the credential holds bytes that cannot be sent")]
pub struct UnsendableCredential;

/// The control server, on behalf of apps.
#[derive(Clone)]
pub struct Control {
    transport: Transport,
    authorization: MetadataValue<Ascii>,
    deadline: Duration,
}

impl AppKey {
    /// Takes a key that a client has shown.
    ///
    /// # Errors
    /// Fails if no metadata can carry it.
    pub fn new(secret: &Secret) -> Result<Self, UnsendableCredential> {
        let digest = Sha256::digest(secret.expose().as_bytes()).into();
        Ok(Self { metadata: sensitive(secret.expose())?, digest })
    }

    /// What to keep things under that belong to the key.
    pub fn digest(&self) -> KeyDigest {
        self.digest
    }
}

impl fmt::Debug for AppKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("AppKey([redacted])")
    }
}

impl Control {
    /// Speaks through `transport` as the gateway that `token` stands for; each question waits for
    /// `deadline` at most.
    ///
    /// # Errors
    /// Fails if no metadata can carry the token.
    pub fn new(
        transport: Transport,
        token: &Secret,
        deadline: Duration,
    ) -> Result<Self, UnsendableCredential> {
        let authorization = sensitive(&format!("Bearer {}", token.expose()))?;
        Ok(Self { transport, authorization, deadline })
    }

    /// Where calls to the API of this slug go; `None` for a server that names no route.
    ///
    /// # Errors
    /// As `ResolveRoute`.
    pub async fn resolve_route(&self, app: &AppKey, slug: &str) -> Result<Option<Route>, ControlError> {
        let request = self.request(app, ResolveRouteRequest { slug: slug.to_owned() });
        let mut client = GatewayServiceClient::new(self.transport.clone());
        Ok(self.within(client.resolve_route(request)).await?.route)
    }

    /// Changes of routes, until the server ends the stream. The deadline is that of its beginning.
    ///
    /// # Errors
    /// As `WatchRoutes`.
    pub async fn watch_routes(&self) -> Result<Streaming<WatchRoutesResponse>, ControlError> {
        let mut request = Request::new(WatchRoutesRequest {});
        request.metadata_mut().insert(AUTHORIZATION, self.authorization.clone());
        let mut client = GatewayServiceClient::new(self.transport.clone());
        self.within(client.watch_routes(request)).await
    }

    /// Decides whether a call may go ahead.
    ///
    /// # Errors
    /// As `CheckQuota`; a denial is none.
    pub async fn check(
        &self,
        app: &AppKey,
        check: CheckQuotaRequest,
    ) -> Result<CheckQuotaResponse, ControlError> {
        let mut client = QuotaServiceClient::new(self.transport.clone());
        self.within(client.check_quota(self.request(app, check))).await
    }

    /// Gives back what a reservation holds.
    ///
    /// # Errors
    /// As `ReleaseReservation`.
    pub async fn release(&self, app: &AppKey, reservation_id: &str) -> Result<(), ControlError> {
        let request = ReleaseReservationRequest { reservation_id: reservation_id.to_owned() };
        let mut client = QuotaServiceClient::new(self.transport.clone());
        self.within(client.release_reservation(self.request(app, request))).await.map(drop)
    }

    /// What a record costs, without storing it.
    ///
    /// # Errors
    /// As `PriceUsage`.
    pub async fn price(&self, app: &AppKey, record: UsageRecord) -> Result<PriceUsageResponse, ControlError> {
        let request = self.request(app, PriceUsageRequest { record: Some(record) });
        let mut client = GatewayServiceClient::new(self.transport.clone());
        self.within(client.price_usage(request)).await
    }

    /// Reports what calls of one app have used.
    ///
    /// # Errors
    /// As `ReportUsage`; a rejected record is none.
    pub async fn report(
        &self,
        app: &AppKey,
        records: Vec<UsageRecord>,
    ) -> Result<Vec<RecordResult>, ControlError> {
        let request = self.request(app, ReportUsageRequest { records });
        let mut client = UsageServiceClient::new(self.transport.clone());
        Ok(self.within(client.report_usage(request)).await?.results)
    }

    fn request<M>(&self, app: &AppKey, message: M) -> Request<M> {
        let mut request = Request::new(message);
        request.set_timeout(self.deadline);
        request.metadata_mut().insert(AUTHORIZATION, self.authorization.clone());
        request.metadata_mut().insert(ON_BEHALF_OF, app.metadata.clone());
        request
    }

    async fn within<M>(
        &self,
        call: impl Future<Output = Result<Response<M>, Status>>,
    ) -> Result<M, ControlError> {
        match tokio::time::timeout(self.deadline, call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(ControlError::from(&status)),
            Err(_) => Err(ControlError::deadline()),
        }
    }
}

fn sensitive(text: &str) -> Result<MetadataValue<Ascii>, UnsendableCredential> {
    let mut value = MetadataValue::try_from(text).map_err(|_| UnsendableCredential)?;
    value.set_sensitive(true);
    Ok(value)
}
