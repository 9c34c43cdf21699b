//! Random commands: every algorithm and mode, amounts from nothing to the bounds, limits that change,
//! and a clock that jumps.

use std::sync::Arc;

use rateguard_core::amounts::Amounts;
use rateguard_core::counter::{CounterFamily, CounterId, Demand, Limit, Position, Refill};
use rateguard_core::decision::{Charge, Mode};
use rateguard_core::ids::{KeyId, ReservationId, WorkspaceId};
use rateguard_core::lease::{Lease, LeaseRequest, LeaseReturn};
use rateguard_core::limits::{AMOUNT_MAX, LIMIT_MAX, MONEY_NANOS_MAX};
use rateguard_core::money::Nanos;
use rateguard_core::rule::Enforcement;
use rateguard_core::time::{Bounds, Millis};
use rateguard_core::unit::Unit;
use rateguard_core::usage::CallIdentity;
use rateguard_engine::ports::{
    Attempt, CheckCommand, CounterQuery, LeaseCommand, Principal, RequestFingerprint, ReservationRequest,
    ResetCounters, SettleCharge, SettleCommand, SettleReservation, Standing,
};
use smallvec::SmallVec;

/// Limits of one world; each has several counters.
const LIMITS: usize = 14;
const VALUES: u64 = 4;
/// So few that attempts at one id are now and then the same.
const ATTEMPTS: u64 = 20;
const SECOND_MS: i64 = 1_000;
const DAY_MS: i64 = 86_400_000;

/// A small generator of its own (SplitMix64), so that a failure repeats.
#[derive(Clone, Copy, Debug)]
pub struct Dice(pub u64);

impl Dice {
    /// The next 64 bits.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// Less than `sides`.
    pub fn below(&mut self, sides: u64) -> u64 {
        self.roll() % sides
    }

    fn place(&mut self, count: usize) -> usize {
        usize::try_from(self.below(count as u64)).unwrap_or(0)
    }

    /// At most `most`, and of every order of size.
    fn sized(&mut self, most: i64) -> i64 {
        let most = match self.below(8) {
            0 => most,
            1 => most.min(1 << 40),
            2 => most.min(100_000),
            _ => most.min(30),
        };
        i64::try_from(self.below(most.unsigned_abs().saturating_add(1).max(1))).unwrap_or(0)
    }

    fn one_in(&mut self, sides: u64) -> bool {
        self.below(sides) == 0
    }
}

/// One limit, as it stands now.
#[derive(Clone, Debug)]
struct Planned {
    number: u32,
    unit: Unit,
    shape: Shape,
    size: i64,
    refill: Refill,
}

#[derive(Clone, Copy, Debug)]
enum Shape {
    Bucket,
    Fixed(i64),
    Sliding(i64),
    Calendar(i64),
    Budget(i64),
    Concurrency,
    Prepaid,
}

/// A workspace that wishes for things.
#[derive(Debug)]
pub struct Wishes {
    /// Decides everything.
    pub dice: Dice,
    /// The tenant.
    pub workspace: WorkspaceId,
    /// The world's clock.
    pub now: Millis,
    limits: Vec<Planned>,
    /// Reservations that were allowed, newest last.
    pub taken: Vec<ReservationId>,
    /// Leases that were granted, newest last.
    pub lent: Vec<Lease>,
    /// Checks of late, newest last.
    asked: Vec<CheckCommand>,
    position: u64,
    reservations: u128,
    /// Whether the workspace may have fewer counters than it wishes for. Then reservations only test
    /// budgets and calls at the same time: the store in memory makes their counters for what is written down
    /// ahead, and may by that give the last place to another counter than the scripts do.
    is_crowded: bool,
}

impl Wishes {
    /// A world that a seed decides.
    pub fn new(seed: u64, workspace: WorkspaceId, is_crowded: bool) -> Self {
        let mut dice = Dice(seed);
        let limits = (0..LIMITS).map(|number| planned(&mut dice, number)).collect();
        let now = Millis::new(1_800_000_000_000 + dice.sized(DAY_MS));
        let reservations = u128::from(seed) << 64;
        Self {
            dice,
            workspace,
            now,
            limits,
            taken: Vec::new(),
            lent: Vec::new(),
            asked: Vec::new(),
            position: 0,
            reservations,
            is_crowded,
        }
    }

    /// Lets time pass, mostly a little, now and then much, seldom backwards.
    pub fn pass_time(&mut self) {
        let ms = match self.dice.below(100) {
            0 => self.dice.sized(40 * DAY_MS),
            1..=2 => self.dice.sized(DAY_MS),
            3..=12 => self.dice.sized(120 * SECOND_MS),
            13..=15 => -self.dice.sized(60 * SECOND_MS),
            _ => self.dice.sized(700),
        };
        self.now = self.now.plus(ms);
    }

    /// Changes one limit: its size or its rate, as its owner may; its counters stay.
    pub fn change_limit(&mut self) {
        let place = self.dice.place(LIMITS);
        let before = self.limits[place].clone();
        let size = size_of(&mut self.dice, &before.shape);
        let refill = refill(&mut self.dice, size);
        self.limits[place] = Planned { size, refill, ..before };
    }

    fn limit(&mut self, place: usize) -> Limit {
        let Planned { shape, size, refill, .. } = self.limits[place].clone();
        match shape {
            Shape::Bucket => Limit::TokenBucket { capacity: size, refill },
            Shape::Fixed(window_ms) => Limit::FixedWindow { limit: size, window_ms },
            Shape::Sliding(window_ms) => Limit::SlidingWindow { limit: size, window_ms },
            Shape::Calendar(ms) => Limit::CalendarWindow { limit: size, bounds: self.bounds(ms) },
            Shape::Budget(ms) => Limit::Budget { nanos: size, bounds: Some(self.bounds(ms)) },
            Shape::Prepaid => Limit::Budget { nanos: size, bounds: None },
            Shape::Concurrency => Limit::Concurrency { limit: size },
        }
    }

    /// The period of now; sometimes of a clock that is behind or ahead.
    fn bounds(&mut self, ms: i64) -> Bounds {
        let skew = if self.dice.one_in(10) { self.dice.sized(3 * ms) - ms } else { 0 };
        let at = self.now.plus(skew).get();
        let start = at - at % ms;
        Bounds {
            start: Millis::new(start),
            end: Millis::new(start + ms),
            next_end: Millis::new(start + 2 * ms),
        }
    }

    fn counter(&mut self, place: usize) -> (CounterId, CounterId) {
        let family = CounterFamily(self.limits[place].number);
        let of = |value: u64| CounterId::of(family, Dice(u64::from(family.0) << 32 | value).wide());
        (of(self.dice.below(VALUES)), of(VALUES))
    }

    /// A check, mostly of several limits.
    pub fn check(&mut self) -> CheckCommand {
        let mode =
            [Mode::Consume, Mode::Consume, Mode::Reserve, Mode::Reserve, Mode::Peek][self.dice.place(5)];
        let count = 1 + self.dice.place(5);
        let places: Vec<usize> = (0..count).map(|_| self.dice.place(LIMITS)).collect();
        let mut charges: SmallVec<[Charge; 8]> =
            places.iter().map(|place| self.charge(*place, mode)).collect();
        for later in 1..places.len() {
            // One caller knows one period of a rule at a time.
            if let Some(earlier) = places[..later].iter().position(|place| *place == places[later]) {
                charges[later].limit = charges[earlier].limit;
            }
        }
        let reservation = (mode == Mode::Reserve).then(|| self.reservation());
        CheckCommand {
            workspace: self.workspace.clone(),
            now: self.now,
            mode,
            charges,
            units: places.iter().map(|place| self.limits[*place].unit.clone()).collect(),
            request: self.request(),
            reservation,
        }
    }

    fn charge(&mut self, place: usize, mode: Mode) -> Charge {
        let (counter, overflow) = self.counter(place);
        let limit = self.limit(place);
        let is_budget = matches!(limit, Limit::Budget { .. });
        let is_held = is_budget || matches!(limit, Limit::Concurrency { .. });
        let is_money = is_budget || self.limits[place].unit == Unit::Cost;
        let most = if is_money { MONEY_NANOS_MAX } else { AMOUNT_MAX };
        let demand = match self.dice.below(6) {
            0 => Demand::PROBE,
            _ if is_held && mode == Mode::Reserve && self.is_crowded => Demand::PROBE,
            // What is held needs a reservation, which tells when it ends.
            _ if is_held && !is_budget && mode == Mode::Consume => Demand::PROBE,
            1 => Demand::take(limit.size().min(most)),
            2 if !is_budget && mode != Mode::Reserve => Demand::give_back(self.dice.sized(most)),
            _ => Demand::take(self.dice.sized(most)),
        };
        let enforcement = match self.dice.below(8) {
            0 => Enforcement::Shadow,
            1 => Enforcement::Soft,
            _ => Enforcement::Enforced,
        };
        let counts_denied = !is_budget && self.dice.one_in(4);
        Charge { counter, overflow, limit, demand, enforcement, counts_denied }
    }

    fn request(&mut self) -> Option<RequestFingerprint> {
        let id = self.dice.below(40);
        self.dice.one_in(2).then(|| RequestFingerprint {
            id: Dice(id).wide(),
            content: if self.dice.one_in(10) { u64::MAX } else { id },
            expires_at: self.now.plus(self.dice.sized(600 * SECOND_MS)),
            attempt: (!self.dice.one_in(4))
                .then(|| Attempt(u32::try_from(self.dice.below(ATTEMPTS)).unwrap_or(0))),
        })
    }

    /// One of the checks of late, which its caller gives up.
    pub fn given_up(&mut self) -> Option<CheckCommand> {
        let late = self.asked.len();
        (late > 0).then(|| self.dice.place(late)).map(|place| self.asked[place].clone())
    }

    /// Remembers a check of late.
    pub fn asked(&mut self, command: CheckCommand) {
        const LATE: usize = 12;
        if self.asked.len() == LATE {
            self.asked.remove(0);
        }
        self.asked.push(command);
    }

    fn reservation(&mut self) -> ReservationRequest {
        self.reservations += 1;
        let (bits, old) = (self.reservations, self.taken.last().cloned().filter(|_| self.dice.one_in(50)));
        let principal = self.principal();
        ReservationRequest {
            id: old.unwrap_or_else(|| ReservationId::from_bits(bits)),
            expires_at: self.now.plus(self.dice.sized(3_600 * SECOND_MS)),
            cost: self.dice.one_in(2).then(|| Nanos::from_stored(self.dice.sized(MONEY_NANOS_MAX))),
            floor: Nanos::from_stored(if self.dice.one_in(2) { self.dice.sized(MONEY_NANOS_MAX) } else { 0 }),
            call: Arc::new(call_of(&principal)),
            principal,
            request_id: None,
        }
    }

    /// One of two who call.
    pub fn principal(&mut self) -> Principal {
        Principal { key: KeyId::from_random([1; 16]), by_gateway: self.dice.one_in(8) }
    }

    /// One of the reservations of late, or one that there never was.
    pub fn some_reservation(&mut self) -> ReservationId {
        const LATE: usize = 12;
        let late = self.taken.len().min(LATE);
        if late == 0 || self.dice.one_in(12) {
            return ReservationId::from_bits(u128::MAX - u128::from(self.dice.below(4)));
        }
        self.taken[self.taken.len() - 1 - self.dice.place(late)].clone()
    }

    /// Records to settle, mostly with new positions.
    pub fn records(&mut self) -> Vec<SettleCommand> {
        let count = 1 + self.dice.place(4);
        let again = self.dice.one_in(12);
        (0..count).map(|_| self.record(again)).collect()
    }

    fn record(&mut self, again: bool) -> SettleCommand {
        let position = if again { self.position.max(1) } else { self.position + 1 + self.dice.below(3) };
        self.position = position;
        let reservation = (!self.dice.one_in(3)).then(|| self.settled());
        let mut amounts = Amounts::default();
        for unit in [Unit::Requests, Unit::Tokens, Unit::Custom("pages".into())] {
            if self.dice.one_in(2) {
                amounts.insert("amount", unit, self.dice.sized(AMOUNT_MAX)).expect("within bounds, and once");
            }
        }
        let correction = self.dice.one_in(10);
        let cost = self.dice.sized(MONEY_NANOS_MAX) * if correction { -1 } else { 1 };
        SettleCommand {
            workspace: self.workspace.clone(),
            position: Position(position),
            now: self.now,
            accounted_at: self.now.plus(-self.dice.sized(2 * DAY_MS)),
            reservation,
            amounts,
            cost: Nanos::from_stored(cost),
            charges: self.charges(cost),
        }
    }

    fn settled(&mut self) -> SettleReservation {
        use Standing::{Elsewhere, Ended, Known, Unknown};
        let budget = self.counter(LIMITS - 1).0;
        SettleReservation {
            id: self.some_reservation(),
            is_final: !self.dice.one_in(3),
            refund: !self.dice.one_in(3),
            standing: [Known, Known, Known, Unknown, Elsewhere, Ended][self.dice.place(6)],
            captured_budgets: if self.dice.one_in(2) { vec![budget] } else { Vec::new() },
        }
    }

    fn charges(&mut self, cost: i64) -> Vec<SettleCharge> {
        let count = self.dice.place(4);
        let places: Vec<usize> = (0..count).map(|_| self.dice.place(LIMITS)).collect();
        places.into_iter().map(|place| self.settle_charge(place, cost)).collect()
    }

    fn settle_charge(&mut self, place: usize, cost: i64) -> SettleCharge {
        let (counter, overflow) = self.counter(place);
        let limit = self.limit(place);
        let is_budget = matches!(limit, Limit::Budget { .. });
        let amount = if is_budget { cost } else { self.dice.sized(AMOUNT_MAX) };
        SettleCharge { counter, overflow, limit, amount }
    }

    /// Counters to read.
    pub fn queries(&mut self) -> Vec<CounterQuery> {
        let count = 1 + self.dice.place(6);
        let places: Vec<usize> = (0..count).map(|_| self.dice.place(LIMITS)).collect();
        places
            .into_iter()
            .map(|place| {
                let (counter, overflow) = self.counter(place);
                CounterQuery { counter, overflow, limit: self.limit(place) }
            })
            .collect()
    }

    /// Leases to end, sometimes more than was granted and more than once, and leases to take.
    pub fn leases(&mut self) -> LeaseCommand {
        let returns = (0..self.dice.place(4)).filter_map(|_| self.lease_return()).collect();
        let count = self.dice.place(4);
        let places: Vec<usize> = (0..count).map(|_| self.dice.place(LIMITS)).collect();
        let requests = places.into_iter().map(|place| {
            let (counter, overflow) = self.counter(place);
            let limit = self.limit(place);
            let asked = if self.dice.one_in(3) { limit.size() } else { self.dice.sized(AMOUNT_MAX) };
            LeaseRequest { counter, overflow, limit, asked, least: self.dice.sized(4) }
        });
        let requests = requests.collect();
        LeaseCommand { workspace: self.workspace.clone(), now: self.now, returns, requests }
    }

    fn lease_return(&mut self) -> Option<LeaseReturn> {
        const LATE: usize = 12;
        let late = self.lent.len().min(LATE);
        if late == 0 {
            return None;
        }
        let Lease { counter, amount, mark, .. } = self.lent[self.lent.len() - 1 - self.dice.place(late)];
        let closed = if self.dice.one_in(2) { amount } else { self.dice.sized(amount.saturating_mul(2)) };
        let unused = if self.dice.one_in(3) { 0 } else { self.dice.sized(closed) };
        Some(LeaseReturn { counter, mark, closed, unused })
    }

    /// What was spent of budgets before they were in force, with the position that it includes.
    pub fn openings(&mut self) -> (Vec<SettleCharge>, Position) {
        let budgets: Vec<usize> = (0..LIMITS)
            .filter(|place| matches!(self.limits[*place].shape, Shape::Budget(_) | Shape::Prepaid))
            .collect();
        let count = 1 + self.dice.place(3);
        let chosen: Vec<usize> = (0..count).map(|_| budgets[self.dice.place(budgets.len())]).collect();
        let spent = self.dice.sized(MONEY_NANOS_MAX);
        let openings = chosen.into_iter().map(|place| self.settle_charge(place, spent)).collect();
        (openings, Position(self.position))
    }

    /// Which counters of a rule to set back.
    pub fn reset(&mut self) -> ResetCounters {
        let place = self.dice.place(LIMITS);
        if self.dice.one_in(2) {
            let family = CounterFamily(self.limits[place].number);
            return ResetCounters::All { family, is_spread: false };
        }
        ResetCounters::One(self.counter(place).0, self.limit(place))
    }

    /// Until when to renew a reservation; sometimes no later than it would have gone on.
    pub fn renewal(&mut self) -> Millis {
        self.now.plus(self.dice.sized(30 * 3_600 * SECOND_MS))
    }

    /// The families of all limits.
    pub fn families(&self) -> Vec<CounterFamily> {
        self.limits.iter().map(|limit| CounterFamily(limit.number)).collect()
    }
}

impl Dice {
    fn wide(mut self) -> u128 {
        u128::from(self.roll()) << 64 | u128::from(self.roll())
    }
}

fn planned(dice: &mut Dice, number: usize) -> Planned {
    let windows = [100, 777, SECOND_MS, 10 * SECOND_MS, 60 * SECOND_MS, 3_600 * SECOND_MS, 366 * DAY_MS];
    let window = windows[dice.place(windows.len())];
    // One of each at least, and a prepaid budget last.
    let shape = match number % 7 {
        0 => Shape::Bucket,
        1 => Shape::Fixed(window),
        2 => Shape::Sliding(window),
        3 => Shape::Calendar(window),
        4 => Shape::Budget(window),
        5 => Shape::Concurrency,
        _ => Shape::Prepaid,
    };
    let unit = match (&shape, number / 7) {
        (Shape::Budget(_) | Shape::Prepaid, _) => Unit::Cost,
        (Shape::Concurrency, _) => Unit::Requests,
        (_, 0) => [Unit::Requests, Unit::Tokens][dice.place(2)].clone(),
        _ => [Unit::Tokens, Unit::Cost, Unit::Custom("pages".into())][dice.place(3)].clone(),
    };
    let size = size_of(dice, &shape);
    let refill = refill(dice, size);
    Planned { number: u32::try_from(number).unwrap_or(0) + 1, unit, shape, size, refill }
}

fn size_of(dice: &mut Dice, shape: &Shape) -> i64 {
    match shape {
        Shape::Budget(_) | Shape::Prepaid => dice.sized(MONEY_NANOS_MAX),
        _ => dice.sized(LIMIT_MAX),
    }
}

/// A rate that a bucket of this size may have.
fn refill(dice: &mut Dice, capacity: i64) -> Refill {
    // Budgets are larger, and have none.
    let capacity = capacity.clamp(1, LIMIT_MAX);
    let period_max = (LIMIT_MAX / capacity).min(366 * DAY_MS);
    let (units, period_ms) = (1 + dice.sized(LIMIT_MAX - 1), 1 + dice.sized(period_max - 1));
    Refill::new(units, period_ms, capacity).expect("the period was chosen to fit")
}

fn call_of(principal: &Principal) -> CallIdentity {
    CallIdentity {
        key: principal.key.clone(),
        api: None,
        api_name: "chat".to_owned(),
        endpoint: "/v1/messages".to_owned(),
        method: "POST".to_owned(),
        model: "größer".to_owned(),
        service_tier: String::new(),
        subject: "a \"subject\"".to_owned(),
    }
}
