//! A gateway of its own process: the same over HTTP/2 to a server elsewhere, and behind HTTP/2 itself.

use bytes::Bytes;
use http::{Request, StatusCode, Version};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use rateguard_gateway_http::Transport;
use rateguard_gateway_http::remote::{self, ServerTls};
use tokio_util::sync::CancellationToken;

use crate::support::{
    APP_KEY, CHAT, Control, World, chat_body, config, openai, start_demo, start_gateway, start_server,
    streaming, within,
};

async fn start_remote() -> World {
    let (upstream, observed) = start_demo().await;
    let control = Control::default();
    control.set_route(openai(upstream));
    let server = control.routes().into_axum_router();
    let (server, _served) = start_server(server, CancellationToken::new()).await;
    let channel = remote::channel(&format!("http://{server}"), ServerTls::default()).expect("an address");
    start_gateway(control, Transport::new(channel), config(), upstream, observed).await
}

#[tokio::test]
async fn a_remote_server_decides_and_takes_reports() {
    let world = start_remote().await;
    let answer = world.post(CHAT, &[("x-demo-output-tokens", "12")], &chat_body()).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(world.report().await.tokens.unwrap().output, Some(12));
}

#[tokio::test]
async fn a_server_that_is_away_is_503() {
    let (upstream, observed) = start_demo().await;
    let channel = remote::channel("http://127.0.0.1:9", ServerTls::default()).unwrap();
    let world =
        start_gateway(Control::default(), Transport::new(channel), config(), upstream, observed).await;
    let answer = world.post(CHAT, &[], &chat_body()).await;
    assert_eq!(
        (answer.status, answer.json()["error"]["code"].as_str()),
        (StatusCode::SERVICE_UNAVAILABLE, Some("unavailable"))
    );
    assert!(answer.headers.contains_key("retry-after"));
}

#[tokio::test]
async fn clients_of_http2_get_the_cost_behind_every_stream() {
    let world = start_remote().await;
    let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    let request = Request::post(format!("http://{}{CHAT}", world.address))
        .header("x-api-key", APP_KEY)
        .body(Full::new(Bytes::from(streaming(chat_body()).to_string())))
        .unwrap();
    let answer = within(client.request(request)).await.unwrap();
    assert_eq!((answer.version(), answer.status()), (Version::HTTP_2, StatusCode::OK));
    let collected = within(answer.into_body().collect()).await.unwrap();
    assert!(collected.trailers().unwrap().contains_key("x-rateguard-cost"));
}
