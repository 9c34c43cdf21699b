//! The counters that a store has left behind, from the core in memory and from the scripts.

use std::collections::BTreeMap;

use async_trait::async_trait;
use parking_lot::Mutex;
use rateguard_core::counter::budget::AnonymousHold;
use rateguard_core::counter::{
    BudgetCounter, ConcurrencyCounter, Counter, CounterId, Lent, Low, Lows, Pending, PeriodMoney, Position,
    SlidingWindow, TokenBucket, WindowCounter,
};
use rateguard_core::ids::WorkspaceId;
use rateguard_core::reservation::Reservation;
use rateguard_core::time::Millis;
use rateguard_engine::ports::{Checkpoint, CheckpointBatch, CheckpointStore, StoreError};
use redis::aio::MultiplexedConnection;
use redis::{Value, cmd};

/// Counters by their ids, with the position that each includes.
pub type Left = BTreeMap<CounterId, (Position, Counter)>;

/// Keeps the counters that the store in memory writes down.
#[derive(Default)]
pub struct Rows(Mutex<Left>);

impl Rows {
    /// The counters, without what only a store that may crash keeps of budgets.
    pub fn left(&self) -> Left {
        let mut left = self.0.lock().clone();
        for (_, counter) in left.values_mut() {
            match counter {
                Counter::Budget(budget) => {
                    budget.ceiling = 0;
                    budget.anonymous = AnonymousHold::default();
                }
                Counter::Concurrency(concurrency) => concurrency.ceiling = 0,
                _ => {}
            }
        }
        left
    }
}

#[async_trait]
impl CheckpointStore for Rows {
    async fn save(&self, batch: CheckpointBatch) -> Result<(), StoreError> {
        let mut rows = self.0.lock();
        for (_, removed) in batch.removed {
            rows.remove(&removed);
        }
        rows.extend(batch.rows.into_iter().map(|row| (row.id, (row.included, row.counter))));
        Ok(())
    }

    async fn load(&self) -> Result<Checkpoint, StoreError> {
        Ok(Checkpoint::default())
    }

    async fn save_reservations(&self, _: Vec<(WorkspaceId, Reservation)>) -> Result<(), StoreError> {
        Ok(())
    }
}

/// Kinds of counters that there may be.
const KINDS: i128 = 8;

/// Every counter as a list of texts: its id, then its state.
const UNPACK: &str = "
local all = {}
local raw = redis.call('HGETALL', KEYS[1])
for place = 1, #raw, 2 do
  if raw[place] ~= 'm' then
    local counter = { raw[place] }
    for _, part in ipairs({ cmsgpack.unpack(raw[place + 1]) }) do
      counter[#counter + 1] = type(part) == 'number' and string.format('%.0f', part) or part
    end
    all[#all + 1] = counter
  end
end
return all
";

/// The counters under a key.
pub async fn dump(connection: &mut MultiplexedConnection, key: &str) -> Left {
    let value: Value =
        cmd("EVAL").arg(UNPACK).arg(1).arg(key).query_async(connection).await.expect("it is there");
    lists(value).into_iter().map(counter).collect()
}

fn lists(value: Value) -> Vec<Vec<Value>> {
    let list = |value| match value {
        Value::Array(values) => values,
        other => panic!("no list: {other:?}"),
    };
    list(value).into_iter().map(list).collect()
}

fn counter(parts: Vec<Value>) -> (CounterId, (Position, Counter)) {
    let bytes = |value: &Value| match value {
        Value::BulkString(bytes) => bytes.clone(),
        other => panic!("no bytes: {other:?}"),
    };
    let id = <[u8; 16]>::try_from(bytes(&parts[0])).expect("an id has 16 bytes");
    let number =
        |value: &Value| String::from_utf8(bytes(value)).expect("text").parse::<i128>().expect("a number");
    let numbers: Vec<i128> = parts[1..].iter().map(number).collect();
    let position = Position(u64::try_from(numbers[1]).expect("a position"));
    // The kind stands with the instant of the workspace's last reset.
    (CounterId(u128::from_be_bytes(id)), (position, state(numbers[0] % KINDS, &numbers[2..])))
}

/// What is lent, where that is told, before the lowest levels in pairs.
fn pending(of: &[i128]) -> Option<Box<Pending>> {
    let small = |number: i128| i64::try_from(number).expect("64 bits");
    let (lent, lows) = of.split_at(if of.len() % 2 == 1 { 3 } else { 0 });
    let lent = match lent {
        [] => None,
        [generation, current, previous] => Some(Lent {
            generation: small(*generation),
            current: small(*current),
            previous: small(*previous),
        }),
        _ => unreachable!("split into three or none"),
    };
    let low = |pair: &[i128]| Low { since: Millis::new(small(pair[0])), ticks: pair[1] };
    let lows = Lows::from_stored(lows.chunks(2).map(low).collect());
    (!of.is_empty()).then(|| Box::new(Pending { lent, lows }))
}

fn state(kind: i128, of: &[i128]) -> Counter {
    let small = |place: usize| i64::try_from(of[place]).expect("64 bits");
    let at = |place: usize| Millis::new(small(place));
    match kind {
        1 => Counter::TokenBucket(TokenBucket {
            used: small(0),
            remainder: small(1),
            remainder_of: small(2),
            refill_units: small(3),
            at: at(4),
            idle_at: at(5),
            pending: pending(&of[6..]),
        }),
        2 => Counter::Window(WindowCounter { start: at(0), end: at(1), used: small(2) }),
        3 => Counter::SlidingWindow(Box::new(SlidingWindow {
            sum: small(0),
            sub_window_ms: small(1),
            slots: (2..of.len()).step_by(2).map(|place| (small(place), small(place + 1))).collect(),
        })),
        4 => {
            let money = |place: usize| PeriodMoney {
                start: at(place),
                end: at(place + 1),
                spent: of[place + 2],
                held: of[place + 3],
            };
            let previous = (of.len() > 4).then(|| money(4));
            Counter::Budget(Box::new(BudgetCounter {
                current: money(0),
                previous,
                ..BudgetCounter::default()
            }))
        }
        6 => Counter::Concurrency(Box::new(ConcurrencyCounter {
            held: small(0),
            lost: small(1),
            lost_until: at(2),
            ..ConcurrencyCounter::default()
        })),
        other => panic!("a counter of kind {other}"),
    }
}
