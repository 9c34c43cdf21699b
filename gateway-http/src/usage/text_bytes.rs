//! Counts the text in a piece of JSON without building it.
//!
//! Streams say what they used only at their end. Until then the bytes of the text seen so far are
//! the only measure of the output, and vendors add fields for new kinds of text faster than a list
//! of names can follow, so every string counts but those known to be labels.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Bytes of all strings in `json`, keys and the values of `labels` left out. `None` if it is no JSON.
pub(super) fn text_bytes(json: &str, labels: &[&str]) -> Option<u64> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let counted = TextBytes { labels }.deserialize(&mut deserializer).ok()?;
    deserializer.end().ok()?;
    Some(counted)
}

#[derive(Clone, Copy)]
struct TextBytes<'l> {
    labels: &'l [&'l str],
}

impl<'de> DeserializeSeed<'de> for TextBytes<'_> {
    type Value = u64;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<u64, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for TextBytes<'_> {
    type Value = u64;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any JSON value")
    }

    fn visit_str<E>(self, text: &str) -> Result<u64, E> {
        Ok(u64::try_from(text.len()).unwrap_or(u64::MAX))
    }

    fn visit_unit<E>(self) -> Result<u64, E> {
        Ok(0)
    }

    fn visit_bool<E>(self, _: bool) -> Result<u64, E> {
        Ok(0)
    }

    fn visit_u64<E>(self, _: u64) -> Result<u64, E> {
        Ok(0)
    }

    fn visit_i64<E>(self, _: i64) -> Result<u64, E> {
        Ok(0)
    }

    fn visit_f64<E>(self, _: f64) -> Result<u64, E> {
        Ok(0)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<u64, A::Error> {
        let mut counted = 0_u64;
        while let Some(bytes) = elements.next_element_seed(self)? {
            counted = counted.saturating_add(bytes);
        }
        Ok(counted)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<u64, A::Error> {
        let mut counted = 0_u64;
        while let Some(key) = entries.next_key::<String>()? {
            if self.labels.contains(&key.as_str()) {
                entries.next_value::<IgnoredAny>()?;
            } else {
                counted = counted.saturating_add(entries.next_value_seed(self)?);
            }
        }
        Ok(counted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_count_at_any_depth_and_labels_do_not() {
        let json = r#"{"role":"assistant","content":"héllo","n":1,"x":null,"b":true,
            "tool_calls":[{"id":"call_1","function":{"arguments":"{\"a\":1.5}"}}],"f":-1.5,"i":-2}"#;
        assert_eq!(text_bytes(json, &["role", "id"]), Some(6 + 9));
    }

    #[test]
    fn what_is_no_json_or_too_deep_is_not_counted() {
        assert_eq!(text_bytes("{", &[]), None);
        assert_eq!(text_bytes("\"a\" \"b\"", &[]), None);
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(text_bytes(&deep, &[]), None);
    }
}
