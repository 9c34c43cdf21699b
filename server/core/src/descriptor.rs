//! How a proxy's descriptor of a call is a call that limits can match.
//!
//! A descriptor is a domain and a list of entries, from the most general to the most special. It becomes the
//! endpoint `/key=value/key=value`, so that globs tell its keys, their order and their number, and attributes
//! for the domain and each value, so that counters can be kept apart by them.

use std::fmt::Write as _;

use crate::limits::NAME_BYTES_MAX;

/// The attribute that holds the domain. Only limits whose match names it see descriptors: to all others a
/// request of several descriptors would be several calls.
pub const DOMAIN_ATTRIBUTE: &str = "envoy_domain";

/// What the attributes of the values begin with; the entry's place follows, from 1.
const VALUE_ATTRIBUTE: &str = "envoy_value_";

/// What the name of an override group begins with that counts over all descriptors of a request, and not
/// in each of them.
pub const REQUEST_GROUP: &str = "request:";

const _: () = assert!(VALUE_ATTRIBUTE.len() + 2 <= NAME_BYTES_MAX);

/// The attribute of the value at a place, which counts from 1.
pub fn value_attribute(place: usize) -> String {
    format!("{VALUE_ATTRIBUTE}{place}")
}

/// The endpoint of a descriptor with these entries.
pub fn endpoint<'e>(entries: impl IntoIterator<Item = (&'e str, &'e str)>) -> String {
    let mut endpoint = String::new();
    for (key, value) in entries {
        endpoint.push('/');
        escape_into(&mut endpoint, key);
        endpoint.push('=');
        escape_into(&mut endpoint, value);
    }
    endpoint
}

/// A key or a value as it stands in an endpoint, which means nothing but itself in a glob: every byte but
/// letters and digits of ASCII and `-._~:@` is `%` and two digits.
pub fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    escape_into(&mut escaped, text);
    escaped
}

fn escape_into(escaped: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:@".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            write!(escaped, "%{byte:02X}").unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests;
