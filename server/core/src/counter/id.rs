//! Which counter: its id tells whose it is and, of a rule that is spread, where it stands.

use xxhash_rust::xxh3::xxh3_64;

/// How many shards the counters of a workspace's spread rules stand in: enough to use all servers of a large
/// cluster, and few enough to look after each of them.
pub const SHARDS: u8 = 64;
/// Bits of an id that are its family.
const FAMILY_BITS: u32 = 32;
/// Bits above these that hold the number of a shard.
const SHARD_BITS: u32 = 8;
/// What the 24 bits above these are in an id that tells its shard, and in no other.
const MARK: u128 = 0x0073_6864 << (FAMILY_BITS + SHARD_BITS);
const MARK_MASK: u128 = 0x00ff_ffff << (FAMILY_BITS + SHARD_BITS);
const SHARD_MASK: u128 = MARK_MASK | 0xff << FAMILY_BITS;

/// Which counter: a hash of the workspace, the limit's id, its shape and the scope's values. Its
/// last 32 bits are the [`CounterFamily`]; of a spread rule the 32 bits before them tell the [`Shard`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CounterId(pub u128);

/// Whose counter: a hash of the workspace, the limit's id and its shape, the same in all counters of
/// one limit. Two limits may share one, so it only says whose a counter is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CounterFamily(pub u32);

/// Where counters of a workspace stand that are not beside its others, 0 to [`SHARDS`] − 1. All counters of one
/// subject are in the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Shard(u8);

impl Shard {
    /// The shard of a subject; calls without one have a shard, too.
    pub fn of_subject(subject: &str) -> Self {
        let [.., last] = xxh3_64(subject.as_bytes()).to_be_bytes();
        Self(last % SHARDS)
    }

    /// The shard with a number, where there is one.
    pub fn new(number: u8) -> Option<Self> {
        (number < SHARDS).then_some(Self(number))
    }

    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..SHARDS).map(Self)
    }

    /// Its number.
    pub fn number(self) -> u8 {
        self.0
    }
}

impl CounterId {
    /// A counter of a family, by a hash of everything that makes it different.
    pub fn of(family: CounterFamily, hash: u128) -> Self {
        let id = hash & !u128::from(u32::MAX) | u128::from(family.0);
        // One hash in 2²⁴ looks as if it told a shard.
        let is_marked = id & MARK_MASK == MARK;
        Self(if is_marked { id ^ 1 << (FAMILY_BITS + SHARD_BITS) } else { id })
    }

    /// The same counter in a shard.
    #[must_use]
    pub fn in_shard(self, shard: Shard) -> Self {
        Self(self.0 & !SHARD_MASK | MARK | u128::from(shard.0) << FAMILY_BITS)
    }

    /// The same counter where another one stands.
    #[must_use]
    pub fn beside(self, other: Self) -> Self {
        other.shard().map_or(self, |shard| self.in_shard(shard))
    }

    /// Where it stands; `None` beside all counters of its workspace that are not spread.
    pub fn shard(self) -> Option<Shard> {
        let [.., number, _, _, _, _] = self.0.to_be_bytes();
        (self.0 & MARK_MASK == MARK).then_some(number).and_then(Shard::new)
    }

    /// Whose counter it is.
    pub fn family(self) -> CounterFamily {
        let [.., a, b, c, d] = self.0.to_be_bytes();
        CounterFamily(u32::from_be_bytes([a, b, c, d]))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn only_an_id_in_a_shard_tells_one(hash: u128, family: u32, number in 0..SHARDS, is_marked: bool) {
            let family = CounterFamily(family);
            let hash = if is_marked { hash & !MARK_MASK | MARK } else { hash };
            let id = CounterId::of(family, hash);
            prop_assert_eq!((id.shard(), id.family()), (None, family));
            let shard = Shard::new(number).unwrap();
            let moved = id.in_shard(shard);
            prop_assert_eq!((moved.shard(), moved.family()), (Some(shard), family));
            prop_assert_eq!(id.beside(moved), moved);
            prop_assert_eq!(id.beside(id), id);
        }

        #[test]
        fn counters_of_one_shard_are_as_different_as_their_hashes(one: u64, other: u64) {
            let in_shard = |hash: u64| {
                CounterId::of(CounterFamily(7), u128::from(hash) << 64).in_shard(Shard::of_subject("alice"))
            };
            prop_assert_eq!(in_shard(one) == in_shard(other), one == other);
        }
    }

    #[test]
    fn subjects_are_spread_evenly() {
        let mut subjects = [0_u32; SHARDS as usize];
        for number in 0..64_000 {
            subjects[usize::from(Shard::of_subject(&format!("customer-{number}")).number())] += 1;
        }
        assert!(subjects.iter().all(|count| (800..1_200).contains(count)), "{subjects:?}");
    }

    #[test]
    fn a_subjects_shard_is_the_same_in_every_version_of_the_program() {
        // Replicas of two versions would count one subject twice.
        let numbers: Vec<u8> =
            ["", "alice", "bob"].iter().map(|subject| Shard::of_subject(subject).number()).collect();
        assert_eq!(numbers, [2, 48, 37]);
    }
}
