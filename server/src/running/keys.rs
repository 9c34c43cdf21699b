//! Following the encryption keys while the server runs: by looking, and at once on SIGHUP.

use std::sync::Arc;

use anyhow::Context;
use rateguard_engine::clock::SystemClock;
use rateguard_engine::reseal::KeyWatch;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::wiring::OpenStores;

/// The tasks that do it.
pub(super) struct KeyTasks {
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl KeyTasks {
    /// Begins once everything is made that callers have to find.
    pub(super) async fn start(
        stores: &OpenStores,
        config: &Config,
        made: CancellationToken,
    ) -> anyhow::Result<Self> {
        let hangup = signal(SignalKind::hangup()).context("signals cannot be received")?;
        let clock = Arc::new(SystemClock::default());
        let watch = KeyWatch::new(stores.sealed_store(), stores.cipher(config).await?, clock);
        let (wake, stop) = (Arc::new(Notify::new()), CancellationToken::new());
        let mut tasks = JoinSet::new();
        tasks.spawn(wake_on(hangup, wake.clone(), stop.clone()));
        let stopped = stop.clone();
        tasks.spawn(async move {
            tokio::select! {
                () = made.cancelled() => watch.run(wake, stopped).await,
                () = stopped.cancelled() => {}
            }
        });
        Ok(Self { stop, tasks })
    }

    /// Completes when a task has ended by itself. None should.
    pub(super) async fn failed(&mut self) {
        self.tasks.join_next().await;
    }

    /// Ends the tasks.
    pub(super) async fn stop(mut self) {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}

async fn wake_on(mut hangup: Signal, wake: Arc<Notify>, stop: CancellationToken) {
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            received = hangup.recv() => if received.is_some() { wake.notify_one() } else { return stop.cancelled().await },
        }
    }
}
