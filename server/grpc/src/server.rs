//! The services put together: for listeners, and for the gateway of the same process.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use http::uri::Scheme;
use http::{HeaderName, HeaderValue, Method, Request, Response, Uri};
use rateguard_engine::engine::Engine;
use rateguard_engine::people::People;
use rateguard_proto::envoy::service::ratelimit::v3::rate_limit_service_server::RateLimitServiceServer;
use rateguard_proto::internal_v1::gateway_service_server::GatewayServiceServer;
use rateguard_proto::v1::analytics_service_server::AnalyticsServiceServer;
use rateguard_proto::v1::api_service_server::ApiServiceServer;
use rateguard_proto::v1::audit_service_server::AuditServiceServer;
use rateguard_proto::v1::auth_service_server::AuthServiceServer;
use rateguard_proto::v1::budget_service_server::BudgetServiceServer;
use rateguard_proto::v1::configuration_service_server::ConfigurationServiceServer;
use rateguard_proto::v1::key_service_server::KeyServiceServer;
use rateguard_proto::v1::member_service_server::MemberServiceServer;
use rateguard_proto::v1::price_service_server::PriceServiceServer;
use rateguard_proto::v1::quota_service_server::QuotaServiceServer;
use rateguard_proto::v1::rule_service_server::RuleServiceServer;
use rateguard_proto::v1::usage_service_server::UsageServiceServer;
use rateguard_proto::v1::workspace_service_server::WorkspaceServiceServer;
use rateguard_proto::{ENVOY_FILE_DESCRIPTOR_SET, FILE_DESCRIPTOR_SET};
use thiserror::Error;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::service::{Routes, RoutesBuilder};
use tonic_health::server::HealthReporter;
use tower::util::{BoxCloneSyncService, MapRequestLayer, MapResponseLayer};
use tower::{Layer, ServiceExt};
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::auth::browser::CSRF_HEADER;
use crate::auth::{AuthLayer, GatewayAccess};
use crate::deadline::DeadlineLayer;
use crate::details::{DetailsLayer, MESSAGE_BYTES_MAX, OPEN_MESSAGE_BYTES_MAX, of_open_service};
use crate::direct::{Called, Direct, DirectCalls};
use crate::front::{FrontLayer, REFLECTION_BEFORE_ROUTE, under_present_name};
use crate::services::analytics::Analytics;
use crate::services::apis::Apis;
use crate::services::audit::Audit;
use crate::services::auth::Auth;
use crate::services::budgets::Budgets;
use crate::services::configuration::Configurations;
use crate::services::envoy::EnvoyRateLimits;
use crate::services::gateway::Gateway;
use crate::services::keys::Keys;
use crate::services::members::Members;
use crate::services::prices::Prices;
use crate::services::quota::Quota;
use crate::services::rules::Rules;
use crate::services::usage::Usage;
use crate::services::workspaces::Workspaces;
use crate::short_bodies::ShortBodiesLayer;

/// How long a browser may remember what CORS allows.
const CORS_MAX_AGE: Duration = Duration::from_secs(3_600);

/// A server of a service that takes no message beyond the bound.
macro_rules! bounded {
    ($server:ident, $service:expr) => {
        $server::new($service).max_decoding_message_size(MESSAGE_BYTES_MAX)
    };
}

/// Why the services could not be put together.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The descriptor set built in is damaged.
    #[error("the descriptors for reflection are damaged: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// An origin is not one.
    #[error(
        "server.cors_origins: {0:?} is no origin of browsers, which is a scheme, a host and perhaps a port, such as \
         https://dashboard.example.com, without a path"
    )]
    Origin(String),
}

/// A transport for generated clients in the same process.
pub type InProcess = BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;

/// The public services with reflection, health and grpc-web, for a listener. Browsers may call
/// from `cors_origins`. Calls of services that do not exist are answered too, so that no other router
/// with a fallback can be merged with it. `drain` ends streams that would otherwise keep a server that
/// stops waiting. What is called most is to be put before it: [`public_calls`].
///
/// # Errors
/// [`ServeError::Origin`].
pub fn public_router(
    engine: &Arc<Engine>,
    people: &Arc<People>,
    health: tonic_health::pb::health_server::HealthServer<impl tonic_health::pb::health_server::Health>,
    cors_origins: &[String],
    drain: &CancellationToken,
) -> Result<Router, ServeError> {
    let front = FrontLayer::with_web(cors(cors_origins)?);
    let services = public_services(engine, people, drain).routes().prepare().into_axum_router();
    let auth = public_auth(engine, people, cors_origins);
    let guarded = (front, DeadlineLayer, DetailsLayer, auth, ShortBodiesLayer);
    let renamed = MapRequestLayer::new(under_present_name);
    Ok(services.merge(open_services(health)?).layer((renamed, guarded)))
}

/// The services that programs call all the time, to be put before [`public_router`].
pub fn public_calls(
    engine: &Arc<Engine>,
    people: &Arc<People>,
    cors_origins: &[String],
    drain: &CancellationToken,
) -> DirectCalls {
    let envoy = bounded!(RateLimitServiceServer, EnvoyRateLimits(engine.clone()));
    let called = Called { envoy: Some(envoy), ..called(engine, drain) };
    DirectCalls::new(called, &public_auth(engine, people, cors_origins))
}

fn public_auth(engine: &Arc<Engine>, people: &Arc<People>, cors_origins: &[String]) -> AuthLayer {
    AuthLayer::new(engine.clone(), GatewayAccess::Refused).with_people(people.clone(), cors_origins)
}

/// Health and reflection, which whoever may connect may call. Reflection also has its older name,
/// which clients ask by that are not new.
fn open_services(
    health: tonic_health::pb::health_server::HealthServer<impl tonic_health::pb::health_server::Health>,
) -> Result<Router, ServeError> {
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(ENVOY_FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?
        .max_decoding_message_size(OPEN_MESSAGE_BYTES_MAX);
    let mut services = Routes::builder();
    services
        .add_service(reflection.clone())
        .add_service(health.max_decoding_message_size(OPEN_MESSAGE_BYTES_MAX));
    let router = services.routes().into_axum_router().reset_fallback();
    Ok(router
        .route_service(REFLECTION_BEFORE_ROUTE, reflection)
        .route_layer(MapResponseLayer::new(of_open_service)))
}

/// What a remote gateway speaks to, for a listener made for gateways alone. `drain` ends what would
/// otherwise keep a server that stops waiting.
pub fn gateway_router(engine: &Arc<Engine>, drain: &CancellationToken) -> Direct<Router> {
    let auth = AuthLayer::new(engine.clone(), GatewayAccess::Allowed);
    let calls = DirectCalls::new(called(engine, drain), &auth);
    let services = gateway_services(engine, drain).into_axum_router();
    calls.before(services.layer((FrontLayer::plain(), DeadlineLayer, DetailsLayer, auth)))
}

/// The same for the gateway of this process, which is known by its token.
pub fn in_process(engine: &Arc<Engine>) -> InProcess {
    // The gateway stops by itself and lets go of what it watches.
    let never = CancellationToken::new();
    let layers = (DeadlineLayer, DetailsLayer, AuthLayer::new(engine.clone(), GatewayAccess::Allowed));
    let layered = layers.layer(gateway_services(engine, &never));
    BoxCloneSyncService::new(ServiceExt::<Request<Body>>::map_err(
        layered,
        |error: Infallible| match error {},
    ))
}

/// A health service whose state the program sets.
pub fn health() -> (
    HealthReporter,
    tonic_health::pb::health_server::HealthServer<impl tonic_health::pb::health_server::Health>,
) {
    tonic_health::server::health_reporter()
}

fn public_services(engine: &Arc<Engine>, people: &Arc<People>, drain: &CancellationToken) -> RoutesBuilder {
    let mut services = calling_services(engine, drain);
    services
        .add_service(bounded!(RateLimitServiceServer, EnvoyRateLimits(engine.clone())))
        .add_service(bounded!(ApiServiceServer, Apis(engine.clone())))
        .add_service(bounded!(KeyServiceServer, Keys(engine.clone())))
        .add_service(bounded!(RuleServiceServer, Rules(engine.clone())))
        .add_service(bounded!(BudgetServiceServer, Budgets(engine.clone())))
        .add_service(bounded!(PriceServiceServer, Prices(engine.clone())))
        .add_service(bounded!(AnalyticsServiceServer, Analytics(engine.clone())))
        .add_service(bounded!(AuditServiceServer, Audit(engine.clone())))
        .add_service(bounded!(ConfigurationServiceServer, Configurations(engine.clone())))
        .add_service(bounded!(AuthServiceServer, Auth(people.clone())))
        .add_service(bounded!(WorkspaceServiceServer, Workspaces(people.clone())))
        .add_service(bounded!(MemberServiceServer, Members(people.clone())));
    services
}

/// What calls need, whoever makes them.
fn calling_services(engine: &Arc<Engine>, drain: &CancellationToken) -> RoutesBuilder {
    let Called { quota, usage, .. } = called(engine, drain);
    let mut services = Routes::builder();
    services.add_service(quota).add_service(usage);
    services
}

fn called(engine: &Arc<Engine>, drain: &CancellationToken) -> Called {
    let quota = Quota { engine: engine.clone(), drain: drain.clone() };
    Called {
        quota: bounded!(QuotaServiceServer, quota),
        usage: bounded!(UsageServiceServer, Usage(engine.clone())),
        envoy: None,
    }
}

fn gateway_services(engine: &Arc<Engine>, drain: &CancellationToken) -> Routes {
    let gateway = Gateway { engine: engine.clone(), drain: drain.clone() };
    let mut services = calling_services(engine, drain);
    services.add_service(bounded!(GatewayServiceServer, gateway));
    services.routes().prepare()
}

/// Whether browsers send this as the origin of a page: scheme, host and perhaps a port, in lower case and
/// with nothing behind them. With anything else it would be none that ever matches.
fn is_origin(text: &str) -> bool {
    let Ok(parts) = text.parse::<Uri>().map(Uri::into_parts) else { return false };
    let (Some(scheme), Some(authority)) = (parts.scheme, parts.authority) else { return false };
    let is_web = scheme == Scheme::HTTP || scheme == Scheme::HTTPS;
    let is_bare = text == format!("{scheme}://{authority}").to_ascii_lowercase();
    is_web && is_bare && !authority.as_str().contains('@')
}

fn cors(origins: &[String]) -> Result<CorsLayer, ServeError> {
    let parse = |origin: &String| {
        let value = HeaderValue::from_str(origin).ok().filter(|_| is_origin(origin));
        value.ok_or_else(|| ServeError::Origin(origin.clone()))
    };
    let origins = origins.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
    let exposed = ["grpc-status", "grpc-message", "grpc-status-details-bin"].map(HeaderName::from_static);
    let allowed =
        ["authorization", "content-type", "x-grpc-web", "x-user-agent", "grpc-timeout", CSRF_HEADER];
    Ok(CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins))
        // For the cookie that RefreshToken takes; the origins are named, never all.
        .allow_credentials(true)
        .allow_methods([Method::POST])
        .allow_headers(allowed.map(HeaderName::from_static))
        .expose_headers(exposed)
        .max_age(CORS_MAX_AGE))
}
