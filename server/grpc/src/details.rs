//! Details on statuses that are not our own: those of the libraries that read messages off the wire,
//! and that answer for health and reflection.
//!
//! Every service of ours gives its statuses their details itself. A status that has none comes from a
//! library, and it is said again in the contract's words here, in one place for all of them.

use std::task::{Context, Poll};

use axum::body::Body;
use futures::TryFutureExt;
use futures::future::MapOk;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::BodyExt;
use rateguard_engine::error::{EngineError, Reason};
use rateguard_proto::codec::{ELEMENTS_MAX, INNER_ELEMENTS_MAX};
use tonic::{Code, Status};
use tower::{Layer, Service};

use crate::status::status;

/// Largest message that services of ours take: a usual batch of records, full, is far smaller.
pub const MESSAGE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Largest message that health and reflection take: they are open to everybody, and their messages
/// hold hardly more than a name.
pub const OPEN_MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// Longest part of a library's own words, in characters: they may repeat what was asked, and a status
/// has to fit into headers.
const REPEATED_CHARS_MAX: usize = 256;

/// Where a status has its code; in the head of an answer that is nothing but a status.
const GRPC_STATUS: &str = "grpc-status";
/// Where it has its details.
const GRPC_STATUS_DETAILS: &str = "grpc-status-details-bin";
/// What stands beside the refusal of an encoding.
const GRPC_ACCEPT_ENCODING: &str = "grpc-accept-encoding";

/// Puts [`Detailed`] in front of services of ours.
#[derive(Clone, Copy, Debug, Default)]
pub struct DetailsLayer;

impl<S> Layer<S> for DetailsLayer {
    type Service = Detailed<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Detailed { inner }
    }
}

/// A service whose refusals all have details. What it refuses it refuses in the head: its answers are
/// looked at no further.
#[derive(Clone, Debug)]
pub struct Detailed<S> {
    inner: S,
}

impl<S, B, R> Service<Request<B>> for Detailed<S>
where
    S: Service<Request<B>, Response = Response<R>>,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = MapOk<S::Future, fn(Response<R>) -> Response<R>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        self.inner.call(request).map_ok(with_detailed_head)
    }
}

fn with_detailed_head<R>(mut response: Response<R>) -> Response<R> {
    complete(response.headers_mut(), MESSAGE_BYTES_MAX);
    response
}

/// The answer of an open service, with details wherever its status stands: streams have it at their
/// end.
pub fn of_open_service(response: Response<Body>) -> Response<Body> {
    let (mut head, body) = response.into_parts();
    complete(&mut head.headers, OPEN_MESSAGE_BYTES_MAX);
    let body = body.map_frame(|frame| match frame.into_trailers() {
        Ok(mut trailers) => {
            complete(&mut trailers, OPEN_MESSAGE_BYTES_MAX);
            Frame::trailers(trailers)
        }
        Err(frame) => frame,
    });
    Response::from_parts(head, Body::new(body))
}

/// Says a refusal without details again, with them.
fn complete(headers: &mut HeaderMap, message_bytes_max: usize) {
    let is_refusal = headers.get(GRPC_STATUS).is_some_and(|code| code != "0");
    if !is_refusal || headers.contains_key(GRPC_STATUS_DETAILS) {
        return;
    }
    let Some(found) = Status::from_header_map(headers) else { return };
    if let Err(unsaid) = status(&error_of(&found, message_bytes_max)).add_header(headers) {
        tracing::error!(%unsaid, "a status cannot be put into headers");
    }
}

/// What a library meant. Before a service is reached, whatever is wrong is wrong with the message.
pub(crate) fn error_of(found: &Status, message_bytes_max: usize) -> EngineError {
    let words: String = found.message().chars().take(REPEATED_CHARS_MAX).collect();
    match found.code() {
        Code::Unimplemented if found.metadata().contains_key(GRPC_ACCEPT_ENCODING) => {
            EngineError::new(Reason::EncodingUnsupported, "the message is compressed; send it as it is")
        }
        Code::Unimplemented => EngineError::new(Reason::MethodUnknown, "there is no such method"),
        Code::OutOfRange | Code::ResourceExhausted => {
            let message = format!(
                "a message must be at most {message_bytes_max} bytes and {ELEMENTS_MAX} elements, which hold at \
                 most {INNER_ELEMENTS_MAX}"
            );
            EngineError::new(Reason::MessageTooLarge, message)
        }
        Code::Internal | Code::Unknown | Code::Cancelled => {
            EngineError::new(Reason::MessageMalformed, format!("the message cannot be read: {words}"))
        }
        Code::InvalidArgument => EngineError::new(Reason::FieldMalformed, words),
        Code::NotFound => EngineError::new(Reason::ResourceNotFound, words),
        code => EngineError::internal(&format!("a library answered {code:?}: {words}")),
    }
}
