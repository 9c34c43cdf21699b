//! One workspace: everything that a decision needs, behind one lock.

mod cancel;
mod lending;
mod retired;
mod settle;

use std::collections::HashSet;
use std::hash::BuildHasher;
use std::ops::{ControlFlow, Range};

use hashbrown::DefaultHashBuilder;
use parking_lot::{Mutex, MutexGuard};
use rateguard_core::counter::{Counter, CounterFamily, CounterId, Limit, Position, Reading};
use rateguard_core::decision::{Charge, Counters, Entry, Mode, Verdict, decide, taken};
use rateguard_core::ids::{ReservationId, WorkspaceId};
use rateguard_core::reservation::{Reservation, ReservationState, capture};
use rateguard_core::time::Millis;
use rateguard_engine::ports::{
    CheckCommand, CheckOutcome, CounterQuery, Decided, ExpiredReservation, Principal, ReleaseOutcome,
    RenewOutcome, RequestFingerprint, ReservationRequest, ResetCounters, StoreError,
};
use smallvec::SmallVec;

pub(crate) use self::lending::Lent;
use self::retired::Retired;
use crate::attempts::{Attempts, Decision};
use crate::ceilings::{Want, Wants};
use crate::config::MemoryCounterStoreConfig;
use crate::counters::{CounterTable, Reset, Sweep, is_in, parts_of};
use crate::covering::UncoveredCounters;
use crate::leads::Leads;
use crate::reservations::{Kept, ReservationTable};
use crate::store::STORE;
use rateguard_engine::request_ids::{Remembered, RequestIds};

/// Reservations that a check or a settlement expires on its way, so that what they held is free
/// again without waiting for the sweep.
const EXPIRED_PER_STEP: usize = 4;

/// What the workspaces of a store have in common.
pub(crate) struct Shared {
    pub(crate) config: MemoryCounterStoreConfig,
    pub(crate) ids: RequestIds,
}

pub(crate) struct Workspace {
    pub(crate) id: WorkspaceId,
    /// Keeps the ids of one workspace apart from those of another.
    salt: u128,
    state: Mutex<State>,
}

pub(crate) struct State {
    /// The last instant seen: a clock that steps back stays here.
    clock: Millis,
    pub(crate) counters: CounterTable,
    pub(crate) reservations: ReservationTable,
    /// Charges that fell on an overflow counter.
    pub(crate) overflowed: u64,
    attempts: Attempts,
    retired: Retired,
}

/// The end of a check, with counters that have to be on disk before it is told.
pub(crate) struct Outcome {
    pub(crate) outcome: CheckOutcome,
    pub(crate) uncovered: UncoveredCounters,
}

/// How far a check came under the lock: to its end, or to ceilings on disk that stand in its way,
/// with nothing changed.
pub(crate) type Step = ControlFlow<Outcome, Wants>;

impl Workspace {
    pub(crate) fn new(id: WorkspaceId, settled_through: Position, leads: Leads, now: Millis) -> Self {
        let hasher = DefaultHashBuilder::default();
        let half = |n: u8| u128::from(hasher.hash_one(n));
        let state = State {
            clock: now,
            counters: CounterTable::new(settled_through, leads),
            reservations: ReservationTable::default(),
            overflowed: 0,
            attempts: Attempts::default(),
            retired: Retired::default(),
        };
        Self { id, salt: half(0) << 64 | half(1), state: Mutex::new(state) }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Decides a check, or says which ceilings have to be raised before.
    pub(crate) fn check(&self, command: &CheckCommand, shared: &Shared) -> Result<Step, StoreError> {
        let mut state = self.lock();
        let now = state.tick(command.now);
        state.expire_some(now);
        let fallen = state.fall(command, shared);
        let charges = fallen.as_deref().unwrap_or(&command.charges);
        state.settle_losses(charges, now);
        let check = Check { command, charges, request: self.fingerprint(command), now, shared };
        if let Some(outcome) = state.replay(&check)? {
            return Ok(Step::Break(outcome));
        }
        let step = match command.mode {
            Mode::Reserve => state.reserve(&check)?,
            Mode::Consume | Mode::Peek => state.consume(&check),
        };
        if let (Some(fallen), true) = (&fallen, step.is_break() && command.mode != Mode::Peek) {
            let others =
                fallen.iter().zip(&command.charges).filter(|(fell, own)| fell.counter != own.counter);
            state.overflowed += others.count() as u64;
        }
        Ok(step)
    }

    /// What a check answers when it repeats a decision that stands.
    pub(crate) fn recall(
        &self,
        command: &CheckCommand,
        shared: &Shared,
    ) -> Result<Option<Outcome>, StoreError> {
        let mut state = self.lock();
        let now = state.tick(command.now);
        state.expire_some(now);
        let fallen = state.fall(command, shared);
        let charges = fallen.as_deref().unwrap_or(&command.charges);
        state.settle_losses(charges, now);
        state.replay(&Check { command, charges, request: self.fingerprint(command), now, shared })
    }

    /// The command's id, unless it is not to be remembered, apart from those of other workspaces.
    fn fingerprint(&self, command: &CheckCommand) -> Option<RequestFingerprint> {
        let request = command.request.filter(|_| command.mode != Mode::Peek)?;
        Some(RequestFingerprint { id: request.id ^ self.salt, ..request })
    }

    pub(crate) fn read(&self, queries: &[CounterQuery], now: Millis, shared: &Shared) -> Vec<Reading> {
        let mut state = self.lock();
        let now = state.tick(now);
        let fallen_on = state.counters.fallen_on(queries, shared.config.live_counters_max);
        let limits = fallen_on.iter().copied().zip(queries.iter().map(|query| &query.limit));
        state.counters.settle_losses(limits, now);
        queries.iter().zip(fallen_on).map(|(query, id)| state.read(id, &query.limit, now)).collect()
    }

    /// Expires at most `limit` reservations that are due; says whether that were all.
    pub(crate) fn expire_due(&self, now: Millis, limit: usize) -> bool {
        let mut state = self.lock();
        let now = state.tick(now);
        let State { counters, reservations, .. } = &mut *state;
        reservations.expire_due(counters, now, limit)
    }

    /// Names expired reservations whose floor has no event yet, `limit` of all workspaces.
    pub(crate) fn name_floors(&self, limit: usize, named: &mut Vec<ExpiredReservation>) {
        let state = self.lock();
        let room = limit.saturating_sub(named.len());
        named.extend(state.reservations.awaiting_floor_event().take(room).map(|reservation| {
            ExpiredReservation { workspace: self.id.clone(), reservation: reservation.clone() }
        }));
    }

    /// Drops what may go of the next part. `live` are the families of the budgets that there are.
    pub(crate) fn sweep_counters(
        &self,
        now: Millis,
        written_through: Position,
        live: Option<&HashSet<CounterFamily>>,
    ) {
        let mut state = self.lock();
        let now = state.tick(now);
        let State { counters, retired, .. } = &mut *state;
        let is_retired = &mut |family| live.is_some_and(|live| retired.may_go(family, live, now));
        counters.sweep_next(Sweep { now, written_through, is_retired });
    }

    /// Drops at most `limit` records of reservations that have stood for their time.
    pub(crate) fn sweep_reservations(&self, now: Millis, limit: usize) {
        let mut state = self.lock();
        let now = state.tick(now);
        state.reservations.drop_old(now, limit);
        state.attempts.sweep(now);
        state.retired.forget_old(now);
    }

    /// How many counters there are, and how many charges fell on overflow counters.
    pub(crate) fn size(&self) -> (usize, u64) {
        let state = self.lock();
        (state.counters.live(), state.overflowed)
    }

    pub(crate) fn renew(&self, renewal: &Renewal<'_>, shared: &Shared) -> RenewOutcome {
        let mut state = self.lock();
        let now = state.tick(renewal.now);
        // The workspace's time may be ahead of the clock.
        let expires_at = renewal.expires_at.plus(now.since(renewal.now));
        let State { counters, reservations, attempts, .. } = &mut *state;
        let kept = reservations.kept(renewal.id.to_bits());
        let Some(kept) = kept.filter(|kept| renewal.is_of(&kept.reservation)) else {
            return RenewOutcome::Unknown;
        };
        let request = kept.request;
        let renewed = reservations.change(renewal.id, |reservation| {
            if reservation.expires_at <= now {
                reservation.expire(counters, now);
            } else {
                reservation.renew(expires_at);
            }
        });
        match renewed {
            None => RenewOutcome::Unknown,
            Some(Reservation { state: ReservationState::Open, expires_at, .. }) => {
                let bits = renewal.id.to_bits();
                if let Some(request) = request
                    && shared.ids.extend(request, bits, *expires_at, now)
                {
                    // Whoever renews it was told of it.
                    attempts.keep(request);
                }
                RenewOutcome::Open(*expires_at)
            }
            Some(ended) => RenewOutcome::Ended(ended.state),
        }
    }

    /// Sets counters back, a part of them under one lock: each is forgotten in the same step by whatever took
    /// of it before. Time steps on by a millisecond, so that whatever is decided from here on was decided
    /// later than the reset, for everybody who compares the two.
    pub(crate) fn reset(&self, which: &ResetCounters, now: Millis, shared: &Shared) -> u64 {
        let now = {
            let mut state = self.lock();
            let now = state.tick(now);
            state.tick(now.plus(1));
            now
        };
        let reset = Reset { which, now, live_max: shared.config.live_counters_max };
        parts_of(which).map(|parts| self.reset_part(&reset, &parts)).sum()
    }

    fn reset_part(&self, reset: &Reset<'_>, parts: &Range<usize>) -> u64 {
        let mut state = self.lock();
        let State { counters, reservations, attempts, .. } = &mut *state;
        let is_set_back = |id| reset.which.holds(id) && is_in(id, parts);
        reservations.forget(is_set_back);
        attempts.forget(is_set_back);
        let set_back = counters.set_back(reset, parts);
        MutexGuard::unlock_fair(state);
        set_back
    }

    pub(crate) fn release(&self, id: &ReservationId, principal: &Principal, now: Millis) -> ReleaseOutcome {
        let mut state = self.lock();
        let now = state.tick(now);
        let State { counters, reservations, .. } = &mut *state;
        if !reservations.get(id).is_some_and(|reservation| principal.holds(reservation)) {
            return ReleaseOutcome::Unknown;
        }
        let released = reservations.change(id, |reservation| end(reservation, counters, now));
        released.map_or(ReleaseOutcome::Unknown, |reservation| ReleaseOutcome::State(reservation.state))
    }
}

/// A renewal on its way.
pub(crate) struct Renewal<'a> {
    pub(crate) id: &'a ReservationId,
    pub(crate) principal: &'a Principal,
    pub(crate) expires_at: Millis,
    pub(crate) now: Millis,
}

impl Renewal<'_> {
    fn is_of(&self, reservation: &Reservation) -> bool {
        reservation.id == *self.id && self.principal.holds(reservation)
    }
}

/// A check on its way.
struct Check<'a> {
    command: &'a CheckCommand,
    /// Its charges, on the counters that they fall on.
    charges: &'a [Charge],
    /// Its id, unless it is not to be remembered.
    request: Option<RequestFingerprint>,
    now: Millis,
    shared: &'a Shared,
}

impl Check<'_> {
    /// An instant of the command in the workspace's time, which may be ahead of the clock.
    fn in_workspace_time(&self, at: Millis) -> Millis {
        at.plus(self.now.since(self.command.now))
    }

    fn remember(&self, attempts: &mut Attempts, reservation: Option<u128>, verdict: &Verdict) {
        let Some(request) = &self.request else { return };
        let expires_at = self.in_workspace_time(request.expires_at);
        let decision = Remembered::new(request.content, expires_at, reservation);
        self.shared.ids.remember(request.id, decision, self.now);
        // Whoever repeats it last has as long again.
        let known_until = expires_at.plus(expires_at.since(self.now));
        attempts.decided(request, known_until, || Decision {
            is_reserved: reservation.is_some(),
            charges: self.command.charges.clone(),
            // What is reserved is remembered by the reservation.
            taken: if reservation.is_none() { taken(self.charges, verdict) } else { SmallVec::new() },
        });
    }
}

fn decided(verdict: Verdict) -> Decided {
    Decided { verdict, reservation: None, reserved: None, replayed: false }
}

impl State {
    /// The instant of an operation: never before the last one.
    pub(crate) fn tick(&mut self, now: Millis) -> Millis {
        self.clock = self.clock.max(now);
        self.clock
    }

    /// A counter as it stands, or as it would begin.
    pub(crate) fn entry_or_fresh(&self, id: CounterId, limit: &Limit) -> Entry {
        self.counters.get(id).cloned().unwrap_or_else(|| Entry {
            counter: Counter::fresh(limit, self.clock),
            included: self.counters.settled_through,
        })
    }

    /// A counter to change, made fresh where it does not exist.
    pub(crate) fn entry_or_insert(&mut self, id: CounterId, limit: &Limit) -> &mut Entry {
        self.counters.get_or_insert(id, limit, self.clock)
    }

    pub(crate) fn expire_some(&mut self, now: Millis) {
        self.reservations.expire_due(&mut self.counters, now, EXPIRED_PER_STEP);
    }

    /// The command's charges on the counters that they fall on, where these may be others.
    fn fall(&self, command: &CheckCommand, shared: &Shared) -> Option<SmallVec<[Charge; 8]>> {
        let live_max = shared.config.live_counters_max;
        let nearly_full = self.counters.is_nearly_full(command.charges.len(), live_max);
        nearly_full.then(|| self.counters.fall(&command.charges, live_max))
    }

    /// Takes what crashes have lost of the charges' counters into them.
    fn settle_losses(&mut self, charges: &[Charge], now: Millis) {
        self.counters.settle_losses(charges.iter().map(|charge| (charge.counter, &charge.limit)), now);
    }

    /// The end of a check, with what it took beyond the leads.
    fn ended(&mut self, decided: Decided) -> Step {
        let uncovered = self.counters.take_uncovered();
        Step::Break(Outcome { outcome: CheckOutcome::Decided(decided), uncovered })
    }

    fn read(&self, id: CounterId, limit: &Limit, now: Millis) -> Reading {
        match self.counters.get(id) {
            Some(entry) => entry.counter.read(limit, 0, now),
            None => self.counters.fresh(id, limit, now).read(limit, 0, now),
        }
    }

    /// What a check is answered without a decision: it was cancelled before it arrived, or was decided
    /// before for the same id.
    fn replay(&mut self, check: &Check<'_>) -> Result<Option<Outcome>, StoreError> {
        let Some(request) = check.request.as_ref() else { return Ok(None) };
        if self.attempts.is_cancelled(request, check.now) {
            let detail = "the attempt was cancelled before it arrived";
            return Err(StoreError::AttemptRefused { store: STORE, detail });
        }
        let repeated = self.repeated(check, request);
        if matches!(&repeated, Some(Outcome { outcome: CheckOutcome::Decided(_), .. })) {
            self.attempts.repeated(request);
        }
        Ok(repeated)
    }

    /// The decision that was taken before for the same id, with the limits as they are now. What it
    /// took may still be on its way to the disk.
    fn repeated(&self, check: &Check<'_>, request: &RequestFingerprint) -> Option<Outcome> {
        let known = check.shared.ids.recall(request.id, check.now)?;
        let kept = match known.reservation() {
            // An id lives as long as its reservation: once that was given back, it is free again.
            Some(bits) => Some(self.reservations.kept(bits).filter(|kept| stands(&kept.reservation))?),
            None => None,
        };
        if known.content != request.content {
            let uncovered = UncoveredCounters::new();
            return Some(Outcome { outcome: CheckOutcome::ContentDiffers, uncovered });
        }
        let readings = check.charges.iter().map(|c| self.read(c.counter, &c.limit, check.now)).collect();
        let marks = SmallVec::from_elem(None, check.charges.len());
        let outcome = CheckOutcome::Decided(Decided {
            verdict: Verdict { allowed: true, readings, marks },
            reservation: kept.map(|kept| (kept.reservation.id.clone(), kept.reservation.expires_at)),
            reserved: kept.and_then(|kept| kept.cost),
            replayed: true,
        });
        Some(Outcome { outcome, uncovered: self.counters.uncovered_of(check.charges) })
    }

    fn consume(&mut self, check: &Check<'_>) -> Step {
        let verdict = decide(&mut self.counters, check.charges, check.command.mode, check.now);
        if verdict.allowed {
            check.remember(&mut self.attempts, None, &verdict);
        }
        self.ended(decided(verdict))
    }

    fn reserve(&mut self, check: &Check<'_>) -> Result<Step, StoreError> {
        let request = self.reservation_request(check)?;
        let reservations_max = check.shared.config.reservations_max;
        let mut wants = self.wants(check.charges);
        // What is denied needs no room.
        if !wants.is_empty() || self.reservations.is_full(reservations_max) {
            let verdict = decide(&mut self.counters, check.charges, Mode::Peek, check.now);
            if !verdict.allowed {
                return Ok(self.ended(decided(verdict)));
            }
            wants.retain(|want| want.is_taken(check.charges, &verdict));
        }
        if !wants.is_empty() {
            return Ok(Step::Continue(wants));
        }
        if !self.reservations.make_room(reservations_max) {
            return Err(StoreError::Full { what: "the table of reservations" });
        }
        let verdict = decide(&mut self.counters, check.charges, Mode::Reserve, check.now);
        let reservation = verdict.allowed.then(|| self.insert(check, request, &verdict));
        let reserved = request.cost.filter(|_| verdict.allowed);
        Ok(self.ended(Decided { verdict, reservation, reserved, replayed: false }))
    }

    fn reservation_request<'a>(&self, check: &Check<'a>) -> Result<&'a ReservationRequest, StoreError> {
        let missing = || StoreError::Unavailable {
            store: STORE,
            detail: "a check that reserves came without a reservation to make".to_owned(),
        };
        let request = check.command.reservation.as_ref().ok_or_else(missing)?;
        if self.reservations.is_taken(&request.id) {
            return Err(StoreError::AlreadyExists { field: "reservation id" });
        }
        Ok(request)
    }

    fn insert(
        &mut self,
        check: &Check<'_>,
        request: &ReservationRequest,
        verdict: &Verdict,
    ) -> (ReservationId, Millis) {
        let expires_at = check.in_workspace_time(request.expires_at);
        check.remember(&mut self.attempts, Some(request.id.to_bits()), verdict);
        let reservation = Reservation {
            id: request.id.clone(),
            key: request.principal.key.clone(),
            by_gateway: request.principal.by_gateway,
            state: ReservationState::Open,
            decided_at: check.now,
            expires_at,
            floor: request.floor,
            included: Position::default(),
            call: request.call.clone(),
            request_id: request.request_id.clone(),
            captured: capture(check.charges, check.command.units.iter(), verdict),
        };
        let id = check.request.map(|request| request.id);
        self.reservations.insert(Kept { reservation, cost: request.cost, request: id });
        (request.id.clone(), expires_at)
    }

    /// The ceilings that the charges would pass.
    fn wants(&self, charges: &[Charge]) -> Wants {
        charges
            .iter()
            .enumerate()
            .filter_map(|(place, charge)| Want::of(&self.counters, place, charge))
            .collect()
    }
}

/// Gives back what an open reservation holds, as far as its time has not done so.
fn end(reservation: &mut Reservation, counters: &mut impl Counters, now: Millis) {
    match reservation.state {
        ReservationState::Open if reservation.expires_at <= now => reservation.expire(counters, now),
        ReservationState::Open => reservation.release(counters, now),
        _ => {}
    }
}

fn stands(reservation: &Reservation) -> bool {
    matches!(reservation.state, ReservationState::Open | ReservationState::Settled)
}

#[cfg(test)]
mod tests;
