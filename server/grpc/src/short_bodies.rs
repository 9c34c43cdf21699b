//! The bodies of methods that are open to everybody: short, and read before the method is.
//!
//! What a method takes waits in memory until its last byte has come. Whoever calls with a credential may
//! have room for a full batch; where nobody has shown one, a few thousand connections could fill the
//! memory with messages that never end. What such a method takes is a name and a password.

use std::pin::pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use futures::FutureExt;
use futures::future::{BoxFuture, Either};
use http::{Request, Response};
use http_body_util::BodyExt;
use rateguard_engine::error::{EngineError, Reason};
use rateguard_proto::access::{self, Access};
use tower::{Layer, Service};

use crate::status::status;

/// Largest message of a method that is open to everybody: many times a name, an address and a password of
/// the longest.
pub const EVERYBODYS_MESSAGE_BYTES_MAX: usize = 16 * 1024;

/// What stands before a message: a byte of flags, and its length in four more. Whatever is compressed is
/// refused, so that this is the message's own length.
const FRAME_HEAD_BYTES: usize = 5;

/// Puts [`ShortBodies`] in front of services.
#[derive(Clone, Copy, Debug, Default)]
pub struct ShortBodiesLayer;

impl<S> Layer<S> for ShortBodiesLayer {
    type Service = ShortBodies<S>;

    fn layer(&self, inner: S) -> Self::Service {
        ShortBodies { inner }
    }
}

/// A service that takes no more than [`EVERYBODYS_MESSAGE_BYTES_MAX`] where its method is open to everybody.
#[derive(Clone, Debug)]
pub struct ShortBodies<S> {
    inner: S,
}

impl<S, B, R> Service<Request<B>> for ShortBodies<S>
where
    S: Service<Request<Body>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<axum::BoxError>,
    R: Default + Send + 'static,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Either<S::Future, BoxFuture<'static, Result<Response<R>, S::Error>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        if access::of(request.uri().path()) != Some(Access::Everybody) {
            return Either::Left(self.inner.call(request.map(Body::new)));
        }
        // The one that is ready takes the call, its clone the next one's readiness.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let (head, body) = request.into_parts();
        let answer = async move {
            match read(body).await {
                Ok(body) => inner.call(Request::from_parts(head, Body::from(body))).await,
                Err(error) => Ok(status(&error).into_http()),
            }
        };
        Either::Right(answer.boxed())
    }
}

/// A whole body, no longer than it may be.
async fn read(body: impl http_body::Body<Data = Bytes>) -> Result<Vec<u8>, EngineError> {
    let mut body = pin!(body);
    let mut read = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| unreadable())?.into_data() else { continue };
        if read.len() + data.len() > FRAME_HEAD_BYTES + EVERYBODYS_MESSAGE_BYTES_MAX {
            return Err(too_large());
        }
        read.extend_from_slice(&data);
        if announced_bytes(&read).is_some_and(|bytes| bytes > EVERYBODYS_MESSAGE_BYTES_MAX) {
            return Err(too_large());
        }
    }
    Ok(read)
}

/// How long a message says that it is; `None` until it has said so.
fn announced_bytes(read: &[u8]) -> Option<usize> {
    let length = read.get(1..FRAME_HEAD_BYTES)?.try_into().ok()?;
    usize::try_from(u32::from_be_bytes(length)).ok()
}

fn too_large() -> EngineError {
    let message = format!(
        "a message of a method that is open to everybody must be at most {EVERYBODYS_MESSAGE_BYTES_MAX} bytes"
    );
    EngineError::new(Reason::MessageTooLarge, message)
}

fn unreadable() -> EngineError {
    EngineError::new(Reason::MessageMalformed, "the message cannot be read to its end")
}
