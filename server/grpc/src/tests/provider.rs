//! An OpenID Connect provider on a port of its own, which does what a test has it do.

use std::collections::HashMap;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::Mutex;
use rateguard_engine::people::ExternalLogin;
use rateguard_engine::secrets::SecretText;
use rateguard_oidc::{OidcConfig, OidcProvider};
use rateguard_proto::v1;
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use url::{Url, form_urlencoded};

/// What the provider calls the server.
pub const CLIENT: &str = "rateguard";
/// The secret that goes with it.
const CLIENT_SECRET: &str = "the client's:secret";
/// Where people are sent back to.
const REDIRECT: &str = "https://console.example.com/callback";

/// Life of a log-in that was begun.
const LOGIN_SECONDS: i64 = 600;

/// How the provider behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// As it should.
    Good,
    /// It answers 503.
    Failing,
    /// It answers nothing.
    Silent,
    /// It answers without end.
    Endless,
    /// Its discovery document is of another issuer.
    Foreign,
}

/// How a token is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signing {
    /// With the published key.
    Right,
    /// With another key of the same name.
    Forged,
    /// Not at all, and it says so.
    Unsigned,
    /// With the public key taken for a shared secret.
    Shared,
}

/// A key of the provider.
struct SigningKey {
    id: String,
    pair: EcdsaKeyPair,
}

impl SigningKey {
    fn new(id: &str) -> Self {
        let (random, algorithm) = (SystemRandom::new(), &ECDSA_P256_SHA256_FIXED_SIGNING);
        let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random).unwrap();
        Self { id: id.to_owned(), pair }
    }

    fn published(&self) -> Value {
        let (x, y) = self.pair.public_key().as_ref()[1..].split_at(32);
        let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
        json!({ "kty": "EC", "crv": "P-256", "use": "sig", "kid": self.id, "x": x, "y": y })
    }

    fn sign(&self, message: &str) -> Vec<u8> {
        self.pair.sign(&SystemRandom::new(), message.as_bytes()).unwrap().as_ref().to_vec()
    }
}

/// What the provider remembers of a person whom it has sent back.
struct Given {
    challenge: String,
    nonce: String,
    /// When they came, in seconds.
    at: i64,
    /// Who it is: what the token says of them.
    person: Value,
}

/// What somebody comes back from the provider with.
#[derive(Clone)]
pub struct Returned {
    pub login_id: String,
    pub code: String,
    pub state: String,
}

struct Inner {
    issuer: String,
    mood: Mutex<Mood>,
    signing: Mutex<Signing>,
    key: Mutex<SigningKey>,
    /// What the next token says besides; null takes a claim out.
    claims: Mutex<Value>,
    codes: Mutex<HashMap<String, Given>>,
    codes_given: Mutex<u32>,
    /// How often the keys were fetched.
    keys_fetched: Mutex<u32>,
}

/// The provider, while it runs.
pub struct Provider {
    inner: Arc<Inner>,
    serving: JoinHandle<()>,
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Provider {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let inner = Arc::new(Inner {
            issuer: format!("http://{}", listener.local_addr().unwrap()),
            mood: Mutex::new(Mood::Good),
            signing: Mutex::new(Signing::Right),
            key: Mutex::new(SigningKey::new("first")),
            claims: Mutex::new(json!({})),
            codes: Mutex::default(),
            codes_given: Mutex::default(),
            keys_fetched: Mutex::default(),
        });
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(discovery))
            .route("/keys", get(keys))
            .route("/token", post(token))
            .with_state(inner.clone());
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { inner, serving }
    }

    /// How a server lets people in through it.
    pub fn login(&self) -> ExternalLogin {
        let provider = OidcProvider::new(OidcConfig {
            issuer: self.inner.issuer.clone(),
            client_id: CLIENT.to_owned(),
            client_secret: Some(SecretText::new(CLIENT_SECRET.to_owned())),
            redirect_url: REDIRECT.to_owned(),
            scopes: vec!["email".to_owned()],
            ca_file: None,
        });
        ExternalLogin {
            provider: Arc::new(provider.unwrap()),
            display_name: "Example".to_owned(),
            allowed_email_domains: vec!["example.com".to_owned()],
            create_accounts: true,
        }
    }

    /// What the next tokens say besides.
    pub fn say(&self, claims: Value) {
        *self.inner.claims.lock() = claims;
    }

    pub fn sign(&self, signing: Signing) {
        *self.inner.signing.lock() = signing;
    }

    pub fn be(&self, mood: Mood) {
        *self.inner.mood.lock() = mood;
    }

    /// Signs with a new key from now on, and publishes no other.
    pub fn rotate(&self) {
        *self.inner.key.lock() = SigningKey::new("second");
    }

    pub fn keys_fetched(&self) -> u32 {
        *self.inner.keys_fetched.lock()
    }

    /// Does what Ada does at the authorization endpoint.
    pub fn visit(&self, begun: &v1::BeginOidcLoginResponse) -> Returned {
        self.visit_as(begun, "ada-1", "Ada@Example.com")
    }

    /// The same for another person.
    pub fn visit_as(&self, begun: &v1::BeginOidcLoginResponse, subject: &str, email: &str) -> Returned {
        let login_id = begun.login_id.clone().unwrap().value;
        // The page at the provider learns nothing that completes the log-in.
        assert!(!begun.authorization_url.contains(&login_id));
        let url = Url::parse(&begun.authorization_url).unwrap();
        let query: HashMap<String, String> = url.query_pairs().into_owned().collect();
        let asked = |name: &str| query[name].clone();
        assert_eq!(url.path(), "/authorize");
        assert_eq!((asked("response_type"), asked("client_id")), ("code".to_owned(), CLIENT.to_owned()));
        assert_eq!((asked("redirect_uri"), asked("scope")), (REDIRECT.to_owned(), "openid email".to_owned()));
        assert_eq!(asked("code_challenge_method"), "S256");
        let mut codes_given = self.inner.codes_given.lock();
        *codes_given += 1;
        let code = format!("code {codes_given}");
        let at = begun.expire_time.unwrap().seconds - LOGIN_SECONDS;
        let person = json!({ "sub": subject, "email": email });
        let given = Given { challenge: asked("code_challenge"), nonce: asked("nonce"), at, person };
        self.inner.codes.lock().insert(code.clone(), given);
        Returned { login_id, code, state: asked("state") }
    }
}

impl Inner {
    /// What the mood makes of an answer.
    async fn answer(&self, value: Value) -> Response {
        let mood = *self.mood.lock();
        match mood {
            Mood::Good => Json(value).into_response(),
            Mood::Failing => StatusCode::SERVICE_UNAVAILABLE.into_response(),
            Mood::Silent => std::future::pending().await,
            Mood::Endless => vec![b' '; 4 * 1_024 * 1_024].into_response(),
            Mood::Foreign => {
                let mut value = value;
                value["issuer"] = json!("https://elsewhere.example.com");
                Json(value).into_response()
            }
        }
    }

    fn id_token(&self, given: &Given) -> String {
        let key = self.key.lock();
        let signing = *self.signing.lock();
        let alg = match signing {
            Signing::Right | Signing::Forged => "ES256",
            Signing::Unsigned => "none",
            Signing::Shared => "HS256",
        };
        let header = encoded(&json!({ "alg": alg, "kid": key.id }));
        let message = format!("{header}.{}", encoded(&self.claims(given)));
        let signature = match signing {
            Signing::Right => key.sign(&message),
            Signing::Forged => SigningKey::new(&key.id).sign(&message),
            Signing::Unsigned => Vec::new(),
            Signing::Shared => {
                let secret = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, key.pair.public_key().as_ref());
                ring::hmac::sign(&secret, message.as_bytes()).as_ref().to_vec()
            }
        };
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn claims(&self, given: &Given) -> Value {
        let mut claims = json!({
            "iss": self.issuer, "aud": CLIENT, "iat": given.at, "exp": given.at + 300, "nonce": given.nonce,
            "email_verified": true, "name": "Ada Lovelace",
        });
        for said in [&given.person, &*self.claims.lock()] {
            for (name, value) in said.as_object().unwrap() {
                claims[name] = value.clone();
            }
        }
        claims
    }
}

fn encoded(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

async fn discovery(State(inner): State<Arc<Inner>>) -> Response {
    let issuer = &inner.issuer;
    let document = json!({
        "issuer": issuer,
        "authorization_endpoint": format!("{issuer}/authorize"),
        "token_endpoint": format!("{issuer}/token"),
        "jwks_uri": format!("{issuer}/keys"),
    });
    inner.answer(document).await
}

async fn keys(State(inner): State<Arc<Inner>>) -> Response {
    *inner.keys_fetched.lock() += 1;
    let key = inner.key.lock().published();
    inner.answer(json!({ "keys": [{ "kty": "oct", "k": "AAAA" }, key] })).await
}

/// Gives a token for a code, once, to whoever has the client's secret and the verifier.
async fn token(State(inner): State<Arc<Inner>>, headers: axum::http::HeaderMap, body: Bytes) -> Response {
    let basic = base64::engine::general_purpose::STANDARD.encode("rateguard:the+client%27s%3Asecret");
    assert_eq!(headers["authorization"], format!("Basic {basic}"));
    let form: HashMap<String, String> = form_urlencoded::parse(&body).into_owned().collect();
    assert_eq!(
        (form["grant_type"].as_str(), form["redirect_uri"].as_str()),
        ("authorization_code", REDIRECT)
    );
    let given = inner.codes.lock().remove(&form["code"]);
    let challenge = URL_SAFE_NO_PAD.encode(digest(&SHA256, form["code_verifier"].as_bytes()));
    match given.filter(|given| given.challenge == challenge) {
        Some(given) => {
            let id_token = inner.id_token(&given);
            inner
                .answer(json!({ "access_token": "unused", "token_type": "Bearer", "id_token": id_token }))
                .await
        }
        None => (StatusCode::BAD_REQUEST, Json(json!({ "error": "invalid_grant" }))).into_response(),
    }
}
