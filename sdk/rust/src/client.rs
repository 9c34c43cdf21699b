//! The client: one question to the server for each decision.

use std::time::{Duration, SystemTime};

use rateguard_proto::v1;
use rateguard_proto::v1::quota_service_client::QuotaServiceClient;
use rateguard_proto::v1::usage_service_client::UsageServiceClient;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};
use tonic::{Request, Status};

use crate::call::Call;
use crate::error::{ConnectError, Error, ReportError};
use crate::leasing::LeasingClient;
use crate::retry::{ask, random_id};

/// Longest wait for a connection.
const CONNECT_WAIT_MAX: Duration = Duration::from_secs(5);
/// Longest wait for an answer, tries included, unless the client says otherwise.
const ANSWER_WAIT_DEFAULT: Duration = Duration::from_secs(3);
/// How often the server is asked whether it is still there while a question is open.
const PING_EVERY: Duration = Duration::from_secs(10);
/// Longest wait for its answer to that.
const PONG_WAIT_MAX: Duration = Duration::from_secs(5);

/// Puts the key on every call.
#[derive(Clone)]
pub(crate) struct Bearer(MetadataValue<Ascii>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

type Transport = InterceptedService<Channel, Bearer>;

/// A server, asked with a key. Cloning it is cheap, and clones share the connection.
#[derive(Clone)]
pub struct Client {
    channel: Channel,
    bearer: Bearer,
    answer_wait: Duration,
}

/// By whom a call was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecidedBy {
    /// By the server.
    Server,
    /// Here, by units that were taken in advance.
    Lease,
}

/// Whether a call may go ahead.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// Whether it may.
    pub is_allowed: bool,
    /// In how long the same call passes; `None` where it passes now, and where waiting does not help.
    pub retry_after: Option<Duration>,
    /// The reservation that holds what it may use, `rsv_…`; empty unless it was reserved.
    pub reservation_id: String,
    /// By whom it was decided.
    pub by: DecidedBy,
    /// The server's answer with the state of every limit; `None` where it was decided here.
    pub answer: Option<v1::CheckQuotaResponse>,
}

impl Decision {
    pub(crate) fn by_lease() -> Self {
        Self {
            is_allowed: true,
            retry_after: None,
            reservation_id: String::new(),
            by: DecidedBy::Lease,
            answer: None,
        }
    }

    fn by_server(answer: v1::CheckQuotaResponse) -> Self {
        let wait = answer.retry_after_ms.and_then(|ms| u64::try_from(ms).ok());
        Self {
            is_allowed: answer.decision() == v1::Decision::Allowed,
            retry_after: wait.map(Duration::from_millis),
            reservation_id: answer.reservation_id.clone(),
            by: DecidedBy::Server,
            answer: Some(answer),
        }
    }
}

impl Client {
    /// A client of the server at `url` (`http://…` or `https://…`) with a key of the scope `quota`. It
    /// connects when it is first used, and again when the connection was lost. Has to be called in a tokio
    /// runtime.
    ///
    /// # Errors
    /// For a URL or a key that cannot be used.
    pub fn connect(url: &str, key: &str) -> Result<Self, ConnectError> {
        let endpoint = Endpoint::from_shared(url.to_owned())?
            .tcp_nodelay(true)
            .connect_timeout(CONNECT_WAIT_MAX)
            .http2_keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PONG_WAIT_MAX);
        let endpoint = match endpoint.uri().scheme_str() {
            Some("https") => endpoint.tls_config(ClientTlsConfig::new().with_enabled_roots())?,
            _ => endpoint,
        };
        Self::over(endpoint.connect_lazy(), key)
    }

    /// A client over a channel that is there already, as with certificates of one's own.
    ///
    /// # Errors
    /// For a key that cannot be used.
    pub fn over(channel: Channel, key: &str) -> Result<Self, ConnectError> {
        let value = format!("Bearer {}", key.trim()).parse::<MetadataValue<Ascii>>();
        let mut value = value.map_err(|_| ConnectError::Key)?;
        value.set_sensitive(true);
        Ok(Self { channel, bearer: Bearer(value), answer_wait: ANSWER_WAIT_DEFAULT })
    }

    /// The same with another longest wait for an answer, tries included. Default: 3 seconds.
    #[must_use]
    pub fn waiting_at_most(self, answer_wait: Duration) -> Self {
        Self { answer_wait, ..self }
    }

    /// The same, deciding by units taken in advance wherever the limits allow that. Has to be called in a
    /// tokio runtime, which tends what is held.
    pub fn leasing(&self) -> LeasingClient {
        LeasingClient::new(self.clone())
    }

    /// Decides a call: all of its amounts are taken, or none.
    ///
    /// # Errors
    /// Where there is no decision. Asked again, it may be taken twice: the id of the question is drawn anew.
    pub async fn check(&self, call: &Call) -> Result<Decision, Error> {
        self.decide(call.check(random_id()?, v1::CheckMode::Consume)).await
    }

    /// Holds what a call may use, until it is settled by [`Client::settle`], released or expires. `ttl` is
    /// the reservation's life, 1 second to an hour; `None` for ten minutes.
    ///
    /// # Errors
    /// Where there is no decision; what it may have held expires by itself.
    pub async fn reserve(
        &self,
        call: &Call,
        estimate: v1::Estimate,
        ttl: Option<Duration>,
    ) -> Result<Decision, Error> {
        let ttl_ms = ttl.map(|ttl| i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX));
        self.decide(v1::CheckQuotaRequest {
            estimate: Some(estimate),
            reservation_ttl_ms: ttl_ms,
            ..call.check(random_id()?, v1::CheckMode::Reserve)
        })
        .await
    }

    async fn decide(&self, request: v1::CheckQuotaRequest) -> Result<Decision, Error> {
        let send = |request| {
            let mut quota = self.quota();
            async move { quota.check_quota(request).await }
        };
        ask(&request, self.answer_wait, send).await.map(Decision::by_server)
    }

    /// Gives back what a reservation holds. Again is harmless.
    ///
    /// # Errors
    /// As the server's.
    pub async fn release(&self, reservation_id: &str) -> Result<v1::ReservationState, Error> {
        let request = v1::ReleaseReservationRequest { reservation_id: reservation_id.to_owned() };
        let send = |request| {
            let mut quota = self.quota();
            async move { quota.release_reservation(request).await }
        };
        ask(&request, self.answer_wait, send).await.map(|answer| answer.state())
    }

    /// Reports what calls have used. A record without an `event_id` gets one, and one without an instant the
    /// one of now, before the first try: tried again, nothing is counted twice.
    ///
    /// # Errors
    /// Where the report was not answered. Whether it was taken is not known then; the error hands back the
    /// records as they were sent, which count once however often they are reported.
    pub async fn report(&self, records: Vec<v1::UsageRecord>) -> Result<Vec<v1::RecordResult>, ReportError> {
        let mut request = v1::ReportUsageRequest { records };
        match self.report_identified(&mut request).await {
            Ok(results) => Ok(results),
            Err(error) => Err(ReportError { error, records: request.records }),
        }
    }

    /// Reports what one call has used, which settles its reservation where the record names one.
    ///
    /// # Errors
    /// As [`Client::report`].
    pub async fn settle(&self, record: v1::UsageRecord) -> Result<v1::RecordResult, ReportError> {
        let mut request = v1::ReportUsageRequest { records: vec![record] };
        let settled = self.report_identified(&mut request).await;
        let result =
            settled.and_then(|mut results| results.pop().ok_or(Error::Incomplete("a record's result")));
        result.map_err(|error| ReportError { error, records: request.records })
    }

    /// Completes the records, and reports them. They stay with the caller, who hands them back where that fails.
    async fn report_identified(
        &self,
        request: &mut v1::ReportUsageRequest,
    ) -> Result<Vec<v1::RecordResult>, Error> {
        for record in &mut request.records {
            if record.event_id.is_empty() {
                record.event_id = random_id()?;
            }
            record.occur_time.get_or_insert_with(|| SystemTime::now().into());
        }
        let send = |request| {
            let mut usage = UsageServiceClient::with_interceptor(self.channel.clone(), self.bearer.clone());
            async move { usage.report_usage(request).await }
        };
        ask(request, self.answer_wait, send).await.map(|answer| answer.results)
    }

    pub(crate) fn answer_wait(&self) -> Duration {
        self.answer_wait
    }

    pub(crate) async fn lease(
        &self,
        request: v1::LeaseQuotaRequest,
    ) -> Result<v1::LeaseQuotaResponse, Error> {
        let send = |request| {
            let mut quota = self.quota();
            async move { quota.lease_quota(request).await }
        };
        ask(&request, self.answer_wait, send).await
    }

    pub(crate) async fn return_lease(
        &self,
        request: v1::ReturnLeaseRequest,
    ) -> Result<v1::ReturnLeaseResponse, Error> {
        let send = |request| {
            let mut quota = self.quota();
            async move { quota.return_lease(request).await }
        };
        ask(&request, self.answer_wait, send).await
    }

    fn quota(&self) -> QuotaServiceClient<Transport> {
        QuotaServiceClient::with_interceptor(self.channel.clone(), self.bearer.clone())
    }
}
