//! The shape of the configuration, and what the service itself refuses in it.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::ImportError;
use crate::workspace_file::read_yaml;

/// Levels of the tree that are read. Deeper than any descriptor, and no deeper than a stack bears.
const LEVELS_MAX: usize = 64;

/// Entries that are read: each is compared with all others of its keys.
const NODES_MAX: usize = 5_000;

/// A configuration: the limits of one domain.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Root {
    /// Whose limits they are.
    pub(super) domain: String,
    /// The first level.
    #[serde(default)]
    pub(super) descriptors: Vec<Node>,
}

/// An entry of descriptors.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Node {
    /// Its key.
    pub(super) key: String,
    /// Its value; empty for any.
    #[serde(default)]
    pub(super) value: String,
    /// The limit of descriptors that end here.
    #[serde(default)]
    pub(super) rate_limit: Option<RateLimit>,
    /// The next level.
    #[serde(default)]
    pub(super) descriptors: Vec<Node>,
    /// Whether the limit only watches.
    #[serde(default)]
    pub(super) shadow_mode: bool,
    /// Whether the limit counts on past itself.
    #[serde(default)]
    pub(super) quota_mode: bool,
    /// Whether all values that fit a wildcard share one limit.
    #[serde(default)]
    pub(super) share_threshold: bool,
    /// Whether metrics tell values.
    #[serde(default)]
    pub(super) detailed_metric: bool,
    /// Whether metrics tell the value of this entry.
    #[serde(default)]
    pub(super) value_to_metric: bool,
}

/// A limit.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RateLimit {
    /// The most that a window admits.
    #[serde(default)]
    pub(super) requests_per_unit: u32,
    /// The window.
    #[serde(default)]
    pub(super) unit: Option<TimeUnit>,
    /// How many units the window has.
    #[serde(default)]
    pub(super) unit_multiplier: Option<u32>,
    /// Whether there is no limit.
    #[serde(default)]
    pub(super) unlimited: bool,
    /// By what others replace it.
    #[serde(default)]
    pub(super) name: String,
    /// What it replaces where both are met.
    #[serde(default)]
    pub(super) replaces: Vec<Replaced>,
}

/// A limit that is replaced.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Replaced {
    /// Its name.
    pub(super) name: String,
}

/// A unit of time; case does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct TimeUnit {
    /// Its length.
    pub(super) ms: i64,
}

impl TryFrom<String> for TimeUnit {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let seconds = match text.to_ascii_lowercase().as_str() {
            "second" => 1,
            "minute" => 60,
            "hour" => 3_600,
            "day" => 86_400,
            "week" => 7 * 86_400,
            // As the service takes them.
            "month" => 30 * 86_400,
            "year" => 365 * 86_400,
            _ => return Err(format!("{text:?} is no second, minute, hour, day, week, month or year")),
        };
        Ok(Self { ms: seconds * 1_000 })
    }
}

/// Reads a configuration.
///
/// # Errors
/// What is no such configuration, with the place; and what the service refuses.
pub(super) fn read(text: &str) -> Result<Root, ImportError> {
    let root: Root = read_yaml(text)?;
    if root.domain.is_empty() {
        return refuse("domain", "must not be empty");
    }
    check_level("", &root.descriptors, 1)?;
    let count = count(&root.descriptors);
    if count > NODES_MAX {
        return refuse("descriptors", &format!("has {count} entries, and at most {NODES_MAX} are read"));
    }
    Ok(root)
}

fn count(nodes: &[Node]) -> usize {
    nodes.iter().map(|node| 1 + count(&node.descriptors)).sum()
}

fn refuse<T>(path: &str, message: &str) -> Result<T, ImportError> {
    Err(ImportError::Refused { path: path.to_owned(), message: message.to_owned() })
}

fn check_level(prefix: &str, nodes: &[Node], level: usize) -> Result<(), ImportError> {
    let mut taken = BTreeSet::new();
    for (place, node) in nodes.iter().enumerate() {
        let path = format!("{prefix}descriptors[{place}]");
        if level > LEVELS_MAX {
            return refuse(&path, "has more levels above it than are read");
        }
        if node.key.is_empty() {
            return refuse(&format!("{path}.key"), "must not be empty");
        }
        if !taken.insert((&node.key, &node.value)) {
            return refuse(&path, "has the key and the value of another one of its level");
        }
        if let Some(limit) = &node.rate_limit {
            check_limit(&format!("{path}.rate_limit"), limit)?;
        }
        check_level(&format!("{path}."), &node.descriptors, level + 1)?;
    }
    Ok(())
}

fn check_limit(path: &str, limit: &RateLimit) -> Result<(), ImportError> {
    match limit.unit {
        Some(_) if limit.unlimited => refuse(&format!("{path}.unit"), "must not stand beside unlimited"),
        None if !limit.unlimited => refuse(&format!("{path}.unit"), "must say a unit of time"),
        _ if limit.unit_multiplier == Some(0) => {
            refuse(&format!("{path}.unit_multiplier"), "must be at least 1")
        }
        _ => check_replaced(path, limit),
    }
}

fn check_replaced(path: &str, limit: &RateLimit) -> Result<(), ImportError> {
    for (place, replaced) in limit.replaces.iter().enumerate() {
        let path = format!("{path}.replaces[{place}].name");
        if replaced.name.is_empty() {
            return refuse(&path, "must not be empty");
        }
        if replaced.name == limit.name {
            return refuse(&path, "must not be the limit's own name");
        }
    }
    Ok(())
}
