//! The services put together: for listeners, and for the gateway of the same process.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use http::{HeaderName, HeaderValue, Method, Request, Response};
use rateguard_engine::engine::Engine;
use rateguard_engine::people::People;
use rateguard_proto::FILE_DESCRIPTOR_SET;
use rateguard_proto::internal_v1::gateway_service_server::GatewayServiceServer;
use rateguard_proto::v1::analytics_service_server::AnalyticsServiceServer;
use rateguard_proto::v1::api_service_server::ApiServiceServer;
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
use thiserror::Error;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::service::{Routes, RoutesBuilder};
use tonic_health::server::HealthReporter;
use tonic_web::GrpcWebLayer;
use tower::util::BoxCloneSyncService;
use tower::{Layer, ServiceExt};
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::auth::browser::CSRF_HEADER;
use crate::auth::{AuthLayer, GatewayAccess};
use crate::deadline::DeadlineLayer;
use crate::services::analytics::Analytics;
use crate::services::apis::Apis;
use crate::services::auth::Auth;
use crate::services::budgets::Budgets;
use crate::services::configuration::Configurations;
use crate::services::gateway::Gateway;
use crate::services::keys::Keys;
use crate::services::members::Members;
use crate::services::prices::Prices;
use crate::services::quota::Quota;
use crate::services::rules::Rules;
use crate::services::usage::Usage;
use crate::services::workspaces::Workspaces;

/// Largest message taken: a full batch of records with every field at its bound is smaller.
const MESSAGE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Largest configuration taken: all the resources that one may have, with long lists of matches.
const CONFIGURATION_BYTES_MAX: usize = 32 * 1024 * 1024;
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
    #[error("{0:?} is no origin for CORS")]
    Origin(String),
}

/// A transport for generated clients in the same process.
pub type InProcess = BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;

/// The public services with reflection, health and grpc-web, for a listener. Browsers may call
/// from `cors_origins`.
///
/// # Errors
/// [`ServeError::Origin`].
pub fn public_router(
    engine: &Arc<Engine>,
    people: &Arc<People>,
    health: tonic_health::pb::health_server::HealthServer<impl tonic_health::pb::health_server::Health>,
    cors_origins: &[String],
) -> Result<Router, ServeError> {
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    let mut services = public_services(engine, people);
    services.add_service(reflection).add_service(health);
    let router = services.routes().prepare().into_axum_router().reset_fallback();
    Ok(router
        .route_layer(
            AuthLayer::new(engine.clone(), GatewayAccess::Refused).with_people(people.clone(), cors_origins),
        )
        .route_layer(DeadlineLayer)
        .route_layer(GrpcWebLayer::new())
        .route_layer(cors(cors_origins)?))
}

/// What a remote gateway speaks to, for a listener made for gateways alone. `drain` ends what would
/// otherwise keep a server that stops waiting.
pub fn gateway_router(engine: &Arc<Engine>, drain: &CancellationToken) -> Router {
    gateway_services(engine, drain)
        .into_axum_router()
        .reset_fallback()
        .route_layer(AuthLayer::new(engine.clone(), GatewayAccess::Allowed))
        .route_layer(DeadlineLayer)
}

/// The same for the gateway of this process, which is known by its token.
pub fn in_process(engine: &Arc<Engine>) -> InProcess {
    // The gateway stops by itself and lets go of what it watches.
    let never = CancellationToken::new();
    let layers = (DeadlineLayer, AuthLayer::new(engine.clone(), GatewayAccess::Allowed));
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

fn public_services(engine: &Arc<Engine>, people: &Arc<People>) -> RoutesBuilder {
    let configurations = ConfigurationServiceServer::new(Configurations(engine.clone()));
    let mut services = calling_services(engine);
    services
        .add_service(bounded!(ApiServiceServer, Apis(engine.clone())))
        .add_service(bounded!(KeyServiceServer, Keys(engine.clone())))
        .add_service(bounded!(RuleServiceServer, Rules(engine.clone())))
        .add_service(bounded!(BudgetServiceServer, Budgets(engine.clone())))
        .add_service(bounded!(PriceServiceServer, Prices(engine.clone())))
        .add_service(bounded!(AnalyticsServiceServer, Analytics(engine.clone())))
        .add_service(configurations.max_decoding_message_size(CONFIGURATION_BYTES_MAX))
        .add_service(bounded!(AuthServiceServer, Auth(people.clone())))
        .add_service(bounded!(WorkspaceServiceServer, Workspaces(people.clone())))
        .add_service(bounded!(MemberServiceServer, Members(people.clone())));
    services
}

/// What calls need, whoever makes them.
fn calling_services(engine: &Arc<Engine>) -> RoutesBuilder {
    let mut services = Routes::builder();
    services
        .add_service(bounded!(QuotaServiceServer, Quota(engine.clone())))
        .add_service(bounded!(UsageServiceServer, Usage(engine.clone())));
    services
}

fn gateway_services(engine: &Arc<Engine>, drain: &CancellationToken) -> Routes {
    let gateway = Gateway { engine: engine.clone(), drain: drain.clone() };
    let mut services = calling_services(engine);
    services.add_service(bounded!(GatewayServiceServer, gateway));
    services.routes().prepare()
}

fn cors(origins: &[String]) -> Result<CorsLayer, ServeError> {
    let parse = |origin: &String| {
        HeaderValue::from_str(origin)
            .ok()
            .filter(|_| origin.starts_with("http://") || origin.starts_with("https://"))
            .ok_or_else(|| ServeError::Origin(origin.clone()))
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
