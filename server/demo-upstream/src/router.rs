//! Paths to answers, and the label that every answer carries.

use std::sync::Arc;

use axum::{
    Router,
    extract::{Request, State},
    response::Response,
    routing::{any, get, post},
};
use http::{HeaderName, HeaderValue};

use crate::{anthropic, call::Demo, echo, openai, refusal::Refusal, vendor::Vendor};

const LABEL: (HeaderName, HeaderValue) =
    (HeaderName::from_static("x-demo-upstream"), HeaderValue::from_static("true"));

/// The whole service.
pub(crate) fn build(demo: Arc<Demo>) -> Router {
    Router::new()
        .route("/openai/v1/chat/completions", post(chat_completions))
        .route("/openai/v1/models", get(list_models))
        .route("/anthropic/v1/messages", post(messages))
        .route("/echo", any(echoed))
        .route("/echo/{*below}", any(echoed))
        .fallback(unknown_path)
        .method_not_allowed_fallback(other_method)
        .with_state(demo)
        .layer(axum::middleware::map_response(label))
}

async fn chat_completions(State(demo): State<Arc<Demo>>, request: Request) -> Response {
    demo.answer(&openai::CHAT, request).await
}

async fn list_models(State(demo): State<Arc<Demo>>, request: Request) -> Response {
    demo.answer(&openai::MODELS, request).await
}

async fn messages(State(demo): State<Arc<Demo>>, request: Request) -> Response {
    demo.answer(&anthropic::MESSAGES, request).await
}

async fn echoed(State(demo): State<Arc<Demo>>, request: Request) -> Response {
    echo::answer(&demo, request).await
}

async fn unknown_path(request: Request) -> Response {
    Refusal::UnknownPath.answer(Vendor::of_path(request.uri().path()))
}

async fn other_method(request: Request) -> Response {
    Refusal::Method.answer(Vendor::of_path(request.uri().path()))
}

async fn label(mut response: Response) -> Response {
    let (name, value) = LABEL;
    response.headers_mut().insert(name, value);
    response
}
