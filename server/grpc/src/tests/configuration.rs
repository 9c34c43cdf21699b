//! A workspace as a whole: exported, compared, applied.

use rateguard_core::time::Millis;
use rateguard_engine::audit::Deed;
use rateguard_engine::ports::{ConfigStore, Resource};
use rateguard_engine::resources::Scope;
use rateguard_proto::v1;
use rateguard_proto::v1::ErrorReason as R;
use rateguard_proto::v1::budget_service_client::BudgetServiceClient;
use rateguard_proto::v1::configuration_service_client::ConfigurationServiceClient;
use rateguard_proto::v1::quota_service_client::QuotaServiceClient;
use rateguard_proto::v1::rule_service_client::RuleServiceClient;
use rateguard_proto::v1::usage_service_client::UsageServiceClient;
use tonic::{Code, Status};

use super::managed::{api, make_api, mask, usd};
use super::world::{Transport, World, plain_key, reason, told};
use crate::convert::timestamp;

/// The year 2026 begins.
const IN_FORCE_SINCE_MS: i64 = 1_767_225_600_000;
/// The name of the sample's price.
const PRICE: &str = "openai/gpt-4o@2026-01-01T00:00:00Z";

use v1::ConfigurationChange as C;
use v1::ConfigurationKind as K;

impl World {
    pub fn configurations(&self) -> ConfigurationServiceClient<Transport> {
        ConfigurationServiceClient::new(self.transport())
    }

    pub async fn export(&self) -> v1::ExportWorkspaceResponse {
        self.configurations().export_workspace(v1::ExportWorkspaceRequest {}).await.unwrap().into_inner()
    }

    pub async fn exported(&self) -> v1::WorkspaceConfiguration {
        self.export().await.configuration.unwrap()
    }

    pub async fn send(
        &self,
        request: v1::ApplyWorkspaceRequest,
    ) -> Result<v1::ApplyWorkspaceResponse, Status> {
        Ok(self.configurations().apply_workspace(request).await?.into_inner())
    }

    pub async fn apply(&self, wanted: &v1::WorkspaceConfiguration) -> v1::ApplyWorkspaceResponse {
        self.send(request(wanted)).await.unwrap()
    }
}

pub fn request(wanted: &v1::WorkspaceConfiguration) -> v1::ApplyWorkspaceRequest {
    v1::ApplyWorkspaceRequest { configuration: Some(wanted.clone()), ..v1::ApplyWorkspaceRequest::default() }
}

fn rule(name: &str, limit: i64) -> v1::Rule {
    let window = v1::FixedWindow { limit, window_ms: 60_000 };
    v1::Rule {
        display_name: name.to_owned(),
        algorithm: Some(v1::rule::Algorithm::FixedWindow(window)),
        ..v1::Rule::default()
    }
}

fn budget(name: &str, nanos: i64) -> v1::Budget {
    let calendar = v1::CalendarBudget { period: v1::CalendarPeriod::Month.into(), time_zone: String::new() };
    v1::Budget {
        display_name: name.to_owned(),
        amount: usd(nanos),
        period: Some(v1::budget::Period::Calendar(calendar)),
        ..v1::Budget::default()
    }
}

fn key(name: &str) -> v1::Key {
    v1::Key {
        display_name: name.to_owned(),
        scopes: vec![v1::KeyScope::Quota.into(), v1::KeyScope::Read.into()],
        ..v1::Key::default()
    }
}

fn for_api_and_key(api: &str, key: &str) -> Option<v1::CallMatch> {
    Some(v1::CallMatch {
        api_ids: vec![api.to_owned()],
        key_ids: vec![key.to_owned()],
        ..v1::CallMatch::default()
    })
}

/// One of each kind, which name each other.
fn sample() -> v1::WorkspaceConfiguration {
    let price = v1::Price {
        provider: "openai".to_owned(),
        model: "gpt-4o".to_owned(),
        effective_time: Some(timestamp(Millis::new(IN_FORCE_SINCE_MS))),
        request_rate: Some("0.01".to_owned()),
        ..v1::Price::default()
    };
    v1::WorkspaceConfiguration {
        currency_code: "USD".to_owned(),
        time_zone: "UTC".to_owned(),
        apis: vec![api("openai")],
        keys: vec![v1::Key { api_ids: vec!["openai".to_owned()], ..key("app") }],
        rules: vec![v1::Rule { r#match: for_api_and_key("openai", "app"), ..rule("ten", 10) }],
        budgets: vec![v1::Budget { r#match: for_api_and_key("openai", "app"), ..budget("month", 5_000) }],
        prices: vec![price],
    }
}

type Told = (K, String, C);

fn told_of(answer: &v1::ApplyWorkspaceResponse) -> Vec<Told> {
    answer.differences.iter().map(|d| (d.kind(), d.name.clone(), d.change())).collect()
}

fn expect(rows: &[(K, &str, C)]) -> Vec<Told> {
    rows.iter().map(|(kind, name, change)| (*kind, (*name).to_owned(), *change)).collect()
}

#[tokio::test]
async fn what_was_applied_is_exported_and_a_second_time_changes_nothing() {
    let world = World::new().await;
    let first = world.apply(&sample()).await;
    let made = expect(&[
        (K::Api, "openai", C::Create),
        (K::Key, "a key", C::Keep),
        (K::Key, "app", C::Create),
        (K::Rule, "ten", C::Create),
        (K::Budget, "month", C::Create),
        (K::Price, PRICE, C::Create),
    ]);
    assert_eq!((told_of(&first), first.unchanged_count), (made, 0));
    let exported = world.exported().await;
    let names = |rules: &[v1::Rule]| rules[0].r#match.clone();
    assert_eq!(names(&exported.rules), for_api_and_key("openai", "app"));
    assert_eq!(exported.keys[1].api_ids, ["openai"]);
    assert_eq!(first.after.unwrap().rules, exported.rules);

    for wanted in [&sample(), &exported] {
        let again = world.apply(wanted).await;
        assert!(again.differences.iter().all(|d| d.change() == C::Keep), "{again:?}");
        assert_eq!(again.created_keys, []);
    }
    assert_eq!(world.exported().await, exported);
}

#[tokio::test]
async fn a_key_that_is_made_is_shown_once_and_works() {
    let world = World::new().await;
    let mut wanted = sample();
    wanted.keys[0].api_ids.clear();
    let answer = world.apply(&wanted).await;
    assert_eq!(answer.created_keys.len(), 1);
    assert_eq!(answer.created_keys[0].name, "app");
    let secret = answer.created_keys[0].secret.clone().unwrap().value;
    let mut client = QuotaServiceClient::new(world.transport_with(&secret));
    let request = v1::CheckQuotaRequest { api: "openai".to_owned(), ..v1::CheckQuotaRequest::default() };
    let checked = client.check_quota(request).await.unwrap().into_inner();
    // The rule that names the key is its own.
    assert!(checked.limits.iter().any(|limit| limit.name == "ten"), "{checked:?}");
}

#[tokio::test]
async fn a_dry_run_tells_and_changes_nothing() {
    let world = World::new().await;
    let before = world.export().await;
    let told = world.send(v1::ApplyWorkspaceRequest { dry_run: true, ..request(&sample()) }).await.unwrap();
    assert_eq!(told.differences.len(), 6);
    assert_eq!((told.created_keys.len(), &told.etag), (0, &before.etag));
    assert_eq!(world.export().await, before);
}

#[tokio::test]
async fn one_wrong_entry_and_nothing_is_done() {
    let world = World::new().await;
    let before = world.export().await;
    let mut unknown_api = sample();
    unknown_api.rules.push(v1::Rule { r#match: for_api_and_key("nowhere", "app"), ..rule("late", 1) });
    let mut unknown_key = sample();
    unknown_key.budgets[0].r#match = for_api_and_key("openai", "nobody");
    let mut bad_bound = sample();
    bad_bound.rules.push(rule("late", -1));
    let mut twice = sample();
    twice.rules.push(rule("ten", 3));
    let mut nameless = sample();
    nameless.budgets.push(budget("", 1));
    let yen = v1::WorkspaceConfiguration { currency_code: "JPY".to_owned(), ..sample() };
    let elsewhere = v1::WorkspaceConfiguration { time_zone: "Asia/Tokyo".to_owned(), ..sample() };
    let wrong = [
        (unknown_api, R::ResourceNotFound, "configuration.rules[1].match.api_ids[0]"),
        (unknown_key, R::ResourceNotFound, "configuration.budgets[0].match.key_ids[0]"),
        (bad_bound, R::FieldOutOfBounds, "configuration.rules[1].fixed_window.limit"),
        (twice, R::FieldConflict, "configuration.rules[1].display_name"),
        (nameless, R::FieldMissing, "configuration.budgets[1].display_name"),
        (yen, R::CurrencyMismatch, "configuration.currency_code"),
        (elsewhere, R::FieldConflict, "configuration.time_zone"),
    ];
    for (wanted, expected, field) in wrong {
        let error = world.send(request(&wanted)).await.unwrap_err();
        let (_, reason, at) = told(&error);
        assert_eq!((reason, at.as_str()), (expected, field));
    }
    let error = world.send(v1::ApplyWorkspaceRequest::default()).await.unwrap_err();
    assert_eq!(reason(&error), R::FieldMissing);
    assert_eq!(world.export().await, before);
}

#[tokio::test]
async fn pruning_takes_out_what_is_not_named_but_for_the_key_that_asks() {
    let world = World::new().await;
    world.apply(&sample()).await;
    let wanted = v1::WorkspaceConfiguration { rules: vec![rule("ten", 20)], ..Default::default() };
    let kept = world.apply(&wanted).await;
    assert_eq!(kept.differences.iter().filter(|d| d.change() == C::Keep).count(), 5);
    assert_eq!(world.exported().await.apis.len(), 1);

    let pruned = world.send(v1::ApplyWorkspaceRequest { prune: true, ..request(&wanted) }).await.unwrap();
    let expected = expect(&[
        (K::Api, "openai", C::Delete),
        (K::Key, "a key", C::Keep),
        (K::Key, "app", C::Delete),
        (K::Budget, "month", C::Delete),
        (K::Price, PRICE, C::Delete),
    ]);
    assert_eq!((told_of(&pruned), pruned.unchanged_count), (expected, 1));
    let exported = world.exported().await;
    assert_eq!((exported.apis.len(), exported.keys.len(), exported.rules.len()), (0, 1, 1));
    // The match went with the update: absent means every call.
    assert_eq!(exported.rules[0].r#match, None);
}

#[tokio::test]
async fn with_pruning_an_entry_may_not_name_what_goes() {
    let world = World::new().await;
    world.apply(&sample()).await;
    let wanted = v1::WorkspaceConfiguration { apis: Vec::new(), ..sample() };
    world.apply(&wanted).await;
    let error = world.send(v1::ApplyWorkspaceRequest { prune: true, ..request(&wanted) }).await.unwrap_err();
    assert_eq!(reason(&error), R::ResourceNotFound);
}

#[tokio::test]
async fn of_two_who_apply_what_they_reviewed_one_is_aborted_and_nothing_is_lost() {
    let world = World::new().await;
    world.apply(&sample()).await;
    let reviewed = world.export().await;
    let edited = |limit| {
        let mut wanted = reviewed.configuration.clone().unwrap();
        wanted.rules[0].algorithm = rule("ten", limit).algorithm;
        wanted.rules.push(rule(&format!("of {limit}"), 1));
        v1::ApplyWorkspaceRequest { etag: reviewed.etag.clone(), ..request(&wanted) }
    };
    let (one, other) = tokio::join!(world.send(edited(11)), world.send(edited(12)));
    let (limit, refused) = match (one, other) {
        (Ok(_), Err(refused)) => (11, refused),
        (Err(refused), Ok(_)) => (12, refused),
        both => panic!("one is done and one is not: {both:?}"),
    };
    assert_eq!((refused.code(), reason(&refused)), (Code::Aborted, R::EtagMismatch));
    let names: Vec<String> = world.exported().await.rules.into_iter().map(|r| r.display_name).collect();
    assert_eq!(names, [format!("of {limit}"), "ten".to_owned()]);
}

#[tokio::test]
async fn a_change_by_hand_after_the_review_is_not_undone() {
    let world = World::new().await;
    world.apply(&sample()).await;
    let reviewed = world.export().await;
    let mut rules = RuleServiceClient::new(world.transport());
    let listed = rules.list_rules(v1::ListRulesRequest::default()).await.unwrap().into_inner().rules;
    let changed = v1::Rule { id: listed[0].id.clone(), priority: 9, ..v1::Rule::default() };
    let update = v1::UpdateRuleRequest { rule: Some(changed), update_mask: mask(&["priority"]) };
    rules.update_rule(update).await.unwrap();

    let mut wanted = reviewed.configuration.unwrap();
    wanted.budgets[0].amount = usd(1);
    let request = v1::ApplyWorkspaceRequest { etag: reviewed.etag, ..request(&wanted) };
    assert_eq!(reason(&world.send(request).await.unwrap_err()), R::EtagMismatch);
    let exported = world.exported().await;
    assert_eq!((exported.rules[0].priority, exported.budgets[0].amount.clone()), (9, usd(5_000)));
}

async fn spent(world: &World) -> i64 {
    let mut budgets = BudgetServiceClient::new(world.transport());
    let listed = budgets.list_budgets(v1::ListBudgetsRequest::default()).await.unwrap().into_inner();
    listed.budgets[0].state.as_ref().expect("the budget is open").spent_nanos
}

#[tokio::test]
async fn a_budget_keeps_what_is_spent_through_applications_that_leave_its_period_alone() {
    let world = World::new().await;
    let wanted =
        |nanos| v1::WorkspaceConfiguration { budgets: vec![budget("all", nanos)], ..Default::default() };
    world.apply(&wanted(9_000)).await;
    let record =
        v1::UsageRecord { event_id: "call-1".to_owned(), cost: usd(700), ..v1::UsageRecord::default() };
    let report = v1::ReportUsageRequest { records: vec![record] };
    UsageServiceClient::new(world.transport()).report_usage(report).await.unwrap();
    assert_eq!(spent(&world).await, 700);
    world.apply(&wanted(9_000)).await;
    let raised = world.apply(&wanted(10_000)).await;
    assert!(!raised.differences.iter().any(|difference| difference.counters_reset));
    assert_eq!(spent(&world).await, 700);

    let mut daily = wanted(10_000);
    let calendar = v1::CalendarBudget { period: v1::CalendarPeriod::Day.into(), time_zone: String::new() };
    daily.budgets[0].period = Some(v1::budget::Period::Calendar(calendar));
    let reset = world.apply(&daily).await;
    assert!(reset.differences.iter().any(|difference| difference.counters_reset));
    // A new budget begins with what its period has seen.
    assert_eq!(spent(&world).await, 700);
}

fn with_credential(secret: Option<&str>, set: bool, reference: &str) -> v1::WorkspaceConfiguration {
    let credential = secret.map(|value| v1::SecretText { value: value.to_owned() });
    let api = v1::Api {
        credential,
        credential_set: set,
        credential_reference: reference.to_owned(),
        ..api("openai")
    };
    v1::WorkspaceConfiguration { apis: vec![api], ..Default::default() }
}

#[tokio::test]
async fn a_credential_comes_by_its_reference_stays_when_it_is_the_same_and_never_comes_out() {
    let world = World::new().await;
    let nowhere = world.send(request(&with_credential(None, true, "env:KEY"))).await.unwrap_err();
    assert_eq!(told(&nowhere).2, "configuration.apis[0].credential");
    let dry = v1::ApplyWorkspaceRequest { dry_run: true, ..request(&with_credential(None, true, "env:KEY")) };
    assert!(world.send(dry).await.unwrap().after.unwrap().apis[0].credential_set);

    let given = with_credential(Some("sk-1"), true, "env:KEY");
    assert!(world.apply(&given).await.differences[0].credential_changed);
    let exported = world.exported().await;
    let api = &exported.apis[0];
    assert_eq!((api.credential.clone(), api.credential_set), (None, true));
    assert_eq!(api.credential_reference, "env:KEY");
    // The same again, and what is stored already, change nothing.
    for same in [&given, &exported, &with_credential(None, true, "env:KEY")] {
        let answer = world.apply(same).await;
        assert!(answer.differences.iter().all(|difference| difference.change() == C::Keep), "{answer:?}");
    }
    let other = world.apply(&with_credential(Some("sk-2"), true, "env:KEY")).await;
    assert!(other.differences[0].credential_changed);
    let gone = world.apply(&with_credential(None, false, "")).await;
    assert!(gone.differences[0].credential_changed);
    assert!(!world.exported().await.apis[0].credential_set);
    let malformed = world.send(request(&with_credential(Some("sk-1"), true, "vault:KEY"))).await.unwrap_err();
    assert_eq!(told(&malformed).2, "configuration.apis[0].credential_reference");
}

#[tokio::test]
async fn another_credential_forgets_whence_the_last_one_came() {
    let world = World::new().await;
    let secret = |value: &str| Some(v1::SecretText { value: value.to_owned() });
    let first =
        v1::Api { credential: secret("sk-1"), credential_reference: "env:KEY".to_owned(), ..api("openai") };
    let made = make_api(&world, first).await.unwrap();
    assert_eq!(made.credential_reference, "env:KEY");
    let mut apis = rateguard_proto::v1::api_service_client::ApiServiceClient::new(world.transport());
    let changed = v1::Api { id: made.id, credential: secret("sk-2"), ..v1::Api::default() };
    let update = v1::UpdateApiRequest { api: Some(changed), update_mask: mask(&["credential"]) };
    let updated = apis.update_api(update).await.unwrap().into_inner().api.unwrap();
    assert_eq!((updated.credential_set, updated.credential_reference.as_str()), (true, ""));
}

#[tokio::test]
async fn twins_are_told_apart_by_numbers_and_their_own_export_changes_nothing() {
    let world = World::new().await;
    let mut rules = RuleServiceClient::new(world.transport());
    for limit in [5, 6, 7] {
        let create = v1::CreateRuleRequest { rule: Some(rule("twin", limit)), request_id: String::new() };
        rules.create_rule(create).await.unwrap();
        world.clock.advance_ms(1);
    }
    let exported = world.exported().await;
    let names: Vec<&str> = exported.rules.iter().map(|rule| rule.display_name.as_str()).collect();
    assert_eq!(names, ["twin", "twin#2", "twin#3"]);
    assert_eq!(exported.rules[1].algorithm, rule("", 6).algorithm);
    assert_eq!(world.apply(&exported).await.differences, []);

    let mut edited = exported.clone();
    edited.rules[1].priority = 3;
    assert_eq!(told_of(&world.apply(&edited).await), expect(&[(K::Rule, "twin#2", C::Update)]));
    let elsewhere = World::new().await;
    elsewhere.apply(&edited).await;
    assert_eq!(elsewhere.exported().await, edited);
}

#[tokio::test]
async fn pruning_takes_out_what_is_in_use_together_with_what_uses_it() {
    let world = World::new().await;
    world.apply(&sample()).await;
    let all = v1::ApplyWorkspaceRequest { prune: true, ..request(&v1::WorkspaceConfiguration::default()) };
    world.send(all).await.unwrap();
    assert!(world.exported().await.apis.is_empty());
}

#[tokio::test]
async fn a_keys_label_cannot_change() {
    let world = World::new().await;
    world.apply(&sample()).await;
    let mut wanted = sample();
    wanted.keys[0].label = v1::KeyLabel::Test.into();
    let error = world.send(request(&wanted)).await.unwrap_err();
    assert_eq!(told(&error).2, "configuration.keys[0].label");
}

#[tokio::test]
async fn readers_and_viewers_export_and_only_managers_and_admins_apply() {
    let world = World::new().await;
    let owner = world.someone("ada").await;
    let viewer = world.invited_by(&owner, "vera", v1::Role::Viewer).await;
    let member = world.invited_by(&owner, "max", v1::Role::Member).await;
    let admin = world.invited_by(&owner, "adam", v1::Role::Admin).await;
    let reader = world.add_key(plain_key(&[Scope::Read])).await;
    let quota = world.add_key(plain_key(&[Scope::Quota])).await;
    let rows = [
        (&viewer.access, true, false),
        (&member.access, true, false),
        (&admin.access, true, true),
        (&reader, true, false),
        (&quota, false, false),
    ];
    for (credential, exports, applies) in rows {
        let mut client = ConfigurationServiceClient::new(world.transport_with(credential));
        let exported = client.export_workspace(v1::ExportWorkspaceRequest {}).await;
        assert_eq!(exported.is_ok(), exports);
        assert_eq!(client.apply_workspace(request(&sample())).await.is_ok(), applies);
    }
    // A person's workspace is not the key's.
    assert_eq!(world.exported().await.apis, []);
}

mod round_trip {
    use std::cell::RefCell;

    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::test_runner::{Config, TestRunner};
    use rateguard_core::ids::{ApiId, KeyId, Slug};
    use rateguard_core::pricing::PriceSheet;
    use rateguard_core::rule::{Override, OverrideOf};
    use rateguard_engine::resources::{Api, Key, PriceOverride};

    use super::super::domain;
    use super::*;

    /// Each case makes two installations.
    const CASES: u32 = 16;

    /// What a workspace holds, as people could have made it: whatever is named exists.
    fn workspace() -> impl Strategy<Value = Vec<Resource>> {
        let apis = vec(domain::api(), 0..4);
        let keys = vec(domain::key(), 0..4);
        let limits = (vec(domain::rule(), 0..5), vec(domain::budget(), 0..4));
        (apis, keys, limits, vec(domain::price_sheet(), 0..4)).prop_map(|(apis, keys, limits, prices)| {
            let (rules, budgets) = limits;
            let apis: Vec<Api> =
                apis.into_iter().enumerate().map(|(place, api)| known_api(place, api)).collect();
            let api_ids: Vec<ApiId> = apis.iter().map(|api| api.id.clone()).collect();
            let keys: Vec<Key> =
                keys.into_iter().zip(1..).map(|(key, number)| known_key(number, &api_ids, key)).collect();
            let key_ids: Vec<KeyId> = keys.iter().map(|key| key.id.clone()).collect();
            let fit = |matches: &mut rateguard_core::matching::Match| {
                matches.apis = some_of(&matches.apis, &api_ids);
                matches.keys = some_of(&matches.keys, &key_ids);
            };
            let rules = rules.into_iter().map(|mut rule| {
                fit(&mut rule.matches);
                let meant = if rule.matches.keys.is_empty() { &key_ids } else { &rule.matches.keys };
                rule.overrides = known_overrides(rule.overrides, meant);
                Resource::Rule(rule)
            });
            let budgets = budgets.into_iter().map(|mut budget| {
                fit(&mut budget.matches);
                budget.opened_after = None;
                Resource::Budget(budget)
            });
            let prices =
                prices.into_iter().enumerate().filter_map(|(place, sheet)| known_price(place, sheet));
            let apis = apis.into_iter().map(Resource::Api);
            let keys = keys.into_iter().map(Resource::Key);
            apis.chain(keys).chain(rules).chain(budgets).chain(prices).collect()
        })
    }

    /// As many of the known ids as were drawn.
    fn some_of<T: Clone>(drawn: &[T], known: &[T]) -> Vec<T> {
        known.iter().take(drawn.len()).cloned().collect()
    }

    /// Those of subjects, and as many of those of keys as there are keys for.
    fn known_overrides(drawn: Vec<Override>, keys: &[KeyId]) -> Vec<Override> {
        let mut keys = keys.iter();
        let known = |other: Override| match other.whose {
            OverrideOf::Key(_) => {
                keys.next().map(|key| Override { whose: OverrideOf::Key(key.clone()), ..other })
            }
            OverrideOf::Subject(_) => Some(other),
        };
        drawn.into_iter().filter_map(known).collect()
    }

    fn known_api(place: usize, api: Api) -> Api {
        let slug = Slug::parse("slug", &format!("api-{place}")).unwrap();
        // What opens upstreams is not in an export.
        Api { slug, credential: None, credential_reference: None, ..api }
    }

    fn known_key(number: u8, api_ids: &[ApiId], key: Key) -> Key {
        Key { secret_sha256: [number; 32], apis: some_of(&key.apis, api_ids), ..key }
    }

    fn known_price(place: usize, mut sheet: PriceSheet) -> Option<Resource> {
        // Two of each model, from different instants on.
        (sheet.provider, sheet.model) = ("maker".to_owned(), format!("m-{}", place / 2));
        sheet.effective_from =
            Millis::new(sheet.effective_from.get() / 2 * 2 + i64::from(place.is_multiple_of(2)));
        let is_price =
            !sheet.token_rates.is_empty() || sheet.per_request.is_some() || !sheet.per_unit.is_empty();
        is_price.then_some(Resource::PriceOverride(PriceOverride { sheet }))
    }

    async fn holds(resources: Vec<Resource>) {
        let world = World::new().await;
        for resource in resources {
            let deed = Deed::of_server("Test", world.engine.now());
            world.config.insert(&world.workspace, resource, 100, &deed).await.unwrap();
            world.clock.advance_ms(1);
        }
        world.engine.directory().refresh(world.engine.now()).await.unwrap();
        let exported = world.exported().await;
        assert_eq!(world.apply(&exported).await.differences, []);
        let elsewhere = World::new().await;
        let answer = elsewhere.apply(&exported).await;
        assert_eq!(answer.created_keys.len() + 1, exported.keys.len());
        assert_eq!(elsewhere.exported().await, exported);
        assert_eq!(elsewhere.apply(&exported).await.differences, []);
    }

    #[test]
    fn any_workspace_is_the_same_after_export_and_application_elsewhere() {
        let runtime = RefCell::new(tokio::runtime::Runtime::new().unwrap());
        let mut runner = TestRunner::new(Config { cases: CASES, ..Config::default() });
        let outcome = runner.run(&workspace(), |resources| {
            runtime.borrow_mut().block_on(holds(resources));
            Ok(())
        });
        outcome.unwrap();
    }
}
