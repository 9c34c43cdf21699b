//! The ways between replicas and stores: messages take time, are lost, are doubled and are refused.
//! What is on its way arrives, whatever becomes of its sender.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use rateguard_core::time::Millis;
use rateguard_engine::ports::StoreError;
use tokio::sync::{Notify, oneshot};
use tokio::time::{sleep, timeout};

use crate::clocks::TrueTime;
use crate::dice::Dice;
use crate::faults::{Fate, Faults};
use crate::history::History;
use crate::steps::Step;

/// How long whoever asks a store waits for its reply.
const REPLY_TIMEOUT: Duration = Duration::from_millis(50);

/// The stores, as the network knows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Counters.
    Counters,
    /// The event log.
    Log,
    /// The configuration.
    Config,
    /// Usage.
    Usage,
}

impl Place {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Counters, Self::Log, Self::Config, Self::Usage];

    fn name(self) -> &'static str {
        match self {
            Self::Counters => "counter",
            Self::Log => "event",
            Self::Config => "config",
            Self::Usage => "usage",
        }
    }
}

/// What everybody in a run shares.
pub struct World {
    /// Chance.
    pub dice: Dice,
    /// The true time.
    pub time: TrueTime,
    /// What goes wrong; nothing any more once the run is to end well.
    faults: Mutex<Faults>,
    /// Stores that nobody reaches.
    away: Mutex<Vec<Place>>,
    /// What happened.
    pub history: Mutex<History>,
    /// Lives of replicas so far.
    lives: AtomicU64,
}

impl World {
    /// A world at its beginning.
    pub fn new(dice: Dice, time: TrueTime, faults: Faults, history: History) -> Arc<Self> {
        let (faults, history) = (Mutex::new(faults), Mutex::new(history));
        let (away, lives) = (Mutex::default(), AtomicU64::new(0));
        Arc::new(Self { dice, time, faults, away, history, lives })
    }

    /// What goes wrong now.
    pub fn faults(&self) -> Faults {
        *self.faults.lock()
    }

    /// From now on nothing goes wrong any more.
    pub fn heal(&self) {
        *self.faults.lock() = Faults::default();
        self.away.lock().clear();
        self.note(|| "everything is well".to_owned());
    }

    /// Takes a store away, or brings it back.
    pub fn set_away(&self, place: Place, is_away: bool) {
        self.note(|| format!("{place:?} away: {is_away}"));
        let mut away = self.away.lock();
        away.retain(|other| *other != place);
        if is_away {
            away.push(place);
        }
    }

    fn is_away(&self, place: Place) -> bool {
        self.away.lock().contains(&place)
    }

    /// A step happened.
    pub fn record(&self, step: &Step) {
        let at_ms = self.time.elapsed_ms();
        self.history.lock().record(at_ms, step);
    }

    /// Writes something down that is no step.
    pub fn note(&self, what: impl FnOnce() -> String) {
        let at_ms = self.time.elapsed_ms();
        self.history.lock().note(at_ms, what);
    }

    /// The true instant.
    pub fn now(&self) -> Millis {
        self.time.now()
    }
}

/// One life of a replica: from a start to a crash or a stop.
pub struct Life {
    /// Which replica.
    pub replica: usize,
    /// Which of all lives.
    pub number: u64,
    world: Arc<World>,
    alive: AtomicBool,
    cut_off: AtomicBool,
    /// Waits that are left before it crashes; below zero for never.
    waits_left: AtomicI64,
    crash: Notify,
}

impl Life {
    /// A life that ends by itself after so many waits, if at all.
    pub fn begin(world: Arc<World>, replica: usize, waits: Option<i64>) -> Arc<Self> {
        let number = world.lives.fetch_add(1, Ordering::Relaxed);
        Arc::new(Self {
            replica,
            number,
            world,
            alive: AtomicBool::new(true),
            cut_off: AtomicBool::new(false),
            waits_left: AtomicI64::new(waits.unwrap_or(-1)),
            crash: Notify::new(),
        })
    }

    /// What everybody shares.
    pub fn world(&self) -> &Arc<World> {
        &self.world
    }

    /// Whether it goes on.
    pub fn is_alive(&self) -> bool {
        self.alive.load(Ordering::SeqCst)
    }

    /// Ends it: whatever waits in it never goes on.
    pub fn end(&self) {
        self.alive.store(false, Ordering::SeqCst);
        self.crash.notify_one();
    }

    /// Lets it go on without end.
    pub fn spare(&self) {
        self.waits_left.store(-1, Ordering::SeqCst);
        self.set_cut_off(false);
    }

    /// Cuts it off from every store, or lets it reach them again.
    pub fn set_cut_off(&self, is_cut_off: bool) {
        self.cut_off.store(is_cut_off, Ordering::SeqCst);
    }

    /// Completes when it has crashed.
    pub async fn crashed(&self) {
        self.crash.notified().await;
    }

    /// A place where whoever waits may never go on: the process crashes here when its time has come.
    pub async fn wait_point(&self) {
        if self.waits_left.fetch_sub(1, Ordering::SeqCst) == 0 {
            self.world.note(|| format!("r{} crashes", self.replica));
            self.end();
        }
        if !self.is_alive() {
            pending::<()>().await;
        }
    }
}

/// Whether what is asked may be done more than once, and what silence means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nature {
    /// It changes nothing.
    Read,
    /// It changes something, and a repetition changes nothing more.
    Repeatable,
    /// A repetition would do it again.
    Single,
}

/// What is done at a store each time that a message arrives.
pub type Work<T> = Arc<dyn Fn() -> BoxFuture<'static, Result<T, StoreError>> + Send + Sync>;

/// The way of one life to one store.
#[derive(Clone)]
pub struct Link {
    /// Whose.
    pub life: Arc<Life>,
    /// Where to.
    pub place: Place,
}

impl Link {
    /// Asks the store to do something.
    ///
    /// # Errors
    /// Those of the store; [`StoreError::Unavailable`] when it refuses, and what silence means by
    /// `nature` when nothing is heard in time.
    pub async fn ask<T: Send + 'static>(&self, nature: Nature, work: Work<T>) -> Result<T, StoreError> {
        self.life.wait_point().await;
        let world = self.life.world();
        let faults = world.faults();
        let fate = faults.fate(&world.dice, nature != Nature::Single);
        if world.dice.happens(faults.refused) {
            return Err(self.unavailable("refused"));
        }
        let (reply, answer) = oneshot::channel();
        if !world.is_away(self.place) && !self.life.cut_off.load(Ordering::SeqCst) {
            tokio::spawn(carry(fate, work, reply));
        }
        let heard = timeout(REPLY_TIMEOUT, heard(answer)).await;
        self.life.wait_point().await;
        heard.unwrap_or_else(|_| Err(self.silence(nature)))
    }

    fn silence(&self, nature: Nature) -> StoreError {
        match nature {
            Nature::Read => self.unavailable("silent"),
            Nature::Repeatable | Nature::Single => {
                StoreError::OutcomeUnknown { store: self.place.name(), detail: "silent".to_owned() }
            }
        }
    }

    fn unavailable(&self, detail: &str) -> StoreError {
        StoreError::Unavailable { store: self.place.name(), detail: detail.to_owned() }
    }
}

/// Carries a message to its store and the reply back.
async fn carry<T>(fate: Fate, work: Work<T>, reply: oneshot::Sender<Result<T, StoreError>>) {
    let Some(there_ms) = fate.there_ms else { return };
    sleep(millis(there_ms)).await;
    let mut outcome = work().await;
    if let Some(again_ms) = fate.again_ms {
        sleep(millis(again_ms)).await;
        outcome = work().await;
    }
    let Some(back_ms) = fate.back_ms else { return };
    sleep(millis(back_ms)).await;
    // Whoever asked may have given up.
    drop(reply.send(outcome));
}

/// A lost message is told from a late one by nobody.
async fn heard<T>(answer: oneshot::Receiver<Result<T, StoreError>>) -> Result<T, StoreError> {
    match answer.await {
        Ok(outcome) => outcome,
        Err(_) => pending().await,
    }
}

/// A length of time.
pub fn millis(ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}
