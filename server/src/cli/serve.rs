//! `rateguard serve`.

use anyhow::Context;
use clap::Args;
use rateguard_engine::manage::Recount;
use tokio::signal::unix::{SignalKind, signal};

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
        let told = told_to_stop()?;
        let recount = if self.recount_budgets { Recount::AsTheyStand } else { Recount::Exact };
        let mut running = Running::start_recounting(&config, recount).await?;
        super::print(&format!("ready at http://{}", running.address))?;
        let ran = until_told_or_failed(told, &mut running).await;
        let stopped = running.stop().await;
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
    told: impl Future<Output = ()>,
    running: &mut Running,
) -> anyhow::Result<()> {
    tokio::select! {
        biased;
        () = told => {
            tracing::info!("stopping: calls in flight finish first");
            Ok(())
        }
        failure = running.failed() => {
            tracing::error!(failure = format!("{failure:#}"), "stopping: a part of the server has failed");
            Err(failure)
        }
    }
}

/// Ends when the process is asked to stop, by Ctrl-C or by whoever supervises it. It listens from
/// the moment it is made, so that no signal falls into a gap.
pub(super) fn told_to_stop() -> anyhow::Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt()).context("signals cannot be received")?;
    let mut terminate = signal(SignalKind::terminate()).context("signals cannot be received")?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}
