//! This process's own share of limits, counted by the core's arithmetic.

use std::collections::HashMap;

use parking_lot::Mutex;
use rateguard_core::counter::{Counter, CounterId, Limit, Position, Reading, RetryAfter};
use rateguard_core::decision::{Charge, Counters, Entry, Mode, decide};
use rateguard_core::time::Millis;
use smallvec::SmallVec;

use super::{LocalCharge, RETRY_MIN};
use crate::ports::RequestFingerprint;

/// Counters at most: about 150 bytes each. Calls on further ones are denied.
const COUNTERS_MAX: usize = 100_000;
/// Ids of allowed calls at most; a repetition of a further one takes again.
const IDS_MAX: usize = 100_000;

/// Least time between two looks for what counts no more.
const SWEEP_INTERVAL_MS: i64 = 1_000;

/// The share.
#[derive(Default)]
pub(crate) struct LocalCounters(Mutex<Table>);

#[derive(Default)]
struct Table {
    entries: HashMap<CounterId, Entry>,
    ids: HashMap<u128, (u64, Millis)>,
    /// The last instant seen: a clock that steps back stays here.
    clock: Millis,
    /// When it was last looked for what counts no more.
    swept_at: Millis,
}

/// A call to decide.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LocalCall<'a> {
    /// What it asks of each limit's share.
    pub(crate) charges: &'a [LocalCharge],
    /// Whether it takes.
    pub(crate) mode: Mode,
    /// Its id, where its caller gave one.
    pub(crate) request: Option<RequestFingerprint>,
    /// The slot of this process, and since when it has it.
    pub(crate) slot: Option<(u16, Millis)>,
    /// The instant.
    pub(crate) now: Millis,
}

/// A decision by the share.
#[derive(Debug, PartialEq)]
pub(crate) enum LocalDecision {
    /// It was decided, now or before.
    Decided {
        /// Whether the call may go ahead.
        allowed: bool,
        /// Whether the same id was allowed before.
        replayed: bool,
        /// How each share stands, in the order of the charges.
        readings: Vec<Reading>,
    },
    /// The id was used for other content before.
    ContentDiffers,
}

impl LocalCounters {
    /// Decides a call: all shares pass and all are taken of, or nothing changes.
    pub(crate) fn decide(&self, call: &LocalCall<'_>) -> LocalDecision {
        let mut table = self.0.lock();
        table.clock = table.clock.max(call.now);
        match call.request.and_then(|request| table.repeated(request)) {
            Some(true) => {
                LocalDecision::Decided { allowed: true, replayed: true, readings: table.readings(call) }
            }
            Some(false) => LocalDecision::ContentDiffers,
            None => table.decide(call),
        }
    }
}

impl Table {
    /// Whether an id that was allowed before had the same content.
    fn repeated(&self, request: RequestFingerprint) -> Option<bool> {
        let (content, expires_at) = self.ids.get(&request.id)?;
        (*expires_at > self.clock).then_some(*content == request.content)
    }

    fn decide(&mut self, call: &LocalCall<'_>) -> LocalDecision {
        let now = self.clock;
        self.make_room(call.charges.len());
        let has_room = self.entries.len() + call.charges.len() <= COUNTERS_MAX;
        let waits: Vec<Option<RetryAfter>> =
            call.charges.iter().map(|charge| wait(charge, call.slot, has_room, now)).collect();
        if waits.iter().any(Option::is_some) {
            let readings = self.readings(call).into_iter().zip(waits);
            let readings =
                readings.map(|(reading, denied)| Reading { denied, remaining: 0, ..reading }).collect();
            return LocalDecision::Decided { allowed: false, replayed: false, readings };
        }
        let charges: SmallVec<[Charge; 8]> = call.charges.iter().map(|local| local.charge).collect();
        let verdict = decide(self, &charges, call.mode, now);
        if let (true, Some(request), true) = (verdict.allowed, call.request, call.mode != Mode::Peek) {
            self.remember(request);
        }
        let readings = verdict.readings.into_vec();
        LocalDecision::Decided { allowed: verdict.allowed, replayed: false, readings }
    }

    fn readings(&self, call: &LocalCall<'_>) -> Vec<Reading> {
        let read = |local: &LocalCharge| {
            let Charge { counter, limit, .. } = local.charge;
            match self.entries.get(&counter) {
                Some(entry) => entry.counter.read(&limit, 0, self.clock),
                None => Counter::fresh(&limit, self.clock).read(&limit, 0, self.clock),
            }
        };
        call.charges.iter().map(read).collect()
    }

    /// Drops what counts no more, where there is too much, and not with every call.
    fn make_room(&mut self, more: usize) {
        let now = self.clock;
        let is_full = self.entries.len() + more > COUNTERS_MAX || self.ids.len() >= IDS_MAX;
        if !is_full || now.since(self.swept_at) < SWEEP_INTERVAL_MS {
            return;
        }
        self.swept_at = now;
        if self.entries.len() + more > COUNTERS_MAX {
            self.entries.retain(|_, entry| !entry.counter.is_idle(now));
        }
        if self.ids.len() >= IDS_MAX {
            self.ids.retain(|_, (_, expires_at)| *expires_at > now);
        }
    }

    fn remember(&mut self, request: RequestFingerprint) {
        if self.ids.len() < IDS_MAX {
            self.ids.insert(request.id, (request.content, request.expires_at));
        }
    }
}

/// How long a share cannot be taken of at all: this process has none, or somebody else may have had it in
/// the window of now.
fn wait(local: &LocalCharge, slot: Option<(u16, Millis)>, has_room: bool, now: Millis) -> Option<RetryAfter> {
    let limit = &local.charge.limit;
    match slot.filter(|(number, _)| *number < local.replicas_max && has_room) {
        Some((_, since)) => {
            let from = limit.tells_all_from(since);
            (now < from).then(|| RetryAfter::Millis(from.since(now)))
        }
        None => Some(RetryAfter::Millis(i64::try_from(RETRY_MIN.as_millis()).unwrap_or(i64::MAX))),
    }
}

impl Counters for Table {
    fn get(&self, id: CounterId) -> Option<&Entry> {
        self.entries.get(&id)
    }

    fn get_mut(&mut self, id: CounterId) -> Option<&mut Entry> {
        self.entries.get_mut(&id)
    }

    fn get_or_insert(&mut self, id: CounterId, limit: &Limit, now: Millis) -> &mut Entry {
        let fresh = || Entry { counter: Counter::fresh(limit, now), included: Position::default() };
        self.entries.entry(id).or_insert_with(fresh)
    }
}
