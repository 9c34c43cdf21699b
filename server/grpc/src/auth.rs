//! Authentication and authorisation, in one layer in front of every service.
//!
//! The layer turns the credential into an [`Identity`] and checks that it may call the method, by the
//! table that the contract declares. A service finds the identity among the request's extensions and
//! asks nothing more. A method that is not in the table is answered here, as one that does not exist:
//! no service is reached by a way that the table does not name.
//!
//! A person comes with an access token, a program with a key. Methods of people are told besides from
//! where they are called, those that are open to everybody also by which browser.

pub mod browser;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::extract::ConnectInfo;
use futures::future::{Either, Ready, ready};
use http::{HeaderMap, Request, Response};
use rateguard_core::ids::RequestId;
use rateguard_core::time::Millis;
use rateguard_engine::audit::{Origin, user_agent};
use rateguard_engine::caller::{Caller, Identity, ShownKey, key_needed};
use rateguard_engine::engine::Engine;
use rateguard_engine::error::{EngineError, Reason};
use rateguard_engine::people::{ACCESS_TOKEN_PREFIX, People, Person};
use rateguard_proto::access::{self, Access, Method, Named};
use rateguard_proto::v1::{GatewayUse, KeyScope};
use tonic::Status;
use tower::{Layer, Service};

use crate::convert::keys::specified;
use crate::convert::people::role_of;
use crate::status::status;
use browser::Browser;

/// The header in which a gateway names the key of the app that it acts for.
pub const ON_BEHALF_OF: &str = "x-rateguard-on-behalf-of";

/// The header in which a caller names its request, for the audit trail.
pub const REQUEST_ID: &str = "x-request-id";

/// Methods of protocols that others have declared. They are open to everybody: they tell no secrets.
pub const DECLARED_BY_OTHERS: [&str; 3] = [
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/Watch",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
];

/// What a key and a gateway may do where people alone may: nothing.
const NO_PROGRAM: Named = Named { key_scopes: &[], least_role: None, gateway_use: None };

/// The method of a path, with who may call it; `None` for one that does not exist.
pub fn method_of(path: &str) -> Option<Method> {
    let by_others = || DECLARED_BY_OTHERS.into_iter().find(|declared| *declared == path);
    access::method(path).or_else(|| by_others().map(|path| Method { path, access: Access::Everybody }))
}

/// Who may present a gateway's token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GatewayAccess {
    /// Nobody: a public listener.
    Refused,
    /// A gateway: the router of this process, or a listener made for remote gateways.
    Allowed,
}

/// Puts [`Authenticated`] in front of services. Every call clones it.
#[derive(Clone)]
pub struct AuthLayer(Arc<Door>);

/// Who is let in, and whom that depends on.
#[derive(Clone)]
struct Door {
    engine: Arc<Engine>,
    gateways: GatewayAccess,
    people: Option<Arc<People>>,
    /// From where browsers may use cookies.
    origins: Arc<[String]>,
}

impl AuthLayer {
    /// A layer that asks this engine.
    pub fn new(engine: Arc<Engine>, gateways: GatewayAccess) -> Self {
        Self(Arc::new(Door { engine, gateways, people: None, origins: Arc::default() }))
    }

    /// The same, which lets people in too; in browsers also from these origins.
    #[must_use]
    pub fn with_people(self, people: Arc<People>, origins: &[String]) -> Self {
        let door = Arc::unwrap_or_clone(self.0);
        Self(Arc::new(Door { people: Some(people), origins: origins.into(), ..door }))
    }
}

impl<S> Layer<S> for AuthLayer {
    type Service = Authenticated<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Authenticated { inner, door: self.0.clone() }
    }
}

/// A service that only authenticated callers reach.
#[derive(Clone)]
pub struct Authenticated<S> {
    inner: S,
    door: Arc<Door>,
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
        let Some(method) = method_of(request.uri().path()) else {
            return Either::Right(ready(Ok(unknown_method().into_http())));
        };
        let peer = request.extensions().get().map(|ConnectInfo::<SocketAddr>(peer)| peer.ip());
        match self.door.admit(method.access, request.headers(), peer) {
            Ok(admitted) => {
                self.door.introduce(admitted, origin(method, request.headers(), peer), &mut request);
                Either::Left(self.inner.call(request))
            }
            Err(error) => Either::Right(ready(Ok(status(&error).into_http()))),
        }
    }
}

/// By which call and from where somebody comes. A request id that is none is as good as no request id.
/// What only the audit trail asks is not read for the callers of keys, who come thousands of times a second.
fn origin(method: Method, headers: &HeaderMap, ip: Option<IpAddr>) -> Origin {
    let (service, name) = method.names();
    let origin = Origin { service, method: name, ip, ..Origin::default() };
    if !may_leave_entries(method.access) {
        return origin;
    }
    let request_id = text(headers, REQUEST_ID).and_then(|id| RequestId::parse(REQUEST_ID, id).ok());
    let user_agent = text(headers, http::header::USER_AGENT.as_str()).and_then(user_agent);
    Origin { user_agent, request_id, ..origin }
}

/// Whether a method may change what the audit trail follows: that is for people, and for keys that manage.
fn may_leave_entries(access: Access) -> bool {
    match access {
        Access::Everybody | Access::AnyPerson => true,
        Access::Named(Named { key_scopes: [], least_role, .. }) => least_role.is_some(),
        Access::Named(Named { key_scopes, .. }) => key_scopes.contains(&KeyScope::Manage),
    }
}

/// Who was let in.
enum Admitted {
    /// Whoever it is: everybody may.
    Anybody,
    /// A gateway that acts for nobody.
    Gateway,
    /// Somebody who has shown who they are.
    Known(Identity),
}

impl Door {
    /// Who asks, when they may.
    fn admit(
        &self,
        access: Access,
        headers: &HeaderMap,
        peer: Option<IpAddr>,
    ) -> Result<Admitted, EngineError> {
        if access == Access::Everybody {
            return Ok(Admitted::Anybody);
        }
        let token = bearer(headers)?;
        if let Some(people) = self.people.as_ref().filter(|_| token.starts_with(ACCESS_TOKEN_PREFIX)) {
            return self.person(people, token, access).map(|person| Admitted::Known(person.into()));
        }
        let named = match access {
            Access::Named(named) => named,
            Access::Everybody | Access::AnyPerson => NO_PROGRAM,
        };
        if self.gateways == GatewayAccess::Allowed && self.engine.authenticator().is_gateway(token) {
            let app = self.gateway(named, headers)?;
            return Ok(app.map_or(Admitted::Gateway, |caller| Admitted::Known(caller.into())));
        }
        let now = self.engine.now();
        let caller = self.key_holder(token, peer, now)?;
        check_scopes(&caller, named)?;
        self.engine.authenticator().note_use(&caller, now);
        Ok(Admitted::Known(caller.into()))
    }

    /// A person who may call it, for a method of a workspace in one that this process knows.
    fn person(&self, people: &People, token: &str, access: Access) -> Result<Person, EngineError> {
        let person = people.by_token(token)?;
        let Access::Named(Named { least_role, .. }) = access else { return Ok(person) };
        let workspace = person.at_least(least_role.and_then(role_of).ok_or_else(key_needed)?)?;
        self.engine.workspace(workspace)?;
        Ok(person)
    }

    /// Tells the services who calls.
    fn introduce<B>(&self, admitted: Admitted, origin: Origin, request: &mut Request<B>) {
        match admitted {
            Admitted::Anybody => {
                let browser = Browser::read(request.uri(), request.headers(), &self.origins);
                request.extensions_mut().insert(browser);
                request.extensions_mut().insert(origin);
            }
            Admitted::Gateway => {}
            Admitted::Known(identity) => {
                if identity.is_person() {
                    request.extensions_mut().insert(origin.clone());
                }
                request.extensions_mut().insert(identity.coming_from(origin));
            }
        }
    }

    /// The app that a gateway acts for; `None` where it acts for nobody.
    fn gateway(&self, named: Named, headers: &HeaderMap) -> Result<Option<Caller>, EngineError> {
        if named.gateway_use == Some(GatewayUse::Itself) {
            return Ok(None);
        }
        let app_key = text(headers, ON_BEHALF_OF).ok_or_else(missing_app_key)?;
        let (authenticator, now) = (self.engine.authenticator(), self.engine.now());
        match named.gateway_use {
            Some(GatewayUse::AfterCall) => authenticator.by_gateway_after_call(app_key, now).map(Some),
            Some(GatewayUse::ForApp) => {
                let app = authenticator.by_gateway(app_key, now)?;
                authenticator.note_use(&app, now);
                Ok(Some(app))
            }
            _ => authenticator.by_gateway(app_key, now).and_then(|_| Err(scope_missing(named.key_scopes))),
        }
    }

    /// Whoever presents a key by themselves, from where the key may be used.
    fn key_holder(&self, token: &str, peer: Option<IpAddr>, now: Millis) -> Result<Caller, EngineError> {
        let caller = self.engine.authenticator().by_key(token, now)?;
        let ranges = &caller.key.ip_ranges;
        let holds = |ip: IpAddr| ranges.iter().any(|range| range.contains(&ip.to_canonical()));
        if ranges.is_empty() || peer.is_some_and(holds) {
            return Ok(caller);
        }
        Err(EngineError::new(Reason::KeyRestricted, "the key may not be used from this address"))
    }
}

/// What the caller of an admitted request has shown, for whoever lets them stay.
///
/// # Errors
/// Those of a request without a credential.
pub(crate) fn shown_key(headers: &HeaderMap, by_gateway: bool) -> Result<ShownKey, EngineError> {
    let secret =
        if by_gateway { text(headers, ON_BEHALF_OF).ok_or_else(missing_app_key)? } else { bearer(headers)? };
    Ok(ShownKey::new(secret, by_gateway))
}

/// Checks that a key may be used for a method by whoever holds it.
pub(crate) fn check_scopes(caller: &Caller, named: Named) -> Result<(), EngineError> {
    let holds = |scope: &KeyScope| specified(*scope).is_some_and(|s| caller.key.scopes.contains(s));
    match named {
        Named { key_scopes, .. } if key_scopes.iter().any(holds) => Ok(()),
        Named { key_scopes: [], gateway_use: Some(_), .. } => {
            Err(EngineError::new(Reason::GatewayOnly, "only a gateway may call this"))
        }
        Named { key_scopes, .. } => Err(scope_missing(key_scopes)),
    }
}

/// The error of a program that lacks these scopes; without any, no program may.
fn scope_missing(scopes: &[KeyScope]) -> EngineError {
    if scopes.is_empty() {
        return EngineError::new(Reason::PersonOnly, "only a person who is logged in may call this");
    }
    let names: Vec<String> = scopes.iter().map(|scope| format!("{scope:?}").to_lowercase()).collect();
    EngineError::new(Reason::ScopeMissing, format!("the key lacks the scope {}", names.join(" or ")))
}

fn bearer(headers: &HeaderMap) -> Result<&str, EngineError> {
    let value = text(headers, http::header::AUTHORIZATION.as_str()).ok_or_else(missing_credential)?;
    let (scheme, token) = value.split_once(' ').ok_or_else(missing_credential)?;
    if scheme.eq_ignore_ascii_case("bearer") { Ok(token.trim_start()) } else { Err(missing_credential()) }
}

/// A header that came once; which of several values would hold, nobody can say.
fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    let first = values.next().filter(|_| values.next().is_none())?;
    first.to_str().ok()
}

fn unknown_method() -> Status {
    Status::unimplemented("there is no such method")
}

fn missing_app_key() -> EngineError {
    EngineError::new(Reason::CredentialMissing, format!("name the app's key once in {ON_BEHALF_OF}"))
}

fn missing_credential() -> EngineError {
    EngineError::new(
        Reason::CredentialMissing,
        "send an API key or an access token once, as authorization: Bearer …",
    )
}

#[cfg(test)]
mod tests;
