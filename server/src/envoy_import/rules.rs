//! The rules that a tree becomes.

use rateguard_core::descriptor::{DOMAIN_ATTRIBUTE, escaped, value_attribute};
use rateguard_core::limits::{
    DESCRIPTOR_ENTRIES_MAX, DISPLAY_NAME_BYTES_MAX, LIMIT_MAX, NAME_BYTES_MAX, SCOPE_DIMENSIONS_MAX,
    TEXT_BYTES_MAX, WINDOW_MS_MAX,
};

use super::Note;
use super::branches::{Branch, Step, Values, branches, key_lists};
use super::file::{Node, RateLimit, Root};
use crate::workspace_file::Length;
use crate::workspace_file::document::{
    Algorithm, Consistency, FailurePolicy, Match, OnMissing, Rule, RuleMode, Scope, Window, requests,
};

/// The window of a rule that never denies, in milliseconds: its counter is soon forgotten.
const UNLIMITED_WINDOW_MS: i64 = 1_000;

/// What a tree became.
#[derive(Debug, Default)]
pub(super) struct Made<'t> {
    /// The rules, by tree and falling precedence.
    pub(super) rules: Vec<MadeRule<'t>>,
    /// What they do not say.
    pub(super) notes: Vec<Note>,
}

/// A rule, and what it was made of.
#[derive(Debug)]
pub(super) struct MadeRule<'t> {
    /// The rule.
    pub(super) rule: Rule,
    /// The limit; `None` where the tree ends without one.
    pub(super) limit: Option<&'t RateLimit>,
    /// Where the limit stands.
    pub(super) path: String,
}

impl Made<'_> {
    /// Notes that something is otherwise here.
    pub(super) fn note(&mut self, path: &str, field: &str, message: impl Into<String>) {
        self.notes.push(Note { path: format!("{path}{field}"), message: message.into() });
    }
}

/// The rules of a configuration.
pub(super) fn of(root: &Root) -> Made<'_> {
    let mut made = Made::default();
    if root.domain.len() > TEXT_BYTES_MAX || root.domain.chars().any(char::is_control) {
        let message =
            format!("is not carried: a domain has at most {TEXT_BYTES_MAX} bytes without control characters");
        made.note("domain", "", message);
        return made;
    }
    note_of_level(&mut made, "", &root.descriptors);
    for (number, keys) in key_lists(&root.descriptors).into_iter().enumerate() {
        let group = short(&format!("envoy:{number}:{}:{}", root.domain, keys.join(",")), NAME_BYTES_MAX);
        let needed = needed(branches(&root.descriptors, &keys));
        for (place, branch) in needed.iter().enumerate() {
            let is_alone =
                needed.iter().enumerate().all(|(at, other)| at == place || !branch.may_meet(other));
            if let Some(mut rule) = rule_of(&mut made, &root.domain, &keys, branch) {
                if !is_alone {
                    rule.override_group = Some(group.clone());
                    rule.priority = i32::try_from(needed.len() - place).unwrap_or(i32::MAX);
                }
                let limit = branch.steps.last().and_then(|step| step.node.rate_limit.as_ref());
                let path = branch.steps.last().map(|step| step.path.clone()).unwrap_or_default();
                made.rules.push(MadeRule { rule, limit: limit.filter(|_| branch.is_limit), path });
            }
        }
    }
    made
}

/// Leaves out the ends without a limit that stand before no other limit.
fn needed(all: Vec<Branch<'_>>) -> Vec<Branch<'_>> {
    let stands_before = |place: usize, branch: &Branch<'_>| {
        all.iter().skip(place + 1).any(|later| later.is_limit && branch.may_meet(later))
    };
    let keep: Vec<bool> = all
        .iter()
        .enumerate()
        .map(|(place, branch)| branch.is_limit || stands_before(place, branch))
        .collect();
    all.into_iter().zip(keep).filter_map(|(branch, keep)| keep.then_some(branch)).collect()
}

/// What of a level's entries has no counterpart here.
fn note_of_level(made: &mut Made<'_>, prefix: &str, nodes: &[Node]) {
    for (place, node) in nodes.iter().enumerate() {
        let path = format!("{prefix}descriptors[{place}]");
        for (is_set, field) in
            [(node.detailed_metric, ".detailed_metric"), (node.value_to_metric, ".value_to_metric")]
        {
            if is_set {
                made.note(&path, field, "is not carried: metrics here do not tell values of descriptors");
            }
        }
        note_of_modes(made, &path, node);
        note_of_level(made, &format!("{path}."), &node.descriptors);
    }
}

fn note_of_modes(made: &mut Made<'_>, path: &str, node: &Node) {
    let without_limit = node.rate_limit.is_none();
    for (is_set, field) in [(node.shadow_mode, ".shadow_mode"), (node.quota_mode, ".quota_mode")] {
        if is_set && without_limit {
            made.note(path, field, "does nothing, as it does there: the descriptor has no rate_limit");
        }
    }
    if node.quota_mode && !without_limit {
        let message = "is carried as counts_denied: here each such limit denies by itself once it is used up, there \
                       the request is denied once all of its quota limits are";
        made.note(path, ".quota_mode", message);
    }
    if node.share_threshold && !matches!(node.values(), Values::Beginning(_)) {
        made.note(path, ".share_threshold", "does nothing, as it does there: the value does not end in *");
    }
}

/// The rule of a way; where it cannot be one, that is noted.
fn rule_of(made: &mut Made<'_>, domain: &str, keys: &[&str], branch: &Branch<'_>) -> Option<Rule> {
    match carried(domain, keys, branch) {
        Ok(rule) => Some(rule),
        Err(why) => {
            let path = branch.steps.last().map(|step| step.path.clone()).unwrap_or_default();
            made.note(&path, "", format!("is not carried: {why}"));
            None
        }
    }
}

fn carried(domain: &str, keys: &[&str], branch: &Branch<'_>) -> Result<Rule, String> {
    if keys.len() > DESCRIPTOR_ENTRIES_MAX {
        return Err(format!("a descriptor has at most {DESCRIPTOR_ENTRIES_MAX} entries"));
    }
    let node = branch.steps.last().map(|step| step.node).filter(|_| branch.is_limit);
    let limit = node.and_then(|node| node.rate_limit.as_ref()).filter(|limit| !limit.unlimited);
    let watches = node.is_none_or(|node| node.shadow_mode) || limit.is_none();
    Ok(Rule {
        name: name(domain, keys, branch),
        matches: Some(matches(domain, pattern(keys, &branch.steps)?)),
        // What never denies needs no more than one counter.
        scope: limit.map_or(Ok(Vec::new()), |_| scope(branch))?,
        on_missing: OnMissing::Shared,
        unit: requests(),
        algorithm: limit.map_or_else(|| Ok(unlimited()), algorithm)?,
        mode: if watches { RuleMode::Shadow } else { RuleMode::Enforced },
        priority: 0,
        override_group: None,
        overrides: Vec::new(),
        consistency: Consistency::Strict,
        failure_policy: FailurePolicy::Open,
        counts_denied: limit.is_some() && node.is_some_and(|node| node.quota_mode),
        spread_by_subject: false,
        active: true,
    })
}

fn matches(domain: &str, pattern: String) -> Match {
    let attributes = [(DOMAIN_ATTRIBUTE.to_owned(), domain.to_owned())].into();
    Match { endpoints: vec![pattern], attributes, ..Match::default() }
}

fn algorithm(limit: &RateLimit) -> Result<Algorithm, String> {
    let unit_ms = limit.unit.map_or(0, |unit| unit.ms);
    let ms = unit_ms.saturating_mul(i64::from(limit.unit_multiplier.unwrap_or(1)));
    if ms > WINDOW_MS_MAX {
        return Err(format!("a window has at most {WINDOW_MS_MAX} ms"));
    }
    Ok(Algorithm::FixedWindow(Window { limit: limit.requests_per_unit.into(), window: Length { ms } }))
}

/// A limit that is none, which Envoy is told as that.
fn unlimited() -> Algorithm {
    Algorithm::FixedWindow(Window { limit: LIMIT_MAX, window: Length { ms: UNLIMITED_WINDOW_MS } })
}

/// The glob over descriptors as endpoints.
fn pattern(keys: &[&str], steps: &[Step<'_>]) -> Result<String, String> {
    let values = steps.iter().map(|step| match step.node.values() {
        Values::One(value) => escaped(value),
        Values::Beginning(beginning) => escaped(beginning) + "*",
        Values::Any => "*".to_owned(),
    });
    let values = values.chain(std::iter::repeat("*".to_owned()));
    let pattern: String =
        keys.iter().zip(values).map(|(key, value)| format!("/{}={value}", escaped(key))).collect();
    if pattern.len() > TEXT_BYTES_MAX {
        return Err(format!("its keys and values make a pattern of more than {TEXT_BYTES_MAX} bytes"));
    }
    Ok(pattern)
}

/// What keeps counters apart: each value that is not told, but where a wildcard's values share one.
fn scope(branch: &Branch<'_>) -> Result<Vec<Scope>, String> {
    let is_open = |step: &Step<'_>| !matches!(step.node.values(), Values::One(_));
    let is_shared =
        |step: &Step<'_>| step.node.share_threshold && matches!(step.node.values(), Values::Beginning(_));
    let open: Vec<(usize, &Step<'_>)> = (1..).zip(&branch.steps).filter(|(_, step)| is_open(step)).collect();
    let own: Vec<usize> = open.iter().filter(|(_, step)| !is_shared(step)).map(|(place, _)| *place).collect();
    if !own.is_empty() && own.len() == open.len() {
        return Ok(vec![Scope::Endpoint]);
    }
    if own.len() > SCOPE_DIMENSIONS_MAX {
        return Err(format!("a rule keeps counters apart by at most {SCOPE_DIMENSIONS_MAX} values"));
    }
    Ok(own.into_iter().map(|place| Scope::Attribute(value_attribute(place))).collect())
}

fn name(domain: &str, keys: &[&str], branch: &Branch<'_>) -> String {
    let own =
        branch.steps.last().and_then(|step| step.node.rate_limit.as_ref()).map(|limit| limit.name.as_str());
    if let Some(own) = own.filter(|own| branch.is_limit && !own.is_empty()) {
        return short_name(own, "");
    }
    let values = branch.steps.iter().map(|step| step.node.value.as_str()).chain(std::iter::repeat(""));
    let entry = |(key, value): (&&str, &str)| match value {
        "" => (*key).to_owned(),
        value => format!("{key}={value}"),
    };
    let entries: Vec<String> = keys.iter().zip(values).map(entry).collect();
    let ending = if branch.is_limit { "" } else { " (no limit)" };
    short_name(&format!("{domain}: {}", entries.join(", ")), ending)
}

/// A name for people with an ending, as long as one may be.
pub(super) fn short_name(text: &str, ending: &str) -> String {
    short(text, DISPLAY_NAME_BYTES_MAX.saturating_sub(ending.len())) + ending
}

/// A text without control characters, of at most so many bytes.
fn short(text: &str, bytes_max: usize) -> String {
    let mut short = String::new();
    for character in text.chars().map(|character| if character.is_control() { '_' } else { character }) {
        if short.len() + character.len_utf8() > bytes_max {
            break;
        }
        short.push(character);
    }
    short
}
