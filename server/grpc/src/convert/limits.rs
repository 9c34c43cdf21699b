//! What rules and budgets share: which calls they mean, what keeps their counters apart, and the
//! calendar.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};
use rateguard_core::ids::{ApiId, KeyId};
use rateguard_core::invalid::Invalid;
use rateguard_core::limits::{ATTRIBUTES_MAX, MATCH_VALUES_MAX, SCOPE_DIMENSIONS_MAX};
use rateguard_core::matching::{Dimension, Glob, Match, OnMissing, Scope};
use rateguard_core::time::CalendarPeriod;
use rateguard_engine::error::EngineError;
use rateguard_proto::v1;

use super::{conflict, enumeration, label_name, labels, list, missing, name, out_of_bounds, text};

/// What an address of IPv4 begins with where it is written as one of IPv6, in bits (RFC 4291, section 2.5.5.2).
const MAPPED_PREFIX_BITS: u8 = 96;

/// Which calls a limit applies to. Absent: all.
///
/// # Errors
/// Those of its fields.
pub fn call_match(message: Option<v1::CallMatch>) -> Result<Match, EngineError> {
    let message = message.unwrap_or_default();
    Ok(Match {
        apis: list("match.api_ids", &message.api_ids, ApiId::parse)?,
        endpoints: list("match.endpoints", &message.endpoints, Glob::parse)?,
        methods: texts("match.methods", message.methods, name)?,
        models: list("match.models", &message.models, Glob::parse)?,
        keys: list("match.key_ids", &message.key_ids, KeyId::parse)?,
        ip_ranges: list("match.ip_ranges", &message.ip_ranges, ip_range)?,
        subjects: texts("match.subjects", message.subjects, text)?,
        attributes: attributes(message.attributes)?,
    })
}

fn texts(
    field: &str,
    values: Vec<String>,
    check: fn(&str, String) -> Result<String, EngineError>,
) -> Result<Vec<String>, EngineError> {
    if values.len() > MATCH_VALUES_MAX {
        return Err(out_of_bounds(field, format!("must have at most {MATCH_VALUES_MAX} values")));
    }
    values.into_iter().enumerate().map(|(place, value)| check(&format!("{field}[{place}]"), value)).collect()
}

fn attributes(
    values: std::collections::BTreeMap<String, String>,
) -> Result<Vec<(String, String)>, EngineError> {
    let values = labels("match.attributes", values, ATTRIBUTES_MAX)?;
    match values.iter().find(|(_, value)| value.is_empty()) {
        // A missing attribute reads as empty, so an empty value would mean "any call without it".
        Some((name, _)) => Err(missing(&format!("match.attributes[{name:?}]"))),
        None => Ok(values),
    }
}

/// A range of addresses in CIDR notation, or one address.
///
/// # Errors
/// [`Invalid`] naming `field`.
pub fn ip_range(field: &'static str, value: &str) -> Result<IpNet, Invalid> {
    let range = value.parse().or_else(|_| value.parse::<IpAddr>().map(IpNet::from));
    let range = range.map_err(|_| Invalid::new(field, "must be a range of addresses such as 10.0.0.0/8"))?;
    Ok(unmapped(range))
}

/// The range of IPv4 that one of IPv6 stands for: addresses are compared as what they stand for.
fn unmapped(range: IpNet) -> IpNet {
    let IpNet::V6(written) = range else { return range };
    let mapped = written.addr().to_ipv4_mapped().zip(written.prefix_len().checked_sub(MAPPED_PREFIX_BITS));
    let inner = mapped.and_then(|(address, bits)| Ipv4Net::new(address, bits).ok());
    inner.map_or(range, IpNet::V4)
}

/// The calls that a limit applies to, for the wire; `None` for all.
pub fn call_match_message(matches: &Match) -> Option<v1::CallMatch> {
    let message = v1::CallMatch {
        api_ids: to_strings(&matches.apis),
        endpoints: matches.endpoints.iter().map(|glob| glob.as_str().to_owned()).collect(),
        methods: matches.methods.clone(),
        models: matches.models.iter().map(|glob| glob.as_str().to_owned()).collect(),
        key_ids: to_strings(&matches.keys),
        ip_ranges: to_strings(&matches.ip_ranges),
        subjects: matches.subjects.clone(),
        attributes: matches.attributes.iter().cloned().collect(),
    };
    (message != v1::CallMatch::default()).then_some(message)
}

/// Values as text.
pub fn to_strings<T: ToString>(values: &[T]) -> Vec<String> {
    values.iter().map(T::to_string).collect()
}

/// What counters are kept apart by.
///
/// # Errors
/// Those of its elements; too many of them, or one twice.
pub fn scope(values: Vec<v1::ScopeDimension>, on_missing: OnMissing) -> Result<Scope, EngineError> {
    if values.len() > SCOPE_DIMENSIONS_MAX {
        return Err(out_of_bounds("scope", format!("must have at most {SCOPE_DIMENSIONS_MAX} dimensions")));
    }
    let mut dimensions = Vec::with_capacity(values.len());
    for (place, value) in values.into_iter().enumerate() {
        let field = format!("scope[{place}]");
        let dimension = dimension(&field, value)?;
        if dimensions.contains(&dimension) {
            return Err(out_of_bounds(field, "must not be named twice"));
        }
        dimensions.push(dimension);
    }
    Ok(Scope { dimensions, on_missing })
}

fn dimension(field: &str, value: v1::ScopeDimension) -> Result<Dimension, EngineError> {
    use v1::ScopeKind as K;
    let attribute = format!("{field}.attribute");
    let kind = enumeration(&format!("{field}.kind"), value.kind)?;
    if kind != K::Attribute && !value.attribute.is_empty() {
        return Err(conflict(attribute, "must be empty unless the kind is ATTRIBUTE"));
    }
    Ok(match kind {
        K::Unspecified => return Err(missing(&format!("{field}.kind"))),
        K::Key => Dimension::Key,
        K::Subject => Dimension::Subject,
        K::Ip => Dimension::Ip,
        K::Api => Dimension::Api,
        K::Endpoint => Dimension::Endpoint,
        K::Model => Dimension::Model,
        K::Attribute => Dimension::Attribute(label_name(&attribute, value.attribute)?.into()),
    })
}

/// What counters are kept apart by, for the wire.
pub fn scope_message(scope: &Scope) -> Vec<v1::ScopeDimension> {
    use v1::ScopeKind as K;
    let message = |dimension: &Dimension| {
        let (kind, attribute) = match dimension {
            Dimension::Key => (K::Key, ""),
            Dimension::Subject => (K::Subject, ""),
            Dimension::Ip => (K::Ip, ""),
            Dimension::Api => (K::Api, ""),
            Dimension::Endpoint => (K::Endpoint, ""),
            Dimension::Model => (K::Model, ""),
            Dimension::Attribute(name) => (K::Attribute, name.as_ref()),
        };
        v1::ScopeDimension { kind: kind.into(), attribute: attribute.to_owned() }
    };
    scope.dimensions.iter().map(message).collect()
}

/// What a missing value does.
///
/// # Errors
/// A value that does not exist.
pub fn on_missing(field: &str, value: i32) -> Result<OnMissing, EngineError> {
    Ok(match enumeration(field, value)? {
        v1::OnMissing::Unspecified | v1::OnMissing::Shared => OnMissing::Shared,
        v1::OnMissing::Skip => OnMissing::Skip,
        v1::OnMissing::Deny => OnMissing::Deny,
    })
}

/// What a missing value does, for the wire.
pub fn on_missing_message(on_missing: OnMissing) -> v1::OnMissing {
    match on_missing {
        OnMissing::Shared => v1::OnMissing::Shared,
        OnMissing::Skip => v1::OnMissing::Skip,
        OnMissing::Deny => v1::OnMissing::Deny,
    }
}

/// A period of the calendar.
///
/// # Errors
/// A missing value, or one that does not exist.
pub fn calendar_period(field: &str, value: i32) -> Result<CalendarPeriod, EngineError> {
    Ok(match enumeration(field, value)? {
        v1::CalendarPeriod::Unspecified => return Err(missing(field)),
        v1::CalendarPeriod::Hour => CalendarPeriod::Hour,
        v1::CalendarPeriod::Day => CalendarPeriod::Day,
        v1::CalendarPeriod::Week => CalendarPeriod::Week,
        v1::CalendarPeriod::Month => CalendarPeriod::Month,
    })
}

/// A period of the calendar for the wire.
pub fn calendar_period_message(period: CalendarPeriod) -> v1::CalendarPeriod {
    match period {
        CalendarPeriod::Hour => v1::CalendarPeriod::Hour,
        CalendarPeriod::Day => v1::CalendarPeriod::Day,
        CalendarPeriod::Week => v1::CalendarPeriod::Week,
        CalendarPeriod::Month => v1::CalendarPeriod::Month,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_of_ipv4_written_as_ipv6_is_one_of_ipv4() {
        for (written, meant) in [
            ("::ffff:127.0.0.0/104", "127.0.0.0/8"),
            ("::ffff:10.1.2.3", "10.1.2.3/32"),
            ("::ffff:0:0/96", "0.0.0.0/0"),
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("::/0", "::/0"),
        ] {
            assert_eq!(ip_range("ip_ranges", written).map(|range| range.to_string()), Ok(meant.to_owned()));
        }
    }
}
