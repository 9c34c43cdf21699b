//! A plain HTTP client, to call the gateway as an app would.

use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use crate::price::MODEL;

/// Longest wait for the head of an answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// A gRPC-Web frame that holds an empty message.
pub const EMPTY_FRAME: &[u8] = &[0, 0, 0, 0, 0];

/// One pool of connections.
#[derive(Clone)]
pub struct Http(Client<HttpConnector, Full<Bytes>>);

/// A call of OpenAI's chat completions through the gateway.
pub struct ChatCall {
    url: String,
    key: String,
    /// Headers that steer the demo upstream.
    knobs: Vec<(&'static str, String)>,
    max_tokens: u32,
    stream: bool,
}

impl ChatCall {
    pub fn new(address: &str, slug: &str, key: &str) -> Self {
        Self {
            url: format!("{address}/proxy/{slug}/v1/chat/completions"),
            key: key.to_owned(),
            knobs: Vec::new(),
            max_tokens: 10,
            stream: false,
        }
    }

    fn with(mut self, knob: &'static str, value: impl ToString) -> Self {
        self.knobs.push((knob, value.to_string()));
        self
    }

    /// The upstream counts so many tokens.
    pub fn using(self, input_tokens: i64, output_tokens: i64) -> Self {
        self.with("x-demo-input-tokens", input_tokens).with("x-demo-output-tokens", output_tokens)
    }

    /// The upstream takes so long, so that calls overlap.
    pub fn taking_ms(self, delay_ms: u32) -> Self {
        self.with("x-demo-delay-ms", delay_ms)
    }

    /// At most so many tokens of output are asked for.
    pub fn asking_at_most(self, max_tokens: u32) -> Self {
        Self { max_tokens, ..self }
    }

    /// The answer is streamed in so many chunks, so long after each other.
    pub fn streaming(self, chunks: u32, delay_ms: u32) -> Self {
        let call = Self { stream: true, ..self };
        call.with("x-demo-chunks", chunks).with("x-demo-chunk-delay-ms", delay_ms)
    }

    fn body(&self) -> String {
        format!(
            r#"{{"model":"{MODEL}","max_tokens":{},"stream":{},"messages":[{{"role":"user","content":"Hello"}}]}}"#,
            self.max_tokens, self.stream
        )
    }

    /// The call as a request.
    pub fn request(&self) -> Request<Full<Bytes>> {
        let mut request = Request::post(&self.url)
            .header("authorization", format!("Bearer {}", self.key))
            .header("content-type", "application/json");
        for (name, value) in &self.knobs {
            request = request.header(*name, value);
        }
        request.body(Full::from(self.body())).unwrap()
    }

    /// What the gateway reserves for the input: a token for each three bytes of the body.
    pub fn input_tokens_estimated(&self) -> i64 {
        i64::try_from(self.body().len().div_ceil(3)).unwrap()
    }
}

impl Http {
    pub fn new() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Self(Client::builder(TokioExecutor::new()).build(connector))
    }

    /// Sends a call and waits for the head of its answer.
    pub async fn send(&self, call: &ChatCall) -> Response<Incoming> {
        let answered = tokio::time::timeout(ANSWER_WITHIN, self.0.request(call.request()));
        answered.await.expect("no answer").unwrap()
    }

    /// Sends a call and reads the whole answer.
    pub async fn call(&self, call: &ChatCall) -> Answer {
        let (head, body) = self.send(call).await.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        assert!(!body.is_empty(), "an answer without a body");
        let header = |name: &str| head.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        Answer { status: head.status.as_u16(), should_retry: header("x-should-retry") }
    }

    /// Reads a page.
    pub async fn read(&self, url: &str) -> String {
        let request = Request::get(url).body(Full::default()).unwrap();
        let answered = tokio::time::timeout(ANSWER_WITHIN, self.0.request(request));
        let body = answered.await.expect("no answer").unwrap().into_body().collect().await.unwrap();
        String::from_utf8(body.to_bytes().to_vec()).unwrap()
    }

    /// Calls a method with an empty message over grpc-web, and returns its status code; empty when
    /// there was no method to answer.
    pub async fn grpc_web_status(&self, url: &str, key: Option<&str>) -> String {
        let mut request = Request::post(url).header("content-type", "application/grpc-web+proto");
        if let Some(key) = key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        let request = request.body(Full::from(EMPTY_FRAME)).unwrap();
        let response = tokio::time::timeout(ANSWER_WITHIN, self.0.request(request)).await.unwrap().unwrap();
        let (head, body) = response.into_parts();
        if let Some(status) = head.headers.get("grpc-status") {
            return status.to_str().unwrap().to_owned();
        }
        let body = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8_lossy(&body).into_owned();
        let found = text.split("grpc-status:").nth(1).unwrap_or_default();
        found.trim_start().split(['\r', '\n']).next().unwrap_or_default().to_owned()
    }
}

/// What an app sees.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub should_retry: Option<String>,
}
