//! The leases that callers have of this process.
//!
//! A lease is remembered where it was given, and nowhere else: what it is made of lies in the counters as
//! spent, so that whoever forgets it lends nothing twice. It cannot be given back then.

use std::collections::BTreeSet;

use hashbrown::HashMap;
use parking_lot::Mutex;
use rateguard_core::amounts::Amounts;
use rateguard_core::counter::Mark;
use rateguard_core::ids::{LeaseId, WorkspaceId};
use rateguard_core::lease::{Lease, LeaseReturn};
use rateguard_core::limits::{CALLER_LEASE_RETURN_MS, CALLER_LEASES_MAX, CALLER_LEASES_PER_WORKSPACE_MAX};
use rateguard_core::time::Millis;
use rateguard_core::unit::Unit;
use smallvec::SmallVec;

use super::{CallersLease, Grant};
use crate::caller::Caller;
use crate::error::{EngineError, Reason};
use crate::ports::{Principal, ResetCounters};

/// How long after its end a lease is still known, so that giving it back again gives the same answer.
const KNOWN_MS: i64 = 10_000;
/// Leases that are forgotten on the way of a new one: more than one, so that the book shrinks.
const FORGOTTEN_PER_LEASE: usize = 4;
/// Leases that are forgotten at once besides.
const FORGOTTEN_PER_TURN: usize = 10_000;

/// Hashes of who asked by which id, and of what.
type Asked = (u128, u64);

/// The leases of all callers.
#[derive(Default)]
pub(crate) struct CallersLeases(Mutex<Book>);

#[derive(Default)]
struct Book {
    leases: HashMap<LeaseId, Record>,
    by_question: HashMap<u128, LeaseId>,
    /// When each is forgotten.
    forgotten: BTreeSet<(Millis, LeaseId)>,
    of_workspaces: HashMap<WorkspaceId, usize>,
}

/// One lease.
pub(super) struct Record {
    workspace: WorkspaceId,
    principal: Principal,
    asked: Option<Asked>,
    granted: Amounts,
    parts: SmallVec<[(Unit, Lease); 2]>,
    /// When its holder has stopped spending it.
    ends_at: Millis,
    /// What was given back, once it was.
    returned: Option<Amounts>,
}

/// How a lease is given back.
#[derive(Debug)]
pub(super) enum Ending {
    /// It had ended, and gave this back.
    Before(Amounts),
    /// By telling the counters this.
    Now(Vec<LeaseReturn>),
}

impl Record {
    pub(super) fn new(
        caller: &Caller,
        asked: Option<Asked>,
        lease: &CallersLease,
        grant: Grant,
        now: Millis,
    ) -> Self {
        Self {
            workspace: caller.workspace.clone(),
            principal: caller.principal(),
            asked,
            granted: grant.granted,
            parts: grant.parts,
            ends_at: now.plus(lease.life_ms),
            returned: None,
        }
    }

    fn is_over(&self, now: Millis) -> bool {
        self.ends_at.plus(CALLER_LEASE_RETURN_MS) < now
    }

    /// As its holder may still spend it.
    fn alive(&self, id: &LeaseId, now: Millis) -> Option<CallersLease> {
        let life_ms = self.ends_at.since(now);
        (self.returned.is_none() && life_ms > 0).then(|| CallersLease {
            id: id.clone(),
            granted: self.granted.clone(),
            life_ms,
        })
    }

    /// What the counters are told where so much was not spent.
    fn returns(&self, unspent: &Amounts) -> Vec<LeaseReturn> {
        let of = |(unit, lease): &(Unit, Lease)| {
            let unused = unspent.get(unit).unwrap_or(0).min(lease.amount);
            // A bucket refills what is spent of a lease from when it knows.
            let tells = unused > 0 || matches!(lease.mark, Mark::TokenBucket { .. });
            let Lease { counter, mark, amount, .. } = *lease;
            tells.then_some(LeaseReturn { counter, mark, closed: amount, unused })
        };
        self.parts.iter().filter_map(of).collect()
    }

    fn forgotten_at(&self) -> Millis {
        self.ends_at.plus(CALLER_LEASE_RETURN_MS + KNOWN_MS)
    }
}

impl CallersLeases {
    /// The lease that the same question got, while it lives.
    ///
    /// # Errors
    /// [`Reason::RequestIdReused`] where the id was used for another question.
    pub(super) fn recall(
        &self,
        (question, content): Asked,
        now: Millis,
    ) -> Result<Option<CallersLease>, EngineError> {
        let book = self.0.lock();
        let Some((id, record)) = book.of_question(question) else { return Ok(None) };
        match record.alive(id, now) {
            Some(_) if record.asked != Some((question, content)) => {
                let message = "the request id was used for another question";
                Err(EngineError::field(Reason::RequestIdReused, "request_id", message))
            }
            alive => Ok(alive),
        }
    }

    /// Whether one more may be given.
    ///
    /// # Errors
    /// [`Reason::QueueFull`].
    pub(super) fn check_room(&self, workspace: &WorkspaceId) -> Result<(), EngineError> {
        let book = self.0.lock();
        let own = book.of_workspaces.get(workspace).copied().unwrap_or(0);
        if own < CALLER_LEASES_PER_WORKSPACE_MAX && book.leases.len() < CALLER_LEASES_MAX {
            return Ok(());
        }
        Err(EngineError::new(Reason::QueueFull, "there are too many leases: ask for each call meanwhile"))
    }

    /// Remembers a lease. Where the same question has been answered meanwhile, gives that lease, and what
    /// this one is to give back.
    pub(super) fn insert(
        &self,
        id: &LeaseId,
        record: Record,
        now: Millis,
    ) -> Option<(CallersLease, Vec<LeaseReturn>)> {
        let mut book = self.0.lock();
        book.forget(now, FORGOTTEN_PER_LEASE);
        let same = record.asked.and_then(|(question, _)| book.of_question(question));
        let same = same.filter(|(_, earlier)| earlier.asked == record.asked);
        if let Some(earlier) = same.and_then(|(id, earlier)| earlier.alive(id, now)) {
            return Some((earlier, record.returns(&record.granted)));
        }
        if let Some((question, _)) = record.asked {
            book.by_question.insert(question, id.clone());
        }
        *book.of_workspaces.entry(record.workspace.clone()).or_default() += 1;
        book.forgotten.insert((record.forgotten_at(), id.clone()));
        book.leases.insert(id.clone(), record);
        None
    }

    /// Ends a lease.
    ///
    /// # Errors
    /// [`Reason::ResourceNotFound`], [`Reason::FieldOutOfBounds`].
    pub(super) fn end(
        &self,
        caller: &Caller,
        id: &LeaseId,
        unspent: &Amounts,
        now: Millis,
    ) -> Result<Ending, EngineError> {
        let mut book = self.0.lock();
        let record = book
            .leases
            .get_mut(id)
            .filter(|record| record.workspace == caller.workspace && record.principal == caller.principal());
        let record = record.ok_or_else(|| EngineError::not_found("lease", id.as_str()))?;
        for (place, (unit, amount)) in unspent.iter().enumerate() {
            let granted = record.granted.get(unit).unwrap_or(0);
            if *amount > granted {
                let message = format!("must be at most {granted}, which was granted");
                let field = format!("unspent[{place}].amount");
                return Err(EngineError::field(Reason::FieldOutOfBounds, field, message));
            }
        }
        if record.returned.is_none() && record.is_over(now) {
            record.returned = Some(Amounts::default());
        }
        if let Some(returned) = &record.returned {
            return Ok(Ending::Before(returned.clone()));
        }
        record.returned = Some(unspent.clone());
        Ok(Ending::Now(record.returns(unspent)))
    }

    /// Ends those of several leases that can be, as long as the counters are told of no more than `room`.
    pub(super) fn end_as_fit(
        &self,
        caller: &Caller,
        ended: &[(LeaseId, Amounts)],
        room: usize,
        now: Millis,
    ) -> (Vec<LeaseId>, Vec<LeaseReturn>) {
        let (mut ids, mut told) = (Vec::new(), Vec::new());
        for (id, unspent) in ended {
            let parts = self.0.lock().leases.get(id).map_or(0, |record| record.parts.len());
            if told.len() + parts > room {
                break;
            }
            if let Ok(Ending::Now(returns)) = self.end(caller, id, unspent, now) {
                ids.push(id.clone());
                told.extend(returns);
            }
        }
        (ids, told)
    }

    /// The counters were not told that a lease has ended. What they may have been told is not told again, or
    /// it would free twice.
    pub(super) fn not_returned(&self, id: &LeaseId, surely: bool) {
        if let Some(record) = self.0.lock().leases.get_mut(id) {
            record.returned = (!surely).then(Amounts::default);
        }
    }

    /// Counters are set back: what was lent of them counts in them no more, and is not given back, or it
    /// would free what others take from now on.
    pub(crate) fn set_back(&self, workspace: &WorkspaceId, counters: &ResetCounters) {
        let mut book = self.0.lock();
        for record in book.leases.values_mut().filter(|record| record.workspace == *workspace) {
            record.parts.retain(|(_, lease)| !counters.holds(lease.counter));
        }
    }

    /// Forgets leases that have ended long ago.
    pub(crate) fn tend(&self, now: Millis) {
        self.0.lock().forget(now, FORGOTTEN_PER_TURN);
    }
}

impl Book {
    fn of_question(&self, question: u128) -> Option<(&LeaseId, &Record)> {
        let id = self.by_question.get(&question)?;
        Some((id, self.leases.get(id)?))
    }

    fn forget(&mut self, now: Millis, most: usize) {
        for _ in 0..most {
            let Some((_, id)) = self.forgotten.first().filter(|(at, _)| *at < now).cloned() else { return };
            self.forgotten.pop_first();
            let Some(record) = self.leases.remove(&id) else { continue };
            if let Some((question, _)) = record.asked
                && self.by_question.get(&question) == Some(&id)
            {
                self.by_question.remove(&question);
            }
            if let Some(count) = self.of_workspaces.get_mut(&record.workspace) {
                *count -= 1;
                if *count == 0 {
                    self.of_workspaces.remove(&record.workspace);
                }
            }
        }
    }
}
