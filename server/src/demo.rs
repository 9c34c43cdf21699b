//! The demo: a workspace with keys, rules, a budget, a month of usage, and two APIs that point at a
//! demo upstream in the same process. Made once; later starts find it.

mod history;
mod keys;
mod seed;
mod welcome;

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use anyhow::{Context, anyhow, bail};
use rateguard_core::ids::DisplayName;
use rateguard_core::money::Currency;
use rateguard_core::time::Zone;
use rateguard_demo_upstream::{DemoUpstream, DemoUpstreamConfig};
use rateguard_engine::manage::Recount;
use rateguard_engine::people::EmailAddress;
use rateguard_engine::secrets::Purpose;
use tokio::net::TcpListener;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::running::Running;
use crate::setup::{FirstWorkspace, Installed, install_for};
use crate::{keyfile, production};

pub use keys::DemoKeys;
pub use welcome::{as_json, as_text};

/// The credential that the demo upstream wants, and the demo's APIs have.
pub(crate) const UPSTREAM_CREDENTIAL: &str = "demo-upstream-credential";
/// What is told of an upstream that ended with an error.
const UPSTREAM_FAILED: &str = "the demo upstream failed";
/// The workspace's name.
const WORKSPACE_NAME: &str = "demo";
/// The address by which its owner logs in.
const OWNER_EMAIL: &str = "owner@example.com";

/// A file in the data folder of a demo that is being made.
const UNFINISHED: &str = "demo.unfinished";

/// A running demo.
pub struct Demo {
    /// The server.
    pub running: Running,
    /// The keys that were made for it.
    pub keys: DemoKeys,
    stop_upstream: CancellationToken,
    upstream: Upstream,
}

/// The demo upstream's task, while it runs.
type Upstream = JoinSet<io::Result<()>>;

impl Demo {
    /// Starts the demo upstream and the server, making the installation first where there is none.
    ///
    /// # Errors
    /// When the folder holds something else, or an address is taken.
    pub async fn start(config: &Config) -> anyhow::Result<Self> {
        production::refuse_demo(config)?;
        let known = DemoKeys::read(&config.data.folder)?;
        if known.is_none() {
            clear_unfinished(&config.data.folder)?;
        }
        let fresh = match &known {
            None => Some(make(config).await?),
            Some(_) => None,
        };
        let (upstream_address, stop_upstream, upstream) = start_upstream().await?;
        let running = Running::start_unready(config, Recount::Exact).await?;
        let keys = match (known, fresh) {
            (Some(keys), _) => keys,
            (None, Some(installed)) => {
                let folder = &config.data.folder;
                let keys = seed::fill(&running.engine, &installed, folder, upstream_address).await?;
                std::fs::remove_file(folder.join(UNFINISHED))?;
                keys
            }
            (None, None) => bail!("the demo was neither found nor made"),
        };
        running.mark_as_demo(config).await?;
        seed::point_apis_at(&running.engine, &keys, upstream_address).await?;
        running.declare_ready();
        Ok(Self { running, keys, stop_upstream, upstream })
    }

    /// Completes with the reason when the server or its upstream ends by itself. What is left to do then is
    /// to stop.
    pub async fn failed(&mut self) -> anyhow::Error {
        tokio::select! {
            failure = self.running.failed() => failure,
            Some(ended) = self.upstream.join_next() => why_ended(ended),
        }
    }

    /// Stops the server first, so that calls in flight still have their upstream.
    ///
    /// # Errors
    /// As [`Running::stop`], or when the upstream has failed.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        let stopped = self.running.stop().await;
        self.stop_upstream.cancel();
        let served = match self.upstream.join_next().await {
            Some(ended) => ended.map_err(io::Error::from).flatten().context(UPSTREAM_FAILED),
            None => Ok(()),
        };
        stopped.and(served)
    }
}

/// A demo that was stopped while it was made is made anew. Only a folder that says so is removed.
fn clear_unfinished(folder: &Path) -> anyhow::Result<()> {
    if folder.join(UNFINISHED).exists() {
        std::fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    Ok(())
}

/// Marks a folder that does not exist yet, or is empty.
fn mark_unfinished(folder: &Path) -> anyhow::Result<()> {
    let is_new = folder.read_dir().map_or(true, |mut entries| entries.next().is_none());
    if is_new {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        keyfile::create(&folder.join(UNFINISHED), "being made\n")?;
    }
    Ok(())
}

async fn make(config: &Config) -> anyhow::Result<Installed> {
    mark_unfinished(&config.data.folder)?;
    let first = FirstWorkspace {
        name: DisplayName::parse("workspace", WORKSPACE_NAME)?,
        zone: Zone::UTC,
        currency: Currency::USD,
        owner: EmailAddress::parse("owner", OWNER_EMAIL)?,
    };
    install_for(config, first, Purpose::Demo).await.with_context(|| {
        let place = config.stores_place();
        format!("{place} is no finished demo; remove it, or name another folder with --data-dir")
    })
}

fn why_ended(ended: Result<io::Result<()>, JoinError>) -> anyhow::Error {
    match ended.map_err(io::Error::from).flatten() {
        Ok(()) => anyhow!("the demo upstream has ended although nobody stopped it"),
        Err(error) => anyhow::Error::new(error).context(UPSTREAM_FAILED),
    }
}

async fn start_upstream() -> anyhow::Result<(SocketAddr, CancellationToken, Upstream)> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("the demo upstream cannot listen")?;
    let address = listener.local_addr()?;
    let upstream = DemoUpstream::new(DemoUpstreamConfig::with_credential(UPSTREAM_CREDENTIAL));
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let mut serving = JoinSet::new();
    serving.spawn(async move { upstream.serve(listener, stopped.cancelled_owned()).await });
    Ok((address, stop, serving))
}

#[cfg(test)]
mod tests;
