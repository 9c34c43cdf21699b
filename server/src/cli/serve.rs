//! `rateguard serve`.

use anyhow::{Context, bail};
use clap::Args;
use rateguard_engine::manage::Recount;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::ConfigArgs;
use crate::logging;
use crate::running::Running;

#[derive(Debug, Args)]
pub(super) struct Serve {
    #[command(flatten)]
    config: ConfigArgs,
    /// When counters.db was lost: count prepaid budgets that were changed since they began by what
    /// they match today
    #[arg(long)]
    recount_budgets: bool,
}

impl Serve {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let config = self.config.load()?;
        logging::start(&config.log)?;
        let mut signals = Signals::listen()?;
        let recount = if self.recount_budgets { Recount::AsTheyStand } else { Recount::Exact };
        let starting = Running::start_recounting(&config, recount);
        let Some(mut running) = signals.unless_told(starting).await.transpose()? else { return Ok(()) };
        super::print(&format!("ready at {}", running.url()))?;
        let ran = until_told_or_failed(&mut signals, running.failed()).await;
        let stopped = signals.unless_told_again(running.stop()).await;
        ran.and(stopped)?;
        tracing::info!("stopped");
        Ok(())
    }
}

/// Lets the server run until it has to stop, and says why.
///
/// # Errors
/// When the reason is that a part of it has failed.
pub(super) async fn until_told_or_failed(
    signals: &mut Signals,
    failed: impl Future<Output = anyhow::Error>,
) -> anyhow::Result<()> {
    tokio::select! {
        biased;
        () = signals.told_to_stop() => {
            tracing::info!("stopping: calls in flight finish first");
            Ok(())
        }
        failure = failed => {
            tracing::error!(failure = format!("{failure:#}"), "stopping: a part of the server has failed");
            Err(failure)
        }
    }
}

/// What asks the process to stop: Ctrl-C, or whoever supervises it. They are listened for from the
/// moment this is made, so that no signal falls into a gap.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    pub(super) fn listen() -> anyhow::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).context("signals cannot be received")?,
            terminate: signal(SignalKind::terminate()).context("signals cannot be received")?,
        })
    }

    /// Ends when the process is asked to stop, each time that it is.
    async fn told_to_stop(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    /// Lets a start go on to its end, unless the process is asked to stop before. What was begun is then as after a
    /// crash.
    pub(super) async fn unless_told<T>(&mut self, starting: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            started = starting => Some(started),
            () = self.told_to_stop() => {
                tracing::info!("stopped before it was ready");
                None
            }
        }
    }

    /// Lets a stop go on to its end, unless the process is asked once more.
    ///
    /// # Errors
    /// When it was; calls in flight are cut then, and what was accepted is in the log all the same.
    pub(super) async fn unless_told_again(
        &mut self,
        stopping: impl Future<Output = anyhow::Result<()>>,
    ) -> anyhow::Result<()> {
        tokio::select! {
            biased;
            stopped = stopping => stopped,
            () = self.told_to_stop() => bail!("told to stop once more: calls in flight were cut"),
        }
    }
}
