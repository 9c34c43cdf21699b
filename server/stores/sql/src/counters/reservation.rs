//! A reservation as bytes, with the call that it stands for.

use std::sync::Arc;

use rateguard_core::counter::sliding_window::sub_window_ms;
use rateguard_core::counter::{CounterId, Mark, Position, Refill};
use rateguard_core::ids::{ApiId, KeyId, RequestId, ReservationId};
use rateguard_core::invalid::Invalid;
use rateguard_core::limits::WINDOW_MS_MAX;
use rateguard_core::money::Nanos;
use rateguard_core::reservation::{Captured, Reservation, ReservationState};
use rateguard_core::time::Millis;
use rateguard_core::unit::Unit;
use rateguard_core::usage::CallIdentity;

use super::bytes::{Malformed, Reader, Writer};
use super::state::{read_millis, write_millis};

/// The shape of reservations as they are written now.
const VERSION: u8 = 2;
const TOKEN_BUCKET: u8 = 1;
const WINDOW: u8 = 2;
const SLIDING_WINDOW: u8 = 3;
const BUDGET: u8 = 4;
const CONCURRENCY: u8 = 5;

/// A reservation as bytes, without its id.
pub(super) fn encode(reservation: &Reservation) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.byte(VERSION);
    writer.text(reservation.key.as_str());
    writer.byte(u8::from(reservation.by_gateway));
    writer.byte(state_code(reservation.state));
    write_millis(&mut writer, reservation.decided_at);
    write_millis(&mut writer, reservation.expires_at);
    writer.signed(reservation.floor.get().into());
    writer.signed(reservation.included.0.into());
    write_call(&mut writer, &reservation.call);
    writer.option(reservation.request_id.as_ref(), |writer, id| writer.text(id.as_str()));
    writer.unsigned(reservation.captured.len() as u128);
    for captured in &reservation.captured {
        write_captured(&mut writer, captured);
    }
    writer.finish()
}

/// A reservation from its bytes.
pub(super) fn decode(id: ReservationId, bytes: &[u8]) -> Result<Reservation, Malformed> {
    let mut reader = Reader::new(bytes);
    let version = reader.byte("version")?;
    if !(1..=VERSION).contains(&version) {
        return Err(Malformed("version"));
    }
    let mut reservation = Reservation {
        id,
        key: parse("key", reader.text("key")?, KeyId::parse)?,
        by_gateway: reader.flag("holder")?,
        state: read_state(&mut reader)?,
        decided_at: read_millis(&mut reader, "decision's instant")?,
        expires_at: read_millis(&mut reader, "expiry")?,
        floor: read_nanos(&mut reader)?,
        included: if version > 1 { Position(reader.number("position")?) } else { Position::default() },
        call: Arc::new(read_call(&mut reader)?),
        request_id: reader.option("request id", |reader| {
            parse("request id", reader.text("request id")?, RequestId::parse)
        })?,
        captured: (0..reader.length("number of counters")?)
            .map(|_| read_captured(&mut reader))
            .collect::<Result<_, _>>()?,
    };
    reader.finish()?;
    if version == 1 {
        reservation.floor = floor_left(&reservation);
    }
    Ok(reservation)
}

/// What is left of the floor in the first shape, where the budgets alone told it.
fn floor_left(reservation: &Reservation) -> Nanos {
    let budgets = || reservation.captured.iter().filter(|captured| captured.is_budget());
    if reservation.state != ReservationState::Open && budgets().all(|budget| budget.taken <= 0) {
        return Nanos::ZERO;
    }
    let spent = budgets().filter_map(|budget| budget.used).max().unwrap_or(0);
    Nanos::from_stored(reservation.floor.get().saturating_sub(spent).max(0))
}

fn state_code(state: ReservationState) -> u8 {
    match state {
        ReservationState::Open => 0,
        ReservationState::Settled => 1,
        ReservationState::Released => 2,
        ReservationState::Expired => 3,
    }
}

fn read_state(reader: &mut Reader<'_>) -> Result<ReservationState, Malformed> {
    Ok(match reader.byte("state")? {
        0 => ReservationState::Open,
        1 => ReservationState::Settled,
        2 => ReservationState::Released,
        3 => ReservationState::Expired,
        _ => return Err(Malformed("state")),
    })
}

fn read_nanos(reader: &mut Reader<'_>) -> Result<Nanos, Malformed> {
    Nanos::parse("floor", reader.number("floor")?).map_err(|_| Malformed("floor"))
}

fn write_call(writer: &mut Writer, call: &CallIdentity) {
    let CallIdentity { key, api, api_name, endpoint, method, model, service_tier, subject } = call;
    writer.text(key.as_str());
    writer.option(api.as_ref(), |writer, api| writer.text(api.as_str()));
    for text in [api_name, endpoint, method, model, service_tier, subject] {
        writer.text(text);
    }
}

fn read_call(reader: &mut Reader<'_>) -> Result<CallIdentity, Malformed> {
    Ok(CallIdentity {
        key: parse("call's key", reader.text("call's key")?, KeyId::parse)?,
        api: reader.option("API", |reader| parse("API", reader.text("API")?, ApiId::parse))?,
        api_name: reader.text("API's name")?.to_owned(),
        endpoint: reader.text("endpoint")?.to_owned(),
        method: reader.text("method")?.to_owned(),
        model: reader.text("model")?.to_owned(),
        service_tier: reader.text("service tier")?.to_owned(),
        subject: reader.text("subject")?.to_owned(),
    })
}

fn write_captured(writer: &mut Writer, captured: &Captured) {
    let Captured { counter, unit, taken, used, mark } = captured;
    writer.bytes(&counter.0.to_be_bytes());
    writer.text(unit.as_str());
    writer.signed((*taken).into());
    writer.option(*used, |writer, used| writer.signed(used.into()));
    write_mark(writer, *mark);
}

fn read_captured(reader: &mut Reader<'_>) -> Result<Captured, Malformed> {
    Ok(Captured {
        counter: CounterId(u128::from_be_bytes(reader.array("counter")?)),
        unit: parse("unit", reader.text("unit")?, Unit::parse)?,
        taken: reader.number("taken amount")?,
        used: reader.option("used amount", |reader| reader.number("used amount"))?,
        mark: read_mark(reader)?,
    })
}

fn write_mark(writer: &mut Writer, mark: Mark) {
    match mark {
        Mark::TokenBucket { at, refill } => {
            writer.byte(TOKEN_BUCKET);
            write_millis(writer, at);
            writer.signed(refill.units().into());
            writer.signed(refill.period_ms().into());
        }
        Mark::Window { start, end } => {
            writer.byte(WINDOW);
            write_millis(writer, start);
            write_millis(writer, end);
        }
        Mark::SlidingWindow { slot, window_ms } => {
            writer.byte(SLIDING_WINDOW);
            writer.signed(slot.into());
            writer.signed(window_ms.into());
        }
        Mark::Budget { start, end } => {
            writer.byte(BUDGET);
            write_millis(writer, start);
            write_millis(writer, end);
        }
        Mark::Concurrency => writer.byte(CONCURRENCY),
    }
}

fn read_mark(reader: &mut Reader<'_>) -> Result<Mark, Malformed> {
    Ok(match reader.byte("mark")? {
        TOKEN_BUCKET => Mark::TokenBucket { at: read_millis(reader, "mark")?, refill: read_refill(reader)? },
        WINDOW => Mark::Window { start: read_millis(reader, "mark")?, end: read_millis(reader, "mark")? },
        SLIDING_WINDOW => read_sub_window(reader)?,
        BUDGET => Mark::Budget { start: read_millis(reader, "mark")?, end: read_millis(reader, "mark")? },
        CONCURRENCY => Mark::Concurrency,
        _ => return Err(Malformed("mark")),
    })
}

/// A sub-window lies in the years of the calendar.
fn read_sub_window(reader: &mut Reader<'_>) -> Result<Mark, Malformed> {
    let (slot, window_ms): (i64, i64) = (reader.number("slot")?, reader.number("window")?);
    if !(1..=WINDOW_MS_MAX).contains(&window_ms) {
        return Err(Malformed("window"));
    }
    let start = slot.checked_mul(sub_window_ms(window_ms)).ok_or(Malformed("slot"))?;
    if Millis::new(start).get() != start {
        return Err(Malformed("slot"));
    }
    Ok(Mark::SlidingWindow { slot, window_ms })
}

fn read_refill(reader: &mut Reader<'_>) -> Result<Refill, Malformed> {
    let (units, period_ms) = (reader.number("refill")?, reader.number("refill")?);
    // The capacity is not part of a mark; its bound was checked with the rule.
    Refill::new(units, period_ms, 0).map_err(|_| Malformed("refill"))
}

fn parse<T>(
    what: &'static str,
    text: &str,
    parse: impl FnOnce(&'static str, &str) -> Result<T, Invalid>,
) -> Result<T, Malformed> {
    parse(what, text).map_err(|_| Malformed(what))
}

#[cfg(test)]
mod tests;
