//! One connection, from its first bytes to its end.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::extract::ConnectInfo;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::rt::{Read, Write};
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time;
use tokio_io_timeout::TimeoutStream;
use tokio_util::io::InspectReader;
use tokio_util::sync::CancellationToken;
use tower::{Service, ServiceExt as _};

use crate::first_bytes::{Protocol, protocol};
use crate::handshakes::Handshakes;
use crate::sending::{Streams, Watched};
use crate::{
    Answers, HEAD_WAIT_MAX, HTTP2_PING_EVERY, HTTP2_PONG_WAIT_MAX, HTTP2_STREAMS_MAX, LEAVE_WAIT_MAX,
    WRITE_STALL_MAX,
};

/// What a connection may keep waiting, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waits {
    /// See [`HEAD_WAIT_MAX`].
    pub(crate) head: Duration,
    /// See [`LEAVE_WAIT_MAX`].
    pub(crate) leave: Duration,
    /// See [`WRITE_STALL_MAX`].
    pub(crate) write_stall: Duration,
}

/// What a connection is served, and on which terms.
pub(crate) struct Terms<A> {
    pub(crate) answers: A,
    pub(crate) peer: SocketAddr,
    pub(crate) waits: Waits,
    /// How it is encrypted; `None` for in clear.
    pub(crate) handshakes: Option<Handshakes>,
    /// Cancelled when the shutdown is asked for.
    pub(crate) stopping: CancellationToken,
}

impl Waits {
    pub(crate) const DEFAULT: Self =
        Self { head: HEAD_WAIT_MAX, leave: LEAVE_WAIT_MAX, write_stall: WRITE_STALL_MAX };
}

/// A socket whose writes have a deadline.
type Guarded = Pin<Box<TimeoutStream<TcpStream>>>;

/// Serves until either side closes, the peer keeps something waiting for too long, or a shutdown finds
/// no call in flight.
pub(crate) async fn serve(stream: TcpStream, mut terms: Terms<impl Answers>) {
    match terms.handshakes.take() {
        None => serve_in_clear(stream, terms).await,
        Some(handshakes) => serve_encrypted(stream, &handshakes, terms).await,
    }
}

async fn serve_in_clear(stream: TcpStream, terms: Terms<impl Answers>) {
    let spoken = tokio::select! {
        biased;
        spoken = time::timeout(terms.waits.head, protocol(&stream)) => spoken,
        () = terms.stopping.cancelled() => return,
    };
    let Ok(Ok(Some(protocol))) = spoken else { return };
    serve_protocol(protocol, guarded(stream, terms.waits), terms).await;
}

async fn serve_encrypted(stream: TcpStream, handshakes: &Handshakes, terms: Terms<impl Answers>) {
    let shaken = tokio::select! {
        biased;
        shaken = handshakes.shake(guarded(stream, terms.waits)) => shaken,
        () = terms.stopping.cancelled() => return,
    };
    match shaken {
        Ok(stream) => {
            let protocol = Protocol::agreed(stream.get_ref().1.alpn_protocol());
            serve_protocol(protocol, Box::new(stream), terms).await;
        }
        Err(error) => tracing::debug!(%error, peer = %terms.peer, "a handshake of TLS failed"),
    }
}

fn guarded(stream: TcpStream, waits: Waits) -> Guarded {
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(waits.write_stall));
    Box::pin(stream)
}

async fn serve_protocol<S, A>(protocol: Protocol, stream: S, terms: Terms<A>)
where
    A: Answers,
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let served = match protocol {
        Protocol::Http1 => serve_http1(TokioIo::new(stream), terms).await,
        Protocol::Http2 => serve_http2(stream, terms).await,
    };
    if let Err(error) = served {
        tracing::debug!(%error, "a connection ended early");
    }
}

async fn serve_http1(
    io: impl Read + Write + Unpin + 'static,
    terms: Terms<impl Answers>,
) -> hyper::Result<()> {
    let Terms { answers, peer, waits, stopping, .. } = terms;
    let first_call = CancellationToken::new();
    let service = answering(answers, peer, first_call.clone());
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(waits.head)
            .serve_connection(io, TowerToHyperService::new(service))
    );
    tokio::select! {
        biased;
        ended = connection.as_mut() => return ended,
        () = stopping.cancelled() => {}
    }
    // A connection that idles after a call is closed by hyper at once, one that brings its first head is not.
    tokio::select! {
        biased;
        ended = connection.as_mut() => return ended,
        () = first_call.cancelled() => {}
        () = time::sleep(waits.leave) => return Ok(()),
    }
    connection.as_mut().graceful_shutdown();
    connection.await
}

async fn serve_http2<S, A>(stream: S, terms: Terms<A>) -> hyper::Result<()>
where
    A: Answers,
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let Terms { answers, peer, waits, stopping, .. } = terms;
    let (first_call, streams) = (CancellationToken::new(), Streams::new(waits.write_stall));
    let heard = Arc::new(AtomicBool::new(false));
    let hears = Arc::clone(&heard);
    let io = InspectReader::new(stream, move |bytes: &[u8]| {
        hears.fetch_or(!bytes.is_empty(), Ordering::Relaxed);
    });
    let service = answering(answers, peer, first_call.clone());
    let service = service.map_response(|response: Response<A::Body>| response.map(Watched::new));
    let mut connection = pin!(
        http2::Builder::new(streams.clone())
            .timer(TokioTimer::new())
            .keep_alive_interval(HTTP2_PING_EVERY)
            .keep_alive_timeout(HTTP2_PONG_WAIT_MAX)
            .max_concurrent_streams(HTTP2_STREAMS_MAX)
            .serve_connection(TokioIo::new(io), TowerToHyperService::new(service))
    );
    tokio::select! {
        biased;
        ended = connection.as_mut() => return ended,
        () = stopping.cancelled() => {}
        () = none_within(waits.head, &first_call) => {}
    }
    heard.store(false, Ordering::Relaxed);
    connection.as_mut().graceful_shutdown();
    tokio::select! {
        biased;
        ended = connection.as_mut() => return ended,
        () = time::sleep(waits.leave) => {}
    }
    // The leave-taking asks the peer for an answer. One that has given none and waits for none is gone;
    // one that never made a call has nothing to wait for.
    let is_there = first_call.is_cancelled() && heard.load(Ordering::Relaxed);
    if is_there || streams.in_flight() > 0 { connection.await } else { Ok(()) }
}

/// What answers, with what every request is told of its connection. Cancels `first_call` at the first.
fn answering<A: Answers>(
    answers: A,
    peer: SocketAddr,
    first_call: CancellationToken,
) -> impl Service<Request<Incoming>, Response = Response<A::Body>, Error = Infallible, Future: Send> + Clone {
    // Every call clones the service and looks here, so that neither may take the token's lock.
    let first_call = Arc::new((AtomicBool::new(false), first_call));
    answers.map_request(move |mut request: Request<Incoming>| {
        let (called, first_call) = &*first_call;
        if !called.load(Ordering::Relaxed) {
            called.store(true, Ordering::Relaxed);
            first_call.cancel();
        }
        request.extensions_mut().insert(ConnectInfo(peer));
        request
    })
}

/// Completes after `wait`, unless there was a call by then.
async fn none_within(wait: Duration, first_call: &CancellationToken) {
    time::sleep(wait).await;
    if first_call.is_cancelled() {
        std::future::pending::<()>().await;
    }
}
