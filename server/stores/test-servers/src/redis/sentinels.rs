//! A server, a replica of it, and three Sentinels that watch them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::folder::Folder;
use super::node::Node;
use crate::ServerError;
use crate::ports::free_port;
use crate::postgres::blocking;

const SENTINELS: usize = 3;
/// Sentinels that have to agree.
const QUORUM: usize = 2;
const READY_WITHIN: Duration = Duration::from_secs(60);
const READY_POLL: Duration = Duration::from_millis(50);
/// The name under which the Sentinels know the servers.
const SERVICE: &str = "counters";

/// Servers with Sentinels, gone when this is dropped.
#[derive(Debug)]
pub struct RedisSentinels {
    servers: Arc<Vec<Node>>,
    sentinels: Arc<Vec<Node>>,
    _folder: Folder,
}

impl RedisSentinels {
    /// Servers of one's own. Takes a few seconds.
    ///
    /// # Errors
    ///
    /// [`ServerError`]; where Redis is not installed it says what to install.
    pub async fn start() -> Result<Self, ServerError> {
        blocking(|| {
            let folder = Folder::new()?;
            let plain = ["--appendonly", "no", "--repl-diskless-sync-delay", "0"];
            let master = Node::start_on_free_port(&folder, "first", &plain)?;
            let following = format!("127.0.0.1 {}", master.port());
            let settings = [&plain[..], &["--replicaof", &following]].concat();
            let replica = Node::start_on_free_port(&folder, "second", &settings)?;
            let watch = |number| start_sentinel(&folder, number, master.port());
            let sentinels = (0..SENTINELS).map(watch).collect::<Result<Vec<_>, _>>()?;
            wait_until(|| sentinels.iter().all(knows_all) && is_linked(&replica))?;
            let servers = Arc::new(vec![master, replica]);
            Ok(Self { servers, sentinels: Arc::new(sentinels), _folder: folder })
        })
        .await
    }

    /// The Sentinels' addresses.
    #[must_use]
    pub fn urls(&self) -> Vec<String> {
        self.sentinels.iter().map(Node::url).collect()
    }

    /// The name under which the Sentinels know the servers.
    #[must_use]
    pub fn service(&self) -> &'static str {
        SERVICE
    }

    /// Kills the server that leads, once its replica has all that was written, and waits until the
    /// replica leads.
    ///
    /// # Errors
    ///
    /// [`ServerError::NotReady`] when it does not in time.
    pub async fn fail_over(&self) -> Result<(), ServerError> {
        let servers = self.servers.clone();
        blocking(move || {
            let leads = |node: &Node| node.ask(&["ROLE"]).is_ok_and(|role| role.starts_with("master"));
            let master = servers.iter().find(|node| leads(node)).ok_or(ServerError::NotRunning)?;
            master.ask(&["WAIT", "1", "1000"])?;
            master.kill()?;
            wait_until(|| servers.iter().any(leads))
        })
        .await
    }
}

fn wait_until(is_ready: impl Fn() -> bool) -> Result<(), ServerError> {
    let deadline = Instant::now() + READY_WITHIN;
    while !is_ready() {
        if Instant::now() > deadline {
            return Err(ServerError::NotReady("the Sentinels did not agree".to_owned()));
        }
        std::thread::sleep(READY_POLL);
    }
    Ok(())
}

fn start_sentinel(folder: &Folder, number: usize, master: u16) -> Result<Node, ServerError> {
    let name = format!("sentinel{number}");
    let writing = || ServerError::system("write a Sentinel's settings");
    let place = folder.path().join(&name);
    std::fs::create_dir_all(&place).map_err(writing())?;
    let settings = format!(
        "sentinel monitor {SERVICE} 127.0.0.1 {master} {QUORUM}\n\
         sentinel down-after-milliseconds {SERVICE} 1000\n\
         sentinel failover-timeout {SERVICE} 3000\n"
    );
    let file = place.join("sentinel.conf");
    std::fs::write(&file, settings).map_err(writing())?;
    let port = free_port().map_err(ServerError::system("find a free port"))?;
    let file = file.to_string_lossy().into_owned();
    Node::start_on(folder, &name, port, &[&file, "--sentinel"])
}

/// Whether a Sentinel knows the others and the replica.
fn knows_all(sentinel: &Node) -> bool {
    let lines = |what: &str| {
        let answer = sentinel.ask(&["SENTINEL", what, SERVICE]).unwrap_or_default();
        answer.lines().filter(|line| *line == "runid").count()
    };
    lines("sentinels") == SENTINELS - 1 && lines("replicas") == 1
}

fn is_linked(replica: &Node) -> bool {
    replica.ask(&["INFO", "replication"]).is_ok_and(|info| info.contains("master_link_status:up"))
}
