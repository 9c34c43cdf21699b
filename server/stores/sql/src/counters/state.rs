//! A counter's state as bytes: a version, a kind, then the kind's own values. What is read back is
//! checked, so that damaged bytes never reach the arithmetic.

use rateguard_core::counter::budget::{AnonymousHold, PeriodMoney};
use rateguard_core::counter::{
    BudgetCounter, ConcurrencyCounter, Counter, Lent, Pending, SlidingWindow, TokenBucket, WindowCounter,
};
use rateguard_core::limits::WINDOW_MS_MAX;
use rateguard_core::time::Millis;

use super::bytes::{Malformed, Reader, Writer};

/// The shape of states as they are written now.
const VERSION: u8 = 1;
const TOKEN_BUCKET: u8 = 1;
const WINDOW: u8 = 2;
const SLIDING_WINDOW: u8 = 3;
const BUDGET: u8 = 4;
const CONCURRENCY: u8 = 5;
/// A token bucket of which something is lent.
const LENDING_BUCKET: u8 = 6;
/// No sum of money comes near this; two of them still add up in 128 bits.
const MONEY_SUM_MAX: i128 = 1 << 120;

/// A counter as bytes.
pub(super) fn encode(counter: &Counter) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.byte(VERSION);
    match counter {
        Counter::TokenBucket(state) => write_token_bucket(&mut writer, state),
        Counter::Window(state) => write_window(&mut writer, state),
        Counter::SlidingWindow(state) => write_sliding_window(&mut writer, state),
        Counter::Budget(state) => write_budget(&mut writer, state),
        Counter::Concurrency(state) => write_concurrency(&mut writer, state),
    }
    writer.finish()
}

/// A counter from its bytes.
pub(super) fn decode(bytes: &[u8]) -> Result<Counter, Malformed> {
    let mut reader = Reader::new(bytes);
    if reader.byte("version")? != VERSION {
        return Err(Malformed("version"));
    }
    let counter = match reader.byte("kind")? {
        TOKEN_BUCKET => Counter::TokenBucket(read_token_bucket(&mut reader)?),
        LENDING_BUCKET => {
            let bucket = read_token_bucket(&mut reader)?;
            let pending = Pending { lent: Some(read_lent(&mut reader)?), ..Pending::default() };
            Counter::TokenBucket(TokenBucket { pending: Some(Box::new(pending)), ..bucket })
        }
        WINDOW => Counter::Window(read_window(&mut reader)?),
        SLIDING_WINDOW => Counter::SlidingWindow(Box::new(read_sliding_window(&mut reader)?)),
        BUDGET => Counter::Budget(Box::new(read_budget(&mut reader)?)),
        CONCURRENCY => Counter::Concurrency(Box::new(read_concurrency(&mut reader)?)),
        _ => return Err(Malformed("kind")),
    };
    reader.finish()?;
    Ok(counter)
}

pub(super) fn write_millis(writer: &mut Writer, at: Millis) {
    writer.signed(at.get().into());
}

pub(super) fn read_millis(reader: &mut Reader<'_>, what: &'static str) -> Result<Millis, Malformed> {
    let ms = reader.number(what)?;
    // An instant that had to be clamped was never written.
    Some(Millis::new(ms)).filter(|at| at.get() == ms).ok_or(Malformed(what))
}

/// Without how low it has stood: less is given back of what was reserved before a start, and never more.
fn write_token_bucket(writer: &mut Writer, state: &TokenBucket) {
    let TokenBucket { used, remainder, remainder_of, refill_units, at, idle_at, pending } = state;
    let lent = pending.as_deref().and_then(|pending| pending.lent);
    writer.byte(if lent.is_some() { LENDING_BUCKET } else { TOKEN_BUCKET });
    for number in [used, remainder, remainder_of, refill_units] {
        writer.signed((*number).into());
    }
    write_millis(writer, *at);
    write_millis(writer, *idle_at);
    if let Some(Lent { generation, current, previous }) = lent {
        for number in [generation, current, previous] {
            writer.signed(number.into());
        }
    }
}

fn read_lent(reader: &mut Reader<'_>) -> Result<Lent, Malformed> {
    Ok(Lent {
        generation: read_natural(reader, "generation")?,
        current: read_natural(reader, "lent")?,
        previous: read_natural(reader, "lent before")?,
    })
}

fn read_token_bucket(reader: &mut Reader<'_>) -> Result<TokenBucket, Malformed> {
    Ok(TokenBucket {
        used: read_natural(reader, "used")?,
        remainder: read_natural(reader, "remainder")?,
        remainder_of: read_natural(reader, "remainder's whole")?,
        refill_units: read_natural(reader, "refill")?,
        at: read_millis(reader, "instant")?,
        idle_at: read_millis(reader, "end")?,
        pending: None,
    })
}

fn write_window(writer: &mut Writer, state: &WindowCounter) {
    let WindowCounter { start, end, used } = *state;
    writer.byte(WINDOW);
    write_millis(writer, start);
    write_millis(writer, end);
    writer.signed(used.into());
}

fn read_window(reader: &mut Reader<'_>) -> Result<WindowCounter, Malformed> {
    Ok(WindowCounter {
        start: read_millis(reader, "start")?,
        end: read_millis(reader, "end")?,
        used: read_natural(reader, "used")?,
    })
}

/// The sum is not written: it is that of the slots.
fn write_sliding_window(writer: &mut Writer, state: &SlidingWindow) {
    let SlidingWindow { sum: _, sub_window_ms, slots } = state;
    writer.byte(SLIDING_WINDOW);
    writer.signed((*sub_window_ms).into());
    writer.unsigned(slots.len() as u128);
    let mut last = 0;
    for (slot, amount) in slots {
        writer.signed(i128::from(*slot) - last);
        writer.signed((*amount).into());
        last = i128::from(*slot);
    }
}

fn read_sliding_window(reader: &mut Reader<'_>) -> Result<SlidingWindow, Malformed> {
    let sub_window_ms: i64 = read_natural(reader, "sub-window")?;
    if sub_window_ms > WINDOW_MS_MAX {
        return Err(Malformed("sub-window"));
    }
    let mut state = SlidingWindow { sub_window_ms, ..SlidingWindow::default() };
    let mut last = None;
    for _ in 0..reader.length("number of slots")? {
        let (slot, amount) = read_slot(reader, last, sub_window_ms)?;
        state.sum = state.sum.checked_add(amount).ok_or(Malformed("sum"))?;
        state.slots.push_back((slot, amount));
        last = Some(slot);
    }
    Ok(state)
}

fn read_slot(
    reader: &mut Reader<'_>,
    last: Option<i64>,
    sub_window_ms: i64,
) -> Result<(i64, i64), Malformed> {
    let step: i64 = read_natural(reader, "slot")?;
    let slot = last.unwrap_or(0).checked_add(step).ok_or(Malformed("slot"))?;
    let start = slot.checked_mul(sub_window_ms).ok_or(Malformed("slot"))?;
    // A slot lies in the years of the calendar, and each once, in rising order.
    if Millis::new(start).get() != start || (last.is_some() && step == 0) {
        return Err(Malformed("slot"));
    }
    Ok((slot, read_natural(reader, "amount")?))
}

fn write_budget(writer: &mut Writer, state: &BudgetCounter) {
    let BudgetCounter { current, previous, anonymous, ceiling } = *state;
    writer.byte(BUDGET);
    write_period(writer, current);
    writer.option(previous, write_period);
    writer.signed(anonymous.nanos);
    write_millis(writer, anonymous.until);
    writer.signed(ceiling);
}

fn read_budget(reader: &mut Reader<'_>) -> Result<BudgetCounter, Malformed> {
    Ok(BudgetCounter {
        current: read_period(reader)?,
        previous: reader.option("period before", read_period)?,
        anonymous: AnonymousHold {
            nanos: read_money(reader, "anonymous hold")?,
            until: read_millis(reader, "anonymous hold's end")?,
        },
        ceiling: read_money(reader, "ceiling")?,
    })
}

fn write_period(writer: &mut Writer, period: PeriodMoney) {
    let PeriodMoney { start, end, spent, held } = period;
    write_millis(writer, start);
    write_millis(writer, end);
    writer.signed(spent);
    writer.signed(held);
}

fn read_period(reader: &mut Reader<'_>) -> Result<PeriodMoney, Malformed> {
    Ok(PeriodMoney {
        start: read_millis(reader, "period's start")?,
        end: read_millis(reader, "period's end")?,
        spent: read_money(reader, "spent")?,
        held: read_money(reader, "held")?,
    })
}

fn write_concurrency(writer: &mut Writer, state: &ConcurrencyCounter) {
    let ConcurrencyCounter { held, lost, lost_until, ceiling } = *state;
    writer.byte(CONCURRENCY);
    for number in [held, lost, ceiling] {
        writer.signed(number.into());
    }
    write_millis(writer, lost_until);
}

fn read_concurrency(reader: &mut Reader<'_>) -> Result<ConcurrencyCounter, Malformed> {
    let mut natural = |what| read_natural(reader, what);
    let (held, lost, ceiling) = (natural("held")?, natural("lost")?, natural("ceiling")?);
    Ok(ConcurrencyCounter { held, lost, ceiling, lost_until: read_millis(reader, "lost hold's end")? })
}

pub(super) fn read_natural(reader: &mut Reader<'_>, what: &'static str) -> Result<i64, Malformed> {
    let number = reader.number(what)?;
    if number < 0 { Err(Malformed(what)) } else { Ok(number) }
}

fn read_money(reader: &mut Reader<'_>, what: &'static str) -> Result<i128, Malformed> {
    let nanos = reader.signed(what)?;
    if nanos.unsigned_abs() > MONEY_SUM_MAX.unsigned_abs() { Err(Malformed(what)) } else { Ok(nanos) }
}

#[cfg(test)]
mod tests;
