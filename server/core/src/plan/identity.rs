//! Which counter a limit counts in: hashes of what sets counters apart.

use smallvec::SmallVec;
use xxhash_rust::xxh3::{Xxh3, xxh3_128_with_seed};

use crate::counter::{CounterFamily, CounterId};
use crate::ids::WorkspaceId;
use crate::matching::{Scope, ScopeValue};
use crate::unit::Unit;

/// Sets an overflow counter apart from the counter of a scope without values.
const OVERFLOW_SEED: u64 = 0x6f76_6572_666c_6f77;
/// Bytes of a scope's values that are put together without an allocation: a key and a subject.
const VALUE_BYTES_INLINE: usize = 128;
/// Sets limits that callers set themselves apart from rules and budgets, whose ids begin otherwise.
const CALLERS_LIMIT: &str = "caller";

/// The counter of a limit that a caller sets itself for what it describes, and the overflow counter of all
/// such limits of the same domain and window.
pub fn callers_counter(
    workspace: &WorkspaceId,
    domain: &str,
    described: &str,
    window_ms: i64,
) -> (CounterId, CounterId) {
    let mut hasher = Xxh3::new();
    for part in [workspace.as_str(), CALLERS_LIMIT, domain] {
        hasher.update(part.as_bytes());
        hasher.update(&[0]);
    }
    hasher.update(&window_ms.to_le_bytes());
    let seed = hasher.digest();
    (counter_id(family(seed), seed, &[ScopeValue::Text(described)]), overflow(seed))
}

/// Hashes what a counter's identity consists of besides the scope's values. Limit, rate, match,
/// name, mode and priority are not part of it, so changing them keeps the counter.
pub(super) fn seed(workspace: &WorkspaceId, id: &str, unit: &Unit, shape: &str, scope: &Scope) -> u64 {
    let mut hasher = Xxh3::new();
    for part in [workspace.as_str(), id, unit.as_str(), shape] {
        hasher.update(part.as_bytes());
        hasher.update(&[0]);
    }
    for dimension in &scope.dimensions {
        hasher.update(dimension.as_str().as_bytes());
        hasher.update(&[0]);
    }
    hasher.digest()
}

pub(super) fn family(seed: u64) -> CounterFamily {
    let [.., a, b, c, d] = seed.to_be_bytes();
    CounterFamily(u32::from_be_bytes([a, b, c, d]))
}

pub(super) fn overflow(seed: u64) -> CounterId {
    counter_id(family(seed), seed ^ OVERFLOW_SEED, &[])
}

pub(super) fn counter_id(family: CounterFamily, seed: u64, values: &[ScopeValue<'_>]) -> CounterId {
    let mut bytes: SmallVec<[u8; VALUE_BYTES_INLINE]> = SmallVec::new();
    for value in values {
        match value {
            // The length in front keeps ("ab", "c") apart from ("a", "bc").
            ScopeValue::Text(text) => {
                bytes.extend_from_slice(&(text.len() as u64).to_le_bytes());
                bytes.extend_from_slice(text.as_bytes());
            }
            ScopeValue::Address(network) => {
                bytes.extend_from_slice(&u64::MAX.to_le_bytes());
                bytes.extend_from_slice(network);
            }
        }
    }
    // At once: hashing in parts costs more than all the rest for so few bytes.
    CounterId::of(family, xxh3_128_with_seed(&bytes, seed))
}
