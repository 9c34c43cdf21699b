//! The services put together: for listeners, and for the gateway of the same process.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use http::{HeaderName, HeaderValue, Method, Request, Response};
use rateguard_engine::engine::Engine;
use rateguard_proto::FILE_DESCRIPTOR_SET;
use rateguard_proto::v1::quota_service_server::QuotaServiceServer;
use rateguard_proto::v1::usage_service_server::UsageServiceServer;
use thiserror::Error;
use tonic::body::Body;
use tonic::service::{Routes, RoutesBuilder};
use tonic_health::server::HealthReporter;
use tonic_web::GrpcWebLayer;
use tower::util::BoxCloneSyncService;
use tower::{Layer, ServiceExt};
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::auth::{AuthLayer, GatewayAccess};
use crate::services::quota::Quota;
use crate::services::usage::Usage;

/// Largest message taken: a full batch of records with every field at its bound is smaller.
const MESSAGE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How long a browser may remember what CORS allows.
const CORS_MAX_AGE: Duration = Duration::from_secs(3_600);

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
    health: tonic_health::pb::health_server::HealthServer<impl tonic_health::pb::health_server::Health>,
    cors_origins: &[String],
) -> Result<Router, ServeError> {
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    let mut services = public_services(engine);
    services.add_service(reflection).add_service(health);
    let router = services.routes().prepare().into_axum_router().reset_fallback();
    Ok(router
        .route_layer(AuthLayer::new(engine.clone(), GatewayAccess::Refused))
        .route_layer(GrpcWebLayer::new())
        .route_layer(cors(cors_origins)?))
}

/// Every service, for the gateway of this process alone.
pub fn in_process(engine: &Arc<Engine>) -> InProcess {
    let services = public_services(engine);
    let routes: Routes = services.routes().prepare();
    let layered = AuthLayer::new(engine.clone(), GatewayAccess::Allowed).layer(routes);
    BoxCloneSyncService::new(ServiceExt::<Request<Body>>::map_err(layered, |error: Infallible| match error {}))
}

/// A health service whose state the program sets.
pub fn health() -> (
    HealthReporter,
    tonic_health::pb::health_server::HealthServer<impl tonic_health::pb::health_server::Health>,
) {
    tonic_health::server::health_reporter()
}

fn public_services(engine: &Arc<Engine>) -> RoutesBuilder {
    let mut services = Routes::builder();
    services
        .add_service(
            QuotaServiceServer::new(Quota(engine.clone())).max_decoding_message_size(MESSAGE_BYTES_MAX),
        )
        .add_service(
            UsageServiceServer::new(Usage(engine.clone())).max_decoding_message_size(MESSAGE_BYTES_MAX),
        );
    services
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
    let allowed = ["authorization", "content-type", "x-grpc-web", "x-user-agent", "grpc-timeout"];
    Ok(CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins))
        .allow_methods([Method::POST])
        .allow_headers(allowed.map(HeaderName::from_static))
        .expose_headers(exposed)
        .max_age(CORS_MAX_AGE))
}
