//! Conversions between the wire's messages and the domain's types: fallible inward, naming the
//! field at fault; total outward.

pub mod check;
pub mod usage;

use std::collections::BTreeMap;
use std::net::IpAddr;

use prost_types::Timestamp;
use rateguard_core::amounts::Amounts;
use rateguard_core::invalid::Invalid;
use rateguard_core::limits::{NAME_BYTES_MAX, PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX, TEXT_BYTES_MAX, UNIT_AMOUNTS_MAX};
use rateguard_core::money::{Currency, Nanos};
use rateguard_core::time::Millis;
use rateguard_core::unit::Unit;
use rateguard_engine::error::{EngineError, Reason};
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

/// Text of at most 512 bytes without control characters.
///
/// # Errors
/// [`Reason::FieldOutOfBounds`].
pub fn text(field: &str, value: String) -> Result<String, EngineError> {
    bounded_text(field, value, TEXT_BYTES_MAX)
}

fn bounded_text(field: &str, value: String, bytes_max: usize) -> Result<String, EngineError> {
    if value.len() <= bytes_max && !value.chars().any(char::is_control) {
        return Ok(value);
    }
    Err(out_of_bounds(field, format!("must be at most {bytes_max} bytes without control characters")))
}

/// An instant within the years 1970 to 9999, cut to whole milliseconds.
///
/// # Errors
/// [`Reason::FieldMalformed`].
pub fn instant(field: &str, value: &Timestamp) -> Result<Millis, EngineError> {
    let outside = || malformed(field, "must be an instant of the years 1970 to 9999");
    let nanos = u32::try_from(value.nanos).ok().filter(|nanos| *nanos < 1_000_000_000).ok_or_else(outside)?;
    let ms = value.seconds.checked_mul(1_000).ok_or_else(outside)?.saturating_add(i64::from(nanos / 1_000_000));
    let instant = Millis::new(ms);
    if instant.get() == ms { Ok(instant) } else { Err(outside()) }
}

/// An instant for the wire.
pub fn timestamp(at: Millis) -> Timestamp {
    let nanos = i32::try_from(at.get() % 1_000 * 1_000_000).unwrap_or(0);
    Timestamp { seconds: at.get() / 1_000, nanos }
}

/// Money in the workspace's currency.
///
/// # Errors
/// [`Reason::CurrencyMismatch`], [`Reason::FieldOutOfBounds`].
pub fn money(field: &'static str, value: &v1::NanoMoney, currency: Currency) -> Result<Nanos, EngineError> {
    if value.currency_code != currency.as_str() {
        let message = format!("must be in the workspace's currency {currency}");
        return Err(EngineError::field(Reason::CurrencyMismatch, format!("{field}.currency_code"), message));
    }
    if value.nanos < 0 {
        return Err(out_of_bounds(format!("{field}.nanos"), "must not be negative"));
    }
    Ok(Nanos::parse(field, value.nanos)?)
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
    i64::try_from(value).map_err(|_| {
        EngineError::field(Reason::SumOutOfRange, field, "the sum does not fit 64 bits")
    })
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
        if name.is_empty() {
            return Err(out_of_bounds(field, "must not have an empty name"));
        }
        let name = bounded_text(&format!("{field} (a name)"), name, NAME_BYTES_MAX)?;
        let value = text(&format!("{field}[{name:?}]"), value)?;
        Ok((name, value))
    };
    values.into_iter().map(check).collect()
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
