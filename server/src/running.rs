//! A running server: its listener, its engine, and how it stops.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use axum::Router;
use axum::routing::get;
use rateguard_engine::engine::{Background, Engine};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::listen::serve;
use crate::wiring::Embedded;

/// A server that answers.
pub struct Running {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its engine, for whoever runs in the same process.
    pub engine: Arc<Engine>,
    background: Background,
    stores: Embedded,
    stop: CancellationToken,
    listener: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl Running {
    /// Opens the stores, recovers, listens. Decisions are true from the moment it returns.
    ///
    /// # Errors
    /// When the folder, the key file or the address cannot be used.
    pub async fn start(config: &Config) -> anyhow::Result<Self> {
        // The address first: a port that is taken is the commonest mistake, and nothing is open yet.
        let listener = TcpListener::bind(config.server.listen)
            .await
            .with_context(|| format!("cannot listen on {}", config.server.listen))?;
        let address = listener.local_addr()?;
        let stores = Embedded::open(config).await?;
        let (engine, background) = stores.start_engine(config, None).await?;
        let stop = CancellationToken::new();
        let router = router(config, &engine)?;
        let serving = serve(listener, router, stop.clone().cancelled_owned(), config.drain_max());
        Ok(Self { address, engine, background, stores, stop, listener: tokio::spawn(serving) })
    }

    /// Stops in order: no new calls, calls in flight finish, events are written, counters are
    /// written down, files are closed.
    ///
    /// # Errors
    /// When something could not be written down; what was accepted is durable all the same.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.stop.cancel();
        self.listener.await.context("the listener failed")??;
        self.background.stop().await.context("the counters could not be written down")?;
        self.stores.close().await;
        Ok(())
    }
}

fn router(config: &Config, engine: &Arc<Engine>) -> anyhow::Result<Router> {
    let (reporter, health) = rateguard_grpc::server::health();
    let services = rateguard_grpc::server::public_router(engine, health, &config.server.cors_origins)?;
    drop(reporter);
    Ok(Router::new().route("/health", get(async || "ok\n")).merge(services))
}
