//! Where the counters of a workspace stand: in one map while they are few, then in many.

use std::ops::Range;

use hashbrown::hash_map::Entry;
use hashbrown::{DefaultHashBuilder, HashMap};
use rateguard_core::counter::CounterId;

/// Parts that counters are told apart by: the first byte of the id.
pub(super) const PARTS: usize = 256;
/// With so many counters each part gets a map of its own: a map that grows stalls everybody, and a 256th of a million
/// grows within microseconds. With fewer the maps themselves would be most of what a workspace takes.
const FEW_MAX: usize = 1_024;
/// A map keeps its memory until this many times fewer counters are left in it.
const SPARSE: usize = 4;

type Map<V> = HashMap<CounterId, V>;

/// Counters by their ids.
pub(super) enum Maps<V> {
    /// All parts together.
    One(Map<V>),
    /// Each part by itself, from then on.
    Many(Box<[Map<V>; PARTS]>),
}

pub(super) fn part_of(id: CounterId) -> usize {
    usize::from(id.0.to_be_bytes()[0])
}

impl<V> Maps<V> {
    pub(super) fn new() -> Self {
        Self::One(HashMap::new())
    }

    fn of(&self, id: CounterId) -> &Map<V> {
        match self {
            Self::One(map) => map,
            Self::Many(maps) => &maps[part_of(id)],
        }
    }

    fn of_mut(&mut self, id: CounterId) -> &mut Map<V> {
        match self {
            Self::One(map) => map,
            Self::Many(maps) => &mut maps[part_of(id)],
        }
    }

    pub(super) fn get(&self, id: CounterId) -> Option<&V> {
        self.of(id).get(&id)
    }

    pub(super) fn get_mut(&mut self, id: CounterId) -> Option<&mut V> {
        self.of_mut(id).get_mut(&id)
    }

    /// The place of a counter that exists, or that may be made.
    pub(super) fn entry(&mut self, id: CounterId) -> Entry<'_, CounterId, V, DefaultHashBuilder> {
        if let Self::One(map) = self
            && map.len() >= FEW_MAX
        {
            let few = std::mem::take(map);
            let mut many: Box<[Map<V>; PARTS]> = Box::new(std::array::from_fn(|_| HashMap::new()));
            for (id, value) in few {
                many[part_of(id)].insert(id, value);
            }
            *self = Self::Many(many);
        }
        self.of_mut(id).entry(id)
    }

    /// Puts a counter in its place, and gives the one that it replaces.
    pub(super) fn insert(&mut self, id: CounterId, value: V) -> Option<V> {
        match self.entry(id) {
            Entry::Occupied(mut place) => Some(place.insert(value)),
            Entry::Vacant(place) => {
                place.insert(value);
                None
            }
        }
    }

    /// The counters of some parts.
    pub(super) fn ids_in(&self, parts: &Range<usize>) -> Vec<CounterId> {
        match self {
            Self::One(map) => map.keys().copied().filter(|id| parts.contains(&part_of(*id))).collect(),
            Self::Many(maps) => maps[parts.clone()].iter().flat_map(HashMap::keys).copied().collect(),
        }
    }

    /// Drops what is not to stay of a part, or of all with the first one where they are together. Says how many went.
    pub(super) fn sweep(&mut self, part: u8, stays: impl FnMut(&CounterId, &mut V) -> bool) -> usize {
        let map = match self {
            Self::One(map) if part == 0 => map,
            Self::One(_) => return 0,
            Self::Many(maps) => &mut maps[usize::from(part)],
        };
        let before = map.len();
        map.retain(stays);
        if map.capacity() > SPARSE * map.len() {
            map.shrink_to(2 * map.len());
        }
        before - map.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One of a part.
    fn id(part: u8, number: u32) -> CounterId {
        CounterId(u128::from(part) << 120 | u128::from(number))
    }

    fn filled(count: u32) -> Maps<u32> {
        let mut maps = Maps::new();
        for number in 0..count {
            maps.entry(id((number % 256) as u8, number)).insert(number);
        }
        maps
    }

    #[test]
    fn few_stand_together_and_many_by_part() {
        for (count, are_together) in [(1_024, true), (1_025, false), (5_000, false)] {
            let mut maps = filled(count);
            assert_eq!(matches!(maps, Maps::One(_)), are_together);
            for number in 0..count {
                let id = id((number % 256) as u8, number);
                assert_eq!((maps.get(id).copied(), maps.get_mut(id).copied()), (Some(number), Some(number)));
            }
            assert_eq!(maps.get(id(0, count + 1)), None);
        }
    }

    #[test]
    fn parts_have_the_same_counters_wherever_they_stand() {
        for count in [1_000, 2_000] {
            let mut ids = filled(count).ids_in(&(16..32));
            ids.sort_unstable_by_key(|id| id.0);
            let mut of_parts: Vec<_> =
                (0..count).filter(|number| (16..32).contains(&(number % 256))).collect();
            of_parts.sort_unstable_by_key(|number| id((number % 256) as u8, *number).0);
            assert_eq!(
                ids,
                of_parts.iter().map(|number| id((number % 256) as u8, *number)).collect::<Vec<_>>()
            );
        }
    }

    #[test]
    fn a_sweep_of_all_parts_looks_at_each_counter_once_and_gives_memory_back() {
        for count in [1_000, 2_000] {
            let mut maps = filled(count);
            let mut seen = 0;
            let dropped: usize = (0..=u8::MAX)
                .map(|part| {
                    maps.sweep(part, |_, number| {
                        seen += 1;
                        *number < 3
                    })
                })
                .sum();
            assert_eq!((seen, dropped), (count, count as usize - 3));
            let capacity = match &maps {
                Maps::One(map) => map.capacity(),
                Maps::Many(maps) => maps.iter().map(HashMap::capacity).sum(),
            };
            assert!(capacity < 16, "room for {capacity}");
        }
    }
}
