//! Redis servers for tests: started on free ports from the installed programs, in folders of their
//! own that are gone with them, never the machine's own server.

use std::sync::{Arc, OnceLock};

use self::folder::Folder;
use self::node::Node;
use crate::ServerError;
use crate::postgres::blocking;

mod cluster;
mod folder;
mod node;
mod sentinels;

pub use cluster::{Lag, RedisCluster};
pub use sentinels::RedisSentinels;

/// What a server remembers over its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeping {
    /// Nothing.
    Nothing,
    /// Every write, in an append-only file that the system is given before the answer: a kill loses
    /// nothing.
    Writes,
}

/// A running server, stopped and removed when this is dropped, and also when the test's process ends
/// in any other way.
#[derive(Debug)]
pub struct RedisServer {
    node: Arc<Node>,
    _folder: Folder,
}

impl RedisServer {
    /// A server of one's own, to kill, to pause and to flush. Takes some hundredths of a second.
    ///
    /// # Errors
    ///
    /// [`ServerError`]; where Redis is not installed it says what to install.
    pub async fn start(keeping: Keeping) -> Result<Self, ServerError> {
        blocking(move || Self::start_here(keeping)).await
    }

    /// The server that all tests of this process share. Each takes keys with a prefix of its own, and
    /// none kills, pauses or flushes it.
    ///
    /// # Errors
    ///
    /// As [`RedisServer::start`].
    pub async fn shared() -> Result<&'static Self, ServerError> {
        static SHARED: OnceLock<Result<RedisServer, ServerError>> = OnceLock::new();
        let start = || Self::start_here(Keeping::Nothing);
        blocking(move || SHARED.get_or_init(start).as_ref().map_err(Clone::clone)).await
    }

    fn start_here(keeping: Keeping) -> Result<Self, ServerError> {
        let folder = Folder::new()?;
        let settings: &[&str] = match keeping {
            Keeping::Nothing => &["--appendonly", "no"],
            Keeping::Writes => &["--appendonly", "yes", "--appendfsync", "everysec"],
        };
        let node = Node::start_on_free_port(&folder, "server", settings)?;
        Ok(Self { node: Arc::new(node), _folder: folder })
    }

    /// The address as a URL.
    #[must_use]
    pub fn url(&self) -> String {
        self.node.url()
    }

    /// The port on 127.0.0.1, the same for as long as the server is there.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.node.port()
    }

    /// Gives the server a command, word by word, and answers what it says.
    ///
    /// # Errors
    ///
    /// [`ServerError::Failed`] when it cannot be asked.
    pub async fn ask(&self, words: &[&str]) -> Result<String, ServerError> {
        let (node, words) = (self.node.clone(), words.iter().map(ToString::to_string).collect::<Vec<_>>());
        blocking(move || node.ask(&words)).await
    }

    /// Kills the server without a word (`kill -9`).
    ///
    /// # Errors
    ///
    /// [`ServerError::NotRunning`].
    pub async fn kill(&self) -> Result<(), ServerError> {
        let node = self.node.clone();
        blocking(move || node.kill()).await
    }

    /// Starts it again on the same port and folder.
    ///
    /// # Errors
    ///
    /// As [`RedisServer::start`].
    pub async fn start_again(&self) -> Result<(), ServerError> {
        let node = self.node.clone();
        blocking(move || node.start_again()).await
    }

    /// Freezes the server: connections stay open and nobody answers.
    ///
    /// # Errors
    ///
    /// [`ServerError::NotRunning`].
    pub fn pause(&self) -> Result<(), ServerError> {
        self.node.signal(rustix::process::Signal::STOP)
    }

    /// Lets a frozen server go on.
    ///
    /// # Errors
    ///
    /// [`ServerError::NotRunning`].
    pub fn resume(&self) -> Result<(), ServerError> {
        self.node.signal(rustix::process::Signal::CONT)
    }
}
