//! Decisions by units that were taken in advance.
//!
//! Calls of the same facts share leases. There is one question for a lease of them in flight however many
//! calls wait, and the next one is asked ahead of use, for as much as the rate seen needs for a moment. What
//! is not here is the server's to decide: near a limit, where a limit applies of which nothing is lent, and
//! whatever fails.

mod held;
mod rate;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::future::join_all;
use parking_lot::Mutex;
use rateguard_proto::v1::{self, ErrorReason};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::task::TaskTracker;
use tonic::Code;

use self::held::{Held, Question, Taken};
use crate::call::{Call, Facts};
use crate::client::{Client, Decision};
use crate::error::Error;
use crate::retry::random_id;

/// Kinds of calls of which something may be held. Calls of others are the server's to decide.
const KINDS_MAX: usize = 10_000;
/// Longest wait of a call for a lease. The lease itself is waited for as long as any answer: one whose answer
/// is not heard is nobody's.
const LEASE_WAIT_MAX: Duration = Duration::from_millis(500);
/// How long nothing is asked for where a limit is in the way: for so long a rule that was made leasable is
/// not found to be.
const OBSTACLE_PAUSE: Duration = Duration::from_secs(5);
/// The same where the server knows no leases.
const UNKNOWN_PAUSE: Duration = Duration::from_secs(60);
/// The same after a question that was not answered.
const FAILURE_PAUSE: Duration = Duration::from_secs(1);
/// How often leases are looked through for what has ended.
const TEND_EVERY: Duration = Duration::from_millis(100);
/// Leases that are given back at the same time.
const RETURNS_AT_ONCE: usize = 32;

/// What leases have done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeaseFigures {
    /// Calls that were decided here.
    pub decided_here: u64,
    /// Calls that were asked of the server, also those that it did not answer.
    pub asked: u64,
    /// Questions to the server for leases.
    pub lease_questions: u64,
    /// Leases that were given back by a question of their own.
    pub returns: u64,
}

impl LeaseFigures {
    /// Questions to the server, of whatever kind.
    pub fn questions(&self) -> u64 {
        self.asked + self.lease_questions + self.returns
    }
}

#[derive(Default)]
struct Counts {
    here: AtomicU64,
    asked: AtomicU64,
    leases: AtomicU64,
    returns: AtomicU64,
}

/// A client that decides by leases. Clones share them; the last one that is dropped gives them back as far as
/// the runtime still lets it, so call [`LeasingClient::close`].
#[derive(Clone)]
pub struct LeasingClient(Arc<Owner>);

/// Gives back at the end.
struct Owner(Arc<Leasing>);

struct Leasing {
    client: Client,
    kinds: Mutex<HashMap<Facts, Arc<Kind>>>,
    workers: TaskTracker,
    counts: Counts,
    is_closed: AtomicBool,
}

/// Calls of the same facts.
struct Kind {
    facts: Facts,
    held: Mutex<Held>,
    refilled: Notify,
}

impl LeasingClient {
    pub(crate) fn new(client: Client) -> Self {
        let leasing = Arc::new(Leasing {
            client,
            kinds: Mutex::default(),
            workers: TaskTracker::new(),
            counts: Counts::default(),
            is_closed: AtomicBool::new(false),
        });
        tokio::spawn(tend(Arc::downgrade(&leasing)));
        Self(Arc::new(Owner(leasing)))
    }

    /// Decides a call: here where there are units for it, else by the server.
    ///
    /// # Errors
    /// As [`Client::check`].
    pub async fn check(&self, call: &Call) -> Result<Decision, Error> {
        let leasing = &self.0.0;
        let Some(kind) = leasing.kind(call) else { return leasing.ask(call).await };
        if leasing.takes_here(&kind, call).await {
            leasing.counts.here.fetch_add(1, Ordering::Relaxed);
            return Ok(Decision::by_lease());
        }
        let decision = leasing.ask(call).await?;
        // It must not be denied for what is held here and does not suffice.
        if !decision.is_allowed && leasing.give_back_all(&kind).await {
            return leasing.ask(call).await;
        }
        Ok(decision)
    }

    /// The client beneath, for what is never leased: reservations and reports.
    pub fn client(&self) -> &Client {
        &self.0.0.client
    }

    /// What leases have done so far.
    pub fn figures(&self) -> LeaseFigures {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let Counts { here, asked, leases, returns } = &self.0.0.counts;
        LeaseFigures {
            decided_here: of(here),
            asked: of(asked),
            lease_questions: of(leases),
            returns: of(returns),
        }
    }

    /// Gives everything back that was not spent, within the time for one answer. From here on the server
    /// decides.
    pub async fn close(&self) {
        self.0.0.close().await;
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let leasing = self.0.clone();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { leasing.close().await });
        }
    }
}

impl Leasing {
    /// The kind of a call, if its calls are decided here.
    fn kind(&self, call: &Call) -> Option<Arc<Kind>> {
        if self.is_closed() {
            return None;
        }
        let mut kinds = self.kinds.lock();
        if let Some(kind) = kinds.get(&call.facts) {
            return Some(kind.clone());
        }
        if kinds.len() >= KINDS_MAX {
            return None;
        }
        let held = Mutex::new(Held::new(call.amounts.keys().cloned().collect(), Instant::now()));
        let kind = Arc::new(Kind { facts: call.facts.clone(), held, refilled: Notify::new() });
        kinds.insert(call.facts.clone(), kind.clone());
        Some(kind)
    }

    /// Spends for a call, waiting for a lease if that is worth it.
    async fn takes_here(self: &Arc<Self>, kind: &Arc<Kind>, call: &Call) -> bool {
        for waits in [true, false] {
            let (taken, refilled) = kind.take(call, waits);
            match taken {
                Taken::Served { asks_more: true } | Taken::Waits { asks: true } => self.refill(kind),
                _ => {}
            }
            match (taken, refilled) {
                (Taken::Served { .. }, _) => return true,
                (Taken::Waits { .. }, Some(refilled)) => {
                    if timeout(LEASE_WAIT_MAX, refilled).await.is_err() {
                        return false;
                    }
                }
                _ => return false,
            }
        }
        false
    }

    /// Asks the server for the decision itself.
    async fn ask(&self, call: &Call) -> Result<Decision, Error> {
        self.counts.asked.fetch_add(1, Ordering::Relaxed);
        self.client.check(call).await
    }

    /// Asks for more, beside the calls.
    fn refill(self: &Arc<Self>, kind: &Arc<Kind>) {
        let (leasing, kind) = (self.clone(), kind.clone());
        self.workers.spawn(async move { leasing.refill_now(&kind).await });
    }

    async fn refill_now(&self, kind: &Kind) {
        let asked_at = Instant::now();
        let Question { wishes, ended } = kind.held.lock().ask(asked_at);
        self.counts.leases.fetch_add(1, Ordering::Relaxed);
        let answer = match random_id() {
            Ok(id) => {
                let request = v1::LeaseQuotaRequest { wishes, ended: ended.clone(), ..kind.facts.lease(id) };
                self.client.lease(request).await
            }
            Err(error) => Err(error),
        };
        let left = {
            let (mut held, now) = (kind.held.lock(), Instant::now());
            match &answer {
                Ok(answer) => held.answer(answer, asked_at, now),
                Err(error) => held.pause(pause_after(error), now),
            }
            let is_obstructed = answer.as_ref().is_err_and(is_obstacle);
            // What is held was lent before the obstacle was there, and may not go past it.
            if is_obstructed || self.is_closed() { held.end_all() } else { Vec::new() }
        };
        kind.refilled.notify_waiters();
        let unended = if answer.is_err() { ended } else { Vec::new() };
        self.give_back(left.into_iter().chain(unended).collect()).await;
    }

    /// Gives back what is held for a kind; says whether anything was. It goes on where the caller waits no longer,
    /// since nobody else knows of the leases any more.
    async fn give_back_all(self: &Arc<Self>, kind: &Kind) -> bool {
        let held = kind.end_all();
        if held.is_empty() {
            return false;
        }
        let leasing = self.clone();
        let returned = self.workers.spawn(async move { leasing.give_back(held).await });
        returned.await.unwrap_or(false)
    }

    /// Gives leases back; says whether any was. What fails counts as spent.
    async fn give_back(&self, returns: Vec<v1::ReturnLeaseRequest>) -> bool {
        let unspent = |returned: &v1::ReturnLeaseRequest| returned.unspent.iter().any(|unit| unit.amount > 0);
        let returns: Vec<_> = returns.into_iter().filter(unspent).collect();
        let mut any = false;
        for some in returns.chunks(RETURNS_AT_ONCE) {
            self.counts.returns.fetch_add(some.len() as u64, Ordering::Relaxed);
            let asked = some.iter().map(|one| self.client.return_lease(one.clone()));
            any |= join_all(asked).await.iter().any(Result::is_ok);
        }
        any
    }

    /// Gives back what has ended or is held in vain, and forgets kinds of which nobody makes calls.
    fn tend(self: &Arc<Self>) {
        let now = Instant::now();
        let mut ended = Vec::new();
        self.kinds.lock().retain(|_, kind| {
            let mut held = kind.held.lock();
            ended.extend(held.end_over(now));
            // A call that has the kind already may have it filled next. While the map is locked no other gets it.
            Arc::strong_count(kind) > 1 || !held.is_idle(now)
        });
        if !ended.is_empty() {
            let leasing = self.clone();
            self.workers.spawn(async move { leasing.give_back(ended).await });
        }
    }

    async fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        let kinds: Vec<Arc<Kind>> = self.kinds.lock().drain().map(|(_, kind)| kind).collect();
        let closing = async {
            // What is on its way arrives first, and gives itself back.
            self.workers.close();
            self.workers.wait().await;
            let all = kinds.iter().flat_map(|kind| kind.end_all()).collect();
            self.give_back(all).await;
        };
        // What takes longer counts as spent.
        drop(timeout(self.client.answer_wait(), closing).await);
    }

    fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }
}

impl Kind {
    /// Spends for a call, or tells what to wait for. The wait begins before the lock is free, so that an answer
    /// does not come unnoticed.
    fn take(&self, call: &Call, waits: bool) -> (Taken, Option<Notified<'_>>) {
        let mut held = self.held.lock();
        let taken = held.take(&call.amounts, waits, Instant::now());
        let refilled = matches!(taken, Taken::Waits { .. }).then(|| self.refilled.notified());
        (taken, refilled)
    }

    fn end_all(&self) -> Vec<v1::ReturnLeaseRequest> {
        self.held.lock().end_all()
    }
}

/// Tends as long as there is something to tend.
async fn tend(leasing: Weak<Leasing>) {
    let mut ticks = interval(TEND_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match leasing.upgrade() {
            Some(leasing) if !leasing.is_closed() => leasing.tend(),
            _ => return,
        }
    }
}

/// Whether a limit applies of which nothing is lent.
fn is_obstacle(error: &Error) -> bool {
    error.reason() == Some(ErrorReason::LimitNotLeasable)
}

fn pause_after(error: &Error) -> Duration {
    match error {
        error if is_obstacle(error) => OBSTACLE_PAUSE,
        Error::Refused { code: Code::Unimplemented, .. } => UNKNOWN_PAUSE,
        _ => FAILURE_PAUSE,
    }
}

/// What a call takes, by unit.
type Amounts = BTreeMap<String, i64>;

#[cfg(test)]
mod tests;
