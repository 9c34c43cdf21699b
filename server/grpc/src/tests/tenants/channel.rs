//! A connection over HTTP/2 to a router, and calls over it as bytes.

use std::future::{IntoFuture, pending};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::extract::ConnectInfo;
use axum::serve::Listener;
use axum::{Extension, Router};
use futures::stream;
use hyper_util::rt::TokioIo;
use prost::bytes::{Buf, BufMut};
use tokio::io::DuplexStream;
use tokio::time::timeout;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};

use crate::direct::Direct;

/// Bytes that one side may be ahead of the other.
const PIPE_BYTES: usize = 64 * 1024;
/// Longest answer: an export of a small workspace.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Longest wait for an answer; only a failing test waits so long.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// How long a stream that goes on may be silent before it is left.
const SILENCE_MAX: Duration = Duration::from_millis(250);
/// Messages read of a stream that goes on.
const MESSAGES_MAX: usize = 8;

/// Everything that came back.
#[derive(Debug)]
pub struct Answer {
    /// How it ended; OK too for a stream that was left.
    pub status: Status,
    /// The messages, encoded.
    pub messages: Vec<Vec<u8>>,
    /// Headers and trailers.
    pub metadata: String,
}

impl Answer {
    /// All of it in one piece, to be searched.
    pub fn bytes(&self) -> Vec<u8> {
        let status = format!("{} {:?} {}", self.status.message(), self.status.metadata(), self.metadata);
        [&self.messages.concat()[..], status.as_bytes(), self.status.details()].concat()
    }
}

/// Calls a method from an address that nobody has called from.
pub async fn ask(
    answering: &Direct<Router>,
    path: &str,
    headers: &[(&'static str, String)],
    message: &[u8],
) -> Answer {
    let peer = SocketAddr::new(next_peer(), 1_234);
    let (client, server) = tokio::io::duplex(PIPE_BYTES);
    let router = Router::new().fallback_service(answering.clone()).layer(Extension(ConnectInfo(peer)));
    let serving = axum::serve(OneConnection { stream: Some(server), peer }, router);
    let serving = tokio::spawn(serving.into_future());
    let answer = answered(Grpc::new(connected(client).await), path, headers, message).await;
    serving.abort();
    answer
}

fn next_peer() -> IpAddr {
    static PEERS: AtomicU32 = AtomicU32::new(0x0a00_0001);
    Ipv4Addr::from_bits(PEERS.fetch_add(1, Ordering::Relaxed)).into()
}

async fn connected(client: DuplexStream) -> Channel {
    let mut client = Some(TokioIo::new(client));
    let connector = tower::service_fn(move |_| {
        std::future::ready(client.take().ok_or_else(|| io::Error::other("one connection is all there is")))
    });
    Endpoint::from_static("http://server.example").connect_with_connector(connector).await.unwrap()
}

async fn answered(
    mut grpc: Grpc<Channel>,
    path: &str,
    headers: &[(&'static str, String)],
    message: &[u8],
) -> Answer {
    grpc = grpc.max_decoding_message_size(ANSWER_BYTES_MAX);
    grpc.ready().await.unwrap();
    let mut request = Request::new(stream::iter([message.to_vec()]));
    for (name, value) in headers {
        request.metadata_mut().append(*name, value.parse().expect("a header's value"));
    }
    let call = grpc.streaming(request, path.parse().unwrap(), Bytes);
    match timeout(ANSWER_WITHIN, call).await.expect("an answer in time") {
        Ok(response) => {
            let metadata = format!("{:?}", response.metadata());
            read(response.into_inner(), metadata).await
        }
        Err(status) => Answer { status, messages: Vec::new(), metadata: String::new() },
    }
}

/// Reads to the end, or as long as something comes.
async fn read(mut stream: Streaming<Vec<u8>>, metadata: String) -> Answer {
    let mut answer = Answer { status: Status::ok(""), messages: Vec::new(), metadata };
    while answer.messages.len() < MESSAGES_MAX {
        let patience = if answer.messages.is_empty() { ANSWER_WITHIN } else { SILENCE_MAX };
        match timeout(patience, stream.message()).await {
            Ok(Ok(Some(message))) => answer.messages.push(message),
            Ok(Ok(None)) => {
                let trailers = stream.trailers().await.unwrap();
                answer.metadata.push_str(&format!("{trailers:?}"));
                break;
            }
            Ok(Err(status)) => {
                answer.status = status;
                break;
            }
            Err(_) => break,
        }
    }
    answer
}

/// A listener at which one connection has arrived.
struct OneConnection {
    stream: Option<DuplexStream>,
    peer: SocketAddr,
}

impl Listener for OneConnection {
    type Io = DuplexStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.stream.take() {
            Some(stream) => (stream, self.peer),
            None => pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        Ok(self.peer)
    }
}

/// Messages as they are on the wire.
struct Bytes;

impl Codec for Bytes {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, message: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&message);
        Ok(())
    }
}

impl Decoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut message = vec![0; buffer.remaining()];
        buffer.copy_to_slice(&mut message);
        Ok(Some(message))
    }
}
