//! The places from which accounts have come in.

use std::collections::HashSet;

/// Places of accounts in one generation. Two are kept, of some 3 MiB each.
const GENERATION_MAX: usize = 50_000;

/// Pairs of a place and an address, by hash, in two generations: when the younger one is full, the older one is
/// forgotten. Whoever comes in again stays.
#[derive(Default)]
pub(super) struct KnownPlaces {
    young: HashSet<u128>,
    old: HashSet<u128>,
}

impl KnownPlaces {
    /// Remembers a pair.
    pub(super) fn insert(&mut self, pair: u128) {
        if self.young.len() >= GENERATION_MAX && !self.young.contains(&pair) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(pair);
    }

    /// Whether a pair is remembered.
    pub(super) fn contains(&self, pair: u128) -> bool {
        self.young.contains(&pair) || self.old.contains(&pair)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_came_in_last_is_remembered_and_the_oldest_are_forgotten() {
        let mut places = KnownPlaces::default();
        places.insert(u128::MAX);
        (0..GENERATION_MAX as u128).for_each(|pair| places.insert(pair));
        assert!(places.contains(u128::MAX) && places.contains(0));
        places.insert(u128::MAX);
        (0..GENERATION_MAX as u128).for_each(|pair| places.insert(1_000_000 + pair));
        assert!(places.contains(u128::MAX) && !places.contains(0));
        assert!(places.young.len() <= GENERATION_MAX && places.old.len() <= GENERATION_MAX);
    }
}
