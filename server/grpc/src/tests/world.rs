//! A server without a socket, and whoever calls it.

use std::sync::{Arc, Mutex};

use crate::direct::Direct;
use crate::server::{gateway_router, health, public_calls, public_router};
use axum::Router;
use rateguard_core::ids::{DisplayName, WorkspaceId};
use rateguard_core::money::Currency;
use rateguard_core::pricing::PriceBook;
use rateguard_core::time::{Millis, Zone};
use rateguard_engine::audit::Deed;
use rateguard_engine::clock::ManualClock;
use rateguard_engine::engine::{Background, CONFIG_STALE_MS_MAX, Engine, Setup, Stores};
use rateguard_engine::gate::COUNTERS_DEADLINE;
use rateguard_engine::manage::{KEYS_PER_WORKSPACE_MAX, equip};
use rateguard_engine::people::{
    ExternalLogin, Mail, MailError, Mailer, People, PeopleBackground, PeopleSetup, Policy, Registration,
};
use rateguard_engine::ports::{ConfigStore, Resource};
use rateguard_engine::resources::{Key, Scope, Scopes, Workspace};
use rateguard_engine::secrets::CredentialCipher;
use rateguard_proto::v1::ErrorReason;
use rateguard_store_memory::{MemoryCounterStore, MemoryCounterStoreConfig};
use rateguard_store_sql::{DataFolder, SqlCheckpointStore, SqlConfigStore, SqlEventLog, SqlUsageStore};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

use super::provider::Provider;

/// Where browsers may call from.
pub const ORIGIN: &str = "https://console.example.com";
/// What the gateway presents.
pub const GATEWAY_TOKEN: &str = "the-gateways-own-token";
/// 2026-03-04T12:00:00Z.
pub const START_MS: i64 = 1_772_625_600_000;

/// 15 minutes.
pub const ACCESS_MS: i64 = 900_000;
/// 7 days.
pub const REFRESH_MS: i64 = 604_800_000;

/// Keeps the mail that is sent.
#[derive(Default)]
pub struct Outbox {
    pub sent: Mutex<Vec<Mail>>,
}

#[tonic::async_trait]
impl Mailer for Outbox {
    async fn send(&self, mail: Mail) -> Result<(), MailError> {
        if mail.to.as_str().starts_with("bounces") {
            return Err(MailError("no such mailbox".to_owned()));
        }
        self.sent.lock().unwrap().push(mail);
        Ok(())
    }
}

/// How people are let in, unless a test says otherwise.
pub fn policy() -> Policy {
    Policy {
        registration: Registration::Open,
        access_token_ms: ACCESS_MS,
        refresh_token_ms: REFRESH_MS,
        invitation_page: "https://console.example.com/invitation".to_owned(),
    }
}

/// Puts credentials on every call.
#[derive(Clone, Default)]
pub struct Credentials(Vec<(&'static str, String)>);

impl Interceptor for Credentials {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        for (name, value) in &self.0 {
            request.metadata_mut().append(*name, value.parse().expect("a header's value"));
        }
        Ok(request)
    }
}

/// What answers on a listener.
pub type Listener = Direct<Router>;

/// What the generated clients speak through.
pub type Transport = InterceptedService<Listener, Credentials>;

/// A server, its clock and its first key.
pub struct World {
    pub engine: Arc<Engine>,
    pub clock: Arc<ManualClock>,
    pub public: Listener,
    pub gateways: Listener,
    pub drain: CancellationToken,
    /// A key that may do everything.
    pub key: String,
    pub workspace: WorkspaceId,
    pub people: Arc<People>,
    pub outbox: Arc<Outbox>,
    pub config: Arc<SqlConfigStore>,
    _background: Background,
    _people_background: PeopleBackground,
    provider: Option<Provider>,
    folder: TempDir,
}

/// A key without restrictions.
pub fn plain_key(scopes: &[Scope]) -> Key {
    Key::plain(
        DisplayName::parse("display_name", "a key").unwrap(),
        scopes.iter().copied().collect::<Scopes>(),
    )
}

impl World {
    /// A fresh installation with one workspace in dollars.
    pub async fn new() -> Self {
        Self::with_catalogue(PriceBook::default()).await
    }

    /// The same with list prices.
    pub async fn with_catalogue(catalogue: PriceBook) -> Self {
        Self::with(catalogue, policy(), None).await
    }

    /// The same with another way to let people in.
    pub async fn with_policy(policy: Policy) -> Self {
        Self::with(PriceBook::default(), policy, None).await
    }

    /// The same with a provider that people may log in through, in a way that the test changes.
    pub async fn with_provider(change: impl FnOnce(&mut ExternalLogin)) -> Self {
        let provider = Provider::start().await;
        let mut login = provider.login();
        change(&mut login);
        let world = Self::with(PriceBook::default(), policy(), Some(login)).await;
        Self { provider: Some(provider), ..world }
    }

    async fn with(catalogue: PriceBook, policy: Policy, external: Option<ExternalLogin>) -> Self {
        let home = tempfile::tempdir().unwrap();
        let folder = DataFolder::open(home.path()).unwrap();
        let log = Arc::new(SqlEventLog::open(&folder).await.unwrap());
        let config = Arc::new(SqlConfigStore::open(&folder, &log).await.unwrap());
        let usage = Arc::new(SqlUsageStore::open(&folder, &log).await.unwrap());
        let checkpoints = Arc::new(SqlCheckpointStore::open(&folder).await.unwrap());
        let clock = Arc::new(ManualClock::at(Millis::new(START_MS)));
        let (workspace, key) = first_workspace(&config).await;
        let bounds = MemoryCounterStoreConfig::default();
        let counters = MemoryCounterStore::load(checkpoints, bounds, Millis::new(START_MS)).await.unwrap();
        let audit = Arc::new(config.audit());
        let counters = Arc::new(counters);
        let stores = Stores { config: config.clone(), counters, log, usage, audit, shared: false };
        let setup = Setup {
            clock: clock.clone(),
            catalogue: Arc::new(catalogue),
            cipher: CredentialCipher::new(&[7; 32]).unwrap(),
            gateway_token: Some(GATEWAY_TOKEN.to_owned()),
            config_stale_ms_max: CONFIG_STALE_MS_MAX,
            counters_deadline: COUNTERS_DEADLINE,
        };
        let (engine, background) = Engine::start(stores, setup).await.unwrap();
        let drain = CancellationToken::new();
        let outbox = Arc::new(Outbox::default());
        let setup = PeopleSetup {
            clock: clock.clone(),
            directory: engine.directory().clone(),
            cipher: CredentialCipher::new(&[7; 32]).unwrap(),
            policy,
            mailer: Some(outbox.clone()),
            external,
        };
        let (people, people_background) = People::start(Arc::new(config.people()), setup).await.unwrap();
        let origins = [ORIGIN.to_owned()];
        let router = public_router(&engine, &people, health().1, &origins, &drain).unwrap();
        Self {
            public: public_calls(&engine, &people, &origins, &drain).before(router),
            gateways: gateway_router(&engine, &drain),
            engine,
            clock,
            drain,
            key,
            workspace,
            people,
            outbox,
            config,
            _background: background,
            _people_background: people_background,
            provider: None,
            folder: home,
        }
    }

    /// Stores a key and gives its secret.
    pub async fn add_key(&self, key: Key) -> String {
        let (key, secret) = equip(key).unwrap();
        let now = self.engine.now();
        let deed = Deed::of_server("Test", now);
        self.config.insert(&self.workspace, Resource::Key(key), KEYS_PER_WORKSPACE_MAX, &deed).await.unwrap();
        self.engine.directory().refresh(now).await.unwrap();
        secret.expose().to_owned()
    }

    /// The provider that people may log in through.
    pub fn provider(&self) -> &Provider {
        self.provider.as_ref().expect("a world with a provider")
    }

    /// Where the stores' files are.
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// Time passes, and the configuration in memory does not grow old.
    pub async fn pass_ms(&self, ms: i64) {
        self.clock.advance_ms(ms);
        self.engine.directory().refresh(self.engine.now()).await.unwrap();
    }

    /// A transport with the first key.
    pub fn transport(&self) -> Transport {
        self.transport_with(&self.key)
    }

    /// A transport with a key.
    pub fn transport_with(&self, key: &str) -> Transport {
        let credentials = Credentials(vec![("authorization", format!("Bearer {key}"))]);
        InterceptedService::new(self.public.clone(), credentials)
    }

    /// A transport of a gateway that acts for an app's key.
    pub fn gateway_for(&self, app_key: &str) -> Transport {
        let credentials = Credentials(vec![
            ("authorization", format!("Bearer {GATEWAY_TOKEN}")),
            ("x-rateguard-on-behalf-of", app_key.to_owned()),
        ]);
        InterceptedService::new(self.gateways.clone(), credentials)
    }

    /// A transport of a gateway that acts for nobody.
    pub fn gateway(&self) -> Transport {
        let credentials = Credentials(vec![("authorization", format!("Bearer {GATEWAY_TOKEN}"))]);
        InterceptedService::new(self.gateways.clone(), credentials)
    }

    /// A transport with these very headers.
    pub fn transport_of(&self, headers: &[(&'static str, &str)]) -> Transport {
        let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        InterceptedService::new(self.public.clone(), Credentials(headers))
    }
}

async fn first_workspace(config: &Arc<SqlConfigStore>) -> (WorkspaceId, String) {
    let id = WorkspaceId::from_random([1; 16]);
    let name = DisplayName::parse("name", "first").unwrap();
    let workspace = Workspace { id: id.clone(), name, zone: Zone::UTC, currency: Currency::USD };
    let deed = Deed::of_server("Test", Millis::ZERO);
    config.create_workspace(workspace, &deed).await.unwrap();
    let (key, secret) = equip(plain_key(&Scopes::ALL)).unwrap();
    config.insert(&id, Resource::Key(key), KEYS_PER_WORKSPACE_MAX, &deed).await.unwrap();
    (id, secret.expose().to_owned())
}

/// Code, reason and field of a status, out of its details.
pub fn told(status: &Status) -> (Code, ErrorReason, String) {
    let details = status.get_error_details();
    let info = details.error_info().expect("every status carries ErrorInfo");
    assert_eq!(info.domain, "rateguard");
    let reason = ErrorReason::from_error_info_reason(&info.reason).expect("a reason of the contract");
    (status.code(), reason, info.metadata.get("field").cloned().unwrap_or_default())
}

/// The reason of a status.
pub fn reason(status: &Status) -> ErrorReason {
    told(status).1
}
