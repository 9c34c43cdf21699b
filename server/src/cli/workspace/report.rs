//! What an application changes, as people read it.

use std::collections::BTreeMap;

use rateguard_proto::v1;
use similar::{ChangeTag, TextDiff};

use crate::workspace_file::document::Document;
use crate::workspace_file::{WorkspaceFileError, from_message, to_yaml};

use v1::ConfigurationChange as Change;
use v1::ConfigurationKind as Kind;

/// Whether it was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tense {
    /// Only compared.
    Would,
    /// Done.
    Did,
}

/// Whether anything is to change.
pub fn changes(answer: &v1::ApplyWorkspaceResponse) -> bool {
    answer.differences.iter().any(|difference| difference.change() != Change::Keep)
}

/// The differences, each with its lines, and their number.
///
/// # Errors
/// For an answer of a newer server.
pub fn report(answer: &v1::ApplyWorkspaceResponse, tense: Tense) -> Result<String, WorkspaceFileError> {
    let before = entries(answer.before.clone().unwrap_or_default())?;
    let after = entries(answer.after.clone().unwrap_or_default())?;
    let mut lines = Vec::new();
    for difference in &answer.differences {
        lines.push(head(difference));
        let place = (difference.kind, difference.name.clone());
        let of = |entries: &BTreeMap<(i32, String), String>| entries.get(&place).cloned().unwrap_or_default();
        lines.extend(changed_lines(&of(&before), &of(&after)));
        if difference.credential_changed {
            lines.push("      (the credential itself changes)".to_owned());
        }
        if difference.counters_reset {
            lines.push("      (it gets new counters)".to_owned());
        }
    }
    lines.push(summary(answer, tense));
    Ok(lines.join("\n"))
}

fn head(difference: &v1::ConfigurationDifference) -> String {
    let (mark, note) = match difference.change() {
        Change::Create => ("+", ""),
        Change::Update => ("~", ""),
        Change::Delete => ("-", ""),
        Change::Keep => ("=", ", which the file does not name, stays"),
        Change::Unspecified => ("?", ""),
    };
    format!("{mark} {} {:?}{note}", kind_name(difference.kind()), difference.name)
}

fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Unspecified => "resource",
        Kind::Api => "API",
        Kind::Key => "key",
        Kind::Rule => "rule",
        Kind::Budget => "budget",
        Kind::Price => "price",
    }
}

fn changed_lines(before: &str, after: &str) -> Vec<String> {
    let diff = TextDiff::from_lines(before, after);
    let line = |change: similar::Change<&str>| {
        let text = change.value().trim_end_matches('\n').to_owned();
        match change.tag() {
            ChangeTag::Equal => None,
            ChangeTag::Delete => Some(format!("    - {text}")),
            ChangeTag::Insert => Some(format!("    + {text}")),
        }
    };
    diff.iter_all_changes().filter_map(line).collect()
}

fn summary(answer: &v1::ApplyWorkspaceResponse, tense: Tense) -> String {
    let count = |change| answer.differences.iter().filter(|d| d.change() == change).count();
    let (created, updated, deleted) = (count(Change::Create), count(Change::Update), count(Change::Delete));
    let same = answer.unchanged_count;
    match tense {
        Tense::Would => format!(
            "{created} to create, {updated} to change, {deleted} to delete, {same} as they are; state {}",
            answer.etag
        ),
        Tense::Did => {
            format!("{created} created, {updated} changed, {deleted} deleted, {same} were so already")
        }
    }
}

/// Each entry of a configuration as YAML, by kind and name.
fn entries(
    configuration: v1::WorkspaceConfiguration,
) -> Result<BTreeMap<(i32, String), String>, WorkspaceFileError> {
    let price_names: Vec<String> = configuration.prices.iter().map(price_name).collect();
    let Document { apis, keys, rules, budgets, prices, .. } = from_message(configuration)?;
    let mut entries = BTreeMap::new();
    let mut add = |kind: Kind, name: String, entry: Result<String, WorkspaceFileError>| {
        entry.map(|text| drop(entries.insert((i32::from(kind), name), text)))
    };
    apis.iter().try_for_each(|api| add(Kind::Api, api.slug.clone(), to_yaml(api)))?;
    keys.iter().try_for_each(|key| add(Kind::Key, key.name.clone(), to_yaml(key)))?;
    rules.iter().try_for_each(|rule| add(Kind::Rule, rule.name.clone(), to_yaml(rule)))?;
    budgets.iter().try_for_each(|budget| add(Kind::Budget, budget.name.clone(), to_yaml(budget)))?;
    prices.iter().zip(price_names).try_for_each(|(price, name)| add(Kind::Price, name, to_yaml(price)))?;
    Ok(entries)
}

/// The name by which differences know a price.
fn price_name(price: &v1::Price) -> String {
    let from = price.effective_time.map(|at| format!("@{at}")).unwrap_or_default();
    format!("{}/{}{from}", price.provider, price.model)
}
