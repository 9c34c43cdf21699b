//! Accepts connections and serves a router on them: HTTP/1.1, and HTTP/2 with prior knowledge.
//!
//! The loop is our own because `axum::serve` sets no `TCP_NODELAY`, without which the end of a chunked
//! answer waits for the peer's delayed acknowledgement, and knows no wait for a request's head,
//! without which a client that sends nothing keeps its connection for ever.

mod first_bytes;

use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, Request};
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time;
use tokio_io_timeout::TimeoutStream;
use tower::ServiceExt as _;

use self::first_bytes::{Protocol, protocol};

/// Connections served at once; more wait in the listener's backlog.
pub const CONNECTIONS_MAX: usize = 16_384;

/// Failures to accept in a row after which the listener is taken for broken: a minute of them. A process
/// that is merely out of descriptors accepts again as soon as a connection closes.
pub const ACCEPT_FAILURES_MAX: u32 = 1_200;

/// Wait after a failure to accept, so that a process out of descriptors does not spin.
pub const ACCEPT_RETRY_AFTER: Duration = Duration::from_millis(50);

/// Longest wait for a request's whole head, and so for the next request of an idle HTTP/1.1 connection.
/// Longer than the idle time of common client pools, so that the client is the one to close.
pub const HEAD_WAIT_MAX: Duration = Duration::from_secs(75);

/// Longest that a peer may leave written bytes untaken before its connection is closed.
pub const WRITE_STALL_MAX: Duration = Duration::from_secs(120);

/// How often an HTTP/2 peer is asked whether it is still there.
pub const HTTP2_PING_EVERY: Duration = Duration::from_secs(30);

/// Longest wait for an HTTP/2 peer's answer to that.
pub const HTTP2_PONG_WAIT_MAX: Duration = Duration::from_secs(20);

/// Calls at once on one HTTP/2 connection.
pub const HTTP2_STREAMS_MAX: u32 = 1_024;

/// Longest wait for calls in flight after the shutdown was asked for; what still runs then is cut off.
pub const DRAIN_WAIT_MAX: Duration = Duration::from_secs(30);

/// A connection as hyper sees it.
type Io = TokioIo<Pin<Box<TimeoutStream<TcpStream>>>>;

/// The connections that are open. Dropping it cuts them.
struct Connections {
    slots: Arc<Semaphore>,
    tasks: JoinSet<()>,
    graceful: GracefulShutdown,
}

/// Serves `router` until `shutdown` completes, then lets calls in flight finish for at most
/// `drain_wait_max`. `TCP_NODELAY` is set on every accepted socket, and the peer's address is among
/// each request's extensions as [`ConnectInfo`]. Dropping the future cuts every connection.
///
/// # Errors
/// The listener's last error, once accepting has failed [`ACCEPT_FAILURES_MAX`] times in a row.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    shutdown: impl Future<Output = ()>,
    drain_wait_max: Duration,
) -> io::Result<()> {
    let mut connections = Connections::new();
    let mut shutdown = pin!(shutdown);
    loop {
        let (stream, peer, slot) = tokio::select! {
            biased;
            () = &mut shutdown => break,
            accepted = connections.accept(&listener) => accepted?,
        };
        connections.spawn(stream, peer, slot, router.clone());
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

impl Connections {
    fn new() -> Self {
        Self {
            slots: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            tasks: JoinSet::new(),
            graceful: GracefulShutdown::new(),
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

    fn spawn(&mut self, stream: TcpStream, peer: SocketAddr, slot: OwnedSemaphorePermit, router: Router) {
        let watcher = self.graceful.watcher();
        self.tasks.spawn(async move {
            serve_connection(stream, peer, router, watcher).await;
            drop(slot);
        });
    }

    async fn drain(self, wait_max: Duration) {
        let Self { mut tasks, graceful, .. } = self;
        if time::timeout(wait_max, graceful.shutdown()).await.is_err() {
            tracing::warn!(connections = tasks.len(), "calls that outlasted the drain were cut off");
        }
        tasks.shutdown().await;
    }
}

async fn serve_connection(stream: TcpStream, peer: SocketAddr, router: Router, watcher: Watcher) {
    let protocol = match time::timeout(HEAD_WAIT_MAX, protocol(&stream)).await {
        Ok(Ok(Some(protocol))) => protocol,
        Ok(Ok(None) | Err(_)) | Err(_) => return,
    };
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(WRITE_STALL_MAX));
    let io = TokioIo::new(Box::pin(stream));
    let served = match protocol {
        Protocol::Http1 => serve_http1(io, peer, router, watcher).await,
        Protocol::Http2 => serve_http2(io, peer, router, watcher).await,
    };
    if let Err(error) = served {
        tracing::debug!(%error, "a connection ended early");
    }
}

async fn serve_http1(io: Io, peer: SocketAddr, router: Router, watcher: Watcher) -> hyper::Result<()> {
    let service = router.map_request(move |request| with_peer(request, peer));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WAIT_MAX)
        .serve_connection(io, TowerToHyperService::new(service));
    watcher.watch(connection).await
}

async fn serve_http2(io: Io, peer: SocketAddr, router: Router, watcher: Watcher) -> hyper::Result<()> {
    let service = router.map_request(move |request| with_peer(request, peer));
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(HTTP2_PING_EVERY)
        .keep_alive_timeout(HTTP2_PONG_WAIT_MAX)
        .max_concurrent_streams(HTTP2_STREAMS_MAX)
        .serve_connection(io, TowerToHyperService::new(service));
    watcher.watch(connection).await
}

fn with_peer(request: http::Request<hyper::body::Incoming>, peer: SocketAddr) -> Request {
    let mut request = request.map(axum::body::Body::new);
    request.extensions_mut().insert(ConnectInfo(peer));
    request
}

#[cfg(test)]
mod tests;
