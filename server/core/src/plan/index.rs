//! Which limits may apply to a call, found by what their matches name, so that a check costs as much as the
//! limits that match it and not as all that there are.

use std::collections::HashMap;
use std::hash::Hash;

use smallvec::SmallVec;

use super::PlannedLimit;
use crate::ids::{ApiId, KeyId};
use crate::matching::{CallFacts, Glob};

/// Lengths by which beginnings are told apart: a call is looked up once for each.
const LENGTHS_MAX: usize = 16;
/// Beginnings below this, as the `/` of every path, tell hardly any calls apart.
const BEGINNING_BYTES_MIN: usize = 2;

/// Places of limits, by falling priority.
pub(super) type Places = SmallVec<[usize; 16]>;

/// The places of limits by one thing that each of them names: of several, by what tells most calls apart.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    by_key: HashMap<KeyId, Vec<usize>>,
    by_subject: HashMap<Box<str>, Vec<usize>>,
    by_endpoint: Beginnings,
    by_model: Beginnings,
    by_api: HashMap<ApiId, Vec<usize>>,
    for_any: Vec<usize>,
}

impl Index {
    pub(super) fn new(limits: &[PlannedLimit]) -> Self {
        let mut index = Self::default();
        for (place, limit) in limits.iter().enumerate() {
            index.add(place, limit);
        }
        index.by_endpoint.shorten();
        index.by_model.shorten();
        index
    }

    fn add(&mut self, place: usize, limit: &PlannedLimit) {
        let matches = &limit.matches;
        if !matches.keys.is_empty() {
            put(&mut self.by_key, place, matches.keys.iter().cloned());
        } else if !matches.subjects.is_empty() {
            put(&mut self.by_subject, place, matches.subjects.iter().map(|subject| subject.as_str().into()));
        } else if let Some(beginnings) = beginnings(&matches.endpoints) {
            put(&mut self.by_endpoint.places, place, beginnings);
        } else if let Some(beginnings) = beginnings(&matches.models) {
            put(&mut self.by_model.places, place, beginnings);
        } else if !matches.apis.is_empty() {
            put(&mut self.by_api, place, matches.apis.iter().cloned());
        } else {
            self.for_any.push(place);
        }
    }

    /// The places of all limits that may apply to a call, and of few others.
    pub(super) fn candidates(&self, facts: &CallFacts<'_>) -> Places {
        let mut places: Places = self.for_any.iter().copied().collect();
        let named = [
            self.by_key.get(facts.key),
            self.by_subject.get(facts.subject),
            facts.api.and_then(|api| self.by_api.get(api)),
        ];
        places.extend(named.into_iter().flatten().flatten().copied());
        self.by_endpoint.add_to(&mut places, facts.endpoint);
        self.by_model.add_to(&mut places, facts.model);
        // In their order again, and one that is named in two ways is still one.
        places.sort_unstable();
        places.dedup();
        places
    }
}

/// Limits by how the texts begin that their patterns match.
#[derive(Clone, Debug, Default)]
struct Beginnings {
    places: HashMap<Box<str>, Vec<usize>>,
    /// The lengths that there are, in bytes.
    lengths: Vec<usize>,
}

impl Beginnings {
    /// Where there are too many lengths, those between the ones that stay become shorter.
    fn shorten(&mut self) {
        let all = self.lengths_in_use();
        let kept: Vec<usize> = match all.len() {
            0..=LENGTHS_MAX => all,
            count => (0..LENGTHS_MAX).map(|n| all[n * (count - 1) / (LENGTHS_MAX - 1)]).collect(),
        };
        for (beginning, places) in std::mem::take(&mut self.places) {
            let length = kept.iter().rev().find(|length| **length <= beginning.len()).copied().unwrap_or(0);
            let shorter = &beginning[..beginning.floor_char_boundary(length)];
            self.places.entry(shorter.into()).or_default().extend(places);
        }
        // A character may have stood across one of them.
        self.lengths = self.lengths_in_use();
    }

    fn lengths_in_use(&self) -> Vec<usize> {
        let mut lengths: Vec<usize> = self.places.keys().map(|beginning| beginning.len()).collect();
        lengths.sort_unstable();
        lengths.dedup();
        lengths
    }

    fn add_to(&self, places: &mut Places, text: &str) {
        for length in &self.lengths {
            let Some(beginning) = text.get(..*length) else { continue };
            places.extend(self.places.get(beginning).into_iter().flatten().copied());
        }
    }
}

/// How texts begin that one of the patterns matches; `None` where that tells too little.
fn beginnings(patterns: &[Glob]) -> Option<Vec<Box<str>>> {
    let tells = |pattern: &Glob| pattern.beginning().len() >= BEGINNING_BYTES_MIN;
    let all_tell = !patterns.is_empty() && patterns.iter().all(tells);
    all_tell.then(|| patterns.iter().map(|pattern| pattern.beginning().into()).collect())
}

fn put<K: Eq + Hash>(places: &mut HashMap<K, Vec<usize>>, place: usize, names: impl IntoIterator<Item = K>) {
    for name in names {
        places.entry(name).or_default().push(place);
    }
}
