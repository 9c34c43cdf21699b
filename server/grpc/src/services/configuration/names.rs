//! The names by which a configuration knows resources.

use std::collections::{HashMap, HashSet};

use rateguard_core::limits::DISPLAY_NAME_BYTES_MAX;
use rateguard_core::pricing::PriceSheet;
use rateguard_core::time::Millis;
use rateguard_engine::ports::{Resource, ResourceKind, Stored};

use crate::convert::timestamp;

/// Room for the number behind a name: no workspace that is read as a whole needs more than six digits.
const SUFFIX_BYTES_MAX: usize = "#999999".len();

/// Names and ids of one workspace's resources, both ways.
#[derive(Default)]
pub struct Names {
    ids: HashMap<(ResourceKind, String), String>,
    names: HashMap<(ResourceKind, String), String>,
}

impl Names {
    /// The names of stored resources.
    pub fn of(resources: &[Stored<Resource>]) -> Self {
        let mut names = Self::default();
        for kind in ResourceKind::ALL {
            let mut of_kind: Vec<_> = resources.iter().filter(|stored| stored.value.kind() == kind).collect();
            of_kind.sort_by(|one, other| {
                (one.created_at, one.value.id()).cmp(&(other.created_at, other.value.id()))
            });
            let plain = of_kind.iter().map(|stored| plain_name(&stored.value)).collect();
            for (stored, name) in of_kind.iter().zip(unique(plain)) {
                names.add(kind, name, stored.value.id());
            }
        }
        names
    }

    /// Makes a name known.
    pub fn add(&mut self, kind: ResourceKind, name: String, id: &str) {
        self.ids.insert((kind, name.clone()), id.to_owned());
        self.names.insert((kind, id.to_owned()), name);
    }

    /// The id behind a name.
    pub fn id(&self, kind: ResourceKind, name: &str) -> Option<&str> {
        self.ids.get(&(kind, name.to_owned())).map(String::as_str)
    }

    /// The name of an id; the id itself where nothing has it any more.
    pub fn name<'n>(&'n self, kind: ResourceKind, id: &'n str) -> &'n str {
        self.names.get(&(kind, id.to_owned())).map_or(id, String::as_str)
    }
}

/// What a resource is called, by itself.
fn plain_name(resource: &Resource) -> String {
    match resource {
        Resource::Api(api) => api.slug.to_string(),
        Resource::Key(key) => key.display_name.to_string(),
        Resource::Rule(rule) => rule.name.to_string(),
        Resource::Budget(budget) => budget.name.to_string(),
        Resource::PriceOverride(price) => {
            let PriceSheet { provider, model, effective_from, .. } = &price.sheet;
            price_name(provider, model, *effective_from)
        }
    }
}

/// The name of a price, with the instant from which it is in force. No provider has a slash in its name.
pub fn price_name(provider: &str, model: &str, effective_from: Millis) -> String {
    format!("{provider}/{model}@{}", timestamp(effective_from))
}

/// Tells those apart that are called the same: the first keeps its name, whatever the others are
/// called. The numbers of a name only rise, so that none is tried twice.
fn unique(plain: Vec<String>) -> Vec<String> {
    let mut taken: HashSet<String> = plain.iter().cloned().collect();
    let mut first_seen = HashSet::new();
    let mut next_numbers: HashMap<String, u64> = HashMap::new();
    let mut names = Vec::with_capacity(plain.len());
    for name in plain {
        if first_seen.insert(name.clone()) {
            names.push(name);
            continue;
        }
        let next = next_numbers.entry(cut(&name, SUFFIX_BYTES_MAX).to_owned()).or_insert(2);
        let mut free = numbered(&name, *next);
        while taken.contains(&free) {
            *next += 1;
            free = numbered(&name, *next);
        }
        taken.insert(free.clone());
        names.push(free);
    }
    names
}

/// A name with a number behind, short enough to be a name.
fn numbered(name: &str, number: u64) -> String {
    let suffix = format!("#{number}");
    format!("{}{suffix}", cut(name, suffix.len()))
}

/// As much of a name as leaves room for a suffix. Names that a number makes the same begin with the same.
fn cut(name: &str, suffix_bytes: usize) -> &str {
    let mut end = name.len().min(DISPLAY_NAME_BYTES_MAX.saturating_sub(suffix_bytes));
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    &name[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unique_of(plain: &[&str]) -> Vec<String> {
        unique(plain.iter().map(|name| (*name).to_owned()).collect())
    }

    #[test]
    fn the_first_of_a_name_keeps_it_and_the_others_are_numbered() {
        assert_eq!(unique_of(&["a", "b", "a", "a"]), ["a", "b", "a#2", "a#3"]);
    }

    #[test]
    fn a_number_that_is_somebodys_name_is_left_to_them() {
        assert_eq!(unique_of(&["a", "a", "a#2"]), ["a", "a#3", "a#2"]);
        assert_eq!(unique_of(&["a#2", "a#2", "a", "a"]), ["a#2", "a#2#2", "a", "a#3"]);
    }

    #[test]
    fn as_many_of_a_name_as_a_workspace_may_have_are_numbered_at_once() {
        let count = rateguard_engine::manage::CONFIGURATION_RESOURCES_MAX;
        let short = unique(vec!["a".to_owned(); count]);
        assert_eq!(short.last().map(String::as_str), Some(format!("a#{count}").as_str()));
        // Pairs that only differ where the number goes.
        let stem = "n".repeat(DISPLAY_NAME_BYTES_MAX - 4);
        let pairs: Vec<String> = (0..count).map(|number| format!("{stem}{:04}", number / 2)).collect();
        let names = unique(pairs);
        assert_eq!(names.iter().collect::<HashSet<_>>().len(), count);
    }

    #[test]
    fn names_told_apart_are_told_apart_no_further() {
        let once = unique_of(&["a", "a", "a#2", "a", "a#2"]);
        assert_eq!(unique(once.clone()), once);
    }

    #[test]
    fn a_numbered_name_is_no_longer_than_a_name_may_be() {
        let long = "é".repeat(DISPLAY_NAME_BYTES_MAX / 2);
        let names = unique_of(&[&long, &long]);
        assert_eq!(names[1].len(), DISPLAY_NAME_BYTES_MAX);
        assert!(names[1].ends_with("é#2"), "{}", names[1]);
    }
}
