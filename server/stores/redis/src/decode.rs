//! The scripts' answers as the port gives them.

use std::sync::Arc;

use rateguard_core::counter::{CounterId, Limit, Mark, Position, Reading, Refill, RetryAfter};
use rateguard_core::decision::Verdict;
use rateguard_core::ids::{KeyId, ReservationId};
use rateguard_core::lease::{Lease, LeaseOutcome};
use rateguard_core::limits::LIMIT_MAX;
use rateguard_core::money::Nanos;
use rateguard_core::reservation::{Captured, Reservation, ReservationState};
use rateguard_core::time::Millis;
use rateguard_core::unit::Unit;
use rateguard_engine::ports::{CheckCommand, CheckOutcome, Decided, StoreError};
use smallvec::SmallVec;

use crate::calls::unpack_call;
use crate::reply::{Reply, corrupt};

/// A check that was decided; its reply's head is read.
pub(crate) fn decided(reply: &mut Reply, command: &CheckCommand) -> Result<CheckOutcome, StoreError> {
    let (allowed, replayed) = (reply.small()? == 1, reply.small()? == 1);
    let id = reply.bytes()?;
    let (expires_at, cost) = (reply.instant()?, reply.optional()?);
    let mut verdict = Verdict { allowed, readings: SmallVec::new(), marks: SmallVec::new() };
    for charge in &command.charges {
        let reading = reading(reply, &charge.limit)?;
        let denied = match reply.small()? {
            -1 => None,
            -2 => Some(RetryAfter::Never),
            wait_ms => Some(RetryAfter::Millis(wait_ms)),
        };
        verdict.readings.push(Reading { denied, ..reading });
        verdict.marks.push(mark_of(&charge.limit, reply.small()?, reply.small()?));
    }
    Ok(CheckOutcome::Decided(Decided {
        verdict,
        reservation: reserved(&id, expires_at)?,
        reserved: cost.map(Nanos::from_stored),
        replayed,
    }))
}

fn reserved(id: &[u8], expires_at: Millis) -> Result<Option<(ReservationId, Millis)>, StoreError> {
    if id.is_empty() {
        return Ok(None);
    }
    Ok(Some((reservation_id(id)?, expires_at)))
}

fn reservation_id(bytes: &[u8]) -> Result<ReservationId, StoreError> {
    let bits = <[u8; 16]>::try_from(bytes).map_err(|_| corrupt("a reservation's id"))?;
    Ok(ReservationId::from_bits(u128::from_be_bytes(bits)))
}

/// How a counter stands: used, held, and when it is given back.
pub(crate) fn reading(reply: &mut Reply, limit: &Limit) -> Result<Reading, StoreError> {
    let (used, held) = (reply.integer()?, reply.integer()?);
    let size = limit.size();
    let left = (i128::from(size) - used).max(0);
    let remaining = i64::try_from(left).unwrap_or(size);
    Ok(Reading { used, held, remaining, reset_at: reply.optional_instant()?, denied: None })
}

/// What became of a request for a lease.
pub(crate) fn leased(reply: &mut Reply, limit: &Limit) -> Result<LeaseOutcome, StoreError> {
    let reading = reading(reply, limit)?;
    let (amount, counter) = (reply.small()?, CounterId(u128::from_be_bytes(reply.exact()?)));
    let (first, second, life_ms) = (reply.small()?, reply.small()?, reply.small()?);
    let mark = mark_of(limit, first, second).ok_or_else(|| corrupt("where an amount was lent"))?;
    let lease = (amount > 0).then_some(Lease { counter, amount, mark, life_ms });
    Ok(LeaseOutcome { lease, reading })
}

fn mark_of(limit: &Limit, first: i64, second: i64) -> Option<Mark> {
    if first < 0 {
        return None;
    }
    let (start, end) = (Millis::new(first), Millis::new(second));
    Some(match *limit {
        Limit::TokenBucket { refill, .. } => Mark::TokenBucket { at: start, refill },
        Limit::FixedWindow { .. } | Limit::CalendarWindow { .. } => Mark::Window { start, end },
        Limit::SlidingWindow { window_ms, .. } => Mark::SlidingWindow { slot: first, window_ms },
        Limit::Budget { .. } => Mark::Budget { start, end },
    })
}

/// A reservation as `show` gives it.
pub(crate) fn reservation(reply: &mut Reply) -> Result<Reservation, StoreError> {
    let id = reservation_id(&reply.bytes()?)?;
    let (call, request_id) = unpack_call(&reply.bytes()?)?;
    let state = state(reply.small()?)?;
    let (decided_at, expires_at) = (reply.instant()?, reply.instant()?);
    let floor = Nanos::from_stored(reply.small()?);
    let included = position(reply.small()?)?;
    let key = KeyId::parse("key", &reply.text()?).map_err(|error| corrupt(error.to_string()))?;
    let by_gateway = reply.small()? == 1;
    let mut reservation = Reservation {
        id,
        key,
        by_gateway,
        state,
        decided_at,
        expires_at,
        floor,
        included,
        call: Arc::new(call),
        request_id,
        captured: SmallVec::new(),
    };
    while !reply.is_empty() {
        reservation.captured.push(captured(reply)?);
    }
    Ok(reservation)
}

fn state(code: i64) -> Result<ReservationState, StoreError> {
    Ok(match code {
        0 => ReservationState::Open,
        1 => ReservationState::Settled,
        2 => ReservationState::Released,
        3 => ReservationState::Expired,
        _ => return Err(corrupt("a reservation's state")),
    })
}

/// What a release found: a state, or nothing.
pub(crate) fn released(code: i64) -> Result<Option<ReservationState>, StoreError> {
    if code < 0 { Ok(None) } else { state(code).map(Some) }
}

fn position(number: i64) -> Result<Position, StoreError> {
    u64::try_from(number).map(Position).map_err(|_| corrupt("a position"))
}

fn captured(reply: &mut Reply) -> Result<Captured, StoreError> {
    Ok(Captured {
        counter: CounterId(u128::from_be_bytes(reply.exact()?)),
        unit: Unit::parse("unit", &reply.text()?).map_err(|error| corrupt(error.to_string()))?,
        taken: reply.small()?,
        used: reply.optional()?,
        mark: mark([reply.small()?, reply.small()?, reply.small()?, reply.small()?])?,
    })
}

fn mark([kind, first, second, third]: [i64; 4]) -> Result<Mark, StoreError> {
    let (start, end) = (Millis::new(first), Millis::new(second));
    Ok(match kind {
        1 => Mark::TokenBucket { at: start, refill: refill(second, third)? },
        2 => Mark::Window { start, end },
        3 => Mark::SlidingWindow { slot: first, window_ms: second },
        4 => Mark::Budget { start, end },
        _ => return Err(corrupt("where an amount was taken")),
    })
}

fn refill(units: i64, period_ms: i64) -> Result<Refill, StoreError> {
    // As large a bucket as may refill in such periods.
    let capacity = LIMIT_MAX / period_ms.max(1);
    Refill::new(units, period_ms, capacity).map_err(|error| corrupt(error.to_string()))
}
