//! A running upstream and a small client for it.

use std::{future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client, Error, connect::HttpConnector},
    rt::TokioExecutor,
};
use rateguard_demo_upstream::{DemoUpstream, DemoUpstreamConfig, Observations};
use serde_json::Value;
use tokio::{net::TcpListener, sync::Notify, task::JoinHandle, time};

pub const SECRET: &str = "the-demo-secret";
pub const CHAT: &str = "/openai/v1/chat/completions";
pub const MESSAGES: &str = "/anthropic/v1/messages";

/// Longest wait for something that is bound to happen.
const PATIENCE: Duration = Duration::from_secs(20);

pub struct Running {
    pub address: SocketAddr,
    pub observed: Observations,
    client: Client<HttpConnector, Full<Bytes>>,
    stop: Arc<Notify>,
    served: JoinHandle<io::Result<()>>,
}

pub struct Whole {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

pub async fn start() -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = listener.local_addr().expect("a bound listener has an address");
    let upstream = DemoUpstream::new(DemoUpstreamConfig::with_credential(SECRET));
    let observed = upstream.observations();
    let stop = Arc::new(Notify::new());
    let stopped = Arc::clone(&stop);
    let served = tokio::spawn(async move { upstream.serve(listener, stopped.notified()).await });
    let client = Client::builder(TokioExecutor::new()).build_http();
    Running { address, observed, client, stop, served }
}

impl Running {
    /// Asks the upstream to stop.
    pub fn stop(&self) {
        self.stop.notify_one();
    }

    /// Waits until the upstream, asked to stop, has stopped.
    pub async fn stopped(self) {
        self.served.await.expect("serving does not panic").expect("serving ends well");
    }

    /// Starts a call that goes on whether or not anybody waits for it.
    pub fn begin(&self, request: Request<Full<Bytes>>) -> JoinHandle<Result<Response<Incoming>, Error>> {
        tokio::spawn(self.client.request(request))
    }

    pub async fn send(&self, request: Request<Full<Bytes>>) -> Response<Incoming> {
        self.client.request(request).await.expect("the upstream answers")
    }

    pub async fn whole(&self, request: Request<Full<Bytes>>) -> Whole {
        let (head, body) = self.send(request).await.into_parts();
        let body = body.collect().await.expect("the body is whole").to_bytes();
        Whole { status: head.status, headers: head.headers, body }
    }

    pub fn request(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Request<Full<Bytes>> {
        let mut builder = Request::builder().method(method).uri(format!("http://{}{path}", self.address));
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        builder.body(Full::new(body.into())).expect("the request is well formed")
    }

    /// A chat completion with the right credential.
    pub fn chat(&self, body: &Value, knobs: &[(&str, &str)]) -> Request<Full<Bytes>> {
        let bearer = format!("Bearer {SECRET}");
        let headers = [&[("authorization", bearer.as_str())], knobs].concat();
        self.request(Method::POST, CHAT, &headers, body.to_string())
    }

    /// A message with the right credential.
    pub fn message(&self, body: &Value, knobs: &[(&str, &str)]) -> Request<Full<Bytes>> {
        let headers = [&[("x-api-key", SECRET)], knobs].concat();
        self.request(Method::POST, MESSAGES, &headers, body.to_string())
    }
}

impl Whole {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("the body is JSON")
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is text")
    }

    pub fn is_labelled(&self) -> bool {
        self.headers.get("x-demo-upstream").is_some_and(|value| value == "true")
    }

    /// The data of each event, in order; what is not JSON is a string.
    pub fn events(&self) -> Vec<Value> {
        let blocks = self.text().split_terminator("\n\n");
        blocks
            .map(|block| {
                let data = block.lines().find_map(|line| line.strip_prefix("data: "));
                let data = data.expect("an event has data");
                serde_json::from_str(data).unwrap_or_else(|_| Value::from(data))
            })
            .collect()
    }
}

/// Polls until the condition holds.
pub async fn eventually(mut holds: impl FnMut() -> bool) {
    let polled = async {
        while !holds() {
            time::sleep(Duration::from_millis(2)).await;
        }
    };
    within(polled).await;
}

/// The future's output, or a failed test.
pub async fn within<T>(future: impl Future<Output = T>) -> T {
    time::timeout(PATIENCE, future).await.expect("this was bound to happen")
}
