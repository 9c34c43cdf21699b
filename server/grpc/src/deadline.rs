//! A deadline on every call: the caller's own, or the server's where it is shorter.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::{HeaderMap, Request, Response};
use pin_project_lite::pin_project;
use rateguard_engine::error::{EngineError, Reason};
use tokio::time::{Sleep, sleep};
use tower::{Layer, Service};

use crate::status::status;

/// Longest time that a call may take until its answer begins. A new budget over a full month of
/// events takes longest.
const CALL_DURATION_MAX: Duration = Duration::from_secs(60);
/// The header in which a caller says how long it waits.
const GRPC_TIMEOUT: &str = "grpc-timeout";
/// Digits of a caller's deadline, by the gRPC protocol.
const TIMEOUT_DIGITS_MAX: usize = 8;

/// Puts [`Timed`] in front of services.
#[derive(Clone, Copy, Debug, Default)]
pub struct DeadlineLayer;

impl<S> Layer<S> for DeadlineLayer {
    type Service = Timed<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Timed { inner }
    }
}

/// A service that answers in time, if only that there was too little of it.
#[derive(Clone, Debug)]
pub struct Timed<S> {
    inner: S,
}

impl<S, B, R> Service<Request<B>> for Timed<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    R: Default,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = InTime<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let duration =
            asked(request.headers()).map_or(CALL_DURATION_MAX, |asked| asked.min(CALL_DURATION_MAX));
        InTime { answer: self.inner.call(request), duration, passes: None }
    }
}

pin_project! {
    /// An answer, or a refusal when its time has passed. Most answers are there at once, so that the clock is
    /// not asked before one has to be waited for.
    pub struct InTime<F> {
        #[pin]
        answer: F,
        duration: Duration,
        passes: Option<Pin<Box<Sleep>>>,
    }
}

impl<F, R, E> Future for InTime<F>
where
    F: Future<Output = Result<Response<R>, E>>,
    R: Default,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(answer) = this.answer.poll(context) {
            return Poll::Ready(answer);
        }
        let passes = this.passes.get_or_insert_with(|| Box::pin(sleep(*this.duration)));
        ready!(passes.as_mut().poll(context));
        Poll::Ready(Ok(status(&passed()).into_http()))
    }
}

fn passed() -> EngineError {
    let message = "the deadline has passed; it is not known whether the call was carried out";
    EngineError::new(Reason::DeadlineExceeded, message)
}

/// How long the caller waits; `None` when it does not say, or not as gRPC has it.
fn asked(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(GRPC_TIMEOUT)?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > TIMEOUT_DIGITS_MAX || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let value: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(value * 3_600),
        "M" => Duration::from_secs(value * 60),
        "S" => Duration::from_secs(value),
        "m" => Duration::from_millis(value),
        "u" => Duration::from_micros(value),
        "n" => Duration::from_nanos(value),
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
