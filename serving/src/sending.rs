//! Streams of HTTP/2 that are given up when their client does not read them.
//!
//! On HTTP/1.1 a client that stops reading fills its connection, whose writes have a deadline. On HTTP/2
//! it can close the window of a single stream and keep its connection alive: nothing on the connection
//! stalls, and the body is merely not asked for more. So each stream is a task that ends when a part of
//! its body was handed over and the next is not asked for in time. That resets the stream and drops the
//! body, which is what a client that leaves does, too.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::rt::Executor;
use parking_lot::Mutex;
use tokio::time::{self, Instant};

use crate::HTTP2_PIECE_BYTES_MAX;

tokio::task_local! {
    /// Of the stream whose task this is.
    static HANDED: Handed;
}

/// Runs the streams of one connection.
#[derive(Clone, Debug)]
pub(crate) struct Streams {
    running: Arc<AtomicUsize>,
    stall_max: Duration,
}

/// A body on a stream, which says when its parts are handed over. Its parts are cut to
/// [`HTTP2_PIECE_BYTES_MAX`].
#[derive(Debug)]
pub(crate) struct Watched<B> {
    inner: B,
    rest: Bytes,
    handed: Handed,
}

/// When the part of a body that its peer has not taken yet was handed over, if there is one.
#[derive(Clone, Debug, Default)]
struct Handed(Arc<Mutex<Option<Instant>>>);

/// Counts a stream while it runs.
struct Running(Arc<AtomicUsize>);

impl Streams {
    pub(crate) fn new(stall_max: Duration) -> Self {
        Self { running: Arc::default(), stall_max }
    }

    /// Streams whose answer is not yet handed over whole.
    pub(crate) fn in_flight(&self) -> usize {
        self.running.load(Ordering::Relaxed)
    }
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, stream: F) {
        let running = Running::begin(&self.running);
        let stall_max = self.stall_max;
        tokio::spawn(async move {
            let _running = running;
            let handed = Handed::default();
            tokio::select! {
                biased;
                () = HANDED.scope(handed.clone(), stream) => {}
                () = handed.stalled(stall_max) => tracing::debug!("a stream was reset: nobody reads it"),
            }
        });
    }
}

impl Running {
    fn begin(running: &Arc<AtomicUsize>) -> Self {
        running.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(running))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Handed {
    /// Of the stream whose task this is; nobody looks at one made elsewhere.
    fn of_task() -> Self {
        HANDED.try_with(Clone::clone).unwrap_or_default()
    }

    fn set(&self, at: Option<Instant>) {
        *self.0.lock() = at;
    }

    /// Completes when a part has been waiting to be taken for `stall_max`.
    async fn stalled(&self, stall_max: Duration) {
        loop {
            let handed_at = *self.0.lock();
            match handed_at {
                Some(at) if at.elapsed() >= stall_max => return,
                Some(at) => time::sleep_until(at + stall_max).await,
                // Whatever is handed over meanwhile has at most this long left to wait after that.
                None => time::sleep(stall_max).await,
            }
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Watched<B> {
    /// To be made in the task of the stream.
    pub(crate) fn new(inner: B) -> Self {
        Self { inner, rest: Bytes::new(), handed: Handed::of_task() }
    }

    fn poll_part(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        if self.rest.is_empty() {
            let Some(frame) = ready!(Pin::new(&mut self.inner).poll_frame(context)).transpose()? else {
                return Poll::Ready(None);
            };
            match frame.into_data() {
                Ok(data) => self.rest = data,
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
            }
        }
        let piece = self.rest.split_to(self.rest.len().min(HTTP2_PIECE_BYTES_MAX));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Watched<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        // Who asks for more has got rid of what it had.
        self.handed.set(None);
        let polled = self.poll_part(context);
        if polled.is_ready() {
            self.handed.set(Some(Instant::now()));
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = u64::try_from(self.rest.len()).unwrap_or(u64::MAX);
        let mut hint = self.inner.size_hint();
        // The upper bound first: a hint never holds a lower one above it.
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper.saturating_add(rest));
        }
        hint.set_lower(hint.lower().saturating_add(rest));
        hint
    }
}

#[cfg(test)]
mod tests;
