//! Values as people write them: lengths of time and money.

use std::borrow::Cow;
use std::fmt;

use rateguard_proto::money::decimals;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// Units of lengths with their milliseconds, the longest first.
const UNITS: [(&str, i64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Digits of a decimal before and behind the point: as many as the contract's prices have.
const WHOLE_DIGITS_MAX: usize = 18;
const FRACTION_DIGITS_MAX: usize = 12;

/// Fewest decimals that money is shown with.
const DECIMALS_SHOWN_MIN: usize = 2;

/// A length of time: a whole number and one of ms, s, m, h, d.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Length {
    /// In milliseconds, 0 or more.
    pub ms: i64,
}

impl TryFrom<String> for Length {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let malformed = || format!("{text:?} is no length such as 500ms, 60s, 5m, 1h or 30d");
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let unit_ms = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, ms)| *ms);
        let number: i64 = number.parse().map_err(|_| malformed())?;
        let ms = unit_ms.and_then(|unit_ms| number.checked_mul(unit_ms)).ok_or_else(malformed)?;
        Ok(Self { ms })
    }
}

impl From<Length> for String {
    fn from(length: Length) -> Self {
        length.to_string()
    }
}

impl fmt::Display for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = UNITS.iter().find(|(_, unit_ms)| self.ms % unit_ms == 0).unwrap_or(&("ms", 1));
        write!(f, "{}{}", self.ms / whole.1, whole.0)
    }
}

impl JsonSchema for Length {
    fn schema_name() -> Cow<'static, str> {
        "Length".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^[0-9]+(ms|s|m|h|d)$",
            "description": "A length of time: a whole number and one of ms, s, m, h, d, such as 60s.",
        })
    }
}

/// A plain decimal, 0 or more: money, or a price. It is text from the file to the wire, never a float.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Decimal(String);

impl TryFrom<String> for Decimal {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (whole, fraction) = text.split_once('.').unwrap_or((&text, "0"));
        let is_number = |part: &str, digits_max: usize| {
            (1..=digits_max).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit())
        };
        if is_number(whole, WHOLE_DIGITS_MAX) && is_number(fraction, FRACTION_DIGITS_MAX) {
            return Ok(Self(text));
        }
        Err(format!("{text:?} is no plain decimal such as \"12.50\""))
    }
}

impl From<Decimal> for String {
    fn from(decimal: Decimal) -> Self {
        decimal.0
    }
}

impl JsonSchema for Decimal {
    fn schema_name() -> Cow<'static, str> {
        "Decimal".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                { "type": "string", "pattern": "^[0-9]{1,18}(\\.[0-9]{1,12})?$" },
                { "type": "number", "minimum": 0 },
            ],
            "description": "A plain decimal in the workspace's currency, such as \"12.50\".",
        })
    }
}

impl Decimal {
    /// The text as it is.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A text of the server's.
    ///
    /// # Errors
    /// For one that is no decimal.
    pub fn parse(text: &str) -> Result<Self, String> {
        Self::try_from(text.to_owned())
    }

    /// Money of a currency in the wire's unit.
    ///
    /// # Errors
    /// For more decimals than the currency's unit has, and for more than fits.
    pub fn to_nanos(&self, currency_code: &str) -> Result<i64, String> {
        let decimals = decimals(currency_code);
        let (whole, fraction) = self.0.split_once('.').unwrap_or((&self.0, ""));
        let fraction = fraction.trim_end_matches('0');
        if fraction.len() > decimals {
            return Err(format!(
                "{} has more than {decimals} decimals, which {currency_code} does not count",
                self.0
            ));
        }
        let digits = format!("{whole}{fraction:0<decimals$}");
        digits.parse().map_err(|_| format!("{} is more money than can be counted", self.0))
    }

    /// Money of a currency out of the wire's unit, with as many decimals as are needed and at least two.
    pub fn from_nanos(nanos: i64, currency_code: &str) -> Self {
        let decimals = decimals(currency_code);
        let digits = format!("{:0>width$}", nanos.max(0), width = decimals + 1);
        let (whole, fraction) = digits.split_at(digits.len() - decimals);
        let needed = fraction.trim_end_matches('0').len().max(DECIMALS_SHOWN_MIN);
        Self(format!("{whole}.{}", &fraction[..needed]))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_length_is_a_number_and_a_unit() {
        for (text, ms) in [("0s", 0), ("500ms", 500), ("60s", 60_000), ("5m", 300_000), ("7d", 604_800_000)] {
            assert_eq!(Length::try_from(text.to_owned()), Ok(Length { ms }));
        }
        for text in
            ["", "60", "s", "1.5h", "-1s", "1 s", "1h30m", "99999999999999999999s", "9223372036854775807d"]
        {
            assert!(Length::try_from(text.to_owned()).is_err(), "{text}");
        }
    }

    #[test]
    fn a_length_is_shown_in_its_largest_whole_unit() {
        for (ms, text) in
            [(500, "500ms"), (1_500, "1500ms"), (60_000, "1m"), (5_400_000, "90m"), (172_800_000, "2d")]
        {
            assert_eq!(Length { ms }.to_string(), text);
        }
    }

    #[test]
    fn money_is_counted_in_the_unit_of_its_currency() {
        let of = |text: &str, currency: &str| Decimal::parse(text).unwrap().to_nanos(currency);
        assert_eq!(of("12.5", "USD"), Ok(12_500_000_000));
        assert_eq!(of("0.000000001", "EUR"), Ok(1));
        assert_eq!(of("12.5", "JPY"), Ok(12_500_000));
        assert_eq!(of("1.2000000000", "USD"), Ok(1_200_000_000));
        assert!(of("0.0000000001", "USD").is_err());
        assert!(of("0.0000001", "JPY").is_err());
        assert!(of("999999999999999999", "USD").is_err());
    }

    #[test]
    fn what_is_no_plain_decimal_is_refused() {
        for text in ["", ".5", "5.", "-1", "1e3", "1_000", "1,5", "0x10", "NaN", "1.0000000000001"] {
            assert!(Decimal::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn money_comes_back_as_it_was(nanos in 0..=1_000_000_000_000_000_000_i64, yen: bool) {
            let currency = if yen { "JPY" } else { "USD" };
            let shown = Decimal::from_nanos(nanos, currency);
            prop_assert_eq!(shown.to_nanos(currency), Ok(nanos));
            prop_assert_eq!(Decimal::parse(shown.as_str()), Ok(shown));
        }

        #[test]
        fn a_length_comes_back_as_it_was(ms in 0..=i64::MAX) {
            prop_assert_eq!(Length::try_from(Length { ms }.to_string()), Ok(Length { ms }));
        }
    }
}
