//! The way to the servers: a connection that all share, made anew when it breaks, and what a failure
//! of it means.

mod wire;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use parking_lot::Mutex;
use rateguard_engine::deadline;
use rateguard_engine::ports::StoreError;
use redis::{Cmd, ErrorKind, RedisError, ServerErrorKind, Value};
use tokio::time::{Instant, timeout_at};

use self::wire::{Asked, Door, Wire};
use crate::config::RedisCounterStoreConfig;
use crate::scripts::{self, Function};

/// The name by which errors know the store.
pub(crate) const STORE: &str = "counter";
/// Calls in a row without an answer after which the connection is given up: the other side may be gone
/// without a word.
const SILENT_CALLS_MAX: u32 = 16;
/// The same where calls are few, since callers ask seldom while there is no answer: after so long without
/// one.
const SILENCE_MAX: Duration = Duration::from_millis(500);

/// What a server says that does not have the functions.
const UNKNOWN_FUNCTION: &str = "Function not found";
/// What callers are told whose time is over before there is a connection, and so is that of making one.
const NO_CONNECTION: &str = "there was no connection in time";
/// Between two questions to a cluster whose keys move.
const MOVED_PAUSE: Duration = Duration::from_millis(2);

type Connecting = Shared<BoxFuture<'static, Result<Arc<Wire>, String>>>;

/// The way to the servers.
pub(crate) struct Link {
    door: Arc<Door>,
    connect_timeout: Duration,
    wire: ArcSwapOption<Wire>,
    connecting: Mutex<Option<Connecting>>,
    teaching: tokio::sync::Mutex<()>,
    silent_calls: AtomicU32,
    silent_since: Mutex<Option<Instant>>,
}

/// Nothing was done.
pub(crate) fn unavailable(detail: impl Into<String>) -> StoreError {
    StoreError::Unavailable { store: STORE, detail: detail.into() }
}

/// It may have been done.
fn unknown(detail: impl Into<String>) -> StoreError {
    StoreError::OutcomeUnknown { store: STORE, detail: detail.into() }
}

impl Link {
    /// A link that connects with its first call.
    pub(crate) fn new(config: &RedisCounterStoreConfig) -> Result<Self, StoreError> {
        let door = Door::new(config).map_err(|error| unavailable(error.to_string()))?;
        Ok(Self {
            door: Arc::new(door),
            connect_timeout: config.connect_timeout,
            wire: ArcSwapOption::empty(),
            connecting: Mutex::new(None),
            teaching: tokio::sync::Mutex::default(),
            silent_calls: AtomicU32::new(0),
            silent_since: Mutex::new(None),
        })
    }

    /// Runs a function, and teaches all of them to a server that does not know it.
    pub(crate) async fn run(
        &self,
        function: &Function,
        keys: &[String],
        command: &[u8],
        within: Duration,
    ) -> Result<Value, StoreError> {
        let (call, deadline) = (function.call(keys, command), Instant::now() + within);
        let mut outcome = self.ask_again(&call, deadline).await;
        if is_unknown_function(&outcome) {
            // One caller teaches, and the others ask again behind it.
            let Ok(_turn) = timeout_at(deadline, self.teaching.lock()).await else {
                return Err(unavailable("the functions were not loaded in time"));
            };
            outcome = self.ask_again(&call, deadline).await;
            if is_unknown_function(&outcome) {
                self.teach(keys, deadline).await?;
                outcome = self.ask_again(&call, deadline).await;
            }
        }
        outcome.map_err(Failure::into_error)
    }

    /// Teaches the functions to the server of some keys. Whatever fails, nothing of the call was done.
    async fn teach(&self, keys: &[String], deadline: Instant) -> Result<(), StoreError> {
        let key = keys.first().map_or("", String::as_str);
        match self.ask(Asked::ServerOf(key, &scripts::load()), deadline).await {
            Ok(_) => Ok(()),
            // Another process was faster.
            Err(Failure::Refused(error)) if says(&error, "already exists") => Ok(()),
            Err(Failure::Refused(error)) => {
                Err(unavailable(format!("its functions cannot be loaded: {error}")))
            }
            Err(Failure::NotSent(detail) | Failure::Silent(detail)) => Err(unavailable(detail)),
        }
    }

    /// Sends one command.
    pub(crate) async fn send(&self, command: &Cmd, within: Duration) -> Result<Value, StoreError> {
        self.ask_again(command, Instant::now() + within).await.map_err(Failure::into_error)
    }

    /// Asks again while a cluster says that another of its servers has the keys, or soon will: then
    /// nothing was done.
    async fn ask_again(&self, command: &Cmd, deadline: Instant) -> Result<Value, Failure> {
        loop {
            match self.ask(Asked::ByItsKeys(command), deadline).await {
                Err(Failure::Refused(error))
                    if has_moved(&error) && Instant::now() + MOVED_PAUSE < deadline =>
                {
                    tokio::time::sleep(MOVED_PAUSE).await;
                }
                outcome => return outcome,
            }
        }
    }

    async fn ask(&self, asked: Asked<'_>, deadline: Instant) -> Result<Value, Failure> {
        let wire = match timeout_at(deadline, self.wire()).await {
            Ok(wire) => wire.map_err(Failure::NotSent)?,
            Err(_) => return Err(Failure::NotSent(NO_CONNECTION.to_owned())),
        };
        match deadline::by(deadline, wire.send(asked)).await {
            Some(outcome) => {
                self.silent_calls.store(0, Ordering::Relaxed);
                outcome.map_err(|error| self.broken(&wire, error))
            }
            None => {
                if self.is_silent_for_long() {
                    self.drop_wire(&wire);
                }
                Err(Failure::Silent("no answer came in time".to_owned()))
            }
        }
    }

    /// Notes a call without an answer.
    fn is_silent_for_long(&self) -> bool {
        let before = self.silent_calls.fetch_add(1, Ordering::Relaxed);
        let mut since = self.silent_since.lock();
        if before == 0 {
            *since = Some(Instant::now());
        }
        before >= SILENT_CALLS_MAX || since.is_some_and(|since| since.elapsed() >= SILENCE_MAX)
    }

    fn broken(&self, wire: &Arc<Wire>, error: RedisError) -> Failure {
        if !wire.mends_itself()
            && (error.is_unrecoverable_error() || error.is_io_error() || is_demoted(&error))
        {
            self.drop_wire(wire);
        }
        if was_refused(&error) { Failure::Refused(error) } else { Failure::Silent(error.to_string()) }
    }

    /// Gives a connection up, unless there is another one by now.
    fn drop_wire(&self, wire: &Arc<Wire>) {
        self.silent_calls.store(0, Ordering::Relaxed);
        let current = self.wire.load();
        if current.as_ref().is_some_and(|current| Arc::ptr_eq(current, wire)) {
            self.wire.compare_and_swap(&*current, None);
        }
    }

    async fn wire(&self) -> Result<Arc<Wire>, String> {
        if let Some(wire) = self.wire.load_full() {
            return Ok(wire);
        }
        let connecting = self.connecting();
        let wire = connecting.clone().await;
        let mut known = self.connecting.lock();
        // Whoever comes first after it ended puts it in force, or lets the next one try again.
        if known.as_ref().is_some_and(|known| known.ptr_eq(&connecting)) {
            *known = None;
            self.wire.store(wire.as_ref().ok().cloned());
        }
        wire
    }

    /// The one connection in the making. It goes on when a caller's time is over.
    fn connecting(&self) -> Connecting {
        let mut known = self.connecting.lock();
        if let Some(connecting) = &*known {
            return connecting.clone();
        }
        let (door, within) = (self.door.clone(), self.connect_timeout);
        let task = tokio::spawn(async move {
            match tokio::time::timeout(within, door.open()).await {
                Ok(wire) => wire.map(Arc::new).map_err(|error| error.to_string()),
                Err(_) => Err(NO_CONNECTION.to_owned()),
            }
        });
        let ended = async move { task.await.unwrap_or_else(|error| Err(error.to_string())) };
        known.insert(ended.boxed().shared()).clone()
    }
}

/// Why a call has no answer.
enum Failure {
    /// It was never sent.
    NotSent(String),
    /// The server refused it, and did nothing.
    Refused(RedisError),
    /// It was sent, and nobody knows.
    Silent(String),
}

impl Failure {
    fn into_error(self) -> StoreError {
        match self {
            Self::NotSent(detail) => unavailable(detail),
            Self::Silent(detail) => unknown(detail),
            Self::Refused(error) if is_script_failure(&error) && !says(&error, UNKNOWN_FUNCTION) => {
                StoreError::Corrupt { store: STORE, detail: error.to_string() }
            }
            Self::Refused(error) => unavailable(error.to_string()),
        }
    }
}

/// Whether the server said that it did nothing. Scripts write counters at their end, and reservations and ids
/// after them, so that one that fails has done nothing either.
fn was_refused(error: &RedisError) -> bool {
    error.is_connection_refusal() || error.code().is_some() || has_moved(error)
}

fn is_unknown_function(outcome: &Result<Value, Failure>) -> bool {
    matches!(outcome, Err(Failure::Refused(error)) if says(error, UNKNOWN_FUNCTION))
}

/// Whether a server that refused something gave this reason, which has no code of its own.
fn says(error: &RedisError, reason: &str) -> bool {
    is_script_failure(error) && error.detail().is_some_and(|said| said.contains(reason))
}

/// A server that leads no more, or does not know whom it follows.
fn is_demoted(error: &RedisError) -> bool {
    matches!(error.kind(), ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown))
}

/// Whether the answer tells of another place, or of a cluster that looks for one. The client learns of
/// it meanwhile.
fn has_moved(error: &RedisError) -> bool {
    use ServerErrorKind::{ClusterDown, MasterDown, Moved, ReadOnly, TryAgain};
    match error.kind() {
        ErrorKind::Server(kind) => matches!(kind, Moved | TryAgain | ClusterDown | MasterDown | ReadOnly),
        kind => kind == ErrorKind::ClusterConnectionNotFound,
    }
}

/// Whether a function failed by what it found: the server is well, and others' data may be.
fn is_script_failure(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::ResponseError) || error.code() == Some("WRONGTYPE")
}
