//! What comes over the wire and is no good call: every answer to gRPC says why, in the contract's
//! words.

use std::convert::Infallible;
use std::iter;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::Body;
use futures::StreamExt;
use http::{Method, Request, Response, StatusCode, Version};
use http_body_util::BodyExt;
use prost::Message;
use rateguard_proto::access::{Access, METHODS};
use rateguard_proto::v1;
use rateguard_proto::v1::ErrorReason as R;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_types::StatusExt;
use tower::ServiceExt;

use super::world::{GATEWAY_TOKEN, Listener, ORIGIN, World, plain_key, told};
use crate::details::{MESSAGE_BYTES_MAX, OPEN_MESSAGE_BYTES_MAX};
use crate::short_bodies::EVERYBODYS_MESSAGE_BYTES_MAX;
use rateguard_engine::resources::Scope;

const CHECK: &str = "/rateguard.v1.QuotaService/CheckQuota";
const HEALTH: &str = "/grpc.health.v1.Health/Check";
const PLAIN: &str = "application/grpc";
const WEB: &str = "application/grpc-web+proto";

/// A message in its frame.
pub fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[0][..], &length, message].concat()
}

/// A call over HTTP/2 with whatever the body is.
pub fn call(path: &str, key: &str, body: Vec<u8>) -> Request<Body> {
    Request::post(path)
        .version(Version::HTTP_2)
        .header("content-type", PLAIN)
        .header("te", "trailers")
        .header("authorization", format!("Bearer {key}"))
        .body(Body::from(body))
        .unwrap()
}

fn in_browsers_form(mut request: Request<Body>) -> Request<Body> {
    *request.version_mut() = Version::HTTP_11;
    request.headers_mut().insert("content-type", WEB.parse().unwrap());
    request.headers_mut().insert("origin", ORIGIN.parse().unwrap());
    request
}

/// The status of an answer, wherever it stands; `None` where there is none.
pub async fn status_of(response: Response<Body>) -> Option<Status> {
    if let Some(status) = Status::from_header_map(response.headers()) {
        return Some(status);
    }
    let body = response.into_body().collect().await.ok()?;
    Status::from_header_map(body.trailers()?)
}

async fn refusal(router: &Listener, request: Request<Body>) -> (Code, R, String) {
    let response = router.clone().oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    told(&status_of(response).await.expect("a status"))
}

fn invalid(reason: R) -> (Code, R, String) {
    (Code::InvalidArgument, reason, String::new())
}

fn unimplemented(reason: R) -> (Code, R, String) {
    (Code::Unimplemented, reason, String::new())
}

/// A message of its type with a field of the wrong wire type, one that is cut off, one framed with a
/// flag that does not exist, one that says it is compressed without saying how, and none.
fn malformed() -> [Vec<u8>; 5] {
    let whole =
        framed(&v1::CheckQuotaRequest { api: "plan".to_owned(), ..Default::default() }.encode_to_vec());
    let mut flagged = whole.clone();
    flagged[0] = 7;
    let mut compressed = whole.clone();
    compressed[0] = 1;
    [framed(&[0x08, 0x01]), whole[..whole.len() - 1].to_vec(), flagged, compressed, Vec::new()]
}

#[tokio::test]
async fn a_message_that_cannot_be_read_is_the_callers_fault_in_either_form() {
    let world = World::new().await;
    for body in malformed() {
        let plain = call(CHECK, &world.key, body.clone());
        assert_eq!(refusal(&world.public, plain).await, invalid(R::MessageMalformed), "{body:?}");
        let web = in_browsers_form(call(CHECK, &world.key, body.clone()));
        assert_eq!(refusal(&world.public, web).await, invalid(R::MessageMalformed), "{body:?}");
    }
}

#[tokio::test]
async fn a_message_that_cannot_be_read_is_at_fault_as_a_whole() {
    let world = World::new().await;
    let refused = call(CHECK, &world.key, framed(&[0x08, 0x01]));
    let status = status_of(world.public.clone().oneshot(refused).await.unwrap()).await.unwrap();
    let details = status.get_error_details();
    let violations = &details.bad_request().expect("INVALID_ARGUMENT carries BadRequest").field_violations;
    assert_eq!(violations.len(), 1);
    assert_eq!((violations[0].field.as_str(), violations[0].description.as_str()), ("", status.message()));
}

#[tokio::test]
async fn an_over_large_message_is_refused_by_its_announced_length_and_the_bound_is_named() {
    let world = World::new().await;
    let one_too_many = |bound: usize| {
        let length = u32::try_from(bound + 1).unwrap().to_be_bytes();
        [&[0][..], &length].concat()
    };
    let bounds = [(CHECK, MESSAGE_BYTES_MAX), (HEALTH, OPEN_MESSAGE_BYTES_MAX)];
    let open = everybodys().map(|path| (path, EVERYBODYS_MESSAGE_BYTES_MAX));
    for (path, bound) in bounds.into_iter().chain(open) {
        for form in [std::convert::identity, in_browsers_form] {
            let request = form(call(path, &world.key, one_too_many(bound)));
            let response = world.public.clone().oneshot(request).await.unwrap();
            let status = status_of(response).await.unwrap();
            assert_eq!(told(&status), invalid(R::MessageTooLarge), "{path}");
            assert!(status.message().contains(&bound.to_string()), "{}", status.message());
        }
    }
}

/// The methods of ours that are open to everybody.
fn everybodys() -> impl Iterator<Item = &'static str> {
    METHODS.iter().filter(|method| method.access == Access::Everybody).map(|method| method.path)
}

#[tokio::test]
async fn a_message_of_everybodys_is_read_no_further_than_its_bound() {
    let world = World::new().await;
    for path in everybodys() {
        let pieces = Arc::new(AtomicUsize::new(0));
        let taken = pieces.clone();
        // It says that it is short, and never ends.
        let endless =
            futures::stream::iter(iter::once(vec![0, 0, 0, 0, 9]).chain(iter::repeat(vec![0; 1_024])))
                .inspect(move |_| {
                    taken.fetch_add(1, Ordering::Relaxed);
                })
                .map(Ok::<_, Infallible>);
        let request = call(path, "", Vec::new()).map(|_| Body::from_stream(endless));
        assert_eq!(refusal(&world.public, request).await, invalid(R::MessageTooLarge), "{path}");
        assert!(pieces.load(Ordering::Relaxed) <= EVERYBODYS_MESSAGE_BYTES_MAX / 1_024 + 2, "{path}");
    }
}

#[tokio::test]
async fn a_message_of_everybodys_that_ends_early_is_the_callers_fault() {
    let world = World::new().await;
    for path in everybodys() {
        let cut = futures::stream::iter([Ok(vec![0, 0, 0, 0, 9]), Err(std::io::Error::other("gone"))]);
        let request = call(path, "", Vec::new()).map(|_| Body::from_stream(cut));
        assert_eq!(refusal(&world.public, request).await, invalid(R::MessageMalformed), "{path}");
    }
}

#[tokio::test]
async fn a_message_of_a_million_empty_elements_is_refused_before_they_are_made() {
    let world = World::new().await;
    for path in ["/rateguard.v1.UsageService/ReportUsage", "/rateguard.v1.QuotaService/BatchCheckQuota"] {
        let empties = [0x0a, 0x00].repeat(1_000_000);
        let response = world.public.clone().oneshot(call(path, &world.key, framed(&empties))).await.unwrap();
        let status = status_of(response).await.unwrap();
        assert_eq!(told(&status), invalid(R::MessageTooLarge), "{path}");
        assert!(status.message().contains("2000 elements"), "{}", status.message());
    }
}

#[tokio::test]
async fn a_service_or_method_that_does_not_exist_is_unimplemented_in_either_form_and_on_every_router() {
    let world = World::new().await;
    for path in ["/rateguard.v1.QuotaService/Unlisted", "/rateguard.v9.NoService/CheckQuota", "/x", "/"] {
        for router in [&world.public, &world.gateways] {
            let refused = refusal(router, call(path, &world.key, framed(&[]))).await;
            assert_eq!(refused, unimplemented(R::MethodUnknown), "{path}");
        }
        let web = in_browsers_form(call(path, &world.key, framed(&[])));
        assert_eq!(refusal(&world.public, web).await, unimplemented(R::MethodUnknown), "{path}");
    }
}

#[tokio::test]
async fn the_gateway_of_the_same_process_is_told_as_much() {
    let world = World::new().await;
    let app = world.add_key(plain_key(&[Scope::Gateway])).await;
    let service = crate::server::in_process(&world.engine);
    let route = "/rateguard.internal.v1.GatewayService/ResolveRoute";
    for (path, expected) in [
        (route, invalid(R::MessageMalformed)),
        ("/rateguard.internal.v1.GatewayService/No", unimplemented(R::MethodUnknown)),
    ] {
        let mut request = call(path, GATEWAY_TOKEN, framed(&[0x08, 0x01]));
        request.headers_mut().insert("x-rateguard-on-behalf-of", app.parse().unwrap());
        let response = service.clone().oneshot(request.map(tonic::body::Body::new)).await.unwrap();
        let status = Status::from_header_map(response.headers()).unwrap();
        assert_eq!(told(&status), expected, "{path}");
    }
}

#[tokio::test]
async fn a_compressed_message_is_refused_with_the_encodings_that_are_read() {
    let world = World::new().await;
    for encoding in ["gzip", "foo"] {
        for form in [std::convert::identity, in_browsers_form] {
            let mut request = form(call(CHECK, &world.key, framed(&[])));
            request.headers_mut().insert("grpc-encoding", encoding.parse().unwrap());
            let response = world.public.clone().oneshot(request).await.unwrap();
            assert_eq!(response.headers()["grpc-accept-encoding"], "identity");
            let status = status_of(response).await.unwrap();
            assert_eq!(told(&status), unimplemented(R::EncodingUnsupported), "{encoding}");
        }
    }
}

#[tokio::test]
async fn health_and_reflection_refuse_in_the_words_of_the_contract_also_at_a_streams_end() {
    let world = World::new().await;
    let nobody = HealthCheckRequest { service: "nobody".to_owned() }.encode_to_vec();
    let refused = refusal(&world.public, call(HEALTH, "", framed(&nobody))).await;
    assert_eq!(refused, (Code::NotFound, R::ResourceNotFound, String::new()));
    for version in ["v1", "v1alpha"] {
        let path = format!("/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo");
        let refused = refusal(&world.public, call(&path, "", framed(&[]))).await;
        assert_eq!(refused, invalid(R::FieldMalformed), "{version}");
    }
}

#[tokio::test]
async fn a_refusal_fits_into_headers_whatever_was_asked() {
    let world = World::new().await;
    // Field 4, the name of a symbol.
    let symbol = HealthCheckRequest { service: "x".repeat(10_000) }.encode_to_vec();
    let asked = [&[0x22], &symbol[1..]].concat();
    let path = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    let response = world.public.clone().oneshot(call(path, "", framed(&asked))).await.unwrap();
    let status = status_of(response).await.unwrap();
    assert_eq!(told(&status), (Code::NotFound, R::ResourceNotFound, String::new()));
    assert!(status.message().starts_with("symbol 'xxx") && status.message().len() < 1_000);
}

#[tokio::test]
async fn what_is_no_grpc_is_refused_in_plain_http() {
    let world = World::new().await;
    let request = |method: Method, path: &str, version: Version, content_type: &str| {
        let builder = Request::builder().method(method).uri(path).version(version);
        builder.header("content-type", content_type).body(Body::empty()).unwrap()
    };
    let (get, post, put, two) = (Method::GET, Method::POST, Method::PUT, Version::HTTP_2);
    for (sent, expected) in [
        (request(get.clone(), CHECK, two, ""), StatusCode::METHOD_NOT_ALLOWED),
        (request(put, CHECK, two, PLAIN), StatusCode::METHOD_NOT_ALLOWED),
        (request(get.clone(), CHECK, two, WEB), StatusCode::METHOD_NOT_ALLOWED),
        (request(post.clone(), CHECK, two, ""), StatusCode::UNSUPPORTED_MEDIA_TYPE),
        (request(post.clone(), CHECK, two, "application/json"), StatusCode::UNSUPPORTED_MEDIA_TYPE),
        (request(post.clone(), CHECK, two, "application/grpc+json"), StatusCode::UNSUPPORTED_MEDIA_TYPE),
        (request(post.clone(), CHECK, Version::HTTP_11, PLAIN), StatusCode::HTTP_VERSION_NOT_SUPPORTED),
        (request(get, "/nothing", two, ""), StatusCode::NOT_FOUND),
        (request(post, "/nothing", two, "application/json"), StatusCode::NOT_FOUND),
    ] {
        let what = format!("{} {} {:?}", sent.method(), sent.uri(), sent.headers());
        let response = world.public.clone().oneshot(sent).await.unwrap();
        assert_eq!(response.status(), expected, "{what}");
        assert_eq!(response.headers().contains_key("allow"), expected == StatusCode::METHOD_NOT_ALLOWED);
        assert!(response.headers()["content-type"].to_str().unwrap().starts_with("text/plain"));
        assert!(!response.into_body().collect().await.unwrap().to_bytes().is_empty(), "{what}");
    }
}

#[tokio::test]
async fn the_listener_of_gateways_is_not_for_browsers() {
    let world = World::new().await;
    let request = in_browsers_form(call(CHECK, &world.key, framed(&[])));
    let response = world.gateways.clone().oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
}

#[tokio::test]
async fn a_content_type_may_name_its_codec_and_parameters() {
    let world = World::new().await;
    for content_type in ["application/grpc", "application/grpc+proto", "application/grpc; charset=utf-8"] {
        let mut request = call(CHECK, &world.key, framed(&[]));
        request.headers_mut().insert("content-type", content_type.parse().unwrap());
        let response = world.public.clone().oneshot(request).await.unwrap();
        assert_eq!(status_of(response).await.unwrap().code(), Code::Ok, "{content_type}");
    }
}
