//! Conversions between the wire's messages and the domain's types: fallible inward, naming the
//! field at fault; total outward.

pub mod analytics;
pub mod apis;
pub mod audit;
pub mod budgets;
pub mod check;
pub mod envoy;
pub mod gateway;
pub mod keys;
pub mod leases;
pub mod limits;
pub mod lists;
pub mod people;
pub mod prices;
pub mod rules;
pub mod usage;

use std::collections::BTreeMap;
use std::net::IpAddr;

use prost_types::Timestamp;
use rateguard_core::amounts::Amounts;
use rateguard_core::ids::RequestId;
use rateguard_core::invalid::Invalid;
use rateguard_core::limits::{
    MATCH_VALUES_MAX, MONEY_NANOS_MAX, NAME_BYTES_MAX, PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX, TEXT_BYTES_MAX,
    UNIT_AMOUNTS_MAX,
};
use rateguard_core::money::{Currency, Nanos};
use rateguard_core::time::{Millis, Zone};
use rateguard_core::unit::Unit;
use rateguard_engine::error::{EngineError, Reason};
use rateguard_engine::ports::ClientRequest;
use rateguard_proto::v1;

/// A malformed field.
pub fn malformed(field: impl Into<String>, message: impl Into<String>) -> EngineError {
    EngineError::field(Reason::FieldMalformed, field, message)
}

/// A field that must be set and is not.
pub fn missing(field: &str) -> EngineError {
    EngineError::field(Reason::FieldMissing, field, "must be set")
}

/// A field beyond its bound.
pub fn out_of_bounds(field: impl Into<String>, message: impl Into<String>) -> EngineError {
    EngineError::field(Reason::FieldOutOfBounds, field, message)
}

/// Fields that exclude each other.
pub fn conflict(field: impl Into<String>, message: impl Into<String>) -> EngineError {
    EngineError::field(Reason::FieldConflict, field, message)
}

/// The same error seen from the message that holds the field.
#[must_use]
pub fn within(prefix: &str, mut error: EngineError) -> EngineError {
    error.field = error.field.map(|field| format!("{prefix}.{field}"));
    error
}

/// A name of at most 64 bytes without control characters; may be empty.
///
/// # Errors
/// [`Reason::FieldOutOfBounds`].
pub fn name(field: &str, value: String) -> Result<String, EngineError> {
    bounded_text(field, value, NAME_BYTES_MAX)
}

/// The id by which a request names a resource.
///
/// # Errors
/// [`Reason::FieldMissing`], [`Reason::FieldOutOfBounds`].
pub fn resource_id<'a>(field: &str, id: &'a str) -> Result<&'a str, EngineError> {
    if id.is_empty() {
        return Err(missing(field));
    }
    name(field, id.to_owned()).map(|_| id)
}

/// A list of at most 64 texts that stand for something.
///
/// # Errors
/// [`Reason::FieldOutOfBounds`] for too many, [`Reason::FieldMalformed`] naming the element.
pub fn list<T>(
    field: &str,
    values: &[String],
    parse: impl Fn(&'static str, &str) -> Result<T, Invalid>,
) -> Result<Vec<T>, EngineError> {
    if values.len() > MATCH_VALUES_MAX {
        return Err(out_of_bounds(field, format!("must have at most {MATCH_VALUES_MAX} values")));
    }
    let element = |(place, value): (usize, &String)| {
        let refuse = |why| malformed(format!("{field}[{place}]"), why);
        if value.chars().any(char::is_control) {
            return Err(refuse("must not have control characters".to_owned()));
        }
        parse("", value).map_err(|invalid| refuse(invalid.description))
    };
    values.iter().enumerate().map(element).collect()
}

/// A time zone; empty text for none.
///
/// # Errors
/// [`Reason::FieldOutOfBounds`], [`Reason::FieldMalformed`].
pub fn zone(field: &str, value: String) -> Result<Option<Zone>, EngineError> {
    if value.is_empty() {
        return Ok(None);
    }
    let name = name(field, value)?;
    Zone::parse("", &name).map(Some).map_err(|invalid| malformed(field, invalid.description))
}

/// Text of at most 512 bytes without control characters.
///
/// # Errors
/// [`Reason::FieldOutOfBounds`].
pub fn text(field: &str, value: String) -> Result<String, EngineError> {
    bounded_text(field, value, TEXT_BYTES_MAX)
}

/// Whether [`text`] takes it.
pub fn is_text(value: &str) -> bool {
    is_bounded_text(value, TEXT_BYTES_MAX)
}

fn is_bounded_text(value: &str, bytes_max: usize) -> bool {
    value.len() <= bytes_max && !value.chars().any(char::is_control)
}

fn bounded_text(field: &str, value: String, bytes_max: usize) -> Result<String, EngineError> {
    if is_bounded_text(&value, bytes_max) {
        return Ok(value);
    }
    Err(out_of_bounds(field, format!("must be at most {bytes_max} bytes without control characters")))
}

/// An instant from 1970-01-01 to 9999-12-30, as [`Millis`] has them, cut to whole milliseconds.
///
/// # Errors
/// [`Reason::FieldMalformed`].
pub fn instant(field: &str, value: &Timestamp) -> Result<Millis, EngineError> {
    let outside = || malformed(field, "must be an instant from 1970-01-01T00:00:00Z to 9999-12-30T00:00:00Z");
    let nanos = u32::try_from(value.nanos).ok().filter(|nanos| *nanos < 1_000_000_000).ok_or_else(outside)?;
    let ms =
        value.seconds.checked_mul(1_000).ok_or_else(outside)?.saturating_add(i64::from(nanos / 1_000_000));
    let instant = Millis::new(ms);
    if instant.get() == ms { Ok(instant) } else { Err(outside()) }
}

/// An instant for the wire.
pub fn timestamp(at: Millis) -> Timestamp {
    let nanos = i32::try_from(at.get() % 1_000 * 1_000_000).unwrap_or(0);
    Timestamp { seconds: at.get() / 1_000, nanos }
}

/// The request that somebody has named, with what it asks for.
///
/// # Errors
/// [`Reason::FieldOutOfBounds`].
pub fn client_request(
    id: &str,
    method: &'static str,
    content: &[u8],
) -> Result<Option<ClientRequest>, EngineError> {
    if id.is_empty() {
        return Ok(None);
    }
    Ok(Some(ClientRequest::new(RequestId::parse("request_id", id)?, method, content)))
}

/// The id that makes a request idempotent, where there must be one.
///
/// # Errors
/// [`Reason::FieldMissing`], [`Reason::FieldOutOfBounds`].
pub fn required_request_id(id: &str) -> Result<RequestId, EngineError> {
    if id.is_empty() {
        return Err(missing("request_id"));
    }
    Ok(RequestId::parse("request_id", id)?)
}

/// Money in the workspace's currency, which a request may leave out.
///
/// # Errors
/// [`Reason::CurrencyMismatch`], [`Reason::FieldOutOfBounds`].
pub fn money(field: &'static str, value: &v1::NanoMoney, currency: Currency) -> Result<Nanos, EngineError> {
    if !value.currency_code.is_empty() && value.currency_code != currency.as_str() {
        let message = format!("must be in the workspace's currency {currency}");
        return Err(EngineError::field(Reason::CurrencyMismatch, format!("{field}.currency_code"), message));
    }
    let bounded = Nanos::parse(field, value.nanos).ok().filter(|nanos| nanos.get() >= 0);
    bounded.ok_or_else(|| out_of_bounds(format!("{field}.nanos"), format!("must be 0 to {MONEY_NANOS_MAX}")))
}

/// The same for money that may be taken back; never nothing.
///
/// # Errors
/// As [`money`].
pub fn signed_money(
    field: &'static str,
    value: &v1::NanoMoney,
    currency: Currency,
) -> Result<Nanos, EngineError> {
    let size = v1::NanoMoney { nanos: value.nanos.saturating_abs(), ..value.clone() };
    let size = money(field, &size, currency)?;
    if size == Nanos::ZERO {
        return Err(out_of_bounds(format!("{field}.nanos"), "must not be 0"));
    }
    Ok(if value.nanos < 0 { size.negated() } else { size })
}

/// Money for the wire.
pub fn nano_money(nanos: Nanos, currency: Currency) -> v1::NanoMoney {
    v1::NanoMoney { currency_code: currency.as_str().to_owned(), nanos: nanos.get() }
}

/// A sum for the wire.
///
/// # Errors
/// [`Reason::SumOutOfRange`] beyond 64 bits: it never wraps.
pub fn sum(field: &str, value: i128) -> Result<i64, EngineError> {
    i64::try_from(value)
        .map_err(|_| EngineError::field(Reason::SumOutOfRange, field, "the sum does not fit 64 bits"))
}

/// How much stands on a counter, for the wire: beyond 64 bits the nearest number, so "at least" of what
/// is used. A decision that has been taken is always told.
pub fn standing(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

/// A sum of money for the wire.
///
/// # Errors
/// As [`sum`].
pub fn nano_sum(field: &str, nanos: i128, currency: Currency) -> Result<v1::NanoMoney, EngineError> {
    Ok(v1::NanoMoney { currency_code: currency.as_str().to_owned(), nanos: sum(field, nanos)? })
}

/// Amounts by unit. Money is no amount.
///
/// # Errors
/// [`Reason::FieldOutOfBounds`] naming the element.
pub fn amounts(field: &str, values: Vec<v1::UnitAmount>) -> Result<Amounts, EngineError> {
    if values.len() > UNIT_AMOUNTS_MAX {
        return Err(out_of_bounds(field, format!("must have at most {UNIT_AMOUNTS_MAX} units")));
    }
    let mut amounts = Amounts::default();
    for (place, value) in values.into_iter().enumerate() {
        let at = |part: &str| format!("{field}[{place}].{part}");
        let unit = unit(&at("unit"), &value.unit)?;
        if unit == Unit::Cost {
            return Err(malformed(at("unit"), "must not be cost: money is an estimate or a cost of its own"));
        }
        amounts.insert(&at("amount"), unit, value.amount)?;
    }
    Ok(amounts)
}

/// Amounts for the wire.
pub fn unit_amounts(amounts: &Amounts) -> Vec<v1::UnitAmount> {
    amounts.iter().map(|(unit, amount)| v1::UnitAmount { unit: unit.to_string(), amount: *amount }).collect()
}

/// A unit.
///
/// # Errors
/// [`Reason::FieldOutOfBounds`].
pub fn unit(field: &str, value: &str) -> Result<Unit, EngineError> {
    Ok(Unit::parse("unit", value).map_err(|invalid| Invalid::new(field, invalid.description))?)
}

/// A map of labels with a bound on how many, sorted by name.
///
/// # Errors
/// [`Reason::FieldOutOfBounds`].
pub fn labels(
    field: &str,
    values: BTreeMap<String, String>,
    entries_max: usize,
) -> Result<Vec<(String, String)>, EngineError> {
    if values.len() > entries_max {
        return Err(out_of_bounds(field, format!("must have at most {entries_max} entries")));
    }
    let check = |(name, value): (String, String)| {
        let name = label_name(field, name)?;
        let value = text(&format!("{field}[{name:?}]"), value)?;
        Ok((name, value))
    };
    values.into_iter().map(check).collect()
}

/// The name of an attribute, a dimension or a unit: `[a-z][a-z0-9_]{0,63}`. Nothing else, since
/// words in capitals stand for other facts where counters are told apart.
///
/// # Errors
/// [`Reason::FieldOutOfBounds`].
pub fn label_name(field: &str, name: String) -> Result<String, EngineError> {
    match Unit::parse("", &name) {
        Ok(_) => Ok(name),
        Err(invalid) => Err(out_of_bounds(field, format!("has a name that {}", invalid.description))),
    }
}

/// An IP address; empty text for none.
///
/// # Errors
/// [`Reason::FieldMalformed`].
pub fn ip(field: &str, value: &str) -> Result<Option<IpAddr>, EngineError> {
    if value.is_empty() {
        return Ok(None);
    }
    value.parse().map(Some).map_err(|_| malformed(field, "must be an IPv4 or IPv6 address"))
}

/// An enumeration's value that this server knows.
///
/// # Errors
/// [`Reason::FieldMalformed`].
pub fn enumeration<E: TryFrom<i32>>(field: &str, value: i32) -> Result<E, EngineError> {
    E::try_from(value).map_err(|_| malformed(field, format!("has no value {value}")))
}

/// A page's size.
///
/// # Errors
/// [`Reason::FieldOutOfBounds`] below 0 and above 1,000.
pub fn page_size(value: i32) -> Result<usize, EngineError> {
    match usize::try_from(value) {
        Ok(0) => Ok(PAGE_SIZE_DEFAULT),
        Ok(size) if size <= PAGE_SIZE_MAX => Ok(size),
        _ => Err(out_of_bounds("page_size", format!("must be 0 to {PAGE_SIZE_MAX}"))),
    }
}

/// The etag of a stored version.
pub fn etag(version: u64) -> String {
    version.to_string()
}

/// The version that an etag stands for; `None` for an empty one, which stands for any.
///
/// # Errors
/// [`Reason::EtagMismatch`] for a text that was never an etag: it surely is not the stored one.
pub fn etag_version(etag: &str) -> Result<Option<u64>, EngineError> {
    if etag.is_empty() {
        return Ok(None);
    }
    let version = etag.parse().ok().filter(|version: &u64| version.to_string() == etag);
    let changed = || EngineError::new(Reason::EtagMismatch, "the etag is not the resource's");
    version.map(Some).ok_or_else(changed)
}
