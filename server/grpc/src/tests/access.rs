//! Who may call what.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::auth::{AuthLayer, GatewayAccess, ON_BEHALF_OF};
use crate::convert::keys::specified;
use axum::extract::ConnectInfo;
use rateguard_core::time::Millis;
use rateguard_engine::resources::{Key, Scope, Scopes};
use rateguard_proto::access::{Access, METHODS, Method, Named};
use rateguard_proto::v1;
use rateguard_proto::v1::quota_service_client::QuotaServiceClient;
use rateguard_proto::v1::usage_service_client::UsageServiceClient;
use rateguard_proto::v1::{ErrorReason as R, Role};
use tonic::{Code, Status};
use tower::{Layer, ServiceExt};

use super::world::{GATEWAY_TOKEN, Listener, START_MS, Transport, World, plain_key, reason};

async fn check(transport: Transport) -> Result<(), Status> {
    QuotaServiceClient::new(transport).check_quota(v1::CheckQuotaRequest::default()).await.map(drop)
}

async fn refusal(transport: Transport) -> (Code, R) {
    let status = check(transport).await.unwrap_err();
    (status.code(), reason(&status))
}

#[tokio::test]
async fn a_call_without_a_readable_credential_is_told_so() {
    let world = World::new().await;
    for headers in [
        &[][..],
        &[("authorization", "Basic dXNlcjpwdw==")],
        &[("authorization", "Bearer")],
        &[("authorization", "rg_live_x")],
        // Which of two would hold, nobody can say.
        &[("authorization", "Bearer rg_live_x"), ("authorization", "Bearer rg_live_y")],
    ] {
        let refused = refusal(world.transport_of(headers)).await;
        assert_eq!(refused, (Code::Unauthenticated, R::CredentialMissing), "{headers:?}");
    }
}

#[tokio::test]
async fn a_key_that_is_nobodys_is_unknown_whatever_its_form() {
    let world = World::new().await;
    let endless = format!("rg_live_{}", "x".repeat(4_000));
    for key in ["rg_live_00000000000000000000000000000000", "x", &endless] {
        assert_eq!(refusal(world.transport_with(key)).await, (Code::Unauthenticated, R::CredentialUnknown));
    }
}

#[tokio::test]
async fn a_scheme_is_read_in_any_case() {
    let world = World::new().await;
    let value = format!("bEARER {}", world.key);
    check(world.transport_of(&[("authorization", &value)])).await.unwrap();
}

#[tokio::test]
async fn a_disabled_an_expired_and_a_narrow_key_are_told_apart() {
    let world = World::new().await;
    let quota = || plain_key(&[Scope::Quota]);
    let disabled = world.add_key(Key { active: false, ..quota() }).await;
    let expired = world.add_key(Key { expires_at: Some(Millis::new(START_MS)), ..quota() }).await;
    let narrow = world.add_key(plain_key(&[Scope::Read])).await;
    let denied = Code::PermissionDenied;
    assert_eq!(refusal(world.transport_with(&disabled)).await, (denied, R::KeyDisabled));
    assert_eq!(refusal(world.transport_with(&expired)).await, (denied, R::KeyExpired));
    assert_eq!(refusal(world.transport_with(&narrow)).await, (denied, R::ScopeMissing));
}

#[tokio::test]
async fn the_state_of_limits_is_shown_to_whoever_reads_or_checks() {
    let world = World::new().await;
    for (scope, may) in
        [(Scope::Quota, true), (Scope::Read, true), (Scope::Manage, false), (Scope::Usage, false)]
    {
        let key = world.add_key(plain_key(&[scope])).await;
        let mut client = QuotaServiceClient::new(world.transport_with(&key));
        let answer = client.get_quota(v1::GetQuotaRequest::default()).await;
        assert_eq!(answer.is_ok(), may, "{scope:?}");
    }
}

/// Why a key without any scope is refused by a method.
fn refusal_of_keys(method: &Method) -> R {
    match method.access {
        Access::Named(Named { key_scopes: [_, ..], .. }) => R::ScopeMissing,
        Access::Named(Named { gateway_use: Some(_), .. }) => R::GatewayOnly,
        _ => R::PersonOnly,
    }
}

/// Whether a call came as far as the service.
fn is_reached(status: &Status) -> bool {
    !matches!(status.code(), Code::PermissionDenied | Code::Unauthenticated)
}

fn is_public(method: &Method) -> bool {
    !method.path.starts_with("/rateguard.internal.")
}

/// The router that has a method: the service that gateways ask is on theirs alone.
fn router_of<'w>(world: &'w World, method: &Method) -> &'w Listener {
    if is_public(method) { &world.public } else { &world.gateways }
}

#[tokio::test]
async fn an_apps_key_opens_no_method_at_all() {
    let world = World::new().await;
    let app = world.add_key(plain_key(&[Scope::Gateway])).await;
    for method in METHODS.iter().filter(|method| method.access != Access::Everybody) {
        let status = raw_call(router_of(&world, method).clone(), method.path, &app, None).await;
        assert_eq!(status.code(), Code::PermissionDenied, "{}", method.path);
        assert_eq!(reason(&status), refusal_of_keys(method), "{}", method.path);
    }
}

#[tokio::test]
async fn each_scope_opens_what_the_contract_says_and_nothing_besides() {
    let world = World::new().await;
    for scope in Scopes::ALL {
        let key = world.add_key(plain_key(&[scope])).await;
        for method in METHODS {
            let status = raw_call(router_of(&world, method).clone(), method.path, &key, None).await;
            let may = match method.access {
                Access::Everybody => true,
                Access::AnyPerson => false,
                Access::Named(named) => named.key_scopes.iter().any(|s| specified(*s) == Some(scope)),
            };
            assert_eq!(is_reached(&status), may, "{scope:?} and {}: {status:?}", method.path);
            assert_ne!(status.code(), Code::Unimplemented, "{}", method.path);
        }
    }
}

#[tokio::test]
async fn each_role_opens_what_the_contract_says_and_nothing_besides() {
    let world = World::new().await;
    let owner = world.someone("owner").await;
    for role in [Role::Viewer, Role::Member, Role::Admin, Role::Owner] {
        let person = match role {
            Role::Owner => owner.clone(),
            role => world.invited_by(&owner, role.as_str_name(), role).await,
        };
        // The last, since it ends the session.
        let logout = |method: &&Method| method.path.ends_with("/Logout");
        let others = METHODS.iter().filter(|method| !logout(method));
        for method in others.chain(METHODS.iter().filter(logout)) {
            let router = router_of(&world, method).clone();
            let status = raw_call(router, method.path, &person.access, None).await;
            let may = match method.access {
                Access::Everybody | Access::AnyPerson => true,
                Access::Named(named) => named.least_role.is_some_and(|least| role >= least),
            };
            assert_eq!(is_reached(&status), may, "{role:?} and {}: {status:?}", method.path);
            assert_ne!(status.code(), Code::Unimplemented, "{}", method.path);
            let is_closed = matches!(method.access, Access::Named(_)) && !may;
            if is_closed && is_public(method) {
                assert_eq!(reason(&status), R::RoleMissing, "{}", method.path);
            }
        }
    }
}

#[tokio::test]
async fn a_person_is_told_that_what_is_charged_needs_a_key() {
    let world = World::new().await;
    let owner = world.someone("owner").await;
    for method in ["QuotaService/CheckQuota", "QuotaService/GetQuota", "UsageService/ReportUsage"] {
        let path = format!("/rateguard.v1.{method}");
        let status = raw_call(world.public.clone(), &path, &owner.access, None).await;
        assert_eq!((status.code(), reason(&status)), (Code::PermissionDenied, R::RoleMissing), "{path}");
        assert_eq!(status.message(), "no role opens this; call it with an API key", "{path}");
    }
}

#[tokio::test]
async fn a_gateway_opens_what_the_contract_says_and_nothing_besides() {
    let world = World::new().await;
    let app = world.add_key(plain_key(&[Scope::Gateway])).await;
    // So that a watch ends when it has begun.
    world.drain.cancel();
    for method in METHODS {
        let mut request = empty_request(method.path, GATEWAY_TOKEN);
        request.headers_mut().insert(ON_BEHALF_OF, app.parse().unwrap());
        let status = status_of(world.gateways.clone(), request).await;
        let may = matches!(method.access, Access::Named(named) if named.gateway_use.is_some());
        let refused = matches!(status.code(), Code::PermissionDenied | Code::Unimplemented);
        assert_eq!(!refused, may, "{}: {status:?}", method.path);
    }
}

#[tokio::test]
async fn the_gateways_token_is_worth_nothing_on_the_public_router() {
    let world = World::new().await;
    let app = world.add_key(plain_key(&[Scope::Gateway])).await;
    let token = format!("Bearer {GATEWAY_TOKEN}");
    let headers = [("authorization", token.as_str()), ("x-rateguard-on-behalf-of", app.as_str())];
    let refused = refusal(world.transport_of(&headers)).await;
    assert_eq!(refused, (Code::Unauthenticated, R::CredentialUnknown));
    // Nor does the public router have the service that a gateway asks.
    let path = "/rateguard.internal.v1.GatewayService/ResolveRoute";
    let status = raw_call(world.public.clone(), path, &world.key, None).await;
    assert_ne!(status.code(), Code::Ok);
}

#[tokio::test]
async fn a_gateway_acts_for_an_app_with_the_scope_gateway_alone() {
    let world = World::new().await;
    let app = world.add_key(plain_key(&[Scope::Gateway])).await;
    let back_end = world.add_key(plain_key(&[Scope::Quota])).await;
    check(world.gateway_for(&app)).await.unwrap();
    assert_eq!(refusal(world.gateway_for(&back_end)).await, (Code::PermissionDenied, R::ScopeMissing));
    assert_eq!(refusal(world.gateway_for("rg_live_no")).await, (Code::Unauthenticated, R::CredentialUnknown));
    assert_eq!(refusal(world.gateway()).await, (Code::Unauthenticated, R::CredentialMissing));
    let mut events = UsageServiceClient::new(world.gateway_for(&app));
    let error = events.list_usage_events(v1::ListUsageEventsRequest::default()).await.unwrap_err();
    assert_eq!(reason(&error), R::ScopeMissing);
}

#[tokio::test]
async fn a_key_with_ranges_is_refused_from_elsewhere_and_from_nowhere() {
    let world = World::new().await;
    let ranges = vec!["10.0.0.0/8".parse().unwrap(), "2001:db8::/32".parse().unwrap()];
    let key = world.add_key(Key { ip_ranges: ranges, ..plain_key(&[Scope::Read]) }).await;
    let path = "/rateguard.v1.UsageService/ListUsageEvents";
    for (peer, may) in [
        (Some("10.1.2.3"), true),
        (Some("::ffff:10.1.2.3"), true),
        (Some("2001:db8::1"), true),
        (Some("192.0.2.1"), false),
        (None, false),
    ] {
        let status = raw_call(world.public.clone(), path, &key, peer).await;
        let expected = if may { Code::Ok } else { Code::PermissionDenied };
        assert_eq!(status.code(), expected, "{peer:?}");
    }
}

#[tokio::test]
async fn a_method_that_the_table_does_not_name_reaches_no_service() {
    let world = World::new().await;
    let reached = Arc::new(AtomicUsize::new(0));
    let seen = reached.clone();
    let service = tower::service_fn(move |_: http::Request<()>| {
        seen.fetch_add(1, Ordering::Relaxed);
        std::future::ready(Ok::<_, Infallible>(http::Response::new(())))
    });
    for access in [GatewayAccess::Refused, GatewayAccess::Allowed] {
        let guarded = AuthLayer::new(world.engine.clone(), access).layer(service.clone());
        for path in ["/rateguard.v1.QuotaService/Unlisted", "/x.y.Z/CheckQuota", "/", "/health"] {
            let request = http::Request::post(path)
                .header("authorization", format!("Bearer {}", world.key))
                .body(())
                .unwrap();
            let answer = guarded.clone().oneshot(request).await.unwrap();
            let status = Status::from_header_map(answer.headers()).expect("a status in the head");
            assert_eq!(status.code(), Code::Unimplemented, "{path}");
        }
    }
    assert_eq!(reached.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn an_unknown_method_is_unimplemented_on_every_router() {
    let world = World::new().await;
    for router in [&world.public, &world.gateways] {
        let path = "/rateguard.v1.QuotaService/Unlisted";
        let status = raw_call(router.clone(), path, &world.key, None).await;
        assert_eq!(status.code(), Code::Unimplemented);
    }
}

/// Calls a method with an empty message, as a peer would; the status of its answer.
async fn raw_call(router: Listener, path: &str, key: &str, peer: Option<&str>) -> Status {
    let mut request = empty_request(path, key);
    if let Some(peer) = peer {
        let address = SocketAddr::new(peer.parse::<IpAddr>().unwrap(), 1_234);
        request.extensions_mut().insert(ConnectInfo(address));
    }
    status_of(router, request).await
}

fn empty_request(path: &str, token: &str) -> http::Request<axum::body::Body> {
    let request = http::Request::post(path)
        .version(http::Version::HTTP_2)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("authorization", format!("Bearer {token}"));
    request.body(axum::body::Body::from(vec![0_u8; 5])).unwrap()
}

async fn status_of(router: Listener, request: http::Request<axum::body::Body>) -> Status {
    let response = router.oneshot(request).await.unwrap();
    if let Some(status) = Status::from_header_map(response.headers()) {
        return status;
    }
    match response.status() {
        http::StatusCode::OK => {}
        // As gRPC maps it: the router has no such service.
        http::StatusCode::NOT_FOUND => return Status::unimplemented("HTTP 404"),
        other => return Status::unknown(format!("HTTP {other}")),
    }
    let trailers = http_body_util::BodyExt::collect(response.into_body()).await.unwrap();
    let trailers = trailers.trailers().cloned().unwrap_or_default();
    Status::from_header_map(&trailers).expect("a status in the trailers")
}
