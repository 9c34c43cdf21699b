//! Authentication and authorisation, in one layer in front of every service.
//!
//! The layer turns the credential into a [`Caller`] and checks the scope that the method demands,
//! by one table. A service finds the caller among the request's extensions and asks nothing more.
//! A method that is not in the table is refused.

use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::{Either, Ready, ready};
use http::{HeaderMap, Request, Response};
use rateguard_engine::caller::Caller;
use rateguard_engine::engine::Engine;
use rateguard_engine::error::{EngineError, Reason};
use rateguard_engine::resources::Scope;
use tower::{Layer, Service};

use crate::status::status;

/// The header in which a gateway names the key of the app that it acts for.
pub const ON_BEHALF_OF: &str = "x-rateguard-on-behalf-of";

/// What a method demands of its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// Nothing: health and reflection tell no secrets.
    Open,
    /// A key with this scope.
    Scope(Scope),
    /// A gateway that acts for an app's key.
    Gateway,
}

/// What each method demands. The whole of it, so that it can be read and tested in one place.
pub const DEMANDS: &[(&str, &[&str], Demand)] = &[
    (
        "rateguard.v1.QuotaService",
        &["CheckQuota", "BatchCheckQuota", "GetQuota", "ReleaseReservation"],
        Demand::Scope(Scope::Quota),
    ),
    ("rateguard.v1.UsageService", &["ReportUsage"], Demand::Scope(Scope::Usage)),
    ("rateguard.v1.UsageService", &["ListUsageEvents"], Demand::Scope(Scope::Read)),
    ("rateguard.v1.ApiService", &["GetApi", "ListApis"], Demand::Scope(Scope::Read)),
    ("rateguard.v1.ApiService", &["CreateApi", "UpdateApi", "DeleteApi"], Demand::Scope(Scope::Manage)),
    ("rateguard.v1.KeyService", &["GetKey", "ListKeys"], Demand::Scope(Scope::Read)),
    ("rateguard.v1.KeyService", &["CreateKey", "UpdateKey", "DeleteKey"], Demand::Scope(Scope::Manage)),
    ("rateguard.v1.RuleService", &["GetRule", "ListRules"], Demand::Scope(Scope::Read)),
    ("rateguard.v1.RuleService", &["CreateRule", "UpdateRule", "DeleteRule"], Demand::Scope(Scope::Manage)),
    ("rateguard.v1.BudgetService", &["GetBudget", "ListBudgets"], Demand::Scope(Scope::Read)),
    (
        "rateguard.v1.BudgetService",
        &["CreateBudget", "UpdateBudget", "DeleteBudget"],
        Demand::Scope(Scope::Manage),
    ),
    ("rateguard.v1.PriceService", &["GetPrice", "ListPrices"], Demand::Scope(Scope::Read)),
    (
        "rateguard.v1.PriceService",
        &["CreatePriceOverride", "UpdatePriceOverride", "DeletePriceOverride"],
        Demand::Scope(Scope::Manage),
    ),
    ("rateguard.v1.AnalyticsService", &["GetSummary", "QueryTimeSeries"], Demand::Scope(Scope::Read)),
    (
        "rateguard.internal.v1.GatewayService",
        &["ResolveRoute", "WatchRoutes", "PriceUsage"],
        Demand::Gateway,
    ),
    ("grpc.health.v1.Health", &["Check", "List", "Watch"], Demand::Open),
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
        // An unknown method is the router's to answer: it tells nobody anything.
        let Some(demand) = demand(request.uri().path()) else {
            return Either::Left(self.inner.call(request));
        };
        match self.auth.admit(demand, request.headers()) {
            Ok(caller) => {
                caller.map(|caller| request.extensions_mut().insert(caller));
                Either::Left(self.inner.call(request))
            }
            Err(error) => Either::Right(ready(Ok(status(&error).into_http()))),
        }
    }
}

impl AuthLayer {
    fn admit(&self, demand: Demand, headers: &HeaderMap) -> Result<Option<Caller>, EngineError> {
        if demand == Demand::Open {
            return Ok(None);
        }
        let caller = self.caller(headers)?;
        match demand {
            Demand::Scope(scope) => caller.require(scope)?,
            Demand::Gateway if caller.by_gateway => {}
            Demand::Gateway | Demand::Open => {
                return Err(EngineError::new(Reason::GatewayOnly, "only a gateway may call this"));
            }
        }
        Ok(Some(caller))
    }

    fn caller(&self, headers: &HeaderMap) -> Result<Caller, EngineError> {
        let (authenticator, now) = (self.engine.authenticator(), self.engine.now());
        let token = bearer(headers)?;
        if self.gateways == GatewayAccess::Allowed && authenticator.is_gateway(token) {
            let app_key = text(headers, ON_BEHALF_OF).ok_or_else(missing_credential)?;
            return authenticator.by_gateway(app_key, now);
        }
        authenticator.by_key(token, now)
    }
}

fn bearer(headers: &HeaderMap) -> Result<&str, EngineError> {
    let value = text(headers, http::header::AUTHORIZATION.as_str()).ok_or_else(missing_credential)?;
    let (scheme, token) = value.split_once(' ').ok_or_else(missing_credential)?;
    if scheme.eq_ignore_ascii_case("bearer") { Ok(token.trim_start()) } else { Err(missing_credential()) }
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn missing_credential() -> EngineError {
    EngineError::new(Reason::CredentialMissing, "send the API key as authorization: Bearer rg_…")
}
