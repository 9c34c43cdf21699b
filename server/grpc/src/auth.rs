//! Authentication and authorisation, in one layer in front of every service.
//!
//! The layer turns the credential into a [`Caller`] and checks the scope that the method demands,
//! by one table. A service finds the caller among the request's extensions and asks nothing more.
//! A method that is not in the table is answered here, as one that does not exist: no service is
//! reached by a way that the table does not name.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::extract::ConnectInfo;
use futures::future::{Either, Ready, ready};
use http::{HeaderMap, Request, Response};
use rateguard_engine::caller::Caller;
use rateguard_engine::engine::Engine;
use rateguard_engine::error::{EngineError, Reason};
use rateguard_engine::resources::Scope;
use tonic::Status;
use tower::{Layer, Service};

use crate::status::status;

/// The header in which a gateway names the key of the app that it acts for.
pub const ON_BEHALF_OF: &str = "x-rateguard-on-behalf-of";

/// What a method demands of its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// Nothing: health and reflection tell no secrets.
    Open,
    /// A key with one of these scopes.
    OneOf(&'static [Scope]),
    /// The same, for what follows a call that was admitted: a gateway may do it whatever became of
    /// its app's key since.
    AfterCall(&'static [Scope]),
    /// A gateway that acts for an app's key.
    GatewayForApp,
    /// The same, after a call that was admitted.
    GatewayAfterCall,
    /// A gateway, whomever it acts for.
    Gateway,
}

const QUOTA: Demand = Demand::OneOf(&[Scope::Quota]);
const STATE: Demand = Demand::OneOf(&[Scope::Quota, Scope::Read]);
const RELEASE: Demand = Demand::AfterCall(&[Scope::Quota]);
const USAGE: Demand = Demand::AfterCall(&[Scope::Usage]);
const READ: Demand = Demand::OneOf(&[Scope::Read]);
const MANAGE: Demand = Demand::OneOf(&[Scope::Manage]);
const LOOK: Demand = Demand::OneOf(&[Scope::Manage, Scope::Read]);

/// What each method demands. The whole of it, so that it can be read and tested in one place.
pub const DEMANDS: &[(&str, &[&str], Demand)] = &[
    ("rateguard.v1.QuotaService", &["CheckQuota", "BatchCheckQuota"], QUOTA),
    ("rateguard.v1.QuotaService", &["ReleaseReservation"], RELEASE),
    ("rateguard.v1.QuotaService", &["GetQuota"], STATE),
    ("rateguard.v1.UsageService", &["ReportUsage"], USAGE),
    ("rateguard.v1.UsageService", &["ListUsageEvents"], READ),
    ("rateguard.v1.ApiService", &["GetApi", "ListApis"], LOOK),
    ("rateguard.v1.ApiService", &["CreateApi", "UpdateApi", "DeleteApi"], MANAGE),
    ("rateguard.v1.KeyService", &["GetKey", "ListKeys"], LOOK),
    ("rateguard.v1.KeyService", &["CreateKey", "UpdateKey", "DeleteKey"], MANAGE),
    ("rateguard.v1.RuleService", &["GetRule", "ListRules"], LOOK),
    ("rateguard.v1.RuleService", &["CreateRule", "UpdateRule", "DeleteRule"], MANAGE),
    ("rateguard.v1.BudgetService", &["GetBudget", "ListBudgets"], LOOK),
    ("rateguard.v1.BudgetService", &["CreateBudget", "UpdateBudget", "DeleteBudget"], MANAGE),
    ("rateguard.v1.PriceService", &["GetPrice", "ListPrices"], LOOK),
    (
        "rateguard.v1.PriceService",
        &["CreatePriceOverride", "UpdatePriceOverride", "DeletePriceOverride"],
        MANAGE,
    ),
    ("rateguard.v1.AnalyticsService", &["GetSummary", "QueryTimeSeries"], READ),
    ("rateguard.internal.v1.GatewayService", &["ResolveRoute"], Demand::GatewayForApp),
    ("rateguard.internal.v1.GatewayService", &["PriceUsage"], Demand::GatewayAfterCall),
    ("rateguard.internal.v1.GatewayService", &["WatchRoutes"], Demand::Gateway),
    ("grpc.health.v1.Health", &["Check", "Watch"], Demand::Open),
    ("grpc.reflection.v1.ServerReflection", &["ServerReflectionInfo"], Demand::Open),
];

/// What the method of a path demands; `None` for one that does not exist.
pub fn demand(path: &str) -> Option<Demand> {
    let (service, method) = path.strip_prefix('/')?.split_once('/')?;
    let mut rows = DEMANDS.iter().filter(|(name, ..)| *name == service);
    rows.find(|(_, methods, _)| methods.contains(&method)).map(|(.., demand)| *demand)
}

/// Who may present a gateway's token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GatewayAccess {
    /// Nobody: a public listener.
    Refused,
    /// A gateway: the router of this process, or a listener made for remote gateways.
    Allowed,
}

/// Puts [`Authenticated`] in front of services.
#[derive(Clone)]
pub struct AuthLayer {
    engine: Arc<Engine>,
    gateways: GatewayAccess,
}

impl AuthLayer {
    /// A layer that asks this engine.
    pub fn new(engine: Arc<Engine>, gateways: GatewayAccess) -> Self {
        Self { engine, gateways }
    }
}

impl<S> Layer<S> for AuthLayer {
    type Service = Authenticated<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Authenticated { inner, auth: self.clone() }
    }
}

/// A service that only authenticated callers reach.
#[derive(Clone)]
pub struct Authenticated<S> {
    inner: S,
    auth: AuthLayer,
}

impl<S, B, R> Service<Request<B>> for Authenticated<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    R: Default,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Either<S::Future, Ready<Result<Self::Response, Self::Error>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let Some(demand) = demand(request.uri().path()) else {
            return Either::Right(ready(Ok(unknown_method().into_http())));
        };
        let peer = request.extensions().get().map(|ConnectInfo::<SocketAddr>(peer)| peer.ip());
        match self.auth.admit(demand, request.headers(), peer) {
            Ok(caller) => {
                caller.map(|caller| request.extensions_mut().insert(caller));
                Either::Left(self.inner.call(request))
            }
            Err(error) => Either::Right(ready(Ok(status(&error).into_http()))),
        }
    }
}

impl AuthLayer {
    fn admit(
        &self,
        demand: Demand,
        headers: &HeaderMap,
        peer: Option<IpAddr>,
    ) -> Result<Option<Caller>, EngineError> {
        if demand == Demand::Open {
            return Ok(None);
        }
        let token = bearer(headers)?;
        let is_gateway =
            self.gateways == GatewayAccess::Allowed && self.engine.authenticator().is_gateway(token);
        let caller = match (demand, is_gateway) {
            (Demand::Gateway, true) => return Ok(None),
            (_, true) => self.app_behind(demand, headers)?,
            (_, false) => self.key_holder(token, peer)?,
        };
        meets(&caller, demand).map(|()| Some(caller))
    }

    /// The app that a gateway acts for.
    fn app_behind(&self, demand: Demand, headers: &HeaderMap) -> Result<Caller, EngineError> {
        let app_key = text(headers, ON_BEHALF_OF).ok_or_else(missing_app_key)?;
        let (authenticator, now) = (self.engine.authenticator(), self.engine.now());
        match demand {
            Demand::AfterCall(_) | Demand::GatewayAfterCall => {
                authenticator.by_gateway_after_call(app_key, now)
            }
            _ => authenticator.by_gateway(app_key, now),
        }
    }

    /// Whoever presents a key by themselves, from where the key may be used.
    fn key_holder(&self, token: &str, peer: Option<IpAddr>) -> Result<Caller, EngineError> {
        let caller = self.engine.authenticator().by_key(token, self.engine.now())?;
        let ranges = &caller.key.ip_ranges;
        let holds = |ip: IpAddr| ranges.iter().any(|range| range.contains(&ip.to_canonical()));
        if ranges.is_empty() || peer.is_some_and(holds) {
            return Ok(caller);
        }
        Err(EngineError::new(Reason::KeyRestricted, "the key may not be used from this address"))
    }
}

fn meets(caller: &Caller, demand: Demand) -> Result<(), EngineError> {
    match demand {
        Demand::Open => Ok(()),
        Demand::OneOf(scopes) | Demand::AfterCall(scopes) => require_one(caller, scopes),
        Demand::GatewayForApp | Demand::GatewayAfterCall if caller.by_gateway => Ok(()),
        Demand::GatewayForApp | Demand::GatewayAfterCall | Demand::Gateway => {
            Err(EngineError::new(Reason::GatewayOnly, "only a gateway may call this"))
        }
    }
}

fn require_one(caller: &Caller, scopes: &[Scope]) -> Result<(), EngineError> {
    if scopes.iter().any(|scope| caller.require(*scope).is_ok()) {
        return Ok(());
    }
    let names: Vec<String> = scopes.iter().map(|scope| format!("{scope:?}").to_lowercase()).collect();
    Err(EngineError::new(Reason::ScopeMissing, format!("the key lacks the scope {}", names.join(" or "))))
}

fn bearer(headers: &HeaderMap) -> Result<&str, EngineError> {
    let value = text(headers, http::header::AUTHORIZATION.as_str()).ok_or_else(missing_credential)?;
    let (scheme, token) = value.split_once(' ').ok_or_else(missing_credential)?;
    if scheme.eq_ignore_ascii_case("bearer") { Ok(token.trim_start()) } else { Err(missing_credential()) }
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn unknown_method() -> Status {
    Status::unimplemented("there is no such method")
}

fn missing_app_key() -> EngineError {
    EngineError::new(Reason::CredentialMissing, format!("name the app's key in {ON_BEHALF_OF}"))
}

fn missing_credential() -> EngineError {
    EngineError::new(Reason::CredentialMissing, "send the API key as authorization: Bearer rg_…")
}

#[cfg(test)]
mod tests;
