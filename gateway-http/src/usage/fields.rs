//! Reads named fields of a JSON object in place.
//!
//! Only the fields asked for are kept, each as the slice of the source it stands in, so that a body
//! of any size costs no tree, numbers keep every digit, and a field that stands twice is seen as
//! such instead of the last one winning.

use std::borrow::Cow;
use std::fmt;

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer as _};
use serde_json::value::RawValue;

use super::{NAME_BYTES_MAX, TOKEN_COUNT_MAX, UnknownReason};

/// What stands under one name.
#[derive(Clone, Copy, Debug, Default)]
pub enum Field<'a> {
    /// Nothing.
    #[default]
    Absent,
    /// Null, which says as much as nothing; kept for its place in the source.
    Null(&'a RawValue),
    /// One value.
    Value(&'a RawValue),
    /// The name stands more than once.
    Duplicated,
}

/// The text is not one JSON object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a JSON object")]
pub struct NotAnObject;

/// What is wrong with a field's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldFault {
    /// Of another type, or no whole number.
    Malformed,
    /// It stands twice.
    Duplicated,
    /// A count or a name beyond its bound.
    OutOfBounds,
}

impl FieldFault {
    /// This fault of a usage field.
    pub fn of(self, field: &'static str) -> UnknownReason {
        match self {
            Self::Malformed => UnknownReason::Malformed { field },
            Self::Duplicated => UnknownReason::Duplicated { field },
            Self::OutOfBounds => UnknownReason::OutOfBounds { field },
        }
    }
}

/// Finds `names` in the object that `json` is.
///
/// # Errors
/// Fails unless `json` is exactly one well-formed object.
pub fn fields<'a, const N: usize>(
    json: &'a [u8],
    names: [&'static str; N],
) -> Result<[Field<'a>; N], NotAnObject> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let found = deserializer.deserialize_map(Finder { names }).map_err(|_| NotAnObject)?;
    deserializer.end().map_err(|_| NotAnObject)?;
    Ok(found)
}

impl<'a> Field<'a> {
    /// The value's own text; `None` if absent or null.
    ///
    /// # Errors
    /// Fails if the field stands twice.
    pub fn raw(self) -> Result<Option<&'a str>, FieldFault> {
        match self {
            Self::Absent | Self::Null(_) => Ok(None),
            Self::Value(raw) => Ok(Some(raw.get())),
            Self::Duplicated => Err(FieldFault::Duplicated),
        }
    }

    /// The bytes of the source that the value, null included, stands in.
    pub fn slice(self) -> Option<&'a [u8]> {
        match self {
            Self::Null(raw) | Self::Value(raw) => Some(raw.get().as_bytes()),
            Self::Absent | Self::Duplicated => None,
        }
    }

    /// A count of 0 to [`TOKEN_COUNT_MAX`], written as plain digits.
    ///
    /// # Errors
    /// Fails on anything else: a sign, a fraction, an exponent, a string.
    pub fn count(self) -> Result<Option<u64>, FieldFault> {
        let Some(raw) = self.raw()? else { return Ok(None) };
        if !raw.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(FieldFault::Malformed);
        }
        match raw.parse() {
            Ok(count) if count <= TOKEN_COUNT_MAX => Ok(Some(count)),
            _ => Err(FieldFault::OutOfBounds),
        }
    }

    /// A string of any length.
    ///
    /// # Errors
    /// Fails on another type.
    pub fn text(self) -> Result<Option<Cow<'a, str>>, FieldFault> {
        let Some(raw) = self.raw()? else { return Ok(None) };
        let text: Text<'a> = serde_json::from_str(raw).map_err(|_| FieldFault::Malformed)?;
        Ok(Some(text.0))
    }

    /// A name of 1 to [`NAME_BYTES_MAX`] bytes; the empty string counts as absent.
    ///
    /// # Errors
    /// Fails on another type or a longer name.
    pub fn name(self) -> Result<Option<String>, FieldFault> {
        match self.text()? {
            Some(text) if text.len() > NAME_BYTES_MAX => Err(FieldFault::OutOfBounds),
            Some(text) if !text.is_empty() => Ok(Some(text.into_owned())),
            _ => Ok(None),
        }
    }

    /// A boolean.
    ///
    /// # Errors
    /// Fails on another type.
    pub fn boolean(self) -> Result<Option<bool>, FieldFault> {
        match self.raw()? {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(_) => Err(FieldFault::Malformed),
        }
    }

    /// The named fields of an object; all absent if the object is.
    ///
    /// # Errors
    /// Fails on another type.
    pub fn object<const N: usize>(self, names: [&'static str; N]) -> Result<[Field<'a>; N], FieldFault> {
        match self.raw()? {
            None => Ok([Field::Absent; N]),
            Some(raw) => fields(raw.as_bytes(), names).map_err(|_| FieldFault::Malformed),
        }
    }

    /// The elements of an array; `None` if absent.
    ///
    /// # Errors
    /// Fails on another type.
    pub fn elements(self) -> Result<Option<Vec<&'a RawValue>>, FieldFault> {
        let Some(raw) = self.raw()? else { return Ok(None) };
        serde_json::from_str(raw).map(Some).map_err(|_| FieldFault::Malformed)
    }
}

/// A string that borrows from the source where it needs no unescaping.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

struct Finder<const N: usize> {
    names: [&'static str; N],
}

impl<'de, const N: usize> Visitor<'de> for Finder<N> {
    type Value = [Field<'de>; N];

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = [Field::Absent; N];
        let mut seen = [false; N];
        while let Some(key) = map.next_key::<Text<'de>>()? {
            match self.names.iter().position(|name| *name == key.0) {
                Some(index) => {
                    found[index] = next_field(&mut map, seen[index])?;
                    seen[index] = true;
                }
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(found)
    }
}

fn next_field<'de, A: MapAccess<'de>>(map: &mut A, seen: bool) -> Result<Field<'de>, A::Error> {
    let raw = map.next_value::<&'de RawValue>()?;
    Ok(match (seen, raw.get()) {
        (true, _) => Field::Duplicated,
        (false, "null") => Field::Null(raw),
        (false, _) => Field::Value(raw),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one(json: &str) -> Field<'_> {
        let [field] = fields(json.as_bytes(), ["a"]).unwrap();
        field
    }

    #[test]
    fn counts_are_plain_whole_numbers_within_bounds() {
        assert_eq!(one(r#"{"a":0}"#).count(), Ok(Some(0)));
        assert_eq!(one(r#"{"a": 1000000000000 }"#).count(), Ok(Some(TOKEN_COUNT_MAX)));
        assert_eq!(one(r#"{"a":null}"#).count(), Ok(None));
        assert_eq!(one(r#"{"b":1}"#).count(), Ok(None));
        for malformed in ["-1", "1.0", "1e3", "-0", "\"5\"", "true", "[1]", "{}"] {
            let json = format!("{{\"a\":{malformed}}}");
            assert_eq!(one(&json).count(), Err(FieldFault::Malformed), "{malformed}");
        }
        for huge in ["1000000000001", "18446744073709551616", &"9".repeat(400)] {
            let json = format!("{{\"a\":{huge}}}");
            assert_eq!(one(&json).count(), Err(FieldFault::OutOfBounds), "{huge}");
        }
    }

    #[test]
    fn a_name_that_stands_twice_is_seen_however_it_is_written() {
        assert_eq!(one(r#"{"a":1,"\u0061":2}"#).count(), Err(FieldFault::Duplicated));
        assert_eq!(one(r#"{"a":null,"a":2}"#).count(), Err(FieldFault::Duplicated));
        assert_eq!(one(r#"{"a":1,"b":{"a":2}}"#).count(), Ok(Some(1)));
    }

    #[test]
    fn only_one_whole_object_is_read() {
        for text in ["", "[]", "1", "{", "{}x", "{\"a\":}", "{} {}", "\u{feff}{}"] {
            assert!(fields(text.as_bytes(), ["a"]).is_err(), "{text:?}");
        }
        assert!(fields(b"{\"a\":\"\xff\"}", ["a"]).is_err());
        assert!(fields(b" {} \n", ["a"]).is_ok());
    }

    #[test]
    fn names_are_unescaped_and_bounded() {
        assert_eq!(one(r#"{"a":"gp\u0074-4"}"#).name(), Ok(Some("gpt-4".to_owned())));
        assert_eq!(one(r#"{"a":""}"#).name(), Ok(None));
        let long = format!("{{\"a\":\"{}\"}}", "m".repeat(NAME_BYTES_MAX + 1));
        assert_eq!(one(&long).name(), Err(FieldFault::OutOfBounds));
    }

    #[test]
    fn deep_nesting_is_passed_over() {
        let deep = format!("{{\"b\":{}{},\"a\":1}}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(one(&deep).count(), Ok(Some(1)));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            prop_assert_eq!(
                fields(&bytes, ["a"]).is_ok(),
                serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&bytes).is_ok()
            );
        }
    }
}
