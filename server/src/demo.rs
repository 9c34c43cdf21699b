//! The demo: a workspace with keys, rules, a budget, a month of usage, and two APIs that point at a
//! demo upstream in the same process. Made once; later starts find it.

mod history;
mod keys;
mod seed;
mod welcome;

use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use anyhow::{Context, bail};
use rateguard_core::ids::DisplayName;
use rateguard_core::money::Currency;
use rateguard_core::time::Zone;
use rateguard_demo_upstream::{DemoUpstream, DemoUpstreamConfig};
use rateguard_engine::people::EmailAddress;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::keyfile;
use crate::running::Running;
use crate::setup::{FirstWorkspace, Installed, install};

pub use keys::DemoKeys;
pub use welcome::{as_json, as_text};

/// The credential that the demo upstream wants, and the demo's APIs have.
const UPSTREAM_CREDENTIAL: &str = "demo-upstream-credential";
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
    upstream: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl Demo {
    /// Starts the demo upstream and the server, making the installation first where there is none.
    ///
    /// # Errors
    /// When the folder holds something else, or an address is taken.
    pub async fn start(config: &Config) -> anyhow::Result<Self> {
        let known = DemoKeys::read(&config.data.folder)?;
        if known.is_none() {
            clear_unfinished(&config.data.folder)?;
        }
        let fresh = match &known {
            None => Some(make(config).await?),
            Some(_) => None,
        };
        let (upstream_address, stop_upstream, upstream) = start_upstream().await?;
        let running = Running::start(config).await?;
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
        seed::point_apis_at(&running.engine, &keys, upstream_address).await?;
        Ok(Self { running, keys, stop_upstream, upstream })
    }

    /// Stops the server first, so that calls in flight still have their upstream.
    ///
    /// # Errors
    /// As [`Running::stop`].
    pub async fn stop(self) -> anyhow::Result<()> {
        let stopped = self.running.stop().await;
        self.stop_upstream.cancel();
        self.upstream.await.context("the demo upstream failed")??;
        stopped
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
    install(config, first).await.with_context(|| {
        let folder = config.data.folder.display();
        format!("{folder} is no finished demo; remove it, or name another folder with --data-dir")
    })
}

type Upstream = (SocketAddr, CancellationToken, tokio::task::JoinHandle<std::io::Result<()>>);

async fn start_upstream() -> anyhow::Result<Upstream> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("the demo upstream cannot listen")?;
    let address = listener.local_addr()?;
    let upstream = DemoUpstream::new(DemoUpstreamConfig::with_credential(UPSTREAM_CREDENTIAL));
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let serving = tokio::spawn(async move { upstream.serve(listener, stopped.cancelled_owned()).await });
    Ok((address, stop, serving))
}
