//! A demo upstream in the test's own process, and an API that points at it.

use std::net::SocketAddr;

use rateguard_demo_upstream::{DemoUpstream, DemoUpstreamConfig};
use rateguard_proto::v1;
use tokio::net::TcpListener;

use crate::clients::Clients;

pub const CREDENTIAL: &str = "upstream-credential";

/// Starts an upstream that lives as long as the test.
pub async fn start() -> (DemoUpstream, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let upstream = DemoUpstream::new(DemoUpstreamConfig::with_credential(CREDENTIAL));
    let serving = upstream.clone();
    tokio::spawn(async move { serving.serve(listener, std::future::pending()).await });
    (upstream, address)
}

/// Makes an API named `chat` that points at the upstream's OpenAI face.
pub async fn make_api(clients: &Clients, upstream: SocketAddr) -> v1::Api {
    let api = v1::Api {
        slug: "chat".to_owned(),
        display_name: "chat".to_owned(),
        base_url: format!("http://{upstream}/openai"),
        dialect: v1::ApiDialect::Openai.into(),
        auth_scheme: v1::ApiAuthScheme::Bearer.into(),
        credential: Some(v1::SecretText { value: CREDENTIAL.to_owned() }),
        allow_private_upstream: true,
        ..v1::Api::default()
    };
    let answer = clients
        .apis()
        .create_api(v1::CreateApiRequest { api: Some(api), request_id: String::new() })
        .await
        .unwrap();
    answer.into_inner().api.unwrap()
}
