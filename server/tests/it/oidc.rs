//! A provider elsewhere, under TLS, and the program that is configured for it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;
use rateguard_proto::v1;
use rateguard_serving::serve_with;
use rateguard_serving::tls::{Certificates, ClientCertificates, TlsFiles};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::authority::{Authority, write};
use crate::clients::Clients;
use crate::process::{Installation, PROGRAM, Server, command};

/// A provider that knows no code.
struct Provider {
    issuer: String,
    /// What the last one showed who asked for a token.
    shown: Mutex<Option<String>>,
}

impl Provider {
    /// Starts one with a certificate of an authority; it lives as long as the test.
    async fn start(authority: &Authority) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = format!("https://{}/realms/staff", listener.local_addr().unwrap());
        let provider = Arc::new(Self { issuer, shown: Mutex::default() });
        let router = Router::new()
            .route("/realms/staff/.well-known/openid-configuration", get(discovery))
            .route("/realms/staff/token", post(token))
            .with_state(provider.clone());
        let files = authority.issue("provider");
        let files = TlsFiles { certificate: files.certificate, key: files.key, client_authority: None };
        let tls = Certificates::load(files).unwrap().tls(ClientCertificates::NotAsked).unwrap();
        tokio::spawn(async move {
            serve_with(listener, Some(tls), router, std::future::pending(), Duration::ZERO).await.unwrap();
        });
        provider
    }

    /// Starts a server whose people log in through it, with a secret in a file.
    async fn serve(&self, installation: &Installation, ca_file: &Path) -> Server {
        let secret_file = installation.path().join("oidc.secret");
        write(&secret_file, "the secret of the client\n");
        let mut command = command(PROGRAM);
        command.env("RATEGUARD_PEOPLE__OIDC__ISSUER", &self.issuer);
        command.env("RATEGUARD_PEOPLE__OIDC__CLIENT_ID", "rateguard");
        command.env("RATEGUARD_PEOPLE__OIDC__CLIENT_SECRET_FILE", secret_file);
        command.env("RATEGUARD_PEOPLE__OIDC__REDIRECT_URL", "https://dashboard.example.com/callback");
        command.env("RATEGUARD_PEOPLE__OIDC__CA_FILE", ca_file);
        installation.serve_under(command).await
    }
}

async fn discovery(State(provider): State<Arc<Provider>>) -> Json<Value> {
    let issuer = &provider.issuer;
    Json(json!({
        "issuer": issuer,
        "authorization_endpoint": format!("{issuer}/authorize"),
        "token_endpoint": format!("{issuer}/token"),
        "jwks_uri": format!("{issuer}/keys"),
    }))
}

async fn token(State(provider): State<Arc<Provider>>, headers: HeaderMap) -> (StatusCode, Json<Value>) {
    let shown = headers.get("authorization").map(|value| value.to_str().unwrap().to_owned());
    *provider.shown.lock() = shown;
    (StatusCode::BAD_REQUEST, Json(json!({ "error": "invalid_grant" })))
}

async fn begin(server: &Server) -> Result<v1::BeginOidcLoginResponse, Status> {
    let visitor = Clients::connect(&server.address, "nobody").await;
    Ok(visitor.auth().begin_oidc_login(v1::BeginOidcLoginRequest {}).await?.into_inner())
}

fn reason(status: &Status) -> String {
    status.get_details_error_info().unwrap().reason
}

#[tokio::test]
async fn a_provider_is_spoken_with_under_the_authority_that_is_named() {
    let (authority, installation) = (Authority::new(), Installation::make().await);
    let provider = Provider::start(&authority).await;
    let server = provider.serve(&installation, &authority.file()).await;
    let begun = begin(&server).await.unwrap();
    let page = format!("{}/authorize?response_type=code&client_id=rateguard", provider.issuer);
    assert!(begun.authorization_url.starts_with(&page), "{}", begun.authorization_url);

    let state = begun.authorization_url.split('&').find_map(|pair| pair.strip_prefix("state=")).unwrap();
    let secret = |value: &str| Some(v1::SecretText { value: value.to_owned() });
    let complete = v1::CompleteOidcLoginRequest {
        login_id: begun.login_id,
        code: secret("a code that the provider does not know"),
        state: secret(state),
        ..v1::CompleteOidcLoginRequest::default()
    };
    let visitor = Clients::connect(&server.address, "nobody").await;
    let refused = visitor.auth().complete_oidc_login(complete).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Unauthenticated, "LOGIN_REFUSED"));
    let shown = STANDARD.encode("rateguard:the+secret+of+the+client");
    assert_eq!(provider.shown.lock().take(), Some(format!("Basic {shown}")));
}

#[tokio::test]
async fn a_provider_under_another_authority_is_not_believed() {
    let (authority, installation) = (Authority::new(), Installation::make().await);
    let provider = Provider::start(&authority).await;
    let server = provider.serve(&installation, &Authority::new().file()).await;
    let away = begin(&server).await.unwrap_err();
    assert_eq!((away.code(), reason(&away).as_str()), (Code::Unavailable, "PROVIDER_UNAVAILABLE"));
}
