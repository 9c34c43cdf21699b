//! Browsers, reflection and health.

use axum::body::Body;
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use prost::Message;
use rateguard_proto::v1;
use rateguard_proto::v1::ErrorReason as R;
use tonic::{Code, Status};
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus};
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};
use tonic_reflection::pb::v1alpha;
use tower::ServiceExt;

use super::world::{ORIGIN, World, reason};

const CHECK: &str = "/rateguard.v1.QuotaService/CheckQuota";
/// The bit of a grpc-web frame's first byte that says "these are the trailers".
const TRAILERS: u8 = 0x80;

async fn send(world: &World, request: Request<Body>) -> Response<Body> {
    world.public.clone().oneshot(request).await.unwrap()
}

fn web_check(key: &str) -> Request<Body> {
    let message = v1::CheckQuotaRequest::default().encode_to_vec();
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    let frame = [&[0][..], &length, &message].concat();
    Request::post(CHECK)
        .header("origin", ORIGIN)
        .header("content-type", "application/grpc-web+proto")
        .header("authorization", format!("Bearer {key}"))
        .body(Body::from(frame))
        .unwrap()
}

fn preflight(origin: &str) -> Request<Body> {
    Request::builder()
        .method(Method::OPTIONS)
        .uri(CHECK)
        .header("origin", origin)
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "authorization,content-type,x-grpc-web")
        .body(Body::empty())
        .unwrap()
}

#[tokio::test]
async fn a_browser_of_a_configured_origin_calls_over_http_1() {
    let world = World::new().await;
    let response = send(&world, web_check(&world.key)).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["content-type"], "application/grpc-web+proto");
    assert_eq!(response.headers()["access-control-allow-origin"], ORIGIN);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let length = usize::try_from(u32::from_be_bytes(body[1..5].try_into().unwrap())).unwrap();
    let answer = v1::CheckQuotaResponse::decode(&body[5..5 + length]).unwrap();
    assert_eq!((body[0], answer.decision()), (0, v1::Decision::Allowed));
    let trailers = &body[5 + length..];
    assert_eq!(trailers[0], TRAILERS);
    assert!(String::from_utf8_lossy(&trailers[5..]).contains("grpc-status:0"));
}

#[tokio::test]
async fn a_browser_without_a_credential_can_read_why_it_was_refused() {
    let world = World::new().await;
    let mut request = web_check("");
    request.headers_mut().remove("authorization");
    let response = send(&world, request).await;
    assert_eq!(response.headers()["access-control-allow-origin"], ORIGIN);
    let exposed = response.headers()["access-control-expose-headers"].to_str().unwrap();
    assert!(exposed.contains("grpc-status-details-bin"), "{exposed}");
    let status = Status::from_header_map(response.headers()).unwrap();
    assert_eq!((status.code(), reason(&status)), (Code::Unauthenticated, R::CredentialMissing));
}

#[tokio::test]
async fn a_preflight_needs_no_credential_and_allows_configured_origins_alone() {
    let world = World::new().await;
    let allowed = send(&world, preflight(ORIGIN)).await;
    assert_eq!(allowed.status(), StatusCode::OK);
    assert_eq!(allowed.headers()["access-control-allow-origin"], ORIGIN);
    assert_eq!(allowed.headers()["access-control-allow-methods"], "POST");
    let headers = allowed.headers()["access-control-allow-headers"].to_str().unwrap().to_owned();
    assert!(headers.contains("authorization") && headers.contains("x-grpc-web"), "{headers}");
    let refused = send(&world, preflight("https://evil.example.com")).await;
    assert!(!refused.headers().contains_key("access-control-allow-origin"));
}

#[tokio::test]
async fn something_that_is_no_origin_is_refused_at_the_start() {
    let world = World::new().await;
    let never_matched = [
        "https://console.example.com/",
        "https://console.example.com/app",
        "https://console.example.com?a=b",
        "https://Console.example.com",
        "https://user@console.example.com",
        "ftp://console.example.com",
    ];
    for origin in
        ["*", "console.example.com", "https://a\u{7f}", "https://", ""].into_iter().chain(never_matched)
    {
        let health = crate::server::health().1;
        let router = crate::server::public_router(
            &world.engine,
            &world.people,
            health,
            &[origin.to_owned()],
            &world.drain,
        );
        let refused = router.expect_err(origin).to_string();
        assert!(refused.starts_with("server.cors_origins: "), "{refused}");
    }
}

#[tokio::test]
async fn health_is_told_to_everybody() {
    let world = World::new().await;
    let mut client = HealthClient::new(world.public.clone());
    let answer = client.check(HealthCheckRequest { service: String::new() }).await.unwrap().into_inner();
    assert_eq!(answer.status(), ServingStatus::Serving);
}

#[tokio::test]
async fn reflection_shows_the_public_services_and_nothing_internal() {
    let world = World::new().await;
    let mut client = ServerReflectionClient::new(world.public.clone());
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut answers =
        client.server_reflection_info(futures::stream::iter([request])).await.unwrap().into_inner();
    let Some(ServerReflectionResponse {
        message_response: Some(MessageResponse::ListServicesResponse(list)),
        ..
    }) = answers.message().await.unwrap()
    else {
        panic!("no list of services");
    };
    let names: Vec<_> = list.service.iter().map(|service| service.name.as_str()).collect();
    for service in
        ["QuotaService", "UsageService", "RuleService", "AuthService", "WorkspaceService", "MemberService"]
    {
        assert!(names.contains(&format!("rateguard.v1.{service}").as_str()), "{names:?}");
    }
    assert!(names.contains(&"envoy.service.ratelimit.v3.RateLimitService"), "{names:?}");
    assert!(!names.iter().any(|name| name.contains("internal")), "{names:?}");
}

#[tokio::test]
async fn reflection_also_answers_by_its_older_name() {
    let world = World::new().await;
    let mut client = v1alpha::server_reflection_client::ServerReflectionClient::new(world.public.clone());
    let symbol = "rateguard.v1.QuotaService".to_owned();
    let request = v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(v1alpha::server_reflection_request::MessageRequest::FileContainingSymbol(
            symbol,
        )),
    };
    let asked = futures::stream::iter([request]);
    let mut answers = client.server_reflection_info(asked).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap().message_response.unwrap();
    let v1alpha::server_reflection_response::MessageResponse::FileDescriptorResponse(files) = answer else {
        panic!("no descriptor");
    };
    let file = prost_types::FileDescriptorProto::decode(files.file_descriptor_proto[0].as_slice()).unwrap();
    assert_eq!(file.name(), "rateguard/v1/quota_service.proto");
}
