//! Arbitrary configurations, as the server exports them but for the shapes that only it makes.

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use rateguard_proto::v1;

use super::super::values::Decimal;

const CURRENCIES: [&str; 2] = ["USD", "JPY"];

/// Text as people write it, words among it that YAML takes for something else.
fn text() -> impl Strategy<Value = String> {
    let tricky = vec![
        "no",
        "null",
        "~",
        "1.50",
        "0x1f",
        "1_000",
        "2027-01-01",
        "a: b",
        "# a",
        "- a",
        "'",
        "\"",
        "{a}",
        "[a]",
        "&a",
        "*a",
        "!a",
        "|",
        ">",
        "%a",
        "@a",
        "`a",
        " leading",
        "trailing ",
        "true",
        "ünï – ✓",
        "\\n",
        "a#2",
        "<<",
        "=",
        ".inf",
        "12:30:45",
        "?",
        "key: [",
    ];
    prop_oneof![select(tricky).prop_map(str::to_owned), "[ -~]{1,40}", "\\PC{1,20}"]
}

fn texts() -> impl Strategy<Value = Vec<String>> {
    vec(text(), 0..3)
}

fn decimal() -> impl Strategy<Value = String> {
    (0..=1_000_000_000_000_i64).prop_map(|nanos| String::from(Decimal::from_nanos(nanos, "USD")))
}

fn word<E: Copy + Into<i32> + std::fmt::Debug + 'static>(words: &'static [E]) -> impl Strategy<Value = i32> {
    select(words).prop_map(Into::into)
}

fn money(currency: &'static str) -> impl Strategy<Value = v1::NanoMoney> {
    (0..=1_000_000_000_000_000_000_i64)
        .prop_map(move |nanos| v1::NanoMoney { currency_code: currency.to_owned(), nanos })
}

fn call_match() -> impl Strategy<Value = v1::CallMatch> {
    let attributes = btree_map("[a-z_]{1,8}", text(), 0..3);
    ([texts(), texts()], [texts(), texts(), texts()], [texts(), texts()], attributes).prop_map(
        |([api_ids, key_ids], [endpoints, methods, models], [ip_ranges, subjects], attributes)| {
            v1::CallMatch { api_ids, endpoints, methods, models, key_ids, ip_ranges, subjects, attributes }
        },
    )
}

fn scope() -> impl Strategy<Value = Vec<v1::ScopeDimension>> {
    use v1::ScopeKind as K;
    let kinds = vec![K::Key, K::Subject, K::Ip, K::Api, K::Endpoint, K::Model];
    (subsequence(kinds, 0..4), option::of("[a-z_]{1,8}")).prop_map(|(kinds, attribute)| {
        let of_kind = |kind: K| v1::ScopeDimension { kind: kind.into(), attribute: String::new() };
        let named = |attribute| v1::ScopeDimension { kind: K::Attribute.into(), attribute };
        kinds.into_iter().map(of_kind).chain(attribute.map(named)).collect()
    })
}

fn api(currency: &'static str) -> impl Strategy<Value = v1::Api> {
    use v1::ApiAuthScheme as S;
    let dialect = word(&[v1::ApiDialect::None, v1::ApiDialect::Openai, v1::ApiDialect::Anthropic]);
    let auth = prop_oneof![
        select(vec![S::None, S::Bearer, S::Basic]).prop_map(|scheme| (scheme, String::new())),
        (select(vec![S::Header, S::Query]), "[a-z-]{1,10}"),
    ];
    let credential = option::of(prop_oneof![Just(String::new()), "(env|file):[A-Za-z_/:. ]{1,10}"]);
    let policy = prop_oneof![
        select(vec![v1::UnknownPricePolicy::Deny, v1::UnknownPricePolicy::AllowAndFlag])
            .prop_map(|policy| (policy, None)),
        money(currency).prop_map(|cost| (v1::UnknownPricePolicy::ChargeDefault, Some(cost))),
    ];
    let names = ("[a-z][a-z0-9-]{0,10}", text(), option::of("https?://[a-z./0-9:]{1,20}"));
    let numbers = (prop_oneof![Just(0), 1_000..3_600_000_i64], 0..100_000_i64, option::of(decimal()));
    (names, (dialect, auth, credential, policy), numbers, any::<[bool; 3]>()).prop_map(
        |(
            (slug, name, base_url),
            (dialect, auth, credential, policy),
            (timeout_ms, tokens, price),
            [a, b, c],
        )| v1::Api {
            // What says nothing more than the slug is left out, as is the usual wait.
            display_name: if name == slug { String::new() } else { name },
            slug,
            base_url: base_url.unwrap_or_default(),
            dialect,
            auth_scheme: auth.0.into(),
            auth_name: auth.1,
            credential_set: credential.is_some(),
            credential_reference: credential.unwrap_or_default(),
            timeout_ms: if timeout_ms == 600_000 { 0 } else { timeout_ms },
            active: Some(a),
            allow_private_upstream: b,
            unknown_price_policy: policy.0.into(),
            default_cost: policy.1,
            price_per_request: price,
            default_max_output_tokens: tokens,
            show_spend: c,
            ..v1::Api::default()
        },
    )
}

/// None, or one in whole milliseconds.
fn instant() -> impl Strategy<Value = Option<prost_types::Timestamp>> {
    let parts = (0..253_402_300_799_i64, 0..1_000_i32);
    option::of(parts.prop_map(|(seconds, ms)| prost_types::Timestamp { seconds, nanos: ms * 1_000_000 }))
}

fn key() -> impl Strategy<Value = v1::Key> {
    use v1::KeyScope as S;
    let scopes = subsequence(vec![S::Quota, S::Usage, S::Gateway, S::Manage, S::Read], 1..=5);
    let words = (
        word(&[v1::KeyLabel::Live, v1::KeyLabel::Test]),
        word(&[v1::KeyState::Active, v1::KeyState::Disabled]),
    );
    (text(), scopes, words, [texts(), texts(), texts()], option::of(text()), any::<bool>(), instant())
        .prop_map(
            |(
                display_name,
                scopes,
                (label, state),
                [api_ids, models, ip_ranges],
                subject,
                header,
                expire_time,
            )| {
                v1::Key {
                    display_name,
                    label,
                    scopes: scopes.into_iter().map(i32::from).collect(),
                    state,
                    api_ids,
                    models,
                    ip_ranges,
                    bound_subject: subject.unwrap_or_default(),
                    allow_subject_header: header,
                    expire_time,
                    ..v1::Key::default()
                }
            },
        )
}

fn algorithm() -> impl Strategy<Value = v1::rule::Algorithm> {
    use v1::rule::Algorithm as A;
    let (limit, window_ms) = (0..=1_i64 << 53, 100..=31_622_400_000_i64);
    let periods = &[
        v1::CalendarPeriod::Hour,
        v1::CalendarPeriod::Day,
        v1::CalendarPeriod::Week,
        v1::CalendarPeriod::Month,
    ];
    // A second, a minute, an hour, a day: other rates are rewritten as the same rate, which the server's
    // own round trip shows.
    let rates = (limit.clone(), 1..=1_000_000_i64, select(vec![1_000, 86_400_000_i64 * 7]));
    prop_oneof![
        rates.prop_map(|(capacity, refill_amount, refill_period_ms)| A::TokenBucket(v1::TokenBucket {
            capacity,
            refill_amount,
            refill_period_ms
        })),
        (limit.clone(), window_ms.clone())
            .prop_map(|(limit, window_ms)| A::FixedWindow(v1::FixedWindow { limit, window_ms })),
        (limit.clone(), window_ms)
            .prop_map(|(limit, window_ms)| A::SlidingWindow(v1::SlidingWindow { limit, window_ms })),
        limit.clone().prop_map(|limit| A::Concurrency(v1::Concurrency { limit })),
        (limit, word(periods), option::of("[A-Z][a-z]{1,8}/[A-Z][a-z_]{1,8}")).prop_map(
            |(limit, period, zone)| {
                A::CalendarWindow(v1::CalendarWindow { limit, period, time_zone: zone.unwrap_or_default() })
            }
        ),
    ]
}

fn policies() -> impl Strategy<Value = (i32, v1::FailurePolicy, bool, bool)> {
    use v1::FailureMode as M;
    let plain = word(&[M::Open, M::Closed]).prop_map(|mode| v1::FailurePolicy { mode, ..Default::default() });
    let local = (1..=99, 1..=1_000).prop_map(|(local_share_percent, local_replicas_max)| v1::FailurePolicy {
        mode: M::Local.into(),
        local_share_percent,
        local_replicas_max,
    });
    let consistency = word(&[v1::RuleConsistency::Strict, v1::RuleConsistency::Leased]);
    (consistency, prop_oneof![plain, local], any::<bool>(), any::<bool>())
}

fn overrides() -> impl Strategy<Value = Vec<v1::RuleOverride>> {
    use v1::rule_override::{Amount, Whose};
    let whose = prop_oneof![text().prop_map(Whose::KeyId), text().prop_map(Whose::Subject)];
    let bucket = (1..=1_i64 << 53, 1..=1_000_000_i64).prop_map(|(capacity, refill_amount)| {
        Amount::TokenBucket(v1::TokenBucket { capacity, refill_amount, refill_period_ms: 1_000 })
    });
    let amount = prop_oneof![
        (0..=1_i64 << 53).prop_map(Amount::Limit),
        bucket,
        Just(Amount::Unlimited(v1::UnlimitedAmount {})),
    ];
    let other = (whose, amount)
        .prop_map(|(whose, amount)| v1::RuleOverride { whose: Some(whose), amount: Some(amount) });
    vec(other, 0..3)
}

fn rule() -> impl Strategy<Value = v1::Rule> {
    let on_missing = word(&[v1::OnMissing::Shared, v1::OnMissing::Skip, v1::OnMissing::Deny]);
    let words = (word(&[v1::RuleMode::Enforced, v1::RuleMode::Shadow]), on_missing);
    let unit = prop_oneof![Just("requests".to_owned()), "[a-z_]{1,8}"];
    let what = (text(), option::of(call_match()), scope(), unit, algorithm());
    let order = (-1_000_000..=1_000_000, option::of(text()));
    let how = (policies(), overrides());
    (what, words, order, how, any::<bool>()).prop_map(
        |((display_name, matches, scope, unit, algorithm), (mode, on_missing), order, how, active)| {
            let (policies, overrides) = how;
            let (priority, group) = order;
            let (consistency, failure_policy, counts_denied, spread_by_subject) = policies;
            v1::Rule {
                display_name,
                r#match: matches,
                scope,
                unit,
                algorithm: Some(algorithm),
                mode,
                on_missing,
                priority,
                override_group: group.unwrap_or_default(),
                consistency,
                failure_policy: Some(failure_policy),
                counts_denied,
                spread_by_subject,
                overrides,
                active: Some(active),
                ..v1::Rule::default()
            }
        },
    )
}

fn budget(currency: &'static str) -> impl Strategy<Value = v1::Budget> {
    use v1::BudgetEnforcement as E;
    use v1::budget::Period as P;
    let periods = &[v1::CalendarPeriod::Day, v1::CalendarPeriod::Week, v1::CalendarPeriod::Month];
    let calendar =
        (word(periods), option::of("[A-Z][a-z]{1,8}/[A-Z][a-z_]{1,8}")).prop_map(|(period, zone)| {
            P::Calendar(v1::CalendarBudget { period, time_zone: zone.unwrap_or_default() })
        });
    let period = prop_oneof![Just(P::Prepaid(v1::PrepaidBudget {})), calendar];
    let what = (text(), option::of(call_match()), scope(), money(currency));
    (what, period, word(&[E::Hard, E::Soft, E::Shadow]), any::<bool>()).prop_map(
        |((display_name, matches, scope, amount), period, enforcement, active)| v1::Budget {
            display_name,
            r#match: matches,
            scope,
            amount: Some(amount),
            period: Some(period),
            enforcement,
            active: Some(active),
            ..v1::Budget::default()
        },
    )
}

fn price() -> impl Strategy<Value = v1::Price> {
    let rates = proptest::array::uniform8(option::of(decimal())).prop_map(|rates| {
        let [
            input,
            cached_input,
            cache_write_5m,
            cache_write_1h,
            output,
            reasoning,
            audio_input,
            audio_output,
        ] = rates;
        v1::TokenRates {
            input,
            cached_input,
            cache_write_5m,
            cache_write_1h,
            output,
            reasoning,
            audio_input,
            audio_output,
        }
    });
    let units = btree_map("[a-z_]{1,8}", decimal(), 0..3);
    let name = ("[a-z]{1,8}", text(), instant());
    (name, option::of(rates), option::of(decimal()), units, any::<[u16; 3]>()).prop_map(
        |(
            (provider, model, effective_time),
            token_rates,
            request_rate,
            unit_rates,
            [input, output, priced],
        )| v1::Price {
            provider,
            model,
            effective_time,
            token_rates,
            request_rate,
            unit_rates,
            max_input_tokens: input.into(),
            max_output_tokens: output.into(),
            max_priced_input_tokens: priced.into(),
            ..v1::Price::default()
        },
    )
}

pub fn configuration() -> impl Strategy<Value = v1::WorkspaceConfiguration> {
    select(&CURRENCIES[..]).prop_flat_map(|currency| {
        let lists =
            (vec(api(currency), 0..3), vec(key(), 0..3), vec(rule(), 0..3), vec(budget(currency), 0..3));
        (lists, vec(price(), 0..3), option::of("[A-Z][a-z]{1,8}/[A-Z][a-z_]{1,8}")).prop_map(
            move |((apis, keys, rules, budgets), prices, zone)| v1::WorkspaceConfiguration {
                currency_code: currency.to_owned(),
                time_zone: zone.unwrap_or_default(),
                apis,
                keys,
                rules,
                budgets,
                prices,
            },
        )
    })
}
