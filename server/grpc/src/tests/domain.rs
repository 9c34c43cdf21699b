//! Arbitrary resources of the domain, as their constructors allow them.

use std::collections::HashSet;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use rateguard_core::counter::Refill;
use rateguard_core::ids::{ApiId, BudgetId, DisplayName, KeyId, PriceId, RuleId, Slug};
use rateguard_core::matching::{Dimension, Glob, Match, OnMissing, Scope};
use rateguard_core::money::{Nanos, Price};
use rateguard_core::pricing::{PriceSheet, PriceSource, TokenRates, UnknownPricePolicy};
use rateguard_core::rule::{
    Algorithm, Budget, BudgetPeriod, Consistency, Enforcement, FailurePolicy, Override, OverrideAmount,
    OverrideOf, Rule, RulePolicies,
};
use rateguard_core::time::{CalendarPeriod, Millis, Zone};
use rateguard_core::unit::Unit;
use rateguard_core::usage::PriceRef;
use rateguard_engine::resources::{Api, AuthScheme, Dialect, Key, KeyLabel, Scopes, SealedCredential};

fn name() -> impl Strategy<Value = DisplayName> {
    "[a-zA-Z][a-z ]{0,20}".prop_map(|text| DisplayName::parse("name", &text).unwrap())
}

fn globs() -> impl Strategy<Value = Vec<Glob>> {
    let texts = vec!["gpt-*", "/v1/**", "a?c", "{x,y}", "[ab]c"];
    subsequence(texts, 0..5)
        .prop_map(|texts| texts.iter().map(|text| Glob::parse("glob", text).unwrap()).collect())
}

fn api_ids() -> impl Strategy<Value = Vec<ApiId>> {
    vec(any::<[u8; 16]>().prop_map(ApiId::from_random), 0..4)
}

fn ip_ranges() -> impl Strategy<Value = Vec<ipnet::IpNet>> {
    let texts = vec!["10.0.0.0/8", "192.0.2.1/32", "2001:db8::/32", "::1/128"];
    subsequence(texts, 0..4).prop_map(|texts| texts.iter().map(|text| text.parse().unwrap()).collect())
}

fn zone() -> impl Strategy<Value = Option<Zone>> {
    let names = vec!["Europe/Berlin", "America/New_York", "UTC", "Asia/Kathmandu"];
    option::of(select(names).prop_map(|name| Zone::parse("zone", name).unwrap()))
}

fn matches() -> impl Strategy<Value = Match> {
    let lists = (api_ids(), globs(), globs(), vec(any::<[u8; 16]>().prop_map(KeyId::from_random), 0..3));
    let texts = (
        subsequence(vec!["GET".to_owned(), "POST".to_owned()], 0..2),
        vec("[a-z]{0,9}", 0..3),
        proptest::collection::btree_map("[a-z][a-z0-9_]{0,8}", "[ -~]{1,9}", 0..3),
    );
    (lists, texts, ip_ranges()).prop_map(
        |((apis, endpoints, models, keys), (methods, subjects, attributes), ip_ranges)| Match {
            apis,
            endpoints,
            methods,
            models,
            keys,
            ip_ranges,
            subjects,
            attributes: attributes.into_iter().collect(),
        },
    )
}

fn scope(on_missing: impl Strategy<Value = OnMissing>) -> impl Strategy<Value = Scope> {
    let all = vec![
        Dimension::Key,
        Dimension::Subject,
        Dimension::Ip,
        Dimension::Api,
        Dimension::Endpoint,
        Dimension::Model,
        Dimension::Attribute("plan".into()),
    ];
    (subsequence(all, 0..=4).prop_shuffle(), on_missing)
        .prop_map(|(dimensions, on_missing)| Scope { dimensions, on_missing })
}

fn algorithm() -> impl Strategy<Value = Algorithm> {
    let window_ms = 100..=31_622_400_000_i64;
    let limit = 0..=1_i64 << 53;
    let periods =
        vec![CalendarPeriod::Hour, CalendarPeriod::Day, CalendarPeriod::Week, CalendarPeriod::Month];
    prop_oneof![
        (1..1_000_000_i64, 1..1_000_000_i64, 1..1_000_000_i64).prop_map(|(capacity, units, period_ms)| {
            let refill = Refill::new(units, period_ms, capacity).unwrap();
            Algorithm::TokenBucket { capacity, refill }
        }),
        (limit.clone(), window_ms.clone())
            .prop_map(|(limit, window_ms)| Algorithm::FixedWindow { limit, window_ms }),
        (limit.clone(), window_ms)
            .prop_map(|(limit, window_ms)| Algorithm::SlidingWindow { limit, window_ms }),
        (limit.clone(), select(periods), zone())
            .prop_map(|(limit, period, zone)| { Algorithm::CalendarWindow { limit, period, zone } }),
        limit.prop_map(|limit| Algorithm::Concurrency { limit }),
    ]
}

fn unit() -> impl Strategy<Value = Unit> {
    prop_oneof![
        select(vec![Unit::Requests, Unit::Tokens, Unit::Cost]),
        "[a-z][a-z0-9_]{0,20}".prop_map(|text| Unit::parse("unit", &text).unwrap()),
    ]
}

/// Policies that fit every algorithm.
fn policies() -> impl Strategy<Value = RulePolicies> {
    let local = (1..=99_u8, 1..=1_000_u16)
        .prop_map(|(share_percent, replicas_max)| FailurePolicy::Local { share_percent, replicas_max });
    let failure = prop_oneof![Just(FailurePolicy::Open), Just(FailurePolicy::Closed), local];
    (failure, any::<[bool; 2]>()).prop_map(|(failure, [counts_denied, spread_by_subject])| RulePolicies {
        consistency: Consistency::Strict,
        failure,
        counts_denied,
        spread_by_subject,
    })
}

pub fn rule() -> impl Strategy<Value = Rule> {
    let on_missing = select(vec![OnMissing::Shared, OnMissing::Skip, OnMissing::Deny]);
    let enforcement = select(vec![Enforcement::Enforced, Enforcement::Shadow]);
    let what = (any::<[u8; 16]>(), name(), matches(), scope(on_missing), unit(), algorithm());
    let how = (enforcement, -1_000_000..=1_000_000_i32, option::of("[a-z]{1,20}"), policies(), any::<bool>());
    (what, how)
        .prop_map(
            |(
                (id, name, matches, scope, unit, algorithm),
                (enforcement, priority, group, policies, active),
            )| {
                Rule {
                    id: RuleId::from_random(id),
                    name,
                    matches,
                    scope,
                    unit,
                    algorithm,
                    enforcement,
                    priority,
                    override_group: group,
                    policies,
                    overrides: Vec::new(),
                    last_reset_at: None,
                    active,
                }
            },
        )
        .prop_map(fitting)
        .prop_map(with_a_share_that_can_be_kept)
        .prop_flat_map(with_overrides)
}

/// The rule without what contradicts its algorithm or its scope.
fn fitting(mut rule: Rule) -> Rule {
    if rule.scope.dimensions.iter().all(|dimension| *dimension == Dimension::Key) {
        rule.scope.on_missing = OnMissing::Shared;
    }
    if matches!(rule.algorithm, Algorithm::Concurrency { .. }) {
        rule.unit = Unit::Requests;
        rule.policies = RulePolicies::default();
    }
    rule.policies.spread_by_subject &= rule.scope.dimensions.contains(&Dimension::Subject);
    rule
}

/// The rule with other amounts of its own algorithm for whom it means.
fn with_overrides(rule: Rule) -> impl Strategy<Value = Rule> {
    let keys = vec![KeyId::from_random([7; 16]), KeyId::from_random([8; 16])];
    let keys = if rule.matches.keys.is_empty() { keys } else { rule.matches.keys.clone() };
    let subjects = vec!["alice".to_owned(), "größer".to_owned()];
    let subjects = if rule.matches.subjects.is_empty() { subjects } else { rule.matches.subjects.clone() };
    let subjects = subjects.into_iter().filter(|subject| !subject.is_empty()).map(OverrideOf::Subject);
    // Each once.
    let whose: HashSet<OverrideOf> = keys.into_iter().map(OverrideOf::Key).chain(subjects).collect();
    let whose: Vec<OverrideOf> = whose.into_iter().collect();
    let amount = match rule.algorithm {
        Algorithm::TokenBucket { refill, .. } => OverrideAmount::TokenBucket { capacity: 1, refill },
        _ => OverrideAmount::Limit(17),
    };
    let most = whose.len();
    (subsequence(whose, 0..=most), any::<bool>()).prop_map(move |(whose, limited)| {
        let amount = if limited { amount.clone() } else { OverrideAmount::Unlimited };
        let overrides = whose.into_iter().map(|whose| Override { whose, amount: amount.clone() });
        Rule { overrides: overrides.collect(), ..rule.clone() }
    })
}

/// Some buckets' rates cannot be divided among so many replicas; then the rule has none of them.
fn with_a_share_that_can_be_kept(rule: Rule) -> Rule {
    if rule.check().is_ok() {
        return rule;
    }
    let policies = RulePolicies { failure: FailurePolicy::Open, ..rule.policies };
    Rule { policies, ..rule }
}

fn nanos() -> impl Strategy<Value = Nanos> {
    (0..=1_000_000_000_000_000_000_i64).prop_map(|nanos| Nanos::parse("nanos", nanos).unwrap())
}

pub fn budget() -> impl Strategy<Value = Budget> {
    let periods = vec![CalendarPeriod::Day, CalendarPeriod::Week, CalendarPeriod::Month];
    let calendar =
        (select(periods), zone()).prop_map(|(period, zone)| BudgetPeriod::Calendar { period, zone });
    let period = prop_oneof![calendar, Just(BudgetPeriod::Prepaid)];
    let enforcement = select(vec![Enforcement::Enforced, Enforcement::Soft, Enforcement::Shadow]);
    let what = (any::<[u8; 16]>(), name(), matches(), scope(Just(OnMissing::Shared)));
    (what, nanos(), period, enforcement, any::<bool>()).prop_map(
        |((id, name, matches, scope), amount, period, enforcement, active)| Budget {
            id: BudgetId::from_random(id),
            name,
            matches,
            scope,
            amount,
            period,
            enforcement,
            active,
            topped_up: Nanos::ZERO,
            opened_after: None,
        },
    )
}

pub fn key() -> impl Strategy<Value = Key> {
    let bounds = prop_oneof![
        "[a-z]{1,20}".prop_map(|subject| (Some(subject), false)),
        any::<bool>().prop_map(|allow| (None, allow)),
    ];
    let what = (any::<[u8; 16]>(), name(), any::<[u8; 32]>(), "rg_live_[a-z]{4}", any::<bool>());
    let may = (subsequence(Scopes::ALL.to_vec(), 1..=5), api_ids(), globs(), ip_ranges(), bounds);
    let life = (option::of((0..253_402_128_000_000_i64).prop_map(Millis::new)), any::<bool>());
    (what, may, life).prop_map(
        |((id, display_name, hash, prefix, test), (scopes, apis, models, ip_ranges, bounds), life)| Key {
            id: KeyId::from_random(id),
            display_name,
            secret_sha256: hash,
            previous: None,
            prefix,
            label: if test { KeyLabel::Test } else { KeyLabel::Live },
            scopes: scopes.into_iter().collect(),
            apis,
            models,
            ip_ranges,
            bound_subject: bounds.0,
            allow_subject_header: bounds.1,
            expires_at: life.0,
            active: life.1,
        },
    )
}

fn price() -> impl Strategy<Value = Price> {
    (0..=1_000_000_000_000_000_000_i64).prop_map(|picos| Price::parse_picos("price", picos).unwrap())
}

pub fn api() -> impl Strategy<Value = Api> {
    let auth = prop_oneof![
        select(vec![AuthScheme::None, AuthScheme::Bearer, AuthScheme::Basic]),
        "[a-zA-Z-]{1,20}".prop_map(AuthScheme::Header),
        "[a-z_]{1,20}".prop_map(AuthScheme::Query),
    ];
    let policy = prop_oneof![
        select(vec![UnknownPricePolicy::Deny, UnknownPricePolicy::AllowAndFlag]),
        nanos().prop_map(UnknownPricePolicy::ChargeDefault),
    ];
    let urls = vec!["", "https://api.example.com/v1", "http://10.0.0.1:8080", "https://[2001:db8::1]/a/b@c"];
    let what = (any::<[u8; 16]>(), "[a-z][a-z0-9-]{0,63}", name(), select(urls), auth);
    let dialect = select(vec![Dialect::None, Dialect::OpenAi, Dialect::Anthropic]);
    let sealed = option::of(vec(any::<u8>(), 1..40).prop_map(SealedCredential));
    let money = (option::of(price()), policy, option::of(1..=1_000_000_000_000_i64));
    let sealed = (sealed, option::of("(env:[A-Z_]{1,8}|file:[a-z/]{1,8})"));
    let how = (dialect, sealed, 1_000..=3_600_000_i64, any::<[bool; 3]>());
    (what, how, money).prop_map(
        |((id, slug, display_name, base_url, auth), (dialect, credential, timeout_ms, [a, b, c]), money)| {
            Api {
                id: ApiId::from_random(id),
                slug: Slug::parse("slug", &slug).unwrap(),
                display_name,
                base_url: base_url.to_owned(),
                dialect,
                auth,
                credential: credential.0,
                credential_reference: credential.1,
                timeout_ms,
                allow_private_upstream: a,
                price_per_request: money.0,
                unknown_price: money.1,
                output_tokens_default: money.2,
                show_spend: b,
                active: c,
            }
        },
    )
}

pub fn price_sheet() -> impl Strategy<Value = PriceSheet> {
    let rates = proptest::array::uniform8(option::of(price())).prop_map(|rates| TokenRates {
        input: rates[0],
        output: rates[1],
        cached_input: rates[2],
        cache_write_5m: rates[3],
        cache_write_1h: rates[4],
        reasoning: rates[5],
        audio_input: rates[6],
        audio_output: rates[7],
    });
    let units = proptest::collection::btree_map("[a-z]{3}_[a-z]{2}", price(), 0..8).prop_map(|units| {
        units.into_iter().map(|(unit, price)| (Unit::parse("unit", &unit).unwrap(), price)).collect()
    });
    let tokens = || option::of(1..=1_000_000_000_000_i64);
    let what = (any::<[u8; 16]>(), 1..u32::MAX, "[a-z0-9][a-z0-9_-]{0,20}", "[ -~]{1,40}");
    (what, rates, price(), units, (tokens(), tokens(), tokens()), 0..253_402_128_000_000_i64).prop_map(
        |((id, version, provider, model), token_rates, per_request, per_unit, tokens, effective_from)| {
            PriceSheet {
                reference: PriceRef { id: PriceId::from_random(id), version },
                provider,
                model,
                token_rates,
                per_request: Some(per_request),
                per_unit,
                input_tokens_max: tokens.0,
                output_tokens_max: tokens.1,
                priced_input_tokens_max: tokens.2,
                effective_from: Millis::new(effective_from),
                source: PriceSource::Override,
            }
        },
    )
}
