//! Requests and answers of Envoy's rate-limit service.

mod headers;
mod units;

use prost_types::Duration;
use rateguard_core::limits::{AMOUNT_MAX, DESCRIPTOR_ENTRIES_MAX, DESCRIPTORS_MAX, WINDOW_MS_MAX};
use rateguard_core::time::Millis;
use rateguard_engine::described::{
    DescribedAnswer, DescribedCall, DescribedLimit, DescribedStatus, Descriptor, Hits, OwnLimit,
};
use rateguard_engine::error::EngineError;
use rateguard_proto::envoy::extensions::common::ratelimit::v3 as common;
use rateguard_proto::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::{
    Entry, RateLimitOverride,
};
use rateguard_proto::envoy::service::ratelimit::v3 as rls;
use rateguard_proto::envoy::service::ratelimit::v3::rate_limit_response::{
    Code, DescriptorStatus, RateLimit,
};
use rateguard_proto::envoy::r#type::v3::RateLimitUnit;

use sha2::{Digest, Sha256};

use super::check::batch_size;
use super::{enumeration, is_text, missing, out_of_bounds, text};

/// What stays of the beginning of a value that is too long, so that rules for its beginning match.
const VALUE_BEGINNING_BYTES: usize = 256;
/// Bytes of the hash behind it: nobody finds two values with the same.
const VALUE_HASH_BYTES: usize = 16;

/// A call as Envoy describes it.
///
/// # Errors
/// Those of its fields.
pub fn described_call(message: rls::RateLimitRequest) -> Result<DescribedCall, EngineError> {
    if message.domain.is_empty() {
        return Err(missing("domain"));
    }
    batch_size("descriptors", message.descriptors.len(), DESCRIPTORS_MAX)?;
    let domain = text("domain", message.domain)?;
    // The protocol has no field that would tell 0 from nothing here.
    let hits = u64::from(message.hits_addend.max(1));
    let descriptor = |(place, message)| descriptor(&format!("descriptors[{place}]"), message, hits);
    let descriptors =
        message.descriptors.into_iter().enumerate().map(descriptor).collect::<Result<_, _>>()?;
    Ok(DescribedCall { domain, descriptors })
}

fn descriptor(
    field: &str,
    message: common::RateLimitDescriptor,
    hits_of_request: u64,
) -> Result<Descriptor, EngineError> {
    let entries_field = format!("{field}.entries");
    batch_size(&entries_field, message.entries.len(), DESCRIPTOR_ENTRIES_MAX)?;
    let entry = |(place, message)| entry(&entries_field, place, message);
    Ok(Descriptor {
        entries: message.entries.into_iter().enumerate().map(entry).collect::<Result<_, _>>()?,
        hits: hits(field, message.hits_addend.unwrap_or(hits_of_request), message.is_negative_hits)?,
        own_limit: message.limit.map(|limit| own_limit(&format!("{field}.limit"), &limit)).transpose()?,
    })
}

fn entry(entries_field: &str, place: usize, message: Entry) -> Result<(String, String), EngineError> {
    // Put together only where it is refused: there are some entries in every request.
    let key_field = || format!("{entries_field}[{place}].key");
    let key = match message.key {
        key if key.is_empty() => return Err(missing(&key_field())),
        key if is_text(&key) => key,
        key => text(&key_field(), key)?,
    };
    Ok((key, told_apart(message.value)))
}

/// Keys come from the proxy's configuration, and values from whatever anybody sends. A refusal would let the
/// request pass where the proxy lets errors pass, so every value counts: what no value may be stands by its
/// beginning, without control characters, and a hash that tells it from others with the same.
fn told_apart(value: String) -> String {
    if is_text(&value) {
        return value;
    }
    let hash = hex::encode(&Sha256::digest(&value)[..VALUE_HASH_BYTES]);
    let beginning = &value[..value.floor_char_boundary(VALUE_BEGINNING_BYTES)];
    let beginning: String = beginning.chars().filter(|character| !character.is_control()).collect();
    format!("{beginning}~{hash}")
}

fn hits(field: &str, hits: u64, gives_back: bool) -> Result<Hits, EngineError> {
    let bounded = i64::try_from(hits).ok().filter(|hits| *hits <= AMOUNT_MAX);
    let amount = bounded
        .ok_or_else(|| out_of_bounds(format!("{field}.hits_addend"), format!("must be 0 to {AMOUNT_MAX}")))?;
    Ok(if gives_back { Hits::GiveBack(amount) } else { Hits::Take(amount) })
}

fn own_limit(field: &str, message: &RateLimitOverride) -> Result<OwnLimit, EngineError> {
    let unit: RateLimitUnit = enumeration(&format!("{field}.unit"), message.unit)?;
    let unit_ms = units::length_ms(unit).ok_or_else(|| missing(&format!("{field}.unit")))?;
    let multiplier = i64::from(message.unit_multiplier.unwrap_or(1));
    let window_ms = unit_ms.saturating_mul(multiplier);
    if !(1..=WINDOW_MS_MAX).contains(&window_ms) {
        let bound = format!("must be at least 1 and make a window of at most {WINDOW_MS_MAX} ms");
        return Err(out_of_bounds(format!("{field}.unit_multiplier"), bound));
    }
    Ok(OwnLimit { amount: message.requests_per_unit.into(), window_ms })
}

/// A decision for Envoy, with the headers for the client.
pub fn rate_limit_response(answer: &DescribedAnswer) -> rls::RateLimitResponse {
    rls::RateLimitResponse {
        overall_code: code(answer.allowed).into(),
        statuses: answer.descriptors.iter().map(|status| descriptor_status(status, answer.now)).collect(),
        response_headers_to_add: headers::of(answer),
    }
}

fn code(allowed: bool) -> Code {
    if allowed { Code::Ok } else { Code::OverLimit }
}

fn descriptor_status(status: &DescribedStatus, now: Millis) -> DescriptorStatus {
    let code = code(status.allowed).into();
    let Some(limit) = telling(&status.limits) else {
        return DescriptorStatus { code, ..DescriptorStatus::default() };
    };
    let limit_remaining = u32::try_from(limit.reading.remaining).unwrap_or(u32::MAX);
    let Some(current_limit) = rate_limit(limit) else {
        return DescriptorStatus { code, limit_remaining, ..DescriptorStatus::default() };
    };
    let duration_until_reset = limit.reading.reset_at.map(|reset| duration(reset.since(now)));
    DescriptorStatus { code, current_limit: Some(current_limit), limit_remaining, duration_until_reset }
}

/// A limit as Envoy knows them; `None` for one that is too large for that.
fn rate_limit(limit: &DescribedLimit) -> Option<RateLimit> {
    let requests_per_unit = u32::try_from(limit.limit.size()).ok()?;
    let (unit, multiplier) = units::unit_of(&limit.limit);
    Some(RateLimit {
        name: limit.name.as_deref().unwrap_or_default().to_owned(),
        requests_per_unit,
        unit: unit.into(),
        unit_multiplier: Some(multiplier).filter(|multiplier| *multiplier > 1),
    })
}

/// Of several limits the one to tell of: one that decides before one that watches, one that has denied before
/// others, and then the one with the smallest share left.
fn telling<'l>(limits: impl IntoIterator<Item = &'l DescribedLimit>) -> Option<&'l DescribedLimit> {
    limits.into_iter().min_by_key(|limit| (!limit.decides(), !limit.denies(), share_left(limit)))
}

/// Parts of a million that are left, which is fine enough to compare shares.
fn share_left(limit: &DescribedLimit) -> i128 {
    i128::from(limit.reading.remaining) * 1_000_000 / i128::from(limit.limit.size().max(1))
}

fn duration(ms: i64) -> Duration {
    let nanos = i32::try_from(ms % 1_000 * 1_000_000).unwrap_or(0);
    Duration { seconds: ms / 1_000, nanos }
}
