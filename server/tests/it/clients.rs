//! Generated clients with a key, and short forms of what tests ask.

use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prost_types::Timestamp;
use rateguard_proto::v1;
use rateguard_proto::v1::analytics_service_client::AnalyticsServiceClient;
use rateguard_proto::v1::api_service_client::ApiServiceClient;
use rateguard_proto::v1::auth_service_client::AuthServiceClient;
use rateguard_proto::v1::budget_service_client::BudgetServiceClient;
use rateguard_proto::v1::key_service_client::KeyServiceClient;
use rateguard_proto::v1::member_service_client::MemberServiceClient;
use rateguard_proto::v1::quota_service_client::QuotaServiceClient;
use rateguard_proto::v1::rule_service_client::RuleServiceClient;
use rateguard_proto::v1::usage_service_client::UsageServiceClient;
use rateguard_server::client::Bearer;
use tonic::Status;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};

/// Longest wait for one answer.
const CALL_WITHIN: Duration = Duration::from_secs(20);
/// Longest wait for something that has to come true by itself.
const TRUE_WITHIN: Duration = Duration::from_secs(20);
/// The window of rules: a year.
const WINDOW_MS: i64 = 365 * 24 * 60 * 60 * 1_000;
/// Events of one page: as many as may be.
const PAGE_EVENTS: i32 = 1_000;

pub type Transport = InterceptedService<Channel, Bearer>;

/// A server with a key.
#[derive(Clone)]
pub struct Clients {
    channel: Channel,
    key: String,
}

impl Clients {
    pub async fn connect(address: &str, key: &str) -> Self {
        let endpoint = Endpoint::from_shared(address.to_owned()).unwrap().timeout(CALL_WITHIN);
        Self::over(endpoint.connect().await.unwrap(), key)
    }

    /// Over a connection that is there.
    pub fn over(channel: Channel, key: &str) -> Self {
        Self { channel, key: key.to_owned() }
    }

    fn transport(&self) -> Transport {
        InterceptedService::new(self.channel.clone(), Bearer::new(&self.key).unwrap())
    }

    pub fn quota(&self) -> QuotaServiceClient<Transport> {
        QuotaServiceClient::new(self.transport())
    }

    pub fn usage(&self) -> UsageServiceClient<Transport> {
        UsageServiceClient::new(self.transport())
    }

    pub fn apis(&self) -> ApiServiceClient<Transport> {
        ApiServiceClient::new(self.transport())
    }

    pub fn keys(&self) -> KeyServiceClient<Transport> {
        KeyServiceClient::new(self.transport())
    }

    pub fn auth(&self) -> AuthServiceClient<Transport> {
        AuthServiceClient::new(self.transport())
    }

    pub fn members(&self) -> MemberServiceClient<Transport> {
        MemberServiceClient::new(self.transport())
    }

    pub fn budgets(&self) -> BudgetServiceClient<Transport> {
        BudgetServiceClient::new(self.transport())
    }

    pub fn rules(&self) -> RuleServiceClient<Transport> {
        RuleServiceClient::new(self.transport())
    }

    pub fn analytics(&self) -> AnalyticsServiceClient<Transport> {
        AnalyticsServiceClient::new(self.transport())
    }

    /// Makes a key with these scopes and returns its secret.
    pub async fn make_key(&self, scopes: &[v1::KeyScope]) -> String {
        self.try_make_key("test", scopes).await.unwrap().secret.unwrap().value
    }

    /// Makes a key with a name and these scopes, if that can be done now.
    pub async fn try_make_key(
        &self,
        name: &str,
        scopes: &[v1::KeyScope],
    ) -> Result<v1::CreateKeyResponse, Status> {
        let key = v1::Key {
            display_name: name.to_owned(),
            scopes: scopes.iter().map(|scope| i32::from(*scope)).collect(),
            ..v1::Key::default()
        };
        let request = v1::CreateKeyRequest { key: Some(key), request_id: String::new() };
        Ok(self.keys().create_key(request).await?.into_inner())
    }

    /// Makes a rule of so many requests, shared by the workspace, in a window so long that no test
    /// sees its end.
    pub async fn make_rule(&self, name: &str, limit: i64) -> v1::Rule {
        let window = v1::FixedWindow { limit, window_ms: WINDOW_MS };
        let rule = v1::Rule {
            display_name: name.to_owned(),
            unit: "requests".to_owned(),
            algorithm: Some(v1::rule::Algorithm::FixedWindow(window)),
            ..v1::Rule::default()
        };
        let answer = self
            .rules()
            .create_rule(v1::CreateRuleRequest { rule: Some(rule), request_id: String::new() })
            .await
            .unwrap();
        answer.into_inner().rule.unwrap()
    }

    /// Makes a hard monthly budget over the calls of one subject; of all when it is empty.
    pub async fn make_budget(&self, subject: &str, nanos: i64) -> v1::Budget {
        let subjects = if subject.is_empty() { Vec::new() } else { vec![subject.to_owned()] };
        let calendar =
            v1::CalendarBudget { period: v1::CalendarPeriod::Month.into(), time_zone: String::new() };
        let budget = v1::Budget {
            display_name: format!("month of {subject}"),
            r#match: Some(v1::CallMatch { subjects, ..v1::CallMatch::default() }),
            amount: Some(dollars(nanos)),
            enforcement: v1::BudgetEnforcement::Hard.into(),
            period: Some(v1::budget::Period::Calendar(calendar)),
            ..v1::Budget::default()
        };
        let answer = self
            .budgets()
            .create_budget(v1::CreateBudgetRequest { budget: Some(budget), request_id: String::new() })
            .await
            .unwrap();
        answer.into_inner().budget.unwrap()
    }

    /// How a budget stands.
    pub async fn budget_state(&self, id: &str) -> v1::BudgetState {
        let answer = self.budgets().get_budget(v1::GetBudgetRequest { id: id.to_owned() }).await.unwrap();
        answer.into_inner().budget.unwrap().state.unwrap()
    }

    /// Decides one call.
    pub async fn check(&self, request: v1::CheckQuotaRequest) -> Result<v1::CheckQuotaResponse, Status> {
        Ok(self.quota().check_quota(request).await?.into_inner())
    }

    /// Reserves money for one call of a subject.
    pub async fn reserve(&self, subject: &str, nanos: i64) -> v1::CheckQuotaResponse {
        let request = v1::CheckQuotaRequest {
            subject: subject.to_owned(),
            mode: v1::CheckMode::Reserve.into(),
            estimate: Some(v1::Estimate { cost: Some(dollars(nanos)), ..v1::Estimate::default() }),
            ..v1::CheckQuotaRequest::default()
        };
        self.check(request).await.unwrap()
    }

    /// Reserves until a denial, and says how many were allowed.
    pub async fn reserve_until_denied(&self, subject: &str, nanos: i64, at_most: usize) -> usize {
        for allowed in 0..at_most {
            if self.reserve(subject, nanos).await.decision() == v1::Decision::Denied {
                return allowed;
            }
        }
        at_most
    }

    /// Reports records, and returns what became of each.
    pub async fn report(&self, records: Vec<v1::UsageRecord>) -> Result<Vec<v1::RecordResult>, Status> {
        Ok(self.usage().report_usage(v1::ReportUsageRequest { records }).await?.into_inner().results)
    }

    /// Reports one record, and returns what became of it.
    pub async fn report_one(&self, record: v1::UsageRecord) -> v1::RecordResult {
        self.report(vec![record]).await.unwrap().remove(0)
    }

    /// How the limits of any call stand.
    pub async fn limits(&self) -> Vec<v1::LimitStatus> {
        self.quota().get_quota(v1::GetQuotaRequest::default()).await.unwrap().into_inner().limits
    }

    /// Every event, newest first.
    pub async fn all_events(&self) -> Vec<v1::UsageEvent> {
        self.events(None).await
    }

    /// Every event of a reservation, newest first.
    pub async fn events_of(&self, reservation_id: &str) -> Vec<v1::UsageEvent> {
        let reservation_id = reservation_id.to_owned();
        self.events(Some(v1::UsageEventFilter { reservation_id, ..v1::UsageEventFilter::default() })).await
    }

    async fn events(&self, filter: Option<v1::UsageEventFilter>) -> Vec<v1::UsageEvent> {
        let mut events = Vec::new();
        let mut page_token = String::new();
        loop {
            let filter = filter.clone();
            let request = v1::ListUsageEventsRequest { filter, page_size: PAGE_EVENTS, page_token };
            let page = self.usage().list_usage_events(request).await.unwrap().into_inner();
            events.extend(page.events);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return events;
            }
        }
    }

    /// The sums of the rollups over the last day and the next hour.
    pub async fn rolled_up(&self) -> v1::UsageSummary {
        let seconds = now().seconds;
        // Whole hours, which rollups answer.
        let hour = seconds - seconds % 3_600;
        let at = |seconds| Some(Timestamp { seconds, nanos: 0 });
        let range = v1::TimeRange { start_time: at(hour - 86_400), end_time: at(hour + 7_200) };
        let request = v1::GetSummaryRequest { range: Some(range), filter: None };
        self.analytics().get_summary(request).await.unwrap().into_inner().summary.unwrap()
    }
}

/// The instant of now.
pub fn now() -> Timestamp {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let nanos = i32::try_from(now.subsec_nanos()).unwrap();
    Timestamp { seconds: i64::try_from(now.as_secs()).unwrap(), nanos }
}

/// Money in the workspace's currency.
pub fn dollars(nanos: i64) -> v1::NanoMoney {
    v1::NanoMoney { currency_code: "USD".to_owned(), nanos }
}

/// A record of a known cost.
pub fn record(event_id: &str, subject: &str, nanos: i64) -> v1::UsageRecord {
    v1::UsageRecord {
        event_id: event_id.to_owned(),
        subject: subject.to_owned(),
        cost: Some(dollars(nanos)),
        status_code: 200,
        ..v1::UsageRecord::default()
    }
}

/// Prints what a test has measured, also where it passes: then the runner keeps to itself what is printed as usual.
pub fn tell(figures: &str) {
    writeln!(std::io::stderr(), "{figures}").unwrap();
}

/// Waits until a condition holds, looking again and again.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + TRUE_WITHIN;
    while !holds().await {
        assert!(tokio::time::Instant::now() < deadline, "{what} did not come true");
        tokio::task::yield_now().await;
    }
}
