//! A running server: its listeners, its engine, its gateway, and how they fail and stop.

mod keys;
mod metrics;
mod probes;
mod readiness;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, ensure};
use axum::Router;
use rateguard_engine::engine::{Background, Engine};
use rateguard_engine::manage::Recount;
use rateguard_engine::people::PeopleBackground;
use rateguard_engine::secrets::{Purpose, random};
use rateguard_gateway_http::{ClientAddress, Drained, Gateway, GatewayConfig, Secret, Transport};
use rateguard_grpc::server::{gateway_router, health, in_process, public_calls, public_router};
use rateguard_serving::client_address::SeenThrough;
use rateguard_serving::{Answers, Descriptors, listen, serve_with};
use rateguard_store_sql::Opening;
use tokio::net::TcpListener;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tonic_health::server::HealthReporter;

use self::keys::KeyTasks;
use self::probes::probes;
use self::readiness::{Readiness, WHOLE_SERVER};
use crate::config::{Config, Mistaken};
use crate::tls::Encryption;
use crate::wiring::OpenStores;
use crate::{keyfile, production};

/// Shortest token that gateways of other processes may present.
const GATEWAY_TOKEN_CHARS_MIN: usize = 32;

/// A server that answers.
pub struct Running {
    /// Where it listens.
    pub address: SocketAddr,
    is_encrypted: bool,
    /// Its engine, for whoever runs in the same process.
    pub engine: Arc<Engine>,
    background: Background,
    people: PeopleBackground,
    keys: KeyTasks,
    gateway: Option<Gateway>,
    stores: OpenStores,
    health: HealthReporter,
    /// Tells the health service how the server stands.
    told: JoinSet<()>,
    stop: CancellationToken,
    made: CancellationToken,
    listeners: JoinSet<io::Result<()>>,
    drain_max: Duration,
}

impl Running {
    /// Opens the stores, recovers, listens. Decisions are true from the moment it returns.
    ///
    /// # Errors
    /// When the folder, a key file or an address cannot be used.
    pub async fn start(config: &Config) -> anyhow::Result<Self> {
        Self::start_recounting(config, Recount::Exact).await
    }

    /// The same; budgets whose counters were lost are counted again as told.
    ///
    /// # Errors
    /// As [`Running::start`].
    pub async fn start_recounting(config: &Config, recount: Recount) -> anyhow::Result<Self> {
        let running = Self::start_unready(config, recount).await?;
        running.declare_ready();
        Ok(running)
    }

    /// The same, for whoever has something to make in it first: `/ready` answers 503 until it is declared
    /// ready.
    ///
    /// # Errors
    /// As [`Running::start`].
    pub async fn start_unready(config: &Config, recount: Recount) -> anyhow::Result<Self> {
        warn_of_mistaken(config);
        let descriptors = Descriptors::raise().context("the limit of open files cannot be raised")?;
        let encryption = Encryption::load(config)?;
        // The addresses first: a port that is taken is the commonest mistake, and nothing is open
        // yet.
        let public = bind(config.server.listen)?;
        let for_gateways = ForGateways::bind(config)?;
        let address = public.local_addr()?;
        let stores = OpenStores::open(config, Opening::Existing, recount).await?;
        production::check(config, &stores).await?;
        let token = match &for_gateways {
            Some(listener) => listener.token.clone(),
            None => draw_token()?,
        };
        let (engine, background) = stores.start_engine(config, Some(token.clone())).await?;
        let (people, people_background) = stores.start_people(config, &engine).await?;
        let gateway = gateway(config, &engine, token, descriptors)?;
        let (reporter, health) = health();
        let made = CancellationToken::new();
        let keys = KeyTasks::start(&stores, config, made.clone()).await?;
        let readiness = Readiness {
            engine: engine.clone(),
            people: people.clone(),
            made: made.clone(),
            certificates: encryption.as_ref().map(|it| Arc::clone(&it.certificates)),
            notices: stores.notices_heard(),
        };
        let mut told = JoinSet::new();
        told.spawn(readiness.clone().keep_telling(reporter.clone()));
        let (stop, drain_max) = (CancellationToken::new(), config.drain_max());
        let services = public_router(&engine, &people, health, &config.server.cors_origins, &stop)?;
        let router = with_proxy(probes(readiness, config.server.metrics).merge(services), gateway.clone());
        let calls = public_calls(&engine, &people, &config.server.cors_origins, &stop);
        let proxies = config.server.trusted_proxies();
        let answers = SeenThrough::new(proxies.clone(), calls.before(router));
        let is_encrypted = encryption.is_some();
        let gateways =
            for_gateways.map(|it| (it.listener, SeenThrough::new(proxies, gateway_router(&engine, &stop))));
        let listeners = listen_on((public, answers), gateways, encryption, &stop, drain_max);
        Ok(Self {
            address,
            is_encrypted,
            engine,
            background,
            people: people_background,
            keys,
            gateway,
            stores,
            health: reporter,
            told,
            stop,
            made,
            listeners,
            drain_max,
        })
    }

    /// Where it listens, as a URL.
    pub fn url(&self) -> String {
        let scheme = if self.is_encrypted { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// Says that everything is there that callers have to find.
    pub fn declare_ready(&self) {
        self.made.cancel();
    }

    /// Marks the installation as a demo, which is refused in production.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) async fn mark_as_demo(&self, config: &Config) -> anyhow::Result<()> {
        self.stores.mark(config, Purpose::Demo).await
    }

    /// Completes with the reason when something ends by itself that has to run until the stop. What is
    /// left to do then is to stop.
    pub async fn failed(&mut self) -> anyhow::Error {
        tokio::select! {
            Some(ended) = self.listeners.join_next() => why_ended(ended),
            () = self.people.failed() => anyhow!("people's background task has ended although nobody stopped it"),
            () = self.keys.failed() => anyhow!("the watch over the keys has ended although nobody stopped it"),
            () = self.background.failed() => anyhow!("a background task has ended although nobody stopped it"),
        }
    }

    /// Stops in order: no new calls, calls in flight and their reports finish, events are written,
    /// counters are written down, files are closed.
    ///
    /// # Errors
    /// When a listener has failed, or something could not be written down; what was accepted is durable
    /// all the same, and every later step is taken too.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.told.shutdown().await;
        self.health.set_service_status(WHOLE_SERVER, tonic_health::ServingStatus::NotServing).await;
        self.stop.cancel();
        if let Some(gateway) = &self.gateway {
            gateway.begin_stop();
        }
        let listened = wait_for_all(&mut self.listeners).await;
        if let Some(gateway) = &self.gateway {
            drain(gateway, self.drain_max).await;
        }
        self.people.stop().await;
        self.keys.stop().await;
        let written = self.background.stop().await.context("the counters could not be written down");
        self.stores.close().await;
        listened.and(written)
    }
}

fn warn_of_mistaken(config: &Config) {
    for Mistaken { name, meant } in &config.mistaken {
        tracing::warn!(variable = name, meant, "a variable sets nothing; another one would");
    }
}

/// The listener for gateways of other processes, with the token that they present.
struct ForGateways {
    listener: TcpListener,
    token: String,
}

impl ForGateways {
    fn bind(config: &Config) -> anyhow::Result<Option<Self>> {
        let Some(address) = config.server.gateway_listen else { return Ok(None) };
        let file = &config.server.gateway_token_file;
        let secret = keyfile::read_secret(file).context("server.gateway_token_file")?;
        // It is what gateways are known by.
        let token = secret.expose().to_owned();
        ensure!(
            token.len() >= GATEWAY_TOKEN_CHARS_MIN,
            "server.gateway_token_file {} holds {}: put a random token of at least {GATEWAY_TOKEN_CHARS_MIN} \
             characters into it, and into the token file of each gateway",
            file.display(),
            if token.is_empty() { "no token" } else { "too short a token" },
        );
        Ok(Some(Self { listener: bind(address)?, token }))
    }
}

/// Serves the public listener, and the one for gateways if there is one, until the stop.
fn listen_on(
    public: (TcpListener, impl Answers),
    gateways: Option<(TcpListener, impl Answers)>,
    encryption: Option<Encryption>,
    stop: &CancellationToken,
    drain_max: Duration,
) -> JoinSet<io::Result<()>> {
    let mut listeners = JoinSet::new();
    let stopped = || stop.clone().cancelled_owned();
    let tls = encryption.as_ref().map(|it| it.public.clone());
    listeners.spawn(serve_with(public.0, tls, public.1, stopped(), drain_max));
    if let Some((listener, answers)) = gateways {
        let tls = encryption.as_ref().map(|it| it.gateways.clone());
        listeners.spawn(serve_with(listener, tls, answers, stopped(), drain_max));
    }
    if let Some(encryption) = encryption {
        // Listeners need it for as long as they run, and it fails and stops as they do.
        listeners.spawn(encryption.keep_current(stop.clone()));
    }
    listeners
}

/// Waits for the listeners that are left; the first failure is told at the end.
async fn wait_for_all(listeners: &mut JoinSet<io::Result<()>>) -> anyhow::Result<()> {
    let mut outcome = Ok(());
    while let Some(ended) = listeners.join_next().await {
        let ended = ended.map_err(io::Error::from).flatten().context("a listener failed");
        outcome = outcome.and(ended);
    }
    outcome
}

fn why_ended(ended: Result<io::Result<()>, JoinError>) -> anyhow::Error {
    match ended.map_err(io::Error::from).flatten() {
        Ok(()) => anyhow!("a listener has ended although nobody stopped it"),
        Err(error) => anyhow::Error::new(error).context("a listener failed"),
    }
}

fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    listen(address).with_context(|| format!("cannot listen on {address}"))
}

/// The token by which the gateway of this process is known, new with each start.
fn draw_token() -> anyhow::Result<String> {
    Ok(hex::encode(random::<32>()?))
}

fn gateway(
    config: &Config,
    engine: &Arc<Engine>,
    token: String,
    descriptors: Descriptors,
) -> anyhow::Result<Option<Gateway>> {
    if !config.gateway.enabled {
        return Ok(None);
    }
    let mut bounds = GatewayConfig::new(Secret::new(token));
    bounds.calls_max = descriptors.calls_out_of(config.gateway.concurrent_calls_max);
    if let Some(header) = &config.gateway.client_address_header {
        tracing::warn!(
            "gateway.client_address_header is believed of everybody, and counts for /proxy alone: name \
             server.client_address_header and server.trusted_proxies in its place"
        );
        bounds.client_address = ClientAddress::Header(header.clone());
    }
    Ok(Some(Gateway::new(Transport::new(in_process(engine)), bounds)?))
}

fn with_proxy(router: Router, gateway: Option<Gateway>) -> Router {
    match gateway {
        Some(gateway) => router.merge(rateguard_gateway_http::router(gateway)),
        None => router,
    }
}

async fn drain(gateway: &Gateway, drain_max: Duration) {
    if let Drained::Cut { unfinished, records_waiting } = gateway.drain(drain_max).await {
        tracing::warn!(unfinished, records_waiting, "the gateway was not done when the drain ended");
    }
}

#[cfg(test)]
mod tests;
