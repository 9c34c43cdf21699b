//! What comes before everything else: which requests are gRPC calls, and in which form.
//!
//! A call over HTTP/2 goes straight on. One in the form for browsers goes by way of CORS and
//! grpc-web. Whatever is neither is refused in plain HTTP, since its sender does not speak gRPC.

use std::convert::Infallible;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::MatchedPath;
use axum::response::IntoResponse;
use futures::FutureExt;
use futures::future::{BoxFuture, Either, ready};
use http::header::{ACCESS_CONTROL_REQUEST_METHOD, ALLOW, CONTENT_TYPE};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, Version};
use tonic_web::GrpcWebLayer;
use tower::util::BoxCloneSyncService;
use tower::{Layer, Service, ServiceExt};
use tower_http::cors::CorsLayer;

/// Content types of gRPC, before any parameters.
const PLAIN: [&str; 2] = ["application/grpc", "application/grpc+proto"];
/// Content types of grpc-web.
const WEB: [&str; 4] = [
    "application/grpc-web",
    "application/grpc-web+proto",
    "application/grpc-web-text",
    "application/grpc-web-text+proto",
];
/// The route of reflection under its older name.
pub const REFLECTION_BEFORE_ROUTE: &str = "/grpc.reflection.v1alpha.ServerReflection/{*method}";
/// What its paths begin with. The messages are those of the present name.
pub const REFLECTION_BEFORE: &str = "/grpc.reflection.v1alpha.ServerReflection/";
/// Reflection under its present name.
const REFLECTION_NOW: &str = "/grpc.reflection.v1.ServerReflection/";

/// Puts [`Front`] in front of services.
#[derive(Clone, Debug, Default)]
pub struct FrontLayer {
    cors: Option<CorsLayer>,
}

impl FrontLayer {
    /// A front for calls over HTTP/2 alone.
    pub fn plain() -> Self {
        Self::default()
    }

    /// A front also for browsers, where `cors` allows them.
    pub fn with_web(cors: CorsLayer) -> Self {
        Self { cors: Some(cors) }
    }
}

impl<S> Layer<S> for FrontLayer
where
    S: Service<Request<tonic::body::Body>, Response = Response<Body>, Error = Infallible>,
    S: Clone + Send + Sync + 'static,
    S::Future: Send,
{
    type Service = Front<S>;

    fn layer(&self, inner: S) -> Self::Service {
        let web = self.cors.as_ref().map(|cors| {
            let web = cors.layer(GrpcWebLayer::new().layer(inner.clone()));
            BoxCloneSyncService::new(ServiceExt::<Request<Body>>::map_response(
                web,
                |answer: Response<tonic::body::Body>| answer.map(Body::new),
            ))
        });
        Front { plain: inner, web }
    }
}

/// Services that only gRPC calls reach.
#[derive(Clone)]
pub struct Front<S> {
    plain: S,
    web: Option<BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>>,
}

/// What a request is.
enum Form {
    Plain,
    Web,
    Foreign(StatusCode, &'static str),
}

impl<S> Service<Request<Body>> for Front<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<S::Future, BoxFuture<'static, Result<Self::Response, Infallible>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.plain.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match (form(&request), &self.web) {
            (Form::Plain, _) => Either::Left(self.plain.call(request)),
            (Form::Web, Some(web)) => Either::Right(web.clone().oneshot(request).boxed()),
            (Form::Web, None) => refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, "browsers are not served here\n"),
            (Form::Foreign(status, why), _) => refuse(status, why),
        }
    }
}

fn refuse<F>(
    status: StatusCode,
    why: &'static str,
) -> Either<F, BoxFuture<'static, Result<Response<Body>, Infallible>>> {
    let answer = match status {
        StatusCode::METHOD_NOT_ALLOWED => (status, [(ALLOW, "POST")], why).into_response(),
        _ => (status, why).into_response(),
    };
    Either::Right(ready(Ok(answer)).boxed())
}

/// Whether a request is a gRPC call over HTTP/2, so that nothing that stands before one is needed for it.
pub fn is_plain_call<B>(request: &Request<B>) -> bool {
    let is_http2 = matches!(request.version(), Version::HTTP_2 | Version::HTTP_3);
    is_http2 && request.method() == Method::POST && content_type(request.headers()).0
}

fn form(request: &Request<Body>) -> Form {
    let (is_plain, is_web) = content_type(request.headers());
    let is_preflight =
        request.method() == Method::OPTIONS && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    if is_preflight || (is_web && request.method() == Method::POST) {
        return Form::Web;
    }
    if !is_plain && !is_web && request.extensions().get::<MatchedPath>().is_none() {
        return Form::Foreign(StatusCode::NOT_FOUND, "there is nothing here\n");
    }
    if request.method() != Method::POST {
        return Form::Foreign(StatusCode::METHOD_NOT_ALLOWED, "methods are called with POST\n");
    }
    if !is_plain {
        let why = "methods are called with application/grpc or application/grpc-web+proto\n";
        return Form::Foreign(StatusCode::UNSUPPORTED_MEDIA_TYPE, why);
    }
    match request.version() {
        Version::HTTP_2 | Version::HTTP_3 => Form::Plain,
        _ => {
            let why = "gRPC needs HTTP/2; over HTTP/1.1 use application/grpc-web+proto\n";
            Form::Foreign(StatusCode::HTTP_VERSION_NOT_SUPPORTED, why)
        }
    }
}

/// Whether it is gRPC's, and whether it is grpc-web's.
fn content_type(headers: &HeaderMap) -> (bool, bool) {
    let text = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = text.split(';').next().unwrap_or_default().trim_end();
    (PLAIN.contains(&kind), WEB.contains(&text))
}

/// A call to reflection by its older name, under the present one: what holds for one holds for the
/// other, who may call it too.
pub fn under_present_name<B>(mut request: Request<B>) -> Request<B> {
    let method = request.uri().path().strip_prefix(REFLECTION_BEFORE);
    if let Some(uri) = method.and_then(|method| format!("{REFLECTION_NOW}{method}").parse::<Uri>().ok()) {
        *request.uri_mut() = uri;
    }
    request
}
