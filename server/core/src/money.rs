//! Money: whole nano-units on the wire and in stores, pico-units in between, never a float.

use std::fmt;

use crate::invalid::Invalid;
use crate::limits::{MONEY_NANOS_MAX, PRICE_DECIMALS_MAX, PRICE_PICOS_MAX};

/// Pico-units in one nano-unit.
const PICOS_PER_NANO: i128 = 1_000;

/// Nano-units of the workspace's currency (USD: 1e-9 dollar).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Nanos(i64);

impl Nanos {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// An amount of at most 10^18 nano-units either way.
    ///
    /// # Errors
    /// [`Invalid`] naming `field` beyond that.
    pub fn parse(field: &'static str, nanos: i64) -> Result<Self, Invalid> {
        if nanos.unsigned_abs() <= MONEY_NANOS_MAX.unsigned_abs() {
            return Ok(Self(nanos));
        }
        Err(Invalid::new(field, format!("must be within {MONEY_NANOS_MAX} nano-units")))
    }

    /// An amount that a store gave back, unchecked.
    pub fn from_stored(nanos: i64) -> Self {
        Self(nanos)
    }

    /// The nano-units.
    pub fn get(self) -> i64 {
        self.0
    }

    /// The same amount taken back.
    #[must_use]
    pub fn negated(self) -> Self {
        Self(self.0.saturating_neg())
    }
}

/// Pico-units (1e-12): the precision of prices and of every sum before it is rounded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Picos(i128);

impl Picos {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// Pico-units.
    pub fn new(picos: i128) -> Self {
        Self(picos)
    }

    /// The pico-units.
    pub fn get(self) -> i128 {
        self.0
    }

    /// The sum, or `None` beyond 128 bits.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// Rounded up to whole nano-units: the one rounding of a record.
    ///
    /// # Errors
    /// [`Invalid`] naming `field` when the amount passes 10^18 nano-units.
    pub fn round_up(self, field: &'static str) -> Result<Nanos, Invalid> {
        let whole = self.0.div_euclid(PICOS_PER_NANO) + i128::from(self.0.rem_euclid(PICOS_PER_NANO) > 0);
        i64::try_from(whole)
            .map_err(|_| Invalid::new(field, format!("must be within {MONEY_NANOS_MAX} nano-units")))
            .and_then(|nanos| Nanos::parse(field, nanos))
    }
}

/// A price of one unit, in pico-units of a currency: zero or more, at most 12 decimals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Price(i64);

impl Price {
    /// One nano-unit for each: the price at which a sum of nano-units costs itself.
    pub const NANO: Self = Self(1_000);

    /// A price in pico-units.
    ///
    /// # Errors
    /// [`Invalid`] naming `field` when negative or above 10^18.
    pub fn parse_picos(field: &'static str, picos: i64) -> Result<Self, Invalid> {
        if (0..=PRICE_PICOS_MAX).contains(&picos) {
            return Ok(Self(picos));
        }
        Err(Invalid::new(field, format!("must be 0 to {PRICE_PICOS_MAX} pico-units")))
    }

    /// Parses a plain decimal such as `2.50`, quoted for `per` units (1 or 1,000,000).
    ///
    /// # Errors
    /// [`Invalid`] naming `field` when malformed, out of bounds, or finer than 12 decimals a unit.
    pub fn parse_decimal(field: &'static str, text: &str, per: i64) -> Result<Self, Invalid> {
        let malformed = || {
            Invalid::new(
                field,
                format!("must be a plain decimal with at most {PRICE_DECIMALS_MAX} decimals a unit"),
            )
        };
        let picos = decimal_picos(text).ok_or_else(malformed)?;
        let per = i128::from(per.max(1));
        if picos % per != 0 {
            return Err(malformed());
        }
        Self::parse_picos(field, i64::try_from(picos / per).unwrap_or(i64::MAX))
    }

    /// The pico-units of one unit.
    pub fn picos(self) -> i64 {
        self.0
    }

    /// What `amount` units cost. Two numbers of 64 bits always multiply within 128.
    pub fn times(self, amount: i64) -> Picos {
        Picos(i128::from(self.0) * i128::from(amount))
    }

    /// The price of `per` units as a plain decimal, without trailing zeros.
    pub fn to_decimal(self, per: i64) -> String {
        let picos = i128::from(self.0) * i128::from(per);
        let (whole, fraction) = (picos / PICOS_PER_UNIT, picos % PICOS_PER_UNIT);
        if fraction == 0 {
            return whole.to_string();
        }
        let digits = format!("{fraction:012}");
        format!("{whole}.{}", digits.trim_end_matches('0'))
    }
}

const PICOS_PER_UNIT: i128 = 1_000_000_000_000;

/// Digits before the point, so that the arithmetic below stays far inside 128 bits.
const WHOLE_DIGITS_MAX: usize = 18;

fn decimal_picos(text: &str) -> Option<i128> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    let decimals_max = usize::try_from(PRICE_DECIMALS_MAX).ok()?;
    let fits = (1..=WHOLE_DIGITS_MAX).contains(&whole.len()) && fraction.len() <= decimals_max;
    if !fits || !digits(whole) || !digits(fraction) || text.ends_with('.') {
        return None;
    }
    let scaled: i128 = format!("{fraction:0<decimals_max$}").parse().ok()?;
    whole.parse::<i128>().ok()?.checked_mul(PICOS_PER_UNIT)?.checked_add(scaled)
}

/// An ISO 4217 code: three capital letters.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Currency([u8; 3]);

impl Currency {
    /// The currency in which the catalogue's list prices stand.
    pub const USD: Self = Self(*b"USD");

    /// What ISO 4217 keeps for dealings without any currency: sums of it would mean nothing.
    const NONE: [u8; 3] = *b"XXX";

    /// Parses a code.
    ///
    /// # Errors
    /// [`Invalid`] naming `field` unless it is three capital letters, other than `XXX`.
    pub fn parse(field: &'static str, text: &str) -> Result<Self, Invalid> {
        <[u8; 3]>::try_from(text.as_bytes())
            .ok()
            .filter(|code| code.iter().all(u8::is_ascii_uppercase) && *code != Self::NONE)
            .map(Self)
            .ok_or_else(|| {
                Invalid::new(field, "must be an ISO 4217 code of three capital letters, and not XXX")
            })
    }

    /// The code.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("XXX")
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests;
