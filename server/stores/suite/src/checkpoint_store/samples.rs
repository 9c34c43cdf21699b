//! Counters and reservations to save.

use std::sync::Arc;

use rateguard_core::counter::budget::{AnonymousHold, PeriodMoney};
use rateguard_core::counter::{
    BudgetCounter, ConcurrencyCounter, Counter, CounterFamily, CounterId, Limit, Mark, Position, Refill,
    SlidingWindow, WindowCounter,
};
use rateguard_core::ids::{ApiId, KeyId, RequestId, ReservationId, WorkspaceId};
use rateguard_core::invalid::Invalid;
use rateguard_core::money::Nanos;
use rateguard_core::reservation::{Captured, Reservation, ReservationState};
use rateguard_core::time::Millis;
use rateguard_core::unit::Unit;
use rateguard_core::usage::CallIdentity;
use rateguard_engine::ports::{CounterRow, LeadRow, Loss};

const NOW: Millis = Millis::ZERO;

/// A row of a window in which so much is used.
pub fn row(workspace: &str, number: u64, used: i64) -> CounterRow {
    CounterRow {
        workspace: ws(workspace),
        id: CounterId(number.into()),
        included: Position(number),
        counter: window(used),
        crashes: 0,
    }
}

/// A lead of so many units, with what two crashes have lost.
pub fn lead(workspace: &str, family: u32, units: i64) -> LeadRow {
    let at = Millis::new(1_750_000_000_000);
    let losses = vec![Loss { crash: 3, at, units: 20 }, Loss { crash: 5, at: at.plus(7), units: i64::MAX }];
    LeadRow { workspace: ws(workspace), family: CounterFamily(family), units, span_ms: 60_000, losses }
}

/// A window in which so much is used.
pub fn window(used: i64) -> Counter {
    let start = Millis::new(1_750_000_000_000);
    Counter::Window(WindowCounter { start, end: start.plus(60_000), used })
}

/// Counters of every kind, fresh, used and at their extremes.
pub fn counters() -> Vec<Counter> {
    let mut all = vec![window(0), window(i64::MAX)];
    all.extend(token_buckets());
    all.extend(
        [SlidingWindow::default(), used_sliding_window()].map(|s| Counter::SlidingWindow(Box::new(s))),
    );
    all.extend([BudgetCounter::default(), used_budget()].map(|state| Counter::Budget(Box::new(state))));
    let running = ConcurrencyCounter {
        held: i64::MAX,
        lost: 3,
        lost_until: Millis::new(1_750_000_000_000),
        ceiling: i64::MAX,
    };
    all.extend([ConcurrencyCounter::default(), running].map(|state| Counter::Concurrency(Box::new(state))));
    all
}

/// Made by use, since a bucket's parts depend on each other.
fn token_buckets() -> [Counter; 2] {
    let refill = valid(|| Refill::new(7, 1_000, 1 << 40));
    let limit = Limit::TokenBucket { capacity: 1 << 40, refill };
    let fresh = Counter::fresh(&limit, NOW);
    let mut used = fresh.clone();
    used.take(&limit, 1 << 40, Millis::new(1_750_000_000_000));
    used.take(&limit, 3, Millis::new(1_750_000_000_333));
    [fresh, used]
}

fn used_sliding_window() -> SlidingWindow {
    let slots: Vec<(i64, i64)> = (0..=60).map(|place| (1_750_000_000 + place, 1 << (place % 50))).collect();
    SlidingWindow {
        sum: slots.iter().map(|(_, amount)| amount).sum(),
        sub_window_ms: 1_000,
        slots: slots.into(),
    }
}

/// With sums that pass 64 bits.
fn used_budget() -> BudgetCounter {
    let period = |start, spent, held| PeriodMoney {
        start: Millis::new(start),
        end: Millis::new(start + 86_400_000),
        spent,
        held,
    };
    BudgetCounter {
        current: period(1_750_032_000_000, i128::from(i64::MAX) * 1_000, 1),
        previous: Some(period(1_749_945_600_000, -5, i128::from(i64::MAX))),
        anonymous: AnonymousHold { nanos: 1 << 70, until: Millis::new(1_750_050_000_000) },
        ceiling: 1 << 80,
    }
}

/// A reservation with every kind of mark.
pub fn reservation(number: u128) -> Reservation {
    valid(|| {
        let key = KeyId::parse("key", "key_1")?;
        Ok(Reservation {
            id: ReservationId::from_bits(number),
            key: key.clone(),
            by_gateway: number.is_multiple_of(2),
            state: ReservationState::Open,
            decided_at: Millis::new(1_750_000_000_000),
            expires_at: Millis::new(1_750_000_600_000),
            floor: Nanos::parse("floor", 1_234)?,
            included: Position(77),
            call: Arc::new(call(key)?),
            request_id: Some(RequestId::parse("request_id", "req-1")?),
            captured: marks()?.into_iter().zip(1..).map(|(mark, n)| captured(mark, n)).collect(),
        })
    })
}

fn call(key: KeyId) -> Result<CallIdentity, Invalid> {
    Ok(CallIdentity {
        key,
        api: Some(ApiId::parse("api", "api_1")?),
        api_name: "openai".to_owned(),
        endpoint: "/v1/chat/completions".to_owned(),
        method: "POST".to_owned(),
        model: "gpt-4o-mini".to_owned(),
        service_tier: String::new(),
        subject: "customer:42 – Zürich".to_owned(),
    })
}

fn marks() -> Result<[Mark; 5], Invalid> {
    let at = Millis::new(1_750_000_000_000);
    Ok([
        Mark::TokenBucket { at, refill: Refill::new(7, 1_000, 10)? },
        Mark::Window { start: at, end: at.plus(60_000) },
        Mark::SlidingWindow { slot: 1_750_000_000, window_ms: 60_000 },
        Mark::Budget { start: at, end: at.plus(86_400_000) },
        Mark::Concurrency,
    ])
}

fn captured(mark: Mark, number: i64) -> Captured {
    let unit = if matches!(mark, Mark::Budget { .. }) { Unit::Cost } else { Unit::Custom("images".into()) };
    let used = (number % 2 == 0).then_some(number * 10);
    Captured {
        counter: CounterId(u128::MAX - number.unsigned_abs() as u128),
        unit,
        taken: number,
        used,
        mark,
    }
}

/// A workspace's id.
pub fn ws(id: &str) -> WorkspaceId {
    valid(|| WorkspaceId::parse("workspace", id))
}

/// Samples are constants: one that is not valid is a mistake in this file.
fn valid<T>(make: impl FnOnce() -> Result<T, Invalid>) -> T {
    make().expect("a sample is valid")
}
