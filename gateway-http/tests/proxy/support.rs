//! A running gateway with everything around it.

pub mod control;
pub mod scripted;

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use rateguard_demo_upstream::{DemoUpstream, DemoUpstreamConfig, Observations};
use rateguard_gateway_http::{Gateway, GatewayConfig, Secret, Transport, router};
use rateguard_proto::internal_v1::Route;
use rateguard_proto::v1::{ApiAuthScheme, ApiDialect, Estimate, SecretText, UsageRecord};
use rateguard_serving::{DRAIN_WAIT_MAX, serve};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use self::control::{Control, GATEWAY_TOKEN};

/// The key of the app in these tests.
pub const APP_KEY: &str = "rg_test_0123456789abcdefghijklmnopqrstuv";
/// The upstream's credential, which clients never see.
pub const UPSTREAM_SECRET: &str = "sk-upstream-secret";
pub const CHAT: &str = "/proxy/openai/v1/chat/completions";
pub const MESSAGES: &str = "/proxy/anthropic/v1/messages";

/// Longest wait for something that is bound to happen.
const PATIENCE: Duration = Duration::from_secs(20);

pub struct World {
    pub control: Control,
    pub gateway: Gateway,
    pub observed: Observations,
    pub upstream: SocketAddr,
    pub address: SocketAddr,
    client: Client<HttpConnector, Full<Bytes>>,
    stop: CancellationToken,
    served: JoinHandle<std::io::Result<()>>,
}

pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub trailers: Option<HeaderMap>,
}

pub fn config() -> GatewayConfig {
    GatewayConfig::new(Secret::new(GATEWAY_TOKEN))
}

/// Everything at its defaults.
pub async fn start() -> World {
    start_with(config()).await
}

pub async fn start_with(config: GatewayConfig) -> World {
    let (upstream, observed) = start_demo().await;
    let control = Control::default();
    for route in [openai(upstream), anthropic(upstream), echo(upstream)] {
        control.set_route(route);
    }
    let transport = Transport::new(control.routes());
    start_gateway(control, transport, config, upstream, observed).await
}

pub async fn start_gateway(
    control: Control,
    transport: Transport,
    config: GatewayConfig,
    upstream: SocketAddr,
    observed: Observations,
) -> World {
    let gateway = Gateway::new(transport, config).expect("a gateway");
    let stop = CancellationToken::new();
    let (address, served) = start_server(router(gateway.clone()), stop.clone()).await;
    let client = Client::builder(TokioExecutor::new()).build_http();
    World { control, gateway, observed, upstream, address, client, stop, served }
}

/// Serves a router until it is told to stop.
pub async fn start_server(
    router: Router,
    stop: CancellationToken,
) -> (SocketAddr, JoinHandle<std::io::Result<()>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = listener.local_addr().expect("a bound listener has an address");
    (address, tokio::spawn(serve(listener, router, stop.cancelled_owned(), DRAIN_WAIT_MAX)))
}

pub async fn start_demo() -> (SocketAddr, Observations) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = listener.local_addr().expect("a bound listener has an address");
    let demo = DemoUpstream::new(DemoUpstreamConfig::with_credential(UPSTREAM_SECRET));
    let observed = demo.observations();
    tokio::spawn(async move { demo.serve(listener, std::future::pending::<()>()).await });
    (address, observed)
}

pub fn openai(upstream: SocketAddr) -> Route {
    Route {
        api_id: "api_openai".to_owned(),
        slug: "openai".to_owned(),
        base_url: format!("http://{upstream}/openai"),
        dialect: ApiDialect::Openai.into(),
        auth_scheme: ApiAuthScheme::Bearer.into(),
        auth_name: String::new(),
        credential: Some(SecretText { value: UPSTREAM_SECRET.to_owned() }),
        timeout_ms: 30_000,
        allow_private_upstream: true,
        default_max_output_tokens: 4_096,
        show_spend: true,
    }
}

pub fn anthropic(upstream: SocketAddr) -> Route {
    Route {
        api_id: "api_anthropic".to_owned(),
        slug: "anthropic".to_owned(),
        base_url: format!("http://{upstream}/anthropic"),
        dialect: ApiDialect::Anthropic.into(),
        auth_scheme: ApiAuthScheme::Header.into(),
        auth_name: "x-api-key".to_owned(),
        ..openai(upstream)
    }
}

pub fn echo(upstream: SocketAddr) -> Route {
    Route {
        api_id: "api_echo".to_owned(),
        slug: "echo".to_owned(),
        base_url: format!("http://{upstream}/echo"),
        dialect: ApiDialect::None.into(),
        ..openai(upstream)
    }
}

pub fn chat_body() -> Value {
    json!({"model": "gpt-4o-mini", "max_tokens": 100, "messages": [{"role": "user", "content": "Say hello"}]})
}

pub fn message_body() -> Value {
    json!({"model": "claude-haiku-4-5", "max_tokens": 100, "messages": [{"role": "user", "content": "Say hello"}]})
}

pub fn streaming(mut body: Value) -> Value {
    body["stream"] = json!(true);
    body
}

impl World {
    /// A request with the app's key as OpenAI's SDK sends it.
    pub fn request(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Request<Full<Bytes>> {
        let bearer = format!("Bearer {APP_KEY}");
        let all = [&[("authorization", bearer.as_str())], headers].concat();
        self.request_without_key(method, path, &all, body)
    }

    pub fn request_without_key(
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

    /// The head of an answer; its body is still to come.
    pub async fn begin(&self, request: Request<Full<Bytes>>) -> Response<Incoming> {
        within(self.client.request(request)).await.expect("the gateway answers")
    }

    /// The same over HTTP/2, from a client that lets in so many bytes before it reads.
    pub async fn begin_http2(&self, request: Request<Full<Bytes>>, window_bytes: u32) -> Response<Incoming> {
        let mut builder = Client::builder(TokioExecutor::new());
        let client = builder.http2_only(true).http2_initial_stream_window_size(window_bytes).build_http();
        within(client.request(request)).await.expect("the gateway answers")
    }

    pub async fn send(&self, request: Request<Full<Bytes>>) -> Answer {
        Answer::read(self.begin(request).await).await
    }

    pub async fn post(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
        self.send(self.request(Method::POST, path, headers, body.to_string())).await
    }

    /// What the first call was expected to use.
    pub fn estimate(&self) -> Estimate {
        let check = self.control.checks().into_iter().next().expect("a call was checked");
        check.estimate.expect("its use was estimated")
    }

    /// The one report that the control server has got, once it has.
    pub async fn report(&self) -> UsageRecord {
        let mut reports = self.reports(1).await;
        assert_eq!(reports.len(), 1, "{reports:?}");
        reports.remove(0)
    }

    /// All reports, once there are so many.
    pub async fn reports(&self, count: usize) -> Vec<UsageRecord> {
        eventually(|| self.control.reports().len() >= count).await;
        self.control.reports()
    }

    /// Stops listening and waits until the last connection is closed.
    pub async fn stop(&mut self) {
        self.stop.cancel();
        within(&mut self.served).await.expect("serving does not panic").expect("serving ends well");
    }
}

impl Answer {
    pub async fn read(response: Response<Incoming>) -> Self {
        let (head, body) = response.into_parts();
        let collected = within(body.collect()).await.expect("the body is whole");
        let trailers = collected.trailers().cloned();
        Self { status: head.status, headers: head.headers, body: collected.to_bytes(), trailers }
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("the body is JSON")
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is text")
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("a header is text"))
    }

    /// The data of each event, in order; what is not JSON is a string.
    pub fn events(&self) -> Vec<Value> {
        let blocks = self.text().split_terminator("\n\n");
        let data = blocks.map(|block| {
            let data = block.lines().find_map(|line| line.strip_prefix("data: "));
            let data = data.expect("an event has data");
            serde_json::from_str(data).unwrap_or_else(|_| Value::from(data))
        });
        data.collect()
    }
}

/// The text that a chat stream spells.
pub fn chat_text(events: &[Value]) -> String {
    events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect()
}

/// Polls until the condition holds.
pub async fn eventually(mut holds: impl FnMut() -> bool) {
    let polled = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    within(polled).await;
}

/// The future's output, or a failed test.
pub async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("this was bound to happen")
}
