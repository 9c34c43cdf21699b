//! A configuration outward: without ids, by name and in the order of names.

use rateguard_engine::manage::{Applied, Difference};
use rateguard_engine::ports::{Resource, ResourceKind, Stored};
use rateguard_engine::resources::PriceOverride;
use rateguard_proto::v1;

use super::super::managed::{Desk, Managed};
use super::names::Names;
use super::unstored;
use crate::convert::apis::api_message;
use crate::convert::budgets::budget_message;
use crate::convert::keys::key_message;
use crate::convert::rules::rule_message;

/// These resources as a configuration.
pub fn configuration(
    desk: &Desk<'_>,
    names: &Names,
    resources: impl IntoIterator<Item = Stored<Resource>>,
) -> v1::WorkspaceConfiguration {
    let workspace = &desk.view.workspace;
    let mut shown = v1::WorkspaceConfiguration {
        currency_code: workspace.currency.to_string(),
        time_zone: workspace.zone.name().to_owned(),
        ..v1::WorkspaceConfiguration::default()
    };
    for stored in resources {
        show(&mut shown, desk, names, stored);
    }
    shown.apis.sort_by(|one, other| one.slug.cmp(&other.slug));
    shown.keys.sort_by(|one, other| one.display_name.cmp(&other.display_name));
    shown.rules.sort_by(|one, other| one.display_name.cmp(&other.display_name));
    shown.budgets.sort_by(|one, other| one.display_name.cmp(&other.display_name));
    shown.prices.sort_by(|one, other| price_place(one).cmp(&price_place(other)));
    shown
}

/// Where a price stands in the order of prices.
fn price_place(price: &v1::Price) -> (&str, &str, Option<(i64, i32)>) {
    let from = price.effective_time.as_ref().map(|at| (at.seconds, at.nanos));
    (&price.provider, &price.model, from)
}

fn show(shown: &mut v1::WorkspaceConfiguration, desk: &Desk<'_>, names: &Names, stored: Stored<Resource>) {
    let name = names.name(stored.value.kind(), stored.value.id()).to_owned();
    let currency = desk.currency();
    match &stored.value {
        Resource::Api(api) => shown.apis.push(shown_api(api_message(&stored.with(api.clone()), currency))),
        Resource::Key(key) => {
            shown.keys.push(shown_key(names, name, key_message(&stored.with(key.clone()))));
        }
        Resource::Rule(rule) => {
            shown.rules.push(shown_rule(names, name, rule_message(&stored.with(rule.clone()))));
        }
        Resource::Budget(budget) => {
            let message = budget_message(&stored.with(budget.clone()), currency);
            shown.budgets.push(shown_budget(names, name, message));
        }
        Resource::PriceOverride(price) => {
            let message = PriceOverride::message(&stored.with(price.clone()), currency);
            shown.prices.push(shown_price(message));
        }
    }
}

fn shown_api(message: v1::Api) -> v1::Api {
    v1::Api { id: String::new(), etag: String::new(), create_time: None, update_time: None, ..message }
}

fn shown_key(names: &Names, name: String, message: v1::Key) -> v1::Key {
    v1::Key {
        id: String::new(),
        display_name: name,
        prefix: String::new(),
        previous_prefix: String::new(),
        previous_expire_time: None,
        api_ids: named(names, ResourceKind::Api, &message.api_ids),
        etag: String::new(),
        create_time: None,
        update_time: None,
        ..message
    }
}

fn shown_rule(names: &Names, name: String, mut message: v1::Rule) -> v1::Rule {
    for other in &mut message.overrides {
        if let Some(v1::rule_override::Whose::KeyId(id)) = &mut other.whose {
            *id = names.name(ResourceKind::Key, id).to_owned();
        }
    }
    v1::Rule {
        id: String::new(),
        display_name: name,
        r#match: message.r#match.map(|matches| named_match(names, matches)),
        last_reset_time: None,
        etag: String::new(),
        create_time: None,
        update_time: None,
        ..message
    }
}

fn shown_budget(names: &Names, name: String, message: v1::Budget) -> v1::Budget {
    v1::Budget {
        id: String::new(),
        display_name: name,
        r#match: message.r#match.map(|matches| named_match(names, matches)),
        topped_up: None,
        etag: String::new(),
        create_time: None,
        update_time: None,
        ..message
    }
}

fn shown_price(message: v1::Price) -> v1::Price {
    v1::Price {
        id: String::new(),
        version: 0,
        source: v1::PriceSource::Unspecified.into(),
        currency_code: String::new(),
        effective_end_time: None,
        etag: String::new(),
        ..message
    }
}

fn named(names: &Names, kind: ResourceKind, ids: &[String]) -> Vec<String> {
    ids.iter().map(|id| names.name(kind, id).to_owned()).collect()
}

fn named_match(names: &Names, matches: v1::CallMatch) -> v1::CallMatch {
    v1::CallMatch {
        api_ids: named(names, ResourceKind::Api, &matches.api_ids),
        key_ids: named(names, ResourceKind::Key, &matches.key_ids),
        ..matches
    }
}

/// What differs, as a dry run answers it.
pub fn differences(desk: &Desk<'_>, names: &Names, applied: &Applied) -> v1::ApplyWorkspaceResponse {
    let before = applied.differences.iter().filter_map(|difference| difference.before.clone());
    let after = applied.differences.iter().filter_map(|difference| difference.after.clone());
    let kept = applied.kept.iter().map(|stored| kept(names, &stored.value));
    let mut differences: Vec<v1::ConfigurationDifference> =
        applied.differences.iter().filter_map(|d| difference(names, d)).chain(kept).collect();
    differences.sort_by(|one, other| (one.kind, &one.name).cmp(&(other.kind, &other.name)));
    v1::ApplyWorkspaceResponse {
        differences,
        before: Some(configuration(desk, names, before)),
        after: Some(configuration(desk, names, after.map(|value| unstored(desk, value)))),
        created_keys: Vec::new(),
        unchanged_count: i32::try_from(applied.unchanged).unwrap_or(i32::MAX),
        etag: String::new(),
    }
}

fn difference(names: &Names, difference: &Difference) -> Option<v1::ConfigurationDifference> {
    use v1::ConfigurationChange as C;
    let (resource, change) = match (&difference.before, &difference.after) {
        (None, Some(after)) => (after, C::Create),
        (Some(_), Some(after)) => (after, C::Update),
        (Some(before), None) => (&before.value, C::Delete),
        (None, None) => return None,
    };
    Some(v1::ConfigurationDifference {
        counters_reset: difference.counters_reset,
        credential_changed: credential_changed(difference),
        ..told(names, resource, change)
    })
}

fn kept(names: &Names, resource: &Resource) -> v1::ConfigurationDifference {
    told(names, resource, v1::ConfigurationChange::Keep)
}

fn told(names: &Names, resource: &Resource, change: v1::ConfigurationChange) -> v1::ConfigurationDifference {
    v1::ConfigurationDifference {
        kind: kind_message(resource.kind()).into(),
        name: names.name(resource.kind(), resource.id()).to_owned(),
        change: change.into(),
        counters_reset: false,
        credential_changed: false,
    }
}

/// A new credential is sealed anew, so that even the same one would differ: that case is kept as it is
/// before.
fn credential_changed(difference: &Difference) -> bool {
    let credential = |resource: &Resource| match resource {
        Resource::Api(api) => api.credential.clone(),
        _ => None,
    };
    let before = difference.before.as_ref().and_then(|stored| credential(&stored.value));
    let after = difference.after.as_ref().and_then(credential);
    difference.after.is_some() && before != after
}

fn kind_message(kind: ResourceKind) -> v1::ConfigurationKind {
    match kind {
        ResourceKind::Api => v1::ConfigurationKind::Api,
        ResourceKind::Key => v1::ConfigurationKind::Key,
        ResourceKind::Rule => v1::ConfigurationKind::Rule,
        ResourceKind::Budget => v1::ConfigurationKind::Budget,
        ResourceKind::PriceOverride => v1::ConfigurationKind::Price,
    }
}
