//! Authentication and authorisation, in one layer in front of every service.
//!
//! The layer turns the credential into a [`Caller`] and checks the scope that the method demands,
//! by one table. A service finds the caller among the request's extensions and asks nothing more.
//! A method that is not in the table is answered here, as one that does not exist: no service is
//! reached by a way that the table does not name.
//!
//! A person comes with an access token, a program with a key. Where a row names a role, a person may
//! do with it what a key does with a scope.

pub mod browser;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::extract::ConnectInfo;
use futures::future::{Either, Ready, ready};
use http::{HeaderMap, Request, Response};
use rateguard_engine::caller::Caller;
use rateguard_engine::engine::Engine;
use rateguard_engine::error::{EngineError, Reason};
use rateguard_engine::people::{ACCESS_TOKEN_PREFIX, People, Person, Role, Visitor};
use rateguard_engine::resources::Scope;
use tonic::Status;
use tower::{Layer, Service};

use crate::status::status;
use browser::Browser;

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
    /// A person who is logged in, whatever their role and in whichever workspace.
    AnyPerson,
    /// A person with the role that the row names.
    Member,
}

const QUOTA: Demand = Demand::OneOf(&[Scope::Quota]);
const STATE: Demand = Demand::OneOf(&[Scope::Quota, Scope::Read]);
const RELEASE: Demand = Demand::AfterCall(&[Scope::Quota]);
const USAGE: Demand = Demand::AfterCall(&[Scope::Usage]);
const READ: Demand = Demand::OneOf(&[Scope::Read]);
const MANAGE: Demand = Demand::OneOf(&[Scope::Manage]);
const LOOK: Demand = Demand::OneOf(&[Scope::Manage, Scope::Read]);

/// A row: a service, some of its methods, what they demand, and the least role with which a person may
/// call them; `None` where a role opens nothing.
pub type Row = (&'static str, &'static [&'static str], Demand, Option<Role>);

const VIEWER: Option<Role> = Some(Role::Viewer);
const MEMBER: Option<Role> = Some(Role::Member);
const ADMIN: Option<Role> = Some(Role::Admin);
const OWNER: Option<Role> = Some(Role::Owner);

/// What each method demands. The whole of it, so that it can be read and tested in one place.
pub const DEMANDS: &[Row] = &[
    ("rateguard.v1.QuotaService", &["CheckQuota", "BatchCheckQuota"], QUOTA, None),
    ("rateguard.v1.QuotaService", &["ReleaseReservation"], RELEASE, None),
    ("rateguard.v1.QuotaService", &["GetQuota"], STATE, None),
    ("rateguard.v1.UsageService", &["ReportUsage"], USAGE, None),
    ("rateguard.v1.UsageService", &["ListUsageEvents"], READ, VIEWER),
    ("rateguard.v1.ApiService", &["GetApi", "ListApis"], LOOK, VIEWER),
    ("rateguard.v1.ApiService", &["CreateApi", "UpdateApi", "DeleteApi"], MANAGE, ADMIN),
    ("rateguard.v1.KeyService", &["GetKey", "ListKeys"], LOOK, VIEWER),
    ("rateguard.v1.KeyService", &["CreateKey", "UpdateKey", "DeleteKey"], MANAGE, ADMIN),
    ("rateguard.v1.RuleService", &["GetRule", "ListRules"], LOOK, VIEWER),
    ("rateguard.v1.RuleService", &["CreateRule", "UpdateRule", "DeleteRule"], MANAGE, MEMBER),
    ("rateguard.v1.BudgetService", &["GetBudget", "ListBudgets"], LOOK, VIEWER),
    ("rateguard.v1.BudgetService", &["CreateBudget", "UpdateBudget", "DeleteBudget"], MANAGE, MEMBER),
    ("rateguard.v1.PriceService", &["GetPrice", "ListPrices"], LOOK, VIEWER),
    (
        "rateguard.v1.PriceService",
        &["CreatePriceOverride", "UpdatePriceOverride", "DeletePriceOverride"],
        MANAGE,
        MEMBER,
    ),
    ("rateguard.v1.AnalyticsService", &["GetSummary", "QueryTimeSeries"], READ, VIEWER),
    ("rateguard.v1.ConfigurationService", &["ExportWorkspace"], LOOK, VIEWER),
    ("rateguard.v1.ConfigurationService", &["ApplyWorkspace"], MANAGE, ADMIN),
    ("rateguard.v1.AuthService", &["Register", "Login", "RefreshToken"], Demand::Open, None),
    (
        "rateguard.v1.AuthService",
        &["Logout", "GetMe", "ChangePassword", "SwitchWorkspace", "ListSessions", "RevokeSession"],
        Demand::AnyPerson,
        None,
    ),
    (
        "rateguard.v1.WorkspaceService",
        &["CreateWorkspace", "GetWorkspace", "ListWorkspaces"],
        Demand::AnyPerson,
        None,
    ),
    ("rateguard.v1.WorkspaceService", &["UpdateWorkspace"], Demand::Member, ADMIN),
    ("rateguard.v1.MemberService", &["AcceptInvitation"], Demand::AnyPerson, None),
    // Anybody may take out themselves; taking out others is for admins, which the engine knows.
    ("rateguard.v1.MemberService", &["ListMembers", "RemoveMember"], Demand::Member, VIEWER),
    (
        "rateguard.v1.MemberService",
        &["InviteMember", "ListInvitations", "RevokeInvitation", "UpdateMember"],
        Demand::Member,
        ADMIN,
    ),
    ("rateguard.v1.MemberService", &["TransferOwnership"], Demand::Member, OWNER),
    ("rateguard.internal.v1.GatewayService", &["ResolveRoute"], Demand::GatewayForApp, None),
    ("rateguard.internal.v1.GatewayService", &["PriceUsage"], Demand::GatewayAfterCall, None),
    ("rateguard.internal.v1.GatewayService", &["WatchRoutes"], Demand::Gateway, None),
    ("grpc.health.v1.Health", &["Check", "Watch"], Demand::Open, None),
    ("grpc.reflection.v1.ServerReflection", &["ServerReflectionInfo"], Demand::Open, None),
];

/// What the method of a path demands, and the role; `None` for one that does not exist.
pub fn demand(path: &str) -> Option<(Demand, Option<Role>)> {
    let (service, method) = path.strip_prefix('/')?.split_once('/')?;
    let mut rows = DEMANDS.iter().filter(|(name, ..)| *name == service);
    rows.find(|(_, methods, ..)| methods.contains(&method)).map(|(.., demand, role)| (*demand, *role))
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
    people: Option<Arc<People>>,
    /// From where browsers may use cookies.
    origins: Arc<[String]>,
}

impl AuthLayer {
    /// A layer that asks this engine.
    pub fn new(engine: Arc<Engine>, gateways: GatewayAccess) -> Self {
        Self { engine, gateways, people: None, origins: Arc::default() }
    }

    /// The same, which lets people in too; in browsers also from these origins.
    #[must_use]
    pub fn with_people(self, people: Arc<People>, origins: &[String]) -> Self {
        Self { people: Some(people), origins: origins.into(), ..self }
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
        let Some((demand, role)) = demand(request.uri().path()) else {
            return Either::Right(ready(Ok(unknown_method().into_http())));
        };
        let peer = request.extensions().get().map(|ConnectInfo::<SocketAddr>(peer)| peer.ip());
        match self.auth.admit(demand, role, request.headers(), peer) {
            Ok(admitted) => {
                self.auth.introduce(admitted, peer, &mut request);
                Either::Left(self.inner.call(request))
            }
            Err(error) => Either::Right(ready(Ok(status(&error).into_http()))),
        }
    }
}

/// Who was let in.
enum Admitted {
    Anybody,
    Caller(Caller),
    Person(Person),
}

impl AuthLayer {
    fn admit(
        &self,
        demand: Demand,
        role: Option<Role>,
        headers: &HeaderMap,
        peer: Option<IpAddr>,
    ) -> Result<Admitted, EngineError> {
        if demand == Demand::Open {
            return Ok(Admitted::Anybody);
        }
        let token = bearer(headers)?;
        if let Some(people) = self.people.as_ref().filter(|_| token.starts_with(ACCESS_TOKEN_PREFIX)) {
            return self.person(people, token, demand, role).map(Admitted::Person);
        }
        let is_gateway =
            self.gateways == GatewayAccess::Allowed && self.engine.authenticator().is_gateway(token);
        let caller = match (demand, is_gateway) {
            (Demand::Gateway, true) => return Ok(Admitted::Anybody),
            (_, true) => self.app_behind(demand, headers)?,
            (_, false) => self.key_holder(token, peer)?,
        };
        meets(&caller, demand).map(|()| Admitted::Caller(caller))
    }

    /// A person whose role is enough, in a workspace that this process knows.
    fn person(
        &self,
        people: &People,
        token: &str,
        demand: Demand,
        role: Option<Role>,
    ) -> Result<Person, EngineError> {
        let person = people.by_token(token)?;
        if demand == Demand::AnyPerson {
            return Ok(person);
        }
        let least = role.ok_or_else(key_needed)?;
        let workspace = person.at_least(least)?;
        if self.engine.directory().view(workspace).is_none() {
            let message = "the workspace is so new that it is not known here yet; try again";
            return Err(EngineError::new(Reason::StoreUnavailable, message));
        }
        Ok(person)
    }

    /// Tells the services who calls.
    fn introduce<B>(&self, admitted: Admitted, peer: Option<IpAddr>, request: &mut Request<B>) {
        let browser = Browser::read(request.uri(), request.headers(), &self.origins);
        let user_agent = text(request.headers(), http::header::USER_AGENT.as_str()).unwrap_or_default();
        let visitor = Visitor { ip: peer, user_agent: user_agent.to_owned() };
        let extensions = request.extensions_mut();
        match admitted {
            Admitted::Anybody => {
                extensions.insert(browser);
                extensions.insert(visitor);
            }
            Admitted::Caller(caller) => drop(extensions.insert(caller)),
            Admitted::Person(person) => {
                if let Some(workspace) = &person.workspace {
                    extensions.insert(Caller::of_person(workspace.clone(), &person.user));
                }
                extensions.insert(visitor);
                extensions.insert(person);
            }
        }
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
        Demand::AnyPerson | Demand::Member => {
            Err(EngineError::new(Reason::PersonOnly, "only a person who is logged in may call this"))
        }
    }
}

fn key_needed() -> EngineError {
    EngineError::new(Reason::RoleMissing, "no role opens this; call it with an API key")
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
