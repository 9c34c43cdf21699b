//! A control server that records what it is asked, prices by the token and keeps one budget.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use rateguard_proto::ERROR_DOMAIN;
use rateguard_proto::internal_v1::gateway_service_server::{GatewayService, GatewayServiceServer};
use rateguard_proto::internal_v1::watch_routes_response::Change;
use rateguard_proto::internal_v1::{
    PriceUsageRequest, PriceUsageResponse, ResolveRouteRequest, ResolveRouteResponse, Route, RouteChange,
    RoutesRefresh, WatchRoutesRequest, WatchRoutesResponse,
};
use rateguard_proto::v1::quota_service_server::{QuotaService, QuotaServiceServer};
use rateguard_proto::v1::usage_service_server::{UsageService, UsageServiceServer};
use rateguard_proto::v1::{
    BatchCheckQuotaRequest, BatchCheckQuotaResponse, BudgetState, CheckQuotaRequest, CheckQuotaResponse,
    Decision, ErrorReason, GetQuotaRequest, GetQuotaResponse, LeaseQuotaRequest, LeaseQuotaResponse,
    LimitKind, LimitStatus, ListUsageEventsRequest, ListUsageEventsResponse, NanoMoney, PriceReference,
    RecordResult, RecordStatus, ReleaseReservationRequest, ReleaseReservationResponse,
    RenewReservationRequest, RenewReservationResponse, ReportUsageRequest, ReportUsageResponse,
    ReservationState, ResetQuotaRequest, ResetQuotaResponse, ReturnLeaseRequest, ReturnLeaseResponse,
    StreamCheckQuotaRequest, StreamCheckQuotaResponse, TokenUsage, UsageExactness, UsageRecord,
};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::Routes;
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::APP_KEY;

/// What the gateway has to show.
pub const GATEWAY_TOKEN: &str = "gateway-token-of-the-tests";

/// Prices in nano-dollars.
pub const INPUT_TOKEN_NANOS: i64 = 150;
pub const OUTPUT_TOKEN_NANOS: i64 = 600;

/// Changes that a watch may lag behind.
const CHANGES_MAX: usize = 16;

#[derive(Clone, Default)]
pub struct Control(Arc<Inner>);

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    /// Reports wait while this is true.
    held: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    routes: HashMap<String, Route>,
    watchers: Vec<mpsc::Sender<Result<WatchRoutesResponse, Status>>>,
    resolved: usize,
    checks: Vec<CheckQuotaRequest>,
    refusal: Option<Status>,
    lost_answers: VecDeque<Status>,
    decisions: HashMap<String, CheckQuotaResponse>,
    denial: Option<CheckQuotaResponse>,
    limits: Vec<LimitStatus>,
    budget: Option<Budget>,
    holds: HashMap<String, i64>,
    released: Vec<String>,
    report_faults: VecDeque<Status>,
    batches: Vec<Vec<UsageRecord>>,
    reports: Vec<UsageRecord>,
    event_ids: HashSet<String>,
}

#[derive(Clone, Copy, Default)]
struct Budget {
    limit: i64,
    spent: i64,
    held: i64,
}

impl Control {
    /// The services, ready to be called in this process or served.
    pub fn routes(&self) -> Routes {
        Routes::new(QuotaServiceServer::new(self.clone()))
            .add_service(UsageServiceServer::new(self.clone()))
            .add_service(GatewayServiceServer::new(self.clone()))
    }

    pub fn set_route(&self, route: Route) {
        self.0.state.lock().routes.insert(route.slug.clone(), route);
    }

    /// Changes one route.
    pub fn edit_route(&self, slug: &str, edit: impl FnOnce(&mut Route)) {
        edit(self.0.state.lock().routes.get_mut(slug).expect("there is such a route"));
    }

    /// Tells every watch that a route has changed.
    pub fn announce(&self, api_id: &str) {
        let change = RouteChange { api_id: api_id.to_owned() };
        let message = WatchRoutesResponse { change: Some(Change::Route(change)) };
        for watcher in &self.0.state.lock().watchers {
            watcher.try_send(Ok(message.clone())).expect("the watch keeps up");
        }
    }

    pub fn watchers(&self) -> usize {
        self.0.state.lock().watchers.len()
    }

    /// Ends every watch.
    pub fn end_watches(&self) {
        self.0.state.lock().watchers.clear();
    }

    pub fn resolved(&self) -> usize {
        self.0.state.lock().resolved
    }

    pub fn checks(&self) -> Vec<CheckQuotaRequest> {
        self.0.state.lock().checks.clone()
    }

    /// Answers every check with this status.
    pub fn refuse(&self, code: Code, reason: ErrorReason) {
        self.0.state.lock().refusal = Some(status(code, reason));
    }

    /// Decides the next checks, and answers them with these statuses all the same.
    pub fn lose_answers(&self, faults: impl IntoIterator<Item = Status>) {
        self.0.state.lock().lost_answers.extend(faults);
    }

    /// Answers every check with this denial.
    pub fn deny(&self, limits: Vec<LimitStatus>, retry_after_ms: Option<i64>) {
        let decision = Decision::Denied.into();
        self.0.state.lock().denial =
            Some(CheckQuotaResponse { decision, limits, retry_after_ms, ..CheckQuotaResponse::default() });
    }

    /// Answers every allowed check with these limits.
    pub fn show_limits(&self, limits: Vec<LimitStatus>) {
        self.0.state.lock().limits = limits;
    }

    pub fn set_budget(&self, limit: i64) {
        self.0.state.lock().budget = Some(Budget { limit, ..Budget::default() });
    }

    /// Nano-units spent and held.
    pub fn budget(&self) -> (i64, i64) {
        let budget = self.0.state.lock().budget.unwrap_or_default();
        (budget.spent, budget.held)
    }

    /// Ids of the reservations that were given back.
    pub fn released(&self) -> Vec<String> {
        self.0.state.lock().released.clone()
    }

    /// Ids of the reservations that are neither settled nor given back.
    pub fn open(&self) -> usize {
        self.0.state.lock().holds.len()
    }

    /// Answers the next reports with these statuses.
    pub fn fail_reports(&self, faults: impl IntoIterator<Item = Status>) {
        self.0.state.lock().report_faults.extend(faults);
    }

    /// Makes reports wait, or lets them go on.
    pub fn hold_reports(&self, hold: bool) {
        self.0.held.send_replace(hold);
    }

    /// Every report that came, refused ones too.
    pub fn batches(&self) -> Vec<Vec<UsageRecord>> {
        self.0.state.lock().batches.clone()
    }

    /// The records that were accepted.
    pub fn reports(&self) -> Vec<UsageRecord> {
        self.0.state.lock().reports.clone()
    }
}

impl State {
    /// Decides once for each request's id.
    fn answer(&mut self, check: CheckQuotaRequest) -> Result<CheckQuotaResponse, Status> {
        self.checks.push(check.clone());
        let id = check.request_id.clone();
        let decision = match self.decisions.get(&id) {
            Some(decision) => decision.clone(),
            None => self.decide(check)?,
        };
        self.decisions.insert(id, decision.clone());
        self.lost_answers.pop_front().map_or(Ok(decision), Err)
    }

    fn decide(&mut self, check: CheckQuotaRequest) -> Result<CheckQuotaResponse, Status> {
        if let Some(refusal) = &self.refusal {
            return Err(refusal.clone());
        }
        if let Some(denial) = &self.denial {
            return Ok(denial.clone());
        }
        let estimate = check.estimate.unwrap_or_default();
        let cost = price(estimate.input_tokens, estimate.max_output_tokens);
        let mut limits = self.limits.clone();
        if let Some(budget) = &mut self.budget {
            let allowed = budget.spent + budget.held + cost <= budget.limit;
            budget.held += if allowed { cost } else { 0 };
            limits.push(budget.status(allowed));
            if !allowed {
                let decision = Decision::Denied.into();
                return Ok(CheckQuotaResponse { decision, limits, ..CheckQuotaResponse::default() });
            }
        }
        let reservation_id = format!("rsv_{}", self.checks.len());
        self.holds.insert(reservation_id.clone(), cost);
        Ok(CheckQuotaResponse {
            decision: Decision::Allowed.into(),
            reservation_id,
            limits,
            reserved: Some(dollars(cost)),
            ..CheckQuotaResponse::default()
        })
    }

    fn settle(&mut self, record: UsageRecord) -> RecordResult {
        let event_id = record.event_id.clone();
        if !self.event_ids.insert(event_id.clone()) {
            return RecordResult {
                event_id,
                status: RecordStatus::Duplicate.into(),
                ..RecordResult::default()
            };
        }
        let cost = cost(&record);
        let held = self.holds.remove(&record.reservation_id);
        if let Some(budget) = &mut self.budget {
            let held = held.unwrap_or_default();
            budget.held -= held;
            budget.spent += if record.exactness() == UsageExactness::Exact { cost } else { cost.max(held) };
        }
        self.reports.push(record);
        RecordResult {
            event_id,
            status: RecordStatus::Accepted.into(),
            cost: Some(dollars(cost)),
            ..RecordResult::default()
        }
    }
}

impl Budget {
    fn status(self, allowed: bool) -> LimitStatus {
        let used = self.spent + self.held;
        let state = BudgetState {
            currency_code: "USD".to_owned(),
            amount_nanos: self.limit,
            spent_nanos: self.spent,
            held_nanos: self.held,
            remaining_nanos: (self.limit - used).max(0),
            ..BudgetState::default()
        };
        LimitStatus {
            kind: LimitKind::Budget.into(),
            name: "monthly".to_owned(),
            unit: "cost".to_owned(),
            limit: self.limit,
            remaining: (self.limit - used).max(0),
            used,
            enforced: true,
            allowed,
            budget_state: Some(state),
            ..LimitStatus::default()
        }
    }
}

pub fn price(input: Option<i64>, output: Option<i64>) -> i64 {
    input.unwrap_or_default() * INPUT_TOKEN_NANOS + output.unwrap_or_default() * OUTPUT_TOKEN_NANOS
}

pub fn cost(record: &UsageRecord) -> i64 {
    let tokens: TokenUsage = record.tokens.unwrap_or_default();
    record.cost.as_ref().map_or_else(|| price(tokens.input_total, tokens.output), |cost| cost.nanos)
}

pub fn status(code: Code, reason: ErrorReason) -> Status {
    let mut details = ErrorDetails::new();
    details.set_error_info(reason.as_error_info_reason(), ERROR_DOMAIN, HashMap::new());
    Status::with_error_details(code, "the control server says no", details)
}

fn dollars(nanos: i64) -> NanoMoney {
    NanoMoney { currency_code: "USD".to_owned(), nanos }
}

/// Checks that the gateway shows itself.
fn authenticate<M>(request: &Request<M>) -> Result<(), Status> {
    let shown = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
    match shown == Some(&format!("Bearer {GATEWAY_TOKEN}")) {
        true => Ok(()),
        false => Err(status(Code::PermissionDenied, ErrorReason::GatewayOnly)),
    }
}

/// Checks that the gateway acts for the app of these tests.
fn authenticate_app<M>(request: &Request<M>) -> Result<(), Status> {
    authenticate(request)?;
    let app = request.metadata().get("x-rateguard-on-behalf-of").and_then(|value| value.to_str().ok());
    match app == Some(APP_KEY) {
        true => Ok(()),
        false => Err(status(Code::Unauthenticated, ErrorReason::CredentialUnknown)),
    }
}

#[tonic::async_trait]
impl QuotaService for Control {
    type StreamCheckQuotaStream = ReceiverStream<Result<StreamCheckQuotaResponse, Status>>;

    async fn stream_check_quota(
        &self,
        _request: Request<Streaming<StreamCheckQuotaRequest>>,
    ) -> Result<Response<Self::StreamCheckQuotaStream>, Status> {
        Err(Status::unimplemented("no gateway asks this"))
    }

    async fn renew_reservation(
        &self,
        _request: Request<RenewReservationRequest>,
    ) -> Result<Response<RenewReservationResponse>, Status> {
        Err(Status::unimplemented("no gateway asks this"))
    }

    async fn lease_quota(
        &self,
        _request: Request<LeaseQuotaRequest>,
    ) -> Result<Response<LeaseQuotaResponse>, Status> {
        Err(Status::unimplemented("no gateway asks this"))
    }

    async fn return_lease(
        &self,
        _request: Request<ReturnLeaseRequest>,
    ) -> Result<Response<ReturnLeaseResponse>, Status> {
        Err(Status::unimplemented("no gateway asks this"))
    }

    async fn reset_quota(
        &self,
        _request: Request<ResetQuotaRequest>,
    ) -> Result<Response<ResetQuotaResponse>, Status> {
        Err(Status::unimplemented("no gateway asks this"))
    }

    async fn check_quota(
        &self,
        request: Request<CheckQuotaRequest>,
    ) -> Result<Response<CheckQuotaResponse>, Status> {
        authenticate_app(&request)?;
        self.0.state.lock().answer(request.into_inner()).map(Response::new)
    }

    async fn batch_check_quota(
        &self,
        _request: Request<BatchCheckQuotaRequest>,
    ) -> Result<Response<BatchCheckQuotaResponse>, Status> {
        Err(Status::unimplemented("no gateway asks this"))
    }

    async fn get_quota(
        &self,
        _request: Request<GetQuotaRequest>,
    ) -> Result<Response<GetQuotaResponse>, Status> {
        Err(Status::unimplemented("no gateway asks this"))
    }

    async fn release_reservation(
        &self,
        request: Request<ReleaseReservationRequest>,
    ) -> Result<Response<ReleaseReservationResponse>, Status> {
        authenticate_app(&request)?;
        let id = request.into_inner().reservation_id;
        let mut state = self.0.state.lock();
        let held = state.holds.remove(&id).unwrap_or_default();
        if let Some(budget) = &mut state.budget {
            budget.held -= held;
        }
        state.released.push(id);
        Ok(Response::new(ReleaseReservationResponse { state: ReservationState::Released.into() }))
    }
}

#[tonic::async_trait]
impl UsageService for Control {
    async fn report_usage(
        &self,
        request: Request<ReportUsageRequest>,
    ) -> Result<Response<ReportUsageResponse>, Status> {
        authenticate_app(&request)?;
        let records = request.into_inner().records;
        self.0.state.lock().batches.push(records.clone());
        let mut held = self.0.held.subscribe();
        held.wait_for(|held| !held).await.map_err(|_| Status::cancelled("the test is over"))?;
        let mut state = self.0.state.lock();
        if let Some(fault) = state.report_faults.pop_front() {
            return Err(fault);
        }
        let results = records.into_iter().map(|record| state.settle(record)).collect();
        Ok(Response::new(ReportUsageResponse { results }))
    }

    async fn list_usage_events(
        &self,
        _request: Request<ListUsageEventsRequest>,
    ) -> Result<Response<ListUsageEventsResponse>, Status> {
        Err(Status::unimplemented("no gateway asks this"))
    }
}

#[tonic::async_trait]
impl GatewayService for Control {
    type WatchRoutesStream = ReceiverStream<Result<WatchRoutesResponse, Status>>;

    async fn resolve_route(
        &self,
        request: Request<ResolveRouteRequest>,
    ) -> Result<Response<ResolveRouteResponse>, Status> {
        authenticate_app(&request)?;
        let mut state = self.0.state.lock();
        state.resolved += 1;
        let route = state.routes.get(&request.get_ref().slug).cloned();
        let route = route.ok_or_else(|| status(Code::NotFound, ErrorReason::ResourceNotFound))?;
        Ok(Response::new(ResolveRouteResponse { route: Some(route) }))
    }

    async fn watch_routes(
        &self,
        request: Request<WatchRoutesRequest>,
    ) -> Result<Response<Self::WatchRoutesStream>, Status> {
        authenticate(&request)?;
        let (sender, receiver) = mpsc::channel(CHANGES_MAX);
        let refresh = WatchRoutesResponse { change: Some(Change::Refresh(RoutesRefresh {})) };
        sender.try_send(Ok(refresh)).map_err(|_| Status::internal("a new channel has room"))?;
        self.0.state.lock().watchers.push(sender);
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn price_usage(
        &self,
        request: Request<PriceUsageRequest>,
    ) -> Result<Response<PriceUsageResponse>, Status> {
        authenticate_app(&request)?;
        let record = request.into_inner().record.ok_or_else(|| Status::invalid_argument("record"))?;
        let price = PriceReference { price_id: format!("price_{}", record.model), price_version: 3 };
        let cost = Some(dollars(cost(&record)));
        Ok(Response::new(PriceUsageResponse { cost, price: Some(price), ..PriceUsageResponse::default() }))
    }
}
