//! The books: how everything must stand, by plain sums over what was answered. Nothing here calls
//! the arithmetic that is under test.

pub mod answers;
pub mod counter;
pub mod decided;
pub mod facts;
pub mod log;
pub mod reservation;
pub mod undo;

use std::collections::BTreeMap;

use rateguard_core::counter::{CounterId, Limit, Mark, Reading};
use rateguard_core::decision::{Charge, Mode, Verdict};
use rateguard_core::ids::ReservationId;
use rateguard_core::lease::LeaseOutcome;
use rateguard_core::reservation::ReservationState;
use rateguard_core::time::Millis;
use rateguard_core::unit::Unit;
use rateguard_engine::ports::{
    CheckCommand, CheckOutcome, Decided, LeaseCommand, ReleaseOutcome, RenewOutcome, ResetCounters,
    SettleCommand, SettleReservation, Standing,
};

use self::answers::Answers;
use self::counter::CounterBook;
use self::decided::{Decisions, Hint, Remembered, question};
use self::facts::{Asked, Breach, Decision, Facts, Kind, Wrong};
use self::log::LogBook;
use self::reservation::{Correction, Place, ReservationBook, Taking};
use self::undo::{Made, Undo};
use crate::steps::{Step, StoreDeed, StoreStep};

/// How everything must stand.
#[derive(Clone, Debug, Default)]
pub struct Books {
    /// The last instant of the store of counters.
    pub now: Millis,
    /// Counters, by id.
    pub counters: BTreeMap<CounterId, CounterBook>,
    /// Reservations, open and over.
    pub reservations: BTreeMap<ReservationId, ReservationBook>,
    /// Decisions that later ones are held against.
    pub decisions: Decisions,
    /// Which of them were cancelled, and which may be.
    pub undo: Undo,
    /// The last record that was settled.
    pub settled_through: u64,
    /// What the log took in, and what came of it.
    pub log: LogBook,
    /// What replicas answered.
    pub answers: Answers,
}

impl Books {
    /// Takes a step in. Says what is to be judged about it.
    pub fn take_in(&mut self, step: &Step) -> Facts {
        match step {
            Step::Store(step) => self.take_in_store(step),
            Step::Answered(answered) => {
                self.answers.take_in(answered, &self.reservations, &self.counters);
                Facts::of(Kind::Answered)
            }
            Step::Sent(attempt, life) => {
                self.undo.send(*attempt, *life);
                Facts::of(Kind::Noted)
            }
            Step::Heard(attempt) => {
                self.undo.hear(*attempt);
                Facts::of(Kind::Noted)
            }
            Step::Gone(life) => {
                self.undo.end_life(*life);
                Facts::of(Kind::Noted)
            }
            Step::Accepted(event) => {
                self.log.accept(event);
                Facts::of(Kind::Accepted)
            }
            Step::Appended(events) => {
                self.log.append(events);
                Facts::of(Kind::Appended)
            }
            Step::RolledUp(events) => {
                self.log.roll_up(events);
                Facts::of(Kind::RolledUp)
            }
            Step::Ended => Facts::of(Kind::Ended),
        }
    }

    fn take_in_store(&mut self, step: &StoreStep) -> Facts {
        self.now = step.now;
        let mut facts = match &step.deed {
            StoreDeed::Settled(commands) => {
                // A report comes before the expiry that its own step may bring.
                let facts = self.settle_all(commands);
                self.expire_all(&step.expired);
                facts
            }
            deed => {
                self.expire_all(&step.expired);
                self.do_else(deed)
            }
        };
        facts.expired = step.expired.len();
        facts.wrong = self.compare(&step.readings);
        facts
    }

    fn do_else(&mut self, deed: &StoreDeed) -> Facts {
        match deed {
            StoreDeed::Checked(command, outcome) => self.check(command, outcome),
            StoreDeed::Refused(command) => self.refuse(command),
            StoreDeed::Cancelled(command) => self.cancel(command),
            StoreDeed::Leased(command, outcomes) => self.lease(command, outcomes),
            StoreDeed::Renewed(id, outcome) => self.renew(id, *outcome),
            StoreDeed::Reset(which) => self.reset(which),
            StoreDeed::Released(id, outcome) => {
                self.release(id, *outcome);
                Facts::of(Kind::Released)
            }
            StoreDeed::Tended | StoreDeed::Settled(_) => Facts::of(Kind::Tended),
        }
    }

    fn compare(&self, readings: &[(CounterId, Limit, Reading)]) -> Vec<Wrong> {
        let wrong = readings.iter().filter_map(|(id, limit, reading)| {
            let range = self.counters.get(id).map(|book| book.range(self.now))?;
            let counter = (*id, matches!(limit, Limit::Budget { .. }));
            (!range.holds(reading.used)).then_some(Wrong { counter, used: reading.used, range })
        });
        wrong.collect()
    }

    fn book(&mut self, id: CounterId, limit: Limit) -> &mut CounterBook {
        let book = self.counters.entry(id).or_insert_with(|| CounterBook::new(limit));
        book.limit = limit;
        book
    }

    fn check(&mut self, command: &CheckCommand, outcome: &CheckOutcome) -> Facts {
        for charge in &command.charges {
            self.book(charge.counter, charge.limit);
        }
        let decision = self.decision(command, outcome);
        let kind = match outcome {
            CheckOutcome::ContentDiffers => Kind::Replayed,
            CheckOutcome::Decided(Decided { replayed: true, .. }) => {
                command.request.iter().for_each(|request| self.undo.repeat(request));
                Kind::Replayed
            }
            CheckOutcome::Decided(decided) if decided.verdict.allowed => {
                self.take(command, decided);
                Kind::Allowed
            }
            CheckOutcome::Decided(decided) => {
                self.owe(command, &decided.verdict);
                self.note_hint(command, &decided.verdict);
                Kind::Denied
            }
        };
        Facts { decision: Some(decision), ..Facts::of(kind) }
    }

    /// What was known when it was decided.
    fn decision(&self, command: &CheckCommand, outcome: &CheckOutcome) -> Decision {
        let asked = command.charges.iter().filter_map(|charge| self.asked(charge)).collect();
        let remembered = command.request.and_then(|request| self.decisions.ids.get(&request.id));
        let decided = match outcome {
            CheckOutcome::Decided(decided) => Some(decided),
            CheckOutcome::ContentDiffers => None,
        };
        Decision {
            asked,
            content: command.request.map(|request| request.content),
            allowed: decided.is_some_and(|decided| decided.verdict.allowed),
            replayed: decided.is_some_and(|decided| decided.replayed),
            content_differs: decided.is_none(),
            reservation: decided.and_then(|decided| decided.reservation.clone()).map(|(id, _)| id),
            remembered: remembered.filter(|remembered| self.still_stands(remembered)).cloned(),
            foretold: self.hint(command).map(|hint| hint.foretells(self.now)),
            was_cancelled: self.was_cancelled(command),
        }
    }

    fn asked(&self, charge: &Charge) -> Option<Asked> {
        let range = self.counters.get(&charge.counter)?.range(self.now);
        Some(Asked { charge: *charge, range })
    }

    fn still_stands(&self, remembered: &Remembered) -> bool {
        let reservation = remembered.reservation.as_ref().and_then(|id| self.reservations.get(id));
        self.now < remembered.until && reservation.is_none_or(ReservationBook::stands)
    }

    /// What was said to the same question before, if nothing has changed since.
    fn hint(&self, command: &CheckCommand) -> Option<&Hint> {
        let asked = question(&command.charges);
        self.decisions.hints.get(&asked).filter(|hint| hint.versions == self.versions(&asked))
    }

    fn versions(&self, asked: &[(CounterId, i64, i64)]) -> Vec<u64> {
        asked.iter().map(|(id, ..)| self.counters.get(id).map_or(0, |book| book.version)).collect()
    }

    fn note_hint(&mut self, command: &CheckCommand, verdict: &Verdict) {
        let Some((_, wait)) = verdict.limiting(&command.charges) else { return };
        let asked = question(&command.charges);
        let versions = self.versions(&asked);
        self.decisions.hints.insert(asked, Hint { at: self.now, wait, versions });
    }

    fn was_cancelled(&self, command: &CheckCommand) -> bool {
        command.request.is_some_and(|request| self.undo.is_cancelled(&request, self.now))
    }

    /// A check came after it had been cancelled.
    fn refuse(&self, command: &CheckCommand) -> Facts {
        let breach = (!self.was_cancelled(command)).then_some(Breach::RefusedUncancelled);
        Facts { breach, ..Facts::of(Kind::Refused) }
    }

    /// An attempt is as if it had never been made, unless others were answered by the same decision.
    fn cancel(&mut self, command: &CheckCommand) -> Facts {
        let mut facts = Facts::of(Kind::Cancelled);
        let Some(request) = command.request else { return facts };
        facts.breach = self.undo.was_heard(&request).then_some(Breach::CancelledHeard);
        let made = self.undo.cancel(&request, request.expires_at);
        let stands = self.decisions.ids.get(&request.id).is_some_and(|known| self.still_stands(known));
        if let Some(made) = made.filter(|_| stands) {
            self.take_back(made);
            self.decisions.ids.remove(&request.id);
        }
        facts
    }

    fn take_back(&mut self, made: Made) {
        let now = self.now;
        for (counter, place) in made.takings {
            if let Some(book) = self.counters.get_mut(&counter) {
                book.correct(place, 0, now);
            }
        }
        if let Some(id) = made.reservation {
            self.give_back(&id, ReservationState::Released);
        }
    }

    /// What a denied check takes all the same, of limits that count it.
    fn owe(&mut self, command: &CheckCommand, verdict: &Verdict) {
        let now = self.now;
        let owed = command.charges.iter().zip(&verdict.marks).filter(|(_, mark)| mark.is_some());
        for (charge, _) in owed.filter(|(charge, _)| charge.counts_denied && command.mode == Mode::Consume) {
            self.book(charge.counter, charge.limit).owe(now, charge.demand.take);
        }
    }

    fn take(&mut self, command: &CheckCommand, decided: &Decided) {
        if command.mode == Mode::Peek {
            return;
        }
        let mut takings = Vec::new();
        for (index, (charge, mark)) in command.charges.iter().zip(&decided.verdict.marks).enumerate() {
            // A shadow that would have denied has no mark: it does not move.
            let Some(mark) = mark else { continue };
            let (now, take) = (self.now, charge.demand.take);
            let book = self.book(charge.counter, charge.limit);
            let place = match (mark, book.is_held()) {
                (_, false) => Place::Entry(book.take(now, take)),
                (Mark::Concurrency, true) => Place::Running,
                (_, true) => Place::Money,
            };
            if place.is_held() {
                book.hold(take);
            }
            let unit = command.units.get(index).cloned().unwrap_or(Unit::Requests);
            takings.push(Taking { counter: charge.counter, unit, place, stands: take, used: None });
        }
        self.remember(command, decided, takings);
    }

    fn remember(&mut self, command: &CheckCommand, decided: &Decided, takings: Vec<Taking>) {
        let made = decided.reservation.as_ref();
        if let Some(request) = command.request {
            let until = made.map_or(request.expires_at, |(_, expires_at)| *expires_at);
            let reservation = made.map(|(id, _)| id.clone());
            let remembered = Remembered { content: request.content, until, reservation };
            self.decisions.ids.insert(request.id, remembered);
            let entries = takings.iter().filter_map(Taking::entry);
            let taken = if made.is_none() { entries.collect() } else { Vec::new() };
            self.undo.decide(&request, taken, made.map(|(id, _)| id.clone()));
        }
        if let (Some((id, expires_at)), Some(request)) = (made, &command.reservation) {
            let floor = request.floor.get();
            let state = ReservationState::Open;
            let book = ReservationBook { state, expires_at: *expires_at, floor, takings };
            self.reservations.insert(id.clone(), book);
        }
    }

    /// What is lent stands in its counter like what is taken.
    fn lease(&mut self, command: &LeaseCommand, outcomes: &[LeaseOutcome]) -> Facts {
        for returned in &command.returns {
            if let Some(book) = self.counters.get_mut(&returned.counter) {
                book.end_lease(returned.mark, returned.unused);
            }
        }
        let mut facts = Facts::of(Kind::Leased);
        for (request, outcome) in command.requests.iter().zip(outcomes) {
            let now = self.now;
            let book = self.book(request.counter, request.limit);
            if let Some(lease) = &outcome.lease {
                book.lend(now, lease.amount, lease.mark);
                facts.lent.push(request.counter);
            }
        }
        facts
    }

    fn settle_all(&mut self, commands: &[SettleCommand]) -> Facts {
        let new = commands.iter().filter(|command| command.position.0 > self.settled_through);
        let new: Vec<&SettleCommand> = new.collect();
        let kind = if new.is_empty() { Kind::SettledAgain } else { Kind::Settled };
        for command in new {
            self.settle(command);
            self.settled_through = command.position.0;
        }
        Facts::of(kind)
    }

    fn settle(&mut self, command: &SettleCommand) {
        match &command.reservation {
            Some(settles) if settles.standing == Standing::Known => self.settle_known(command, settles),
            _ => self.charge(command, |_, _| true),
        }
    }

    fn settle_known(&mut self, command: &SettleCommand, settles: &SettleReservation) {
        let Some(mut book) = self.reservations.remove(&settles.id) else { return };
        for taking in &mut book.takings {
            let before = taking.stands;
            let correction = taking.reported(command, settles);
            self.apply(taking, before, correction);
        }
        book.end_by(command, settles);
        let captured: Vec<CounterId> = book.takings.iter().map(|taking| taking.counter).collect();
        self.reservations.insert(settles.id.clone(), book);
        self.charge(command, |is_budget, counter| is_budget && !captured.contains(&counter));
    }

    fn charge(&mut self, command: &SettleCommand, counts: impl Fn(bool, CounterId) -> bool) {
        let now = self.now;
        for charge in command.charges.iter().filter(|charge| counts(charge.is_budget(), charge.counter)) {
            self.book(charge.counter, charge.limit).charge(command.accounted_at, charge.amount, now);
        }
    }

    fn apply(&mut self, taking: &Taking, before: i64, correction: Correction) {
        let now = self.now;
        let Some(book) = self.counters.get_mut(&taking.counter) else { return };
        match taking.place {
            Place::Entry(place) => book.correct(place, correction.stands, now),
            Place::Money | Place::Running => {
                book.hold(correction.stands - before);
                book.version += u64::from(correction.spent != 0);
                book.spent += i128::from(correction.spent);
            }
        }
    }

    /// A reservation expires later, and the decision is remembered as long.
    fn renew(&mut self, id: &ReservationId, outcome: RenewOutcome) -> Facts {
        let mut facts = Facts::of(Kind::Renewed);
        let RenewOutcome::Open(expires_at) = outcome else { return facts };
        if let Some(book) = self.reservations.get_mut(id) {
            let is_wrong = book.state != ReservationState::Open || expires_at < book.expires_at;
            facts.breach = is_wrong.then_some(Breach::RenewedWrongly);
            book.expires_at = expires_at;
        }
        let its = |known: &Remembered| known.reservation.as_ref() == Some(id) && known.until < expires_at;
        for (request, known) in self.decisions.ids.iter_mut().filter(|(_, known)| its(known)) {
            known.until = expires_at;
            self.undo.keep(*request);
        }
        facts
    }

    /// Counters are set back: what was decided before counts in them no more, in neither direction.
    fn reset(&mut self, which: &ResetCounters) -> Facts {
        let set_back = self.counters.iter_mut().filter(|(id, book)| which.holds(**id) && !book.is_budget());
        set_back.for_each(|(_, book)| book.reset());
        for book in self.reservations.values_mut() {
            book.takings.retain(|taking| taking.place == Place::Money || !which.holds(taking.counter));
        }
        self.undo.forget_takings(|id| which.holds(id));
        self.answers.forget_before(self.now);
        Facts::of(Kind::Reset)
    }

    fn release(&mut self, id: &ReservationId, outcome: ReleaseOutcome) {
        if let ReleaseOutcome::State(ReservationState::Released) = outcome {
            self.give_back(id, ReservationState::Released);
        }
    }

    fn expire_all(&mut self, expired: &[ReservationId]) {
        for id in expired {
            self.give_back(id, ReservationState::Expired);
        }
    }

    fn give_back(&mut self, id: &ReservationId, state: ReservationState) {
        let Some(mut book) = self.reservations.remove(id) else { return };
        if book.state == ReservationState::Open {
            let floor = if state == ReservationState::Expired { book.floor } else { 0 };
            for taking in &mut book.takings {
                let before = taking.stands;
                let correction = taking.given_back(floor);
                self.apply(taking, before, correction);
            }
            book.state = state;
        }
        self.reservations.insert(id.clone(), book);
    }
}
