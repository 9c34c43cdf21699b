use rateguard_core::ids::DisplayName;
use rateguard_core::matching::Scope;
use rateguard_core::rule::{Algorithm, Enforcement, Rule, RulePolicies};
use rateguard_core::unit::Unit;

use super::*;
use crate::caller::Identity;
use crate::listing::Order;
use crate::resources::{KeyLabel, PreviousSecret, Scopes};
use crate::testing::{World, start};

fn api(id: &str) -> ApiId {
    ApiId::parse("id", id).unwrap()
}

fn glob(text: &str) -> Glob {
    Glob::parse("models", text).unwrap()
}

fn key(number: u16, name: &str) -> Key {
    Key {
        id: KeyId::parse("id", &format!("key_{number:05}")).unwrap(),
        display_name: DisplayName::parse("name", name).unwrap(),
        secret_sha256: [0; 32],
        prefix: format!("rg_live_{number:04}"),
        previous: None,
        label: KeyLabel::Live,
        scopes: Scopes::default(),
        apis: Vec::new(),
        models: Vec::new(),
        ip_ranges: Vec::new(),
        bound_subject: None,
        allow_subject_header: false,
        expires_at: None,
        active: true,
    }
}

fn rule(matches: Match) -> Resource {
    Resource::Rule(Rule {
        id: rateguard_core::ids::RuleId::from_random([3; 16]),
        name: DisplayName::parse("name", "Ten a Minute").unwrap(),
        matches,
        scope: Scope::default(),
        unit: Unit::Requests,
        algorithm: Algorithm::FixedWindow { limit: 10, window_ms: 60_000 },
        enforcement: Enforcement::Enforced,
        priority: 0,
        override_group: None,
        policies: RulePolicies::default(),
        overrides: Vec::new(),
        last_reset_at: None,
        active: true,
    })
}

fn any() -> ResourceFilter {
    ResourceFilter::default()
}

fn holds(filter: &ResourceFilter, resource: &Resource) -> bool {
    filter.holds(resource, start())
}

#[test]
fn a_key_is_active_until_it_expires_and_disabled_whenever_it_is_switched_off() {
    let of = |active, expires_in_ms: Option<i64>| {
        let expires_at = expires_in_ms.map(|ms| start().plus(ms));
        Resource::Key(Key { active, expires_at, ..key(1, "k") })
    };
    let cases = [
        (of(true, None), ResourceState::Active),
        (of(true, Some(1)), ResourceState::Active),
        (of(true, Some(0)), ResourceState::Expired),
        (of(false, None), ResourceState::Disabled),
        (of(false, Some(-1)), ResourceState::Disabled),
    ];
    for (key, expected) in cases {
        for state in [ResourceState::Active, ResourceState::Disabled, ResourceState::Expired] {
            let filter = ResourceFilter { state: Some(state), ..any() };
            assert_eq!(holds(&filter, &key), state == expected, "{key:?} {state:?}");
        }
    }
}

#[test]
fn what_names_nothing_can_apply_to_everything_and_what_names_something_to_that_alone() {
    let open = rule(Match::default());
    let narrow = rule(Match {
        apis: vec![api("api_1")],
        keys: vec![KeyId::parse("id", "key_1").unwrap()],
        models: vec![glob("gpt-*"), glob("o3")],
        subjects: vec!["ada".to_owned()],
        ..Match::default()
    });
    let key_id = |id| KeyId::parse("id", id).unwrap();
    let cases = [
        (ResourceFilter { api: Some(api("api_1")), ..any() }, true),
        (ResourceFilter { api: Some(api("api_2")), ..any() }, false),
        (ResourceFilter { key: Some(key_id("key_1")), ..any() }, true),
        (ResourceFilter { key: Some(key_id("key_2")), ..any() }, false),
        (ResourceFilter { model: Some("gpt-4o".to_owned()), ..any() }, true),
        (ResourceFilter { model: Some("claude".to_owned()), ..any() }, false),
        (ResourceFilter { subject: Some("ada".to_owned()), ..any() }, true),
        (ResourceFilter { subject: Some("Ada".to_owned()), ..any() }, false),
        (ResourceFilter { api: Some(api("api_1")), subject: Some("bob".to_owned()), ..any() }, false),
        (ResourceFilter { name: Some(TextPart::new("a mIN")), ..any() }, true),
    ];
    for (filter, fits) in cases {
        assert!(holds(&filter, &open), "{filter:?}");
        assert_eq!(holds(&filter, &narrow), fits, "{filter:?}");
    }
    let named = ResourceFilter { name: Some(TextPart::new("an hour")), ..any() };
    let prefixed = ResourceFilter { key_prefix: Some("rg_".to_owned()), ..any() };
    assert!(!holds(&named, &open) && !holds(&prefixed, &open));
}

#[test]
fn a_key_is_found_by_what_either_of_its_secrets_begins_with_and_by_the_subject_it_is_bound_to() {
    let previous =
        PreviousSecret { secret_sha256: [1; 32], prefix: "rg_test_abcd".to_owned(), until: start() };
    let found =
        Resource::Key(Key { previous: Some(previous), bound_subject: Some("ada".to_owned()), ..key(1, "k") });
    let prefix = |text: &str| ResourceFilter { key_prefix: Some(text.to_owned()), ..any() };
    assert!(holds(&prefix("rg_live_0001"), &found) && holds(&prefix("rg_test_a"), &found));
    assert!(!holds(&prefix("rg_live_0002"), &found) && !holds(&prefix("g_live"), &found));
    let subject = ResourceFilter { subject: Some("ada".to_owned()), ..any() };
    assert!(holds(&subject, &found));
    assert!(!holds(&subject, &Resource::Key(key(1, "k"))), "what is not bound is not bound to ada");
}

/// A world with so many keys, of which every hundredth is called "wanted".
async fn with_keys(count: u16) -> (World, Identity) {
    let world = World::start().await;
    let identity: Identity = world.caller.clone().into();
    let deed = identity.deed(start());
    for number in 0..count {
        let name = if number % 100 == 99 { "Wanted" } else { "other" };
        let resource = Resource::Key(key(number, name));
        let workspace = identity.workspace().unwrap();
        crate::ports::ConfigStore::insert(&*world.config, workspace, resource, usize::MAX, &deed)
            .await
            .unwrap();
    }
    (world, identity)
}

#[tokio::test]
async fn one_page_looks_through_a_part_of_a_long_list_and_the_next_goes_on_behind_it() {
    let count = 12_000;
    let (world, identity) = with_keys(count).await;
    let filter = ResourceFilter { name: Some(TextPart::new("wanted")), ..any() };
    let order = Order::ascending(OrderBy::Id);
    let mut query = PageQuery { order, after: None, limit: 1_000 };
    let first = world.engine.list(&identity, ResourceKind::Key, &filter, &query).await.unwrap();
    assert_eq!(first.items.len(), ROWS_PER_PAGE_MAX / 100);
    query.after = first.next_after;
    let second = world.engine.list(&identity, ResourceKind::Key, &filter, &query).await.unwrap();
    assert_eq!(first.items.len() + second.items.len(), usize::from(count) / 100);
    assert_eq!(second.next_after, None);
}

#[tokio::test]
async fn pages_of_what_a_filter_fits_hold_each_once() {
    let (world, identity) = with_keys(2_500).await;
    let filter = ResourceFilter { name: Some(TextPart::new("wanted")), ..any() };
    for order in [Order::ascending(OrderBy::Id), Order::descending(OrderBy::DisplayName)] {
        let mut query = PageQuery { order, after: None, limit: 7 };
        let mut seen = Vec::new();
        loop {
            let page = world.engine.list(&identity, ResourceKind::Key, &filter, &query).await.unwrap();
            seen.extend(page.items.iter().map(|key| key.value.id().to_owned()));
            let Some(next) = page.next_after else { break };
            query.after = Some(next);
        }
        if order.descending {
            seen.reverse();
        }
        let expected: Vec<String> = (0..25).map(|place| format!("key_{:05}", place * 100 + 99)).collect();
        assert_eq!(seen, expected, "{order:?}");
    }
}
