//! From the file to the message.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rateguard_proto::v1;

use super::document::{
    Algorithm, Amount, Api, Auth, Budget, Credential, Document, FailurePolicy, Key, Match, Override, Price,
    Rule, Scope, TokenBucket, TokenRates, UnknownPrice, Whose,
};
use super::values::Decimal;
use super::{FindCredential, WorkspaceFileError};

/// The message that a file stands for.
///
/// # Errors
/// [`WorkspaceFileError::Credential`] for one that is not where the file says,
/// [`WorkspaceFileError::Field`] for money that its currency does not count.
pub fn to_message(
    document: Document,
    find: FindCredential<'_>,
) -> Result<v1::WorkspaceConfiguration, WorkspaceFileError> {
    let currency = document.workspace.currency;
    let budgets =
        document.budgets.into_iter().enumerate().map(|(place, entry)| budget(place, entry, &currency));
    let apis = document.apis.into_iter().enumerate().map(|(place, entry)| api(place, entry, &currency, find));
    Ok(v1::WorkspaceConfiguration {
        apis: apis.collect::<Result<_, _>>()?,
        keys: document.keys.into_iter().map(key).collect(),
        rules: document.rules.into_iter().map(rule).collect(),
        budgets: budgets.collect::<Result<_, _>>()?,
        prices: document.prices.into_iter().map(price).collect(),
        time_zone: document.workspace.time_zone.unwrap_or_default(),
        currency_code: currency,
    })
}

fn api(
    place: usize,
    entry: Api,
    currency: &str,
    find: FindCredential<'_>,
) -> Result<v1::Api, WorkspaceFileError> {
    let missing = |message| {
        let path = format!("apis[{place}].credential");
        WorkspaceFileError::Credential { path, slug: entry.slug.clone(), message }
    };
    let secret = entry.credential.as_ref().map(find).transpose().map_err(missing)?.flatten();
    let (auth_scheme, auth_name) = auth(entry.auth);
    let uncountable = |message| fault(format!("apis[{place}].unknown_price.charge_default"), message);
    let (policy, default_cost) = unknown_price(entry.unknown_price, currency).map_err(uncountable)?;
    Ok(v1::Api {
        display_name: entry.display_name.unwrap_or_default(),
        base_url: entry.base_url.unwrap_or_default(),
        dialect: v1::ApiDialect::from(entry.dialect).into(),
        auth_scheme: auth_scheme.into(),
        auth_name,
        credential: secret.map(|value| v1::SecretText { value }),
        credential_set: entry.credential.is_some(),
        credential_reference: entry.credential.as_ref().map(reference).unwrap_or_default(),
        timeout_ms: entry.timeout.map_or(0, |timeout| timeout.ms),
        active: Some(entry.active),
        allow_private_upstream: entry.allow_private_upstream,
        unknown_price_policy: policy.into(),
        default_cost,
        price_per_request: entry.price_per_request.map(String::from),
        default_max_output_tokens: entry.default_max_output_tokens.unwrap_or(0),
        show_spend: entry.show_spend,
        slug: entry.slug,
        ..v1::Api::default()
    })
}

fn fault(path: String, message: String) -> WorkspaceFileError {
    WorkspaceFileError::Field { path, message }
}

fn reference(credential: &Credential) -> String {
    match credential {
        Credential::Stored => String::new(),
        Credential::Env(name) => format!("env:{name}"),
        Credential::File(path) => format!("file:{path}"),
    }
}

fn auth(auth: Auth) -> (v1::ApiAuthScheme, String) {
    match auth {
        Auth::None => (v1::ApiAuthScheme::None, String::new()),
        Auth::Bearer => (v1::ApiAuthScheme::Bearer, String::new()),
        Auth::Basic => (v1::ApiAuthScheme::Basic, String::new()),
        Auth::Header(name) => (v1::ApiAuthScheme::Header, name),
        Auth::Query(name) => (v1::ApiAuthScheme::Query, name),
    }
}

fn unknown_price(
    policy: UnknownPrice,
    currency: &str,
) -> Result<(v1::UnknownPricePolicy, Option<v1::NanoMoney>), String> {
    Ok(match policy {
        UnknownPrice::Deny => (v1::UnknownPricePolicy::Deny, None),
        UnknownPrice::AllowAndFlag => (v1::UnknownPricePolicy::AllowAndFlag, None),
        UnknownPrice::ChargeDefault(cost) => {
            (v1::UnknownPricePolicy::ChargeDefault, Some(money(&cost, currency)?))
        }
    })
}

fn money(amount: &Decimal, currency: &str) -> Result<v1::NanoMoney, String> {
    Ok(v1::NanoMoney { currency_code: currency.to_owned(), nanos: amount.to_nanos(currency)? })
}

fn key(entry: Key) -> v1::Key {
    let state = if entry.active { v1::KeyState::Active } else { v1::KeyState::Disabled };
    v1::Key {
        display_name: entry.name,
        label: v1::KeyLabel::from(entry.label).into(),
        scopes: entry.scopes.into_iter().map(|scope| v1::KeyScope::from(scope).into()).collect(),
        state: state.into(),
        api_ids: entry.apis,
        models: entry.models,
        ip_ranges: entry.ip_ranges,
        bound_subject: entry.bound_subject.unwrap_or_default(),
        allow_subject_header: entry.allow_subject_header,
        expire_time: entry.expires.map(instant),
        ..v1::Key::default()
    }
}

/// An instant before the epoch has its parts below zero, which the server refuses.
fn instant(at: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: at.as_second(), nanos: at.subsec_nanosecond() }
}

fn call_match(entry: Match) -> v1::CallMatch {
    v1::CallMatch {
        api_ids: entry.apis,
        endpoints: entry.endpoints,
        methods: entry.methods,
        models: entry.models,
        key_ids: entry.keys,
        ip_ranges: entry.ip_ranges,
        subjects: entry.subjects,
        attributes: entry.attributes,
    }
}

fn scope(dimensions: Vec<Scope>) -> Vec<v1::ScopeDimension> {
    use v1::ScopeKind as K;
    let message = |dimension| {
        let (kind, attribute) = match dimension {
            Scope::Key => (K::Key, String::new()),
            Scope::Subject => (K::Subject, String::new()),
            Scope::Ip => (K::Ip, String::new()),
            Scope::Api => (K::Api, String::new()),
            Scope::Endpoint => (K::Endpoint, String::new()),
            Scope::Model => (K::Model, String::new()),
            Scope::Attribute(name) => (K::Attribute, name),
        };
        v1::ScopeDimension { kind: kind.into(), attribute }
    };
    dimensions.into_iter().map(message).collect()
}

fn rule(entry: Rule) -> v1::Rule {
    v1::Rule {
        display_name: entry.name,
        r#match: entry.matches.map(call_match),
        scope: scope(entry.scope),
        unit: entry.unit,
        algorithm: Some(algorithm(entry.algorithm)),
        mode: v1::RuleMode::from(entry.mode).into(),
        on_missing: v1::OnMissing::from(entry.on_missing).into(),
        priority: entry.priority,
        override_group: entry.override_group.unwrap_or_default(),
        consistency: v1::RuleConsistency::from(entry.consistency).into(),
        failure_policy: Some(failure_policy(entry.failure_policy)),
        counts_denied: entry.counts_denied,
        spread_by_subject: entry.spread_by_subject,
        overrides: entry.overrides.into_iter().map(override_message).collect(),
        active: Some(entry.active),
        ..v1::Rule::default()
    }
}

fn failure_policy(policy: FailurePolicy) -> v1::FailurePolicy {
    let (mode, share) = match policy {
        FailurePolicy::Open => (v1::FailureMode::Open, None),
        FailurePolicy::Closed => (v1::FailureMode::Closed, None),
        FailurePolicy::Local(share) => (v1::FailureMode::Local, Some(share)),
    };
    v1::FailurePolicy {
        mode: mode.into(),
        local_share_percent: share.map_or(0, |share| share.share_percent),
        local_replicas_max: share.map_or(0, |share| share.replicas_max),
    }
}

fn override_message(other: Override) -> v1::RuleOverride {
    use v1::rule_override as of;
    let whose = match other.whose {
        Whose::Key(key) => of::Whose::KeyId(key),
        Whose::Subject(subject) => of::Whose::Subject(subject),
    };
    let amount = match other.amount {
        Amount::Limit(limit) => of::Amount::Limit(limit),
        Amount::TokenBucket(bucket) => of::Amount::TokenBucket(token_bucket(&bucket)),
        Amount::Unlimited => of::Amount::Unlimited(v1::UnlimitedAmount {}),
    };
    v1::RuleOverride { whose: Some(whose), amount: Some(amount) }
}

fn token_bucket(bucket: &TokenBucket) -> v1::TokenBucket {
    v1::TokenBucket {
        capacity: bucket.capacity,
        refill_amount: bucket.refill,
        refill_period_ms: bucket.per.ms,
    }
}

fn algorithm(algorithm: Algorithm) -> v1::rule::Algorithm {
    use v1::rule::Algorithm as A;
    match algorithm {
        Algorithm::TokenBucket(bucket) => A::TokenBucket(token_bucket(&bucket)),
        Algorithm::FixedWindow(window) => {
            A::FixedWindow(v1::FixedWindow { limit: window.limit, window_ms: window.window.ms })
        }
        Algorithm::SlidingWindow(window) => {
            A::SlidingWindow(v1::SlidingWindow { limit: window.limit, window_ms: window.window.ms })
        }
        Algorithm::CalendarWindow(window) => A::CalendarWindow(v1::CalendarWindow {
            limit: window.limit,
            period: v1::CalendarPeriod::from(window.period).into(),
            time_zone: window.time_zone.unwrap_or_default(),
        }),
        Algorithm::Concurrency(concurrency) => A::Concurrency(v1::Concurrency { limit: concurrency.limit }),
    }
}

fn budget(place: usize, entry: Budget, currency: &str) -> Result<v1::Budget, WorkspaceFileError> {
    let at = |field: &str, message| fault(format!("budgets[{place}].{field}"), message);
    let amount = money(&entry.amount, currency).map_err(|message| at("amount", message))?;
    let period = match (entry.period.calendar(), entry.time_zone) {
        (Some(period), time_zone) => v1::budget::Period::Calendar(v1::CalendarBudget {
            period: period.into(),
            time_zone: time_zone.unwrap_or_default(),
        }),
        (None, None) => v1::budget::Period::Prepaid(v1::PrepaidBudget {}),
        (None, Some(_)) => return Err(at("time_zone", "a prepaid budget has none".to_owned())),
    };
    Ok(v1::Budget {
        display_name: entry.name,
        r#match: entry.matches.map(call_match),
        scope: scope(entry.scope),
        amount: Some(amount),
        period: Some(period),
        enforcement: v1::BudgetEnforcement::from(entry.enforcement).into(),
        active: Some(entry.active),
        ..v1::Budget::default()
    })
}

fn price(entry: Price) -> v1::Price {
    let rates: BTreeMap<String, String> =
        entry.per_unit.into_iter().map(|(unit, rate)| (unit, rate.into())).collect();
    v1::Price {
        provider: entry.provider,
        model: entry.model,
        effective_time: entry.effective_from.map(instant),
        token_rates: entry.per_million_tokens.map(token_rates),
        request_rate: entry.per_request.map(String::from),
        unit_rates: rates,
        max_input_tokens: entry.max_input_tokens.unwrap_or(0),
        max_output_tokens: entry.max_output_tokens.unwrap_or(0),
        max_priced_input_tokens: entry.max_priced_input_tokens.unwrap_or(0),
        ..v1::Price::default()
    }
}

fn token_rates(rates: TokenRates) -> v1::TokenRates {
    let rate = |rate: Option<Decimal>| rate.map(String::from);
    v1::TokenRates {
        input: rate(rates.input),
        cached_input: rate(rates.cached_input),
        cache_write_5m: rate(rates.cache_write_5m),
        cache_write_1h: rate(rates.cache_write_1h),
        output: rate(rates.output),
        reasoning: rate(rates.reasoning),
        audio_input: rate(rates.audio_input),
        audio_output: rate(rates.audio_output),
    }
}
