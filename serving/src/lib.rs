//! Accepts connections and serves a router, or whatever else answers, on them: HTTP/1.1 and HTTP/2, under TLS
//! or in clear, where HTTP/2 needs prior knowledge.
//!
//! The loop is our own because `axum::serve` knows no wait for a request's head, without which a client
//! that sends nothing keeps its connection for ever, and no end to its drain. What a single connection
//! may keep waiting, and for how long, stands in `connection`; `sending` ends streams of HTTP/2 that
//! their clients do not read. [`tls`] is what a listener encrypts with, `handshakes` how it begins to.

pub mod client_address;
mod connection;
mod descriptors;
pub mod files;
mod first_bytes;
mod handshakes;
mod listening;
pub mod private_file;
mod sending;
pub mod tls;

use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time;
use tokio_util::sync::CancellationToken;
use tower::Service;

use self::connection::{Terms, Waits};
pub use self::descriptors::{DESCRIPTORS_PER_CALL, DESCRIPTORS_RESERVED, Descriptors};
use self::handshakes::Handshakes;
pub use self::listening::{BACKLOG_CONNECTIONS_MAX, listen};
use self::tls::Tls;

/// Connections served at once, where the limit of open files allows so many, see
/// [`Descriptors::calls_max`]; more wait in the listener's backlog.
pub const CONNECTIONS_MAX: usize = 16_384;

/// Failures to accept in a row after which the listener is taken for broken: a minute of them. A process
/// that is merely out of descriptors accepts again as soon as a connection closes.
pub const ACCEPT_FAILURES_MAX: u32 = 1_200;

/// Wait after a failure to accept, so that a process out of descriptors does not spin.
pub const ACCEPT_RETRY_AFTER: Duration = Duration::from_millis(50);

/// Longest wait for a handshake of TLS, from the moment that the connection is accepted: a few round
/// trips on a bad line.
pub const HANDSHAKE_WAIT_MAX: Duration = Duration::from_secs(10);

/// Handshakes of TLS under way at once on one listener; and at most half of its connections, so that
/// they never keep the others out. A further one ends the one that has been under way for longest. What
/// is under way for a few round trips on a slow line, at thousands of new connections a second.
pub const HANDSHAKES_MAX: usize = 1_024;

/// Longest wait for a connection's first bytes, then for a request's whole head, and so for the next
/// request of an idle HTTP/1.1 connection; on HTTP/2 for the first request. Longer than the idle time of
/// common client pools, so that the client is the one to close.
pub const HEAD_WAIT_MAX: Duration = Duration::from_secs(75);

/// Longest wait, once the shutdown was asked for, for a head that has begun to arrive, and for an HTTP/2
/// peer without calls in flight to take leave. A head comes in one or two packets, a leave in one.
pub const LEAVE_WAIT_MAX: Duration = Duration::from_secs(2);

/// Longest that a peer may leave bytes untaken: of its whole connection, before that is closed, or of one
/// stream of HTTP/2, before that is reset. Bodies are dropped with either, as when the peer leaves. Many
/// times what a client on a bad line pauses, and shorter than what reservations outlive their calls by.
pub const WRITE_STALL_MAX: Duration = Duration::from_secs(50);

/// How often an HTTP/2 peer is asked whether it is still there.
pub const HTTP2_PING_EVERY: Duration = Duration::from_secs(30);

/// Longest wait for an HTTP/2 peer's answer to that.
pub const HTTP2_PONG_WAIT_MAX: Duration = Duration::from_secs(20);

/// Calls at once on one HTTP/2 connection.
pub const HTTP2_STREAMS_MAX: u32 = 1_024;

/// Largest piece of a body that is handed to HTTP/2 at once, in bytes: what is handed over waits in
/// memory until the peer takes it, however little it takes. The frame size that peers begin with
/// (RFC 9113, section 6.5.2), so that pieces cost no further frames.
pub const HTTP2_PIECE_BYTES_MAX: usize = 16 * 1024;

/// Longest wait for calls in flight after the shutdown was asked for; what still runs then is cut off.
pub const DRAIN_WAIT_MAX: Duration = Duration::from_secs(30);

/// What answers a listener's requests: a router, or whatever stands in front of one.
pub trait Answers: Clone + Send + Sync + 'static
where
    Self: Service<Request<Incoming>, Response = Response<Self::Body>, Error = Infallible, Future: Send>,
{
    /// The body of an answer.
    type Body: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>> + Send> + Send + Unpin + 'static;
}

impl<S, B> Answers for S
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible, Future: Send>,
    S: Clone + Send + Sync + 'static,
    B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>> + Send> + Send + Unpin + 'static,
{
    type Body = B;
}

/// What a listener lets its peers take.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    waits: Waits,
    connections_max: usize,
    handshake_wait_max: Duration,
}

/// The connections that are open. Dropping it cuts them.
struct Connections {
    slots: Arc<Semaphore>,
    tasks: JoinSet<()>,
    stopping: CancellationToken,
}

/// Serves what `answers` in clear until `shutdown` completes, then lets calls in flight finish for at most
/// `drain_wait_max`; connections without one are closed at once, or after [`LEAVE_WAIT_MAX`] where a head
/// has begun to arrive. `TCP_NODELAY` is set on every accepted socket, and the peer's address is among
/// each request's extensions as axum's `ConnectInfo`. Dropping the future cuts every connection.
///
/// # Errors
/// Where the limit of open files cannot be read, and the listener's last error, once accepting has failed [`ACCEPT_FAILURES_MAX`] times in a row.
pub async fn serve(
    listener: TcpListener,
    answers: impl Answers,
    shutdown: impl Future<Output = ()>,
    drain_wait_max: Duration,
) -> io::Result<()> {
    serve_with(listener, None, answers, shutdown, drain_wait_max).await
}

/// The same under TLS, or in clear where `tls` is `None`.
///
/// # Errors
/// As [`serve`].
pub async fn serve_with(
    listener: TcpListener,
    tls: Option<Tls>,
    answers: impl Answers,
    shutdown: impl Future<Output = ()>,
    drain_wait_max: Duration,
) -> io::Result<()> {
    let bounds = Bounds {
        waits: Waits::DEFAULT,
        connections_max: Descriptors::current()?.calls_max().min(CONNECTIONS_MAX),
        handshake_wait_max: HANDSHAKE_WAIT_MAX,
    };
    serve_within(bounds, listener, tls, answers, shutdown, drain_wait_max).await
}

async fn serve_within(
    bounds: Bounds,
    listener: TcpListener,
    tls: Option<Tls>,
    answers: impl Answers,
    shutdown: impl Future<Output = ()>,
    drain_wait_max: Duration,
) -> io::Result<()> {
    let waits = bounds.waits;
    let handshakes = tls.map(|tls| bounds.handshakes(tls));
    let mut connections = Connections::new(bounds.connections_max);
    let mut shutdown = pin!(shutdown);
    loop {
        let (stream, peer, slot) = tokio::select! {
            biased;
            () = &mut shutdown => break,
            accepted = connections.accept(&listener) => accepted?,
        };
        // A token of its own, so that connections do not meet at the lock of one.
        let stopping = connections.stopping.child_token();
        let (answers, handshakes) = (answers.clone(), handshakes.clone());
        connections.spawn(stream, slot, Terms { answers, peer, waits, handshakes, stopping });
    }
    drop(listener);
    connections.drain(drain_wait_max).await;
    Ok(())
}

async fn accept_nodelay(listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    let (stream, peer) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, peer))
}

/// Accepts one socket, forgiving what a single peer or a moment's shortage can cause.
async fn accept_patiently(listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    let mut failures = 0;
    loop {
        let error = match accept_nodelay(listener).await {
            Ok(accepted) => return Ok(accepted),
            Err(error) => error,
        };
        failures += 1;
        if failures == ACCEPT_FAILURES_MAX {
            return Err(error);
        }
        tracing::warn!(%error, failures, "a connection could not be accepted");
        time::sleep(ACCEPT_RETRY_AFTER).await;
    }
}

impl Bounds {
    fn handshakes(&self, tls: Tls) -> Handshakes {
        let at_once_max = HANDSHAKES_MAX.min(self.connections_max / 2).max(1);
        Handshakes::new(tls, self.handshake_wait_max, at_once_max)
    }
}

impl Connections {
    fn new(connections_max: usize) -> Self {
        Self {
            slots: Arc::new(Semaphore::new(connections_max)),
            tasks: JoinSet::new(),
            stopping: CancellationToken::new(),
        }
    }

    async fn accept(
        &mut self,
        listener: &TcpListener,
    ) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
        while self.tasks.try_join_next().is_some() {}
        let slot = Arc::clone(&self.slots).acquire_owned().await.map_err(io::Error::other)?;
        let (stream, peer) = accept_patiently(listener).await?;
        Ok((stream, peer, slot))
    }

    fn spawn(&mut self, stream: TcpStream, slot: OwnedSemaphorePermit, terms: Terms<impl Answers>) {
        self.tasks.spawn(async move {
            connection::serve(stream, terms).await;
            drop(slot);
        });
    }

    async fn drain(self, wait_max: Duration) {
        let Self { mut tasks, stopping, .. } = self;
        stopping.cancel();
        let all_closed = async { while tasks.join_next().await.is_some() {} };
        if time::timeout(wait_max, all_closed).await.is_err() {
            tracing::warn!(connections = tasks.len(), "calls that outlasted the drain were cut off");
        }
        tasks.shutdown().await;
    }
}

#[cfg(test)]
mod tests;
