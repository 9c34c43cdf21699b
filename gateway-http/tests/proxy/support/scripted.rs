//! An upstream whose answers a test writes piece by piece.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use super::start_server;

/// A piece of an answer, or the connection's end in the middle of it.
pub type Piece = Result<Bytes, std::io::Error>;

/// Writes the answer to the next request.
pub struct Script(mpsc::Sender<Piece>);

type Next = Arc<Mutex<Option<(&'static str, mpsc::Receiver<Piece>)>>>;

impl Script {
    pub async fn write(&self, text: &str) {
        self.0.send(Ok(Bytes::copy_from_slice(text.as_bytes()))).await.expect("somebody reads the answer");
    }

    /// Breaks the answer off.
    pub async fn break_off(self) {
        self.0.send(Err(std::io::Error::other("broken off"))).await.expect("somebody reads the answer");
    }

    /// Completes when nobody reads the answer any more.
    pub async fn closed(&self) {
        self.0.closed().await;
    }
}

/// An upstream that answers one request, on any path, with this content type.
pub async fn start_scripted(content_type: &'static str) -> (SocketAddr, Script) {
    let (sender, receiver) = mpsc::channel(64);
    let next: Next = Arc::new(Mutex::new(Some((content_type, receiver))));
    let router = Router::new().fallback(answer).with_state(next);
    let (address, _served) = start_server(router, CancellationToken::new()).await;
    (address, Script(sender))
}

async fn answer(State(next): State<Next>) -> Response {
    let (content_type, receiver) = next.lock().take().expect("one request is answered");
    let mut response = Response::new(Body::from_stream(ReceiverStream::new(receiver)));
    response.headers_mut().insert("content-type", http::HeaderValue::from_static(content_type));
    response
}
