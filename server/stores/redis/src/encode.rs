//! The port's commands as the scripts take them. The order of the fields is told at the head of each
//! script.

use rateguard_core::counter::{CounterId, Limit, Mark};
use rateguard_core::decision::{Charge, Mode};
use rateguard_core::ids::ReservationId;
use rateguard_core::lease::{LeaseRequest, LeaseReturn};
use rateguard_core::rule::Enforcement;
use rateguard_core::time::{Bounds, Millis};
use rateguard_core::unit::Unit;
use rateguard_engine::ports::{
    CheckCommand, LeaseCommand, RequestFingerprint, ReservationRequest, SettleCharge, SettleCommand,
    SettleReservation, Standing,
};

use crate::calls::pack_call;
use crate::pack::Packer;

/// The kinds of limits, as the scripts number them.
mod kind {
    pub(super) const BUCKET: i64 = 1;
    pub(super) const FIXED_WINDOW: i64 = 2;
    pub(super) const SLIDING_WINDOW: i64 = 3;
    pub(super) const BUDGET: i64 = 4;
    pub(super) const CALENDAR_WINDOW: i64 = 5;
}

/// Fields of a limit before its unit.
const LIMIT_FIELDS: usize = 10;

/// What a limit is asked, besides its size and shape.
struct Asked {
    counter: CounterId,
    overflow: CounterId,
    need: i64,
    take: i64,
    enforcement: i64,
}

/// Bounds of a store that its scripts keep.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounded {
    pub(crate) live_counters_max: usize,
    pub(crate) reservations_max: usize,
    /// Ids of one bucket.
    pub(crate) ids_max: usize,
}

/// An id as it stands in keys and fields.
pub(crate) fn counter_bytes(id: CounterId) -> [u8; 16] {
    id.0.to_be_bytes()
}

/// The bits of a reservation's id.
pub(crate) fn reservation_bytes(id: &ReservationId) -> [u8; 16] {
    id.to_bits().to_be_bytes()
}

/// A check, after its head.
pub(crate) fn check(packer: &mut Packer, command: &CheckCommand, bounds: Bounded, recalls: bool) {
    packer.integer(command.now.get()).integer(mode_code(command.mode));
    packer.count(bounds.live_counters_max).count(bounds.reservations_max).count(bounds.ids_max);
    packer.array(command.charges.len());
    for (place, charge) in command.charges.iter().enumerate() {
        // Only a reservation remembers units.
        let unit = command.units.get(place).map_or("", Unit::as_str);
        pack_charge(packer, charge, unit);
    }
    match command.request.filter(|_| command.mode != Mode::Peek) {
        Some(request) => pack_request(packer, &request),
        None => drop(packer.none()),
    }
    match &command.reservation {
        Some(reservation) => pack_reservation(packer, reservation),
        None => drop(packer.none()),
    }
    packer.flag(recalls);
}

fn mode_code(mode: Mode) -> i64 {
    match mode {
        Mode::Consume => 0,
        Mode::Peek => 1,
        Mode::Reserve => 2,
    }
}

fn pack_charge(packer: &mut Packer, charge: &Charge, unit: &str) {
    let Charge { counter, overflow, demand, .. } = *charge;
    let enforcement = match charge.enforcement {
        Enforcement::Enforced => 0,
        Enforcement::Soft => 1,
        Enforcement::Shadow => 2,
    };
    let asked = Asked { counter, overflow, need: demand.need, take: demand.take, enforcement };
    packer.array(LIMIT_FIELDS + 1);
    pack_limit(packer, &asked, &charge.limit);
    packer.text(unit);
}

/// A limit that is charged, opened or read.
pub(crate) fn limit(packer: &mut Packer, charge: &SettleCharge) {
    let SettleCharge { counter, overflow, amount, .. } = *charge;
    packer.array(LIMIT_FIELDS);
    let asked = Asked { counter, overflow, need: amount, take: 0, enforcement: 0 };
    pack_limit(packer, &asked, &charge.limit);
}

/// Leases that end and that are asked for, after their head.
pub(crate) fn leases(packer: &mut Packer, command: &LeaseCommand, bounds: Bounded) {
    packer.count(bounds.live_counters_max).array(command.returns.len());
    for LeaseReturn { counter, mark, closed, unused } in &command.returns {
        packer.array(4).text(counter_bytes(*counter));
        pack_mark(packer, *mark);
        packer.integer(*closed).integer(*unused);
    }
    packer.array(command.requests.len());
    for LeaseRequest { counter, overflow, limit, asked, least } in &command.requests {
        packer.array(LIMIT_FIELDS);
        let asked =
            Asked { counter: *counter, overflow: *overflow, need: *asked, take: *least, enforcement: 0 };
        pack_limit(packer, &asked, limit);
    }
}

fn pack_mark(packer: &mut Packer, mark: Mark) {
    let (kind, [a, b, c]) = match mark {
        Mark::TokenBucket { at, refill } => (kind::BUCKET, [at.get(), refill.units(), refill.period_ms()]),
        Mark::Window { start, end } => (kind::FIXED_WINDOW, [start.get(), end.get(), 0]),
        Mark::SlidingWindow { slot, window_ms } => (kind::SLIDING_WINDOW, [slot, window_ms, 0]),
        Mark::Budget { start, end } => (kind::BUDGET, [start.get(), end.get(), 0]),
    };
    packer.array(4).integer(kind).integer(a).integer(b).integer(c);
}

fn pack_limit(packer: &mut Packer, asked: &Asked, limit: &Limit) {
    let (kind, [a, b, c]) = shape(limit);
    packer.integer(kind).text(counter_bytes(asked.counter)).text(counter_bytes(asked.overflow));
    packer.integer(asked.need).integer(asked.take).integer(asked.enforcement);
    packer.integer(limit.size()).integer(a).integer(b).integer(c);
}

fn shape(limit: &Limit) -> (i64, [i64; 3]) {
    match *limit {
        Limit::TokenBucket { refill, .. } => (kind::BUCKET, [refill.units(), refill.period_ms(), 0]),
        Limit::FixedWindow { window_ms, .. } => (kind::FIXED_WINDOW, [window_ms.max(1), 0, 0]),
        Limit::SlidingWindow { window_ms, .. } => (kind::SLIDING_WINDOW, [window_ms, 0, 0]),
        Limit::CalendarWindow { bounds, .. } => (kind::CALENDAR_WINDOW, numbers(bounds)),
        // A prepaid budget has no period: it ends at zero.
        Limit::Budget { bounds, .. } => (kind::BUDGET, bounds.map_or([0; 3], numbers)),
    }
}

fn numbers(bounds: Bounds) -> [i64; 3] {
    [bounds.start.get(), bounds.end.get(), bounds.next_end.get()]
}

fn pack_request(packer: &mut Packer, request: &RequestFingerprint) {
    packer.array(3).text(request.id.to_be_bytes()).text(request.content.to_be_bytes());
    packer.integer(request.expires_at.get());
}

fn pack_reservation(packer: &mut Packer, request: &ReservationRequest) {
    packer.array(7).text(reservation_bytes(&request.id)).integer(request.expires_at.get());
    packer.integer(request.floor.get());
    match request.cost {
        Some(cost) => packer.integer(cost.get()),
        None => packer.none(),
    };
    packer.text(request.principal.key.as_str()).integer(i64::from(request.principal.by_gateway));
    packer.text(pack_call(&request.call, request.request_id.as_ref()));
}

/// Records to settle, after their head.
pub(crate) fn settlements(packer: &mut Packer, commands: &[SettleCommand], bounds: Bounded) {
    packer.count(bounds.live_counters_max).array(commands.len());
    for command in commands {
        packer.array(6).integer(command.position.0).integer(command.accounted_at.get());
        packer.integer(command.cost.get());
        match &command.reservation {
            Some(reservation) => pack_settled(packer, reservation),
            None => drop(packer.none()),
        }
        let amounts: Vec<_> = command.amounts.iter().collect();
        packer.array(amounts.len());
        for (unit, amount) in amounts {
            packer.array(2).text(unit.as_str()).integer(*amount);
        }
        packer.array(command.charges.len());
        command.charges.iter().for_each(|charge| limit(packer, charge));
    }
}

fn pack_settled(packer: &mut Packer, settled: &SettleReservation) {
    let standing = match settled.standing {
        Standing::Known => 0,
        Standing::Unknown => 1,
        Standing::Elsewhere => 2,
        Standing::Ended => 3,
    };
    packer.array(5).text(reservation_bytes(&settled.id)).flag(settled.is_final).flag(settled.refund);
    packer.integer(standing).array(settled.captured_budgets.len());
    for budget in &settled.captured_budgets {
        packer.text(counter_bytes(*budget));
    }
}

/// The latest of the instants of commands that are sent together.
pub(crate) fn latest(commands: &[SettleCommand]) -> Millis {
    commands.iter().map(|command| command.now).max().unwrap_or_default()
}
