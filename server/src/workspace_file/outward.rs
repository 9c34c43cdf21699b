//! From the message to the file. What is a default is left out.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rateguard_core::limits::{LIMIT_MAX, UPSTREAM_TIMEOUT_MS_DEFAULT};
use rateguard_proto::v1;

use super::WorkspaceFileError;
use super::document::{
    Algorithm, Amount, Api, Auth, Budget, BudgetPeriod, CalendarWindow, Concurrency, Consistency, Credential,
    Dialect, Document, Enforcement, Facts, FailurePolicy, Key, KeyLabel, KeyScope, LocalShare, Match,
    OnMissing, Override, Period, Price, Rule, RuleMode, Scope, TokenBucket, TokenRates, UnknownPrice,
    VERSION, Whose, Window,
};
use super::values::{Decimal, Length};

/// Times that people give rates in, in milliseconds: a second, a minute, an hour, a day.
const RATE_PERIODS_MS: [i64; 4] = [1_000, 60_000, 3_600_000, 86_400_000];

/// What a step of the conversion gives.
type Outcome<T> = Result<T, WorkspaceFileError>;

/// The file that a message stands for.
///
/// # Errors
/// [`WorkspaceFileError::Newer`] for what this program does not know.
pub fn from_message(message: v1::WorkspaceConfiguration) -> Outcome<Document> {
    let currency = message.currency_code;
    Ok(Document {
        version: VERSION,
        apis: message.apis.into_iter().map(|api_| api(api_, &currency)).collect::<Outcome<_>>()?,
        keys: message.keys.into_iter().map(key).collect::<Outcome<_>>()?,
        rules: message.rules.into_iter().map(rule).collect::<Outcome<_>>()?,
        budgets: message.budgets.into_iter().map(|b| budget(b, &currency)).collect::<Outcome<_>>()?,
        prices: message.prices.into_iter().map(price).collect::<Outcome<_>>()?,
        workspace: Facts { currency, time_zone: text(message.time_zone) },
    })
}

fn text(value: String) -> Option<String> {
    Some(value).filter(|value| !value.is_empty())
}

fn number(value: i64) -> Option<i64> {
    Some(value).filter(|value| *value != 0)
}

fn unknown(what: &str) -> WorkspaceFileError {
    WorkspaceFileError::Newer(what.to_owned())
}

fn decimal(value: &str) -> Outcome<Decimal> {
    Decimal::parse(value).map_err(|_| unknown("a decimal"))
}

fn decimals(value: Option<String>) -> Outcome<Option<Decimal>> {
    value.as_deref().map(decimal).transpose()
}

/// A value of an enumeration. One that the generated code does not know is a newer server's.
fn known<E: TryFrom<i32>, T: TryFrom<E, Error = WorkspaceFileError>>(value: i32) -> Outcome<T> {
    E::try_from(value).map_err(|_| unknown("an enumeration's value")).and_then(T::try_from)
}

fn api(message: v1::Api, currency: &str) -> Outcome<Api> {
    let credential = message.credential_set.then(|| credential(&message.credential_reference)).transpose()?;
    let unknown_price = unknown_price(message.unknown_price_policy(), message.default_cost, currency)?;
    let auth = auth(message.auth_scheme, message.auth_name)?;
    let timeout_ms = Some(message.timeout_ms).filter(|ms| *ms != 0 && *ms != UPSTREAM_TIMEOUT_MS_DEFAULT);
    Ok(Api {
        display_name: text(message.display_name).filter(|name| *name != message.slug),
        slug: message.slug,
        base_url: text(message.base_url),
        dialect: known::<v1::ApiDialect, Dialect>(message.dialect)?,
        auth,
        credential,
        timeout: timeout_ms.map(|ms| Length { ms }),
        allow_private_upstream: message.allow_private_upstream,
        unknown_price,
        price_per_request: decimals(message.price_per_request)?,
        default_max_output_tokens: number(message.default_max_output_tokens),
        show_spend: message.show_spend,
        active: message.active.unwrap_or(true),
    })
}

fn credential(reference: &str) -> Outcome<Credential> {
    match reference.split_once(':') {
        None if reference.is_empty() => Ok(Credential::Stored),
        Some(("env", name)) => Ok(Credential::Env(name.to_owned())),
        Some(("file", path)) => Ok(Credential::File(path.to_owned())),
        _ => Err(unknown("a credential's reference")),
    }
}

fn auth(scheme: i32, name: String) -> Outcome<Auth> {
    use v1::ApiAuthScheme as S;
    match S::try_from(scheme) {
        Ok(S::None) => Ok(Auth::None),
        Ok(S::Bearer) => Ok(Auth::Bearer),
        Ok(S::Basic) => Ok(Auth::Basic),
        Ok(S::Header) => Ok(Auth::Header(name)),
        Ok(S::Query) => Ok(Auth::Query(name)),
        Ok(S::Unspecified) | Err(_) => Err(unknown("an auth scheme")),
    }
}

fn unknown_price(
    policy: v1::UnknownPricePolicy,
    cost: Option<v1::NanoMoney>,
    currency: &str,
) -> Outcome<UnknownPrice> {
    match policy {
        v1::UnknownPricePolicy::Deny => Ok(UnknownPrice::Deny),
        v1::UnknownPricePolicy::AllowAndFlag => Ok(UnknownPrice::AllowAndFlag),
        v1::UnknownPricePolicy::ChargeDefault => {
            let nanos = cost.unwrap_or_default().nanos;
            Ok(UnknownPrice::ChargeDefault(Decimal::from_nanos(nanos, currency)))
        }
        v1::UnknownPricePolicy::Unspecified => Err(unknown("a policy for unknown prices")),
    }
}

fn key(message: v1::Key) -> Outcome<Key> {
    let scopes = message.scopes.iter().map(|scope| known::<v1::KeyScope, KeyScope>(*scope));
    Ok(Key {
        label: known::<v1::KeyLabel, KeyLabel>(message.label)?,
        scopes: scopes.collect::<Outcome<_>>()?,
        active: message.state() == v1::KeyState::Active,
        name: message.display_name,
        apis: message.api_ids,
        models: message.models,
        ip_ranges: message.ip_ranges,
        bound_subject: text(message.bound_subject),
        allow_subject_header: message.allow_subject_header,
        expires: message.expire_time.map(instant).transpose()?,
    })
}

fn instant(at: prost_types::Timestamp) -> Outcome<Timestamp> {
    Timestamp::new(at.seconds, at.nanos).map_err(|_| unknown("an instant"))
}

fn call_match(message: v1::CallMatch) -> Match {
    Match {
        apis: message.api_ids,
        endpoints: message.endpoints,
        methods: message.methods,
        models: message.models,
        keys: message.key_ids,
        ip_ranges: message.ip_ranges,
        subjects: message.subjects,
        attributes: message.attributes,
    }
}

fn scope(dimension: v1::ScopeDimension) -> Outcome<Scope> {
    use v1::ScopeKind as K;
    Ok(match dimension.kind() {
        K::Unspecified => return Err(unknown("a scope")),
        K::Key => Scope::Key,
        K::Subject => Scope::Subject,
        K::Ip => Scope::Ip,
        K::Api => Scope::Api,
        K::Endpoint => Scope::Endpoint,
        K::Model => Scope::Model,
        K::Attribute => Scope::Attribute(dimension.attribute),
    })
}

fn rule(message: v1::Rule) -> Outcome<Rule> {
    Ok(Rule {
        name: message.display_name,
        matches: message.r#match.map(call_match),
        scope: message.scope.into_iter().map(scope).collect::<Outcome<_>>()?,
        on_missing: known::<v1::OnMissing, OnMissing>(message.on_missing)?,
        unit: message.unit,
        algorithm: algorithm(message.algorithm.ok_or_else(|| unknown("an algorithm"))?)?,
        mode: known::<v1::RuleMode, RuleMode>(message.mode)?,
        priority: message.priority,
        override_group: text(message.override_group),
        consistency: known::<v1::RuleConsistency, Consistency>(message.consistency)?,
        failure_policy: failure_policy(message.failure_policy.unwrap_or_default())?,
        counts_denied: message.counts_denied,
        spread_by_subject: message.spread_by_subject,
        overrides: message.overrides.into_iter().map(override_of).collect::<Outcome<_>>()?,
        active: message.active.unwrap_or(true),
    })
}

fn override_of(message: v1::RuleOverride) -> Outcome<Override> {
    use v1::rule_override as of;
    let whose = match message.whose.ok_or_else(|| unknown("whom an override is for"))? {
        of::Whose::KeyId(key) => Whose::Key(key),
        of::Whose::Subject(subject) => Whose::Subject(subject),
    };
    let amount = match message.amount.ok_or_else(|| unknown("an override's amount"))? {
        of::Amount::Limit(limit) => Amount::Limit(limit),
        of::Amount::TokenBucket(bucket) => Amount::TokenBucket(token_bucket(&bucket)),
        of::Amount::Unlimited(v1::UnlimitedAmount {}) => Amount::Unlimited,
    };
    Ok(Override { whose, amount })
}

fn failure_policy(message: v1::FailurePolicy) -> Outcome<FailurePolicy> {
    use v1::FailureMode as M;
    Ok(match message.mode() {
        M::Unspecified | M::Open => FailurePolicy::Open,
        M::Closed => FailurePolicy::Closed,
        M::Local => FailurePolicy::Local(LocalShare {
            share_percent: message.local_share_percent,
            replicas_max: message.local_replicas_max,
        }),
    })
}

fn algorithm(algorithm: v1::rule::Algorithm) -> Outcome<Algorithm> {
    use v1::rule::Algorithm as A;
    let window = |limit, window_ms| Window { limit, window: Length { ms: window_ms } };
    Ok(match algorithm {
        A::TokenBucket(bucket) => Algorithm::TokenBucket(token_bucket(&bucket)),
        A::FixedWindow(fixed) => Algorithm::FixedWindow(window(fixed.limit, fixed.window_ms)),
        A::SlidingWindow(sliding) => Algorithm::SlidingWindow(window(sliding.limit, sliding.window_ms)),
        A::CalendarWindow(calendar) => Algorithm::CalendarWindow(CalendarWindow {
            limit: calendar.limit,
            period: known::<v1::CalendarPeriod, Period>(calendar.period)?,
            time_zone: text(calendar.time_zone),
        }),
        A::Concurrency(concurrency) => Algorithm::Concurrency(Concurrency { limit: concurrency.limit }),
    })
}

/// The server has the rate as a reduced fraction; here it is for a time that people give rates in,
/// where that is exact.
fn token_bucket(bucket: &v1::TokenBucket) -> TokenBucket {
    let (amount, period_ms) = (bucket.refill_amount, bucket.refill_period_ms);
    let for_period = |per_ms: i64| {
        let times = per_ms.checked_div(period_ms).filter(|times| times * period_ms == per_ms)?;
        let refill = amount.checked_mul(times).filter(|refill| *refill <= LIMIT_MAX)?;
        Some((refill, per_ms))
    };
    let (refill, ms) = RATE_PERIODS_MS.into_iter().find_map(for_period).unwrap_or((amount, period_ms));
    TokenBucket { capacity: bucket.capacity, refill, per: Length { ms } }
}

fn budget(message: v1::Budget, currency: &str) -> Outcome<Budget> {
    let (period, time_zone) = match message.period {
        Some(v1::budget::Period::Prepaid(v1::PrepaidBudget {})) => (BudgetPeriod::Prepaid, None),
        Some(v1::budget::Period::Calendar(calendar)) => {
            (calendar.period().try_into()?, text(calendar.time_zone))
        }
        None => return Err(unknown("a budget's period")),
    };
    Ok(Budget {
        name: message.display_name,
        matches: message.r#match.map(call_match),
        scope: message.scope.into_iter().map(scope).collect::<Outcome<_>>()?,
        amount: Decimal::from_nanos(message.amount.unwrap_or_default().nanos, currency),
        period,
        time_zone,
        enforcement: known::<v1::BudgetEnforcement, Enforcement>(message.enforcement)?,
        active: message.active.unwrap_or(true),
    })
}

fn price(message: v1::Price) -> Outcome<Price> {
    let per_unit: Outcome<BTreeMap<String, Decimal>> =
        message.unit_rates.iter().map(|(unit, rate)| Ok((unit.clone(), decimal(rate)?))).collect();
    Ok(Price {
        provider: message.provider,
        model: message.model,
        effective_from: message.effective_time.map(instant).transpose()?,
        per_million_tokens: message.token_rates.map(token_rates).transpose()?,
        per_request: decimals(message.request_rate)?,
        per_unit: per_unit?,
        max_input_tokens: number(message.max_input_tokens),
        max_output_tokens: number(message.max_output_tokens),
        max_priced_input_tokens: number(message.max_priced_input_tokens),
    })
}

fn token_rates(rates: v1::TokenRates) -> Outcome<TokenRates> {
    Ok(TokenRates {
        input: decimals(rates.input)?,
        cached_input: decimals(rates.cached_input)?,
        cache_write_5m: decimals(rates.cache_write_5m)?,
        cache_write_1h: decimals(rates.cache_write_1h)?,
        output: decimals(rates.output)?,
        reasoning: decimals(rates.reasoning)?,
        audio_input: decimals(rates.audio_input)?,
        audio_output: decimals(rates.audio_output)?,
    })
}
