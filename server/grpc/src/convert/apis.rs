//! APIs. Their credential goes in and never comes out.

pub mod upstream;

use std::mem::discriminant;

use rateguard_core::ids::{ApiId, DisplayName, Slug};
use rateguard_core::limits::{
    SECRET_BYTES_MAX, TOKENS_MAX, UPSTREAM_TIMEOUT_MS_DEFAULT, UPSTREAM_TIMEOUT_MS_MAX,
    UPSTREAM_TIMEOUT_MS_MIN,
};
use rateguard_core::money::{Currency, Price};
use rateguard_core::pricing::UnknownPricePolicy;
use rateguard_engine::error::{EngineError, Reason};
use rateguard_engine::manage::{ApiDraft, CredentialChange};
use rateguard_engine::ports::Stored;
use rateguard_engine::resources::{Api, AuthScheme, Dialect};
use rateguard_engine::secrets::SecretText;
use rateguard_proto::v1;

use self::upstream::{auth_scheme, base_url};
use super::{
    conflict, enumeration, etag, malformed, missing, money, nano_money, out_of_bounds, text, timestamp,
};

/// Where a credential can be kept.
const CREDENTIAL_PLACES: [&str; 2] = ["env:", "file:"];

/// An API under an id; an update keeps the present one's credential unless the message says otherwise.
///
/// # Errors
/// Those of its fields.
pub fn api_draft(
    message: v1::Api,
    id: ApiId,
    present: Option<&Api>,
    currency: Currency,
) -> Result<ApiDraft, EngineError> {
    if message.slug.is_empty() {
        return Err(missing("slug"));
    }
    let shown = if message.display_name.is_empty() { &message.slug } else { &message.display_name };
    let unknown_price = unknown_price(message.unknown_price_policy, message.default_cost, currency)?;
    let api = Api {
        id,
        slug: Slug::parse("slug", &message.slug)?,
        display_name: DisplayName::parse("display_name", shown)?,
        base_url: base_url(message.base_url)?,
        dialect: dialect(message.dialect)?,
        auth: auth_scheme(message.auth_scheme, message.auth_name)?,
        credential: present.and_then(|present| present.credential.clone()),
        credential_reference: credential_reference(message.credential_reference)?,
        timeout_ms: timeout_ms(message.timeout_ms)?,
        allow_private_upstream: message.allow_private_upstream,
        price_per_request: price("price_per_request", message.price_per_request.as_deref())?,
        unknown_price,
        output_tokens_default: tokens_or_none(
            "default_max_output_tokens",
            message.default_max_output_tokens,
        )?,
        show_spend: message.show_spend,
        active: message.active.unwrap_or(true),
    };
    let credential = credential(message.credential, &api.auth)?;
    check_kept(&credential, &api.auth, present)?;
    Ok(ApiDraft { api, credential })
}

fn dialect(value: i32) -> Result<Dialect, EngineError> {
    Ok(match enumeration("dialect", value)? {
        v1::ApiDialect::Unspecified | v1::ApiDialect::None => Dialect::None,
        v1::ApiDialect::Openai => Dialect::OpenAi,
        v1::ApiDialect::Anthropic => Dialect::Anthropic,
    })
}

fn credential(message: Option<v1::SecretText>, auth: &AuthScheme) -> Result<CredentialChange, EngineError> {
    let Some(v1::SecretText { value }) = message else { return Ok(CredentialChange::Keep) };
    let secret = SecretText::new(value);
    if secret.expose().is_empty() {
        return Ok(CredentialChange::Clear);
    }
    let is_printable = secret.expose().bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
    if secret.expose().len() > SECRET_BYTES_MAX || !is_printable {
        let bounds = format!("must be at most {SECRET_BYTES_MAX} printable ASCII characters");
        return Err(out_of_bounds("credential", bounds));
    }
    if *auth == AuthScheme::Basic && !secret.expose().contains(':') {
        return Err(malformed("credential", "must be \"user:password\" for the scheme BASIC"));
    }
    Ok(CredentialChange::Set(secret))
}

fn credential_reference(value: String) -> Result<Option<String>, EngineError> {
    let value = text("credential_reference", value)?;
    let names = |prefix: &str| value.strip_prefix(prefix).is_some_and(|name| !name.is_empty());
    match value.as_str() {
        "" => Ok(None),
        _ if CREDENTIAL_PLACES.iter().any(|prefix| names(prefix)) => Ok(Some(value)),
        _ => Err(malformed("credential_reference", "must be env:NAME or file:PATH, or empty")),
    }
}

/// A stored credential cannot be looked at again, and another scheme may need another form of it.
fn check_kept(
    change: &CredentialChange,
    auth: &AuthScheme,
    present: Option<&Api>,
) -> Result<(), EngineError> {
    let is_kept = matches!(change, CredentialChange::Keep) && *auth != AuthScheme::None;
    let stored = present.filter(|present| is_kept && present.credential.is_some());
    if stored.is_some_and(|present| discriminant(&present.auth) != discriminant(auth)) {
        let message = "must be sent anew with another scheme, or as empty to remove it";
        return Err(EngineError::field(Reason::FieldMissing, "credential", message));
    }
    Ok(())
}

fn timeout_ms(value: i64) -> Result<i64, EngineError> {
    match value {
        0 => Ok(UPSTREAM_TIMEOUT_MS_DEFAULT),
        UPSTREAM_TIMEOUT_MS_MIN..=UPSTREAM_TIMEOUT_MS_MAX => Ok(value),
        _ => {
            let bounds = format!("must be {UPSTREAM_TIMEOUT_MS_MIN} to {UPSTREAM_TIMEOUT_MS_MAX}, or 0");
            Err(out_of_bounds("timeout_ms", bounds))
        }
    }
}

fn unknown_price(
    value: i32,
    default_cost: Option<v1::NanoMoney>,
    currency: Currency,
) -> Result<UnknownPricePolicy, EngineError> {
    use v1::UnknownPricePolicy as P;
    let policy = match (enumeration("unknown_price_policy", value)?, default_cost) {
        (P::ChargeDefault, None) => return Err(missing("default_cost")),
        (P::ChargeDefault, Some(cost)) => {
            UnknownPricePolicy::ChargeDefault(money("default_cost", &cost, currency)?)
        }
        (_, Some(_)) => return Err(conflict("default_cost", "needs the policy CHARGE_DEFAULT")),
        (P::Deny, None) => UnknownPricePolicy::Deny,
        (P::Unspecified | P::AllowAndFlag, None) => UnknownPricePolicy::AllowAndFlag,
    };
    Ok(policy)
}

/// The price of one, in the workspace's currency.
///
/// # Errors
/// A text that is no plain decimal within its bounds.
pub fn price(field: &'static str, text: Option<&str>) -> Result<Option<Price>, EngineError> {
    Ok(text.map(|text| Price::parse_decimal(field, text, 1)).transpose()?)
}

/// A number of tokens; zero stands for none named.
///
/// # Errors
/// A number beyond its bounds.
pub fn tokens_or_none(field: &str, value: i64) -> Result<Option<i64>, EngineError> {
    match value {
        0 => Ok(None),
        1..=TOKENS_MAX => Ok(Some(value)),
        _ => Err(out_of_bounds(field, format!("must be 0 to {TOKENS_MAX}"))),
    }
}

/// An API for the wire, without its credential.
pub fn api_message(stored: &Stored<Api>, currency: Currency) -> v1::Api {
    let api = &stored.value;
    let (unknown_price_policy, default_cost) = unknown_price_message(api.unknown_price, currency);
    let (auth_scheme, auth_name) = auth_scheme_message(&api.auth);
    v1::Api {
        id: api.id.to_string(),
        slug: api.slug.to_string(),
        display_name: api.display_name.to_string(),
        base_url: api.base_url.clone(),
        dialect: dialect_message(api.dialect).into(),
        auth_scheme: auth_scheme.into(),
        auth_name: auth_name.to_owned(),
        credential: None,
        credential_set: api.credential.is_some(),
        credential_reference: api.credential_reference.clone().unwrap_or_default(),
        timeout_ms: api.timeout_ms,
        active: Some(api.active),
        allow_private_upstream: api.allow_private_upstream,
        unknown_price_policy: unknown_price_policy.into(),
        default_cost,
        price_per_request: api.price_per_request.map(|price| price.to_decimal(1)),
        default_max_output_tokens: api.output_tokens_default.unwrap_or(0),
        show_spend: api.show_spend,
        etag: etag(stored.version),
        create_time: Some(timestamp(stored.created_at)),
        update_time: Some(timestamp(stored.updated_at)),
    }
}

/// A dialect for the wire.
pub fn dialect_message(dialect: Dialect) -> v1::ApiDialect {
    match dialect {
        Dialect::None => v1::ApiDialect::None,
        Dialect::OpenAi => v1::ApiDialect::Openai,
        Dialect::Anthropic => v1::ApiDialect::Anthropic,
    }
}

/// An auth scheme for the wire, with the name that it needs.
pub fn auth_scheme_message(auth: &AuthScheme) -> (v1::ApiAuthScheme, &str) {
    match auth {
        AuthScheme::None => (v1::ApiAuthScheme::None, ""),
        AuthScheme::Bearer => (v1::ApiAuthScheme::Bearer, ""),
        AuthScheme::Basic => (v1::ApiAuthScheme::Basic, ""),
        AuthScheme::Header(name) => (v1::ApiAuthScheme::Header, name),
        AuthScheme::Query(name) => (v1::ApiAuthScheme::Query, name),
    }
}

fn unknown_price_message(
    policy: UnknownPricePolicy,
    currency: Currency,
) -> (v1::UnknownPricePolicy, Option<v1::NanoMoney>) {
    match policy {
        UnknownPricePolicy::Deny => (v1::UnknownPricePolicy::Deny, None),
        UnknownPricePolicy::ChargeDefault(cost) => {
            (v1::UnknownPricePolicy::ChargeDefault, Some(nano_money(cost, currency)))
        }
        UnknownPricePolicy::AllowAndFlag => (v1::UnknownPricePolicy::AllowAndFlag, None),
    }
}
