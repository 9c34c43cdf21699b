//! A Redis Cluster of three servers and a replica of each.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::folder::Folder;
use super::node::Node;
use crate::ServerError;
use crate::ports::free_port_with;
use crate::postgres::blocking;

const MASTERS: usize = 3;
const NODES: usize = 2 * MASTERS;
/// A node also listens so far above its port.
const BUS_OFFSET: u16 = 10_000;
/// Longest wait until a replica has what was written: they tell once a second.
const FOLLOWED_WITHIN: Duration = Duration::from_secs(10);
/// Others may take a node's ports between their choice and their use.
const STARTS_MAX: usize = 8;
const FORMED_WITHIN: Duration = Duration::from_secs(60);
const FORMED_POLL: Duration = Duration::from_millis(50);
/// A node that is silent for two seconds has failed, so that tests need not wait for the fifteen that
/// are usual.
const SETTINGS: [&str; 16] = [
    "--cluster-enabled",
    "yes",
    "--cluster-config-file",
    "nodes",
    "--cluster-node-timeout",
    "2000",
    "--cluster-require-full-coverage",
    "no",
    "--cluster-replica-validity-factor",
    "0",
    "--repl-diskless-sync-delay",
    "0",
    "--repl-ping-replica-period",
    "1",
    "--appendonly",
    "no",
];

/// A running cluster, gone when this is dropped.
#[derive(Debug)]
pub struct RedisCluster {
    nodes: Arc<Vec<Node>>,
    _folder: Folder,
}

impl RedisCluster {
    /// A cluster of one's own. Takes about three seconds.
    ///
    /// # Errors
    ///
    /// [`ServerError`]; where Redis is not installed it says what to install.
    pub async fn start() -> Result<Self, ServerError> {
        blocking(|| {
            let folder = Folder::new()?;
            let nodes =
                (0..NODES).map(|number| start_node(&folder, number)).collect::<Result<Vec<_>, _>>()?;
            form(&nodes)?;
            Ok(Self { nodes: Arc::new(nodes), _folder: folder })
        })
        .await
    }

    /// The addresses of all nodes.
    #[must_use]
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(Node::url).collect()
    }

    /// Gives every node that leads a command, and answers what each says.
    ///
    /// # Errors
    ///
    /// [`ServerError::Failed`] when one cannot be asked.
    pub async fn ask_masters(&self, words: &[&str]) -> Result<Vec<String>, ServerError> {
        let (nodes, words) = (self.nodes.clone(), words.iter().map(ToString::to_string).collect::<Vec<_>>());
        blocking(move || nodes.iter().filter(|node| leads(node)).map(|node| node.ask(&words)).collect()).await
    }

    /// Kills the node that leads for a key, without a word, once its replica has all that was written.
    ///
    /// # Errors
    ///
    /// [`ServerError::NotRunning`] when nobody leads for it.
    pub async fn kill_master_of(&self, key: &str) -> Result<(), ServerError> {
        let (nodes, key) = (self.nodes.clone(), key.to_owned());
        blocking(move || {
            let master = master_of(&nodes, &key)?;
            until_followed(master)?;
            master.kill()
        })
        .await
    }

    /// The port of the node that leads for a key.
    ///
    /// # Errors
    ///
    /// [`ServerError::NotRunning`] when nobody leads for it.
    pub async fn leader_of(&self, key: &str) -> Result<u16, ServerError> {
        let (nodes, key) = (self.nodes.clone(), key.to_owned());
        blocking(move || master_of(&nodes, &key).map(Node::port)).await
    }

    /// Lets the node on a port stand still. The others take it for failed after two seconds.
    ///
    /// # Errors
    ///
    /// [`ServerError::NotRunning`] when no node is there.
    pub fn pause(&self, port: u16) -> Result<(), ServerError> {
        self.signal(port, Signal::STOP)
    }

    /// Lets it go on.
    ///
    /// # Errors
    ///
    /// [`ServerError::NotRunning`] when no node is there.
    pub fn resume(&self, port: u16) -> Result<(), ServerError> {
        self.signal(port, Signal::CONT)
    }

    fn signal(&self, port: u16, signal: Signal) -> Result<(), ServerError> {
        let node = self.nodes.iter().find(|node| node.port() == port);
        node.ok_or(ServerError::NotRunning)?.signal(signal)
    }

    /// Freezes the followers of the node that leads for a key: from here on they lag behind it.
    ///
    /// # Errors
    ///
    /// [`ServerError::NotRunning`] when nobody leads for it.
    pub async fn freeze_followers_of(&self, key: &str) -> Result<Lag, ServerError> {
        let (nodes, key) = (self.nodes.clone(), key.to_owned());
        blocking(move || {
            let leader = master_of(&nodes, &key)?.port();
            let follows = |node: &&Node| {
                let role = node.ask(&["ROLE"]).unwrap_or_default();
                role.starts_with("slave") && role.lines().any(|line| line.trim() == leader.to_string())
            };
            let frozen: Vec<u16> = nodes.iter().filter(follows).map(Node::port).collect();
            nodes
                .iter()
                .filter(|node| frozen.contains(&node.port()))
                .try_for_each(|node| node.signal(Signal::STOP))?;
            Ok(Lag { nodes, leader, frozen })
        })
        .await
    }

    /// The keys of all nodes that lead.
    ///
    /// # Errors
    ///
    /// [`ServerError::Failed`] when one cannot be asked.
    pub async fn keys(&self) -> Result<Vec<String>, ServerError> {
        let listed = self.ask_masters(&["KEYS", "*"]).await?;
        Ok(listed.iter().flat_map(|keys| keys.lines().map(str::to_owned)).collect())
    }
}

/// Followers that stand still while their leader goes on.
#[derive(Debug)]
pub struct Lag {
    nodes: Arc<Vec<Node>>,
    leader: u16,
    frozen: Vec<u16>,
}

impl Lag {
    /// Kills the leader without a word and lets the followers go on: one of them leads next, without what it
    /// had not been told.
    ///
    /// # Errors
    ///
    /// [`ServerError::NotRunning`] when one of them runs no more.
    pub async fn fail_over(self) -> Result<(), ServerError> {
        blocking(move || {
            let nodes = || self.nodes.iter();
            nodes().filter(|node| node.port() == self.leader).try_for_each(Node::kill)?;
            nodes()
                .filter(|node| self.frozen.contains(&node.port()))
                .try_for_each(|node| node.signal(Signal::CONT))
        })
        .await
    }
}

fn master_of<'n>(nodes: &'n [Node], key: &str) -> Result<&'n Node, ServerError> {
    let has_key = |node: &&Node| leads(node) && node.ask(&["EXISTS", key]).is_ok_and(|answer| answer == "1");
    nodes.iter().find(has_key).ok_or(ServerError::NotRunning)
}

/// Waits until a replica has all that was written until now. WAIT would wait for what its own connection wrote.
fn until_followed(master: &Node) -> Result<(), ServerError> {
    let figure = |line: &str, name: &str| {
        let (_, rest) = line.split_once(name)?;
        rest.split(|c: char| !c.is_ascii_digit()).next()?.parse::<u64>().ok()
    };
    let told = || master.ask(&["INFO", "replication"]);
    let written = told()?.lines().find_map(|line| figure(line, "master_repl_offset:"));
    let written = written.ok_or_else(|| ServerError::NotReady("it tells no offset".to_owned()))?;
    let deadline = Instant::now() + FOLLOWED_WITHIN;
    let has_all = |line: &str| line.starts_with("slave") && figure(line, "offset=") >= Some(written);
    while !told()?.lines().any(has_all) {
        if Instant::now() > deadline {
            return Err(ServerError::NotReady("no replica has what was written".to_owned()));
        }
        std::thread::sleep(FORMED_POLL);
    }
    Ok(())
}

fn leads(node: &Node) -> bool {
    node.ask(&["ROLE"]).is_ok_and(|role| role.starts_with("master"))
}

fn start_node(folder: &Folder, number: usize) -> Result<Node, ServerError> {
    let mut last = ServerError::NotRunning;
    for _ in 0..STARTS_MAX {
        let port = free_port_with(BUS_OFFSET).map_err(ServerError::system("find two free ports"))?;
        let bus = (port + BUS_OFFSET).to_string();
        let mut settings = SETTINGS.to_vec();
        settings.extend(["--cluster-port", &bus]);
        match Node::start_on(folder, &format!("node{number}-{port}"), port, &settings) {
            Ok(node) => return Ok(node),
            Err(error @ ServerError::ProgramMissing { .. }) => return Err(error),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn form(nodes: &[Node]) -> Result<(), ServerError> {
    let Some(first) = nodes.first() else { return Err(ServerError::NotRunning) };
    let addresses: Vec<String> = nodes.iter().map(|node| format!("127.0.0.1:{}", node.port())).collect();
    let mut words = vec!["--cluster", "create"];
    words.extend(addresses.iter().map(String::as_str));
    words.extend(["--cluster-replicas", "1", "--cluster-yes"]);
    first.ask(&words)?;
    let deadline = Instant::now() + FORMED_WITHIN;
    while !nodes.iter().all(is_formed) {
        if Instant::now() > deadline {
            return Err(ServerError::NotReady("the cluster did not form".to_owned()));
        }
        std::thread::sleep(FORMED_POLL);
    }
    Ok(())
}

/// Whether a node knows all others, and has its replica or its master.
fn is_formed(node: &Node) -> bool {
    let says = |words: &[&str], what: &str| node.ask(words).is_ok_and(|answer| answer.contains(what));
    let replicas = node.ask(&["CLUSTER", "NODES"]).map_or(0, |nodes| nodes.matches("slave").count());
    let linked = says(&["INFO", "replication"], "master_link_status:up")
        || says(&["INFO", "replication"], "connected_slaves:1");
    says(&["CLUSTER", "INFO"], "cluster_state:ok") && replicas == MASTERS && linked
}
