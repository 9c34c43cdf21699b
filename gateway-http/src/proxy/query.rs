//! Query strings, changed without touching the parameters that stay.

use std::borrow::Cow;

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// `query` without the parameters called one of `names`, however their names are encoded or cased:
/// an upstream that ignores case must not receive what was meant for the gateway.
pub fn without(query: &str, names: &[&str]) -> String {
    let kept: Vec<&str> = query.split('&').filter(|pair| !is_named(pair, names)).collect();
    kept.join("&")
}

/// The decoded value of the first parameter called `name`.
pub fn value<'a>(query: &'a str, name: &str) -> Option<Cow<'a, str>> {
    let pair = query.split('&').find(|pair| is_named(pair, &[name]))?;
    let (_, value) = pair.split_once('=')?;
    percent_decode_str(value).decode_utf8().ok()
}

/// `query` with `name=value` behind its other parameters.
pub fn with(query: &str, name: &str, value: &str) -> String {
    let separator = if query.is_empty() { "" } else { "&" };
    let [name, value] = [name, value].map(|text| utf8_percent_encode(text, NON_ALPHANUMERIC));
    format!("{query}{separator}{name}={value}")
}

fn is_named(pair: &str, names: &[&str]) -> bool {
    let encoded = pair.split_once('=').map_or(pair, |(name, _)| name);
    let decoded: Vec<u8> = percent_decode_str(encoded).collect();
    names.iter().any(|name| decoded.eq_ignore_ascii_case(name.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn named_parameters_go_and_the_others_keep_every_byte() {
        let query = "a=1&key=rg_x&b=%2F+&%6bey=y&KEY&keys=2&=&";
        assert_eq!(without(query, &["key"]), "a=1&b=%2F+&keys=2&=&");
        assert_eq!(without("key=1", &["key"]), "");
    }

    #[test]
    fn a_value_is_decoded() {
        assert_eq!(value("a=1&k%65y=rg%5Fx&key=other", "key").as_deref(), Some("rg_x"));
        assert_eq!(value("key", "key"), None);
        assert_eq!(value("key=%ff", "key"), None);
    }

    #[test]
    fn an_added_parameter_cannot_break_out_of_its_place() {
        assert_eq!(with("a=1", "api key", "x&y=#z"), "a=1&api%20key=x%26y%3D%23z");
        assert_eq!(with("", "k", "v"), "k=v");
    }
}
