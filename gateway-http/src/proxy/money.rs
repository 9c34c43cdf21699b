//! Money as headers show it: a decimal number with as many digits as are needed, never a float.

/// An amount in the smallest unit that the contract counts a currency in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Money {
    /// The amount, in units of `scale`.
    pub amount: i64,
    /// What a unit is.
    pub scale: MoneyScale,
}

/// The unit of an amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MoneyScale {
    /// A thousand-millionth of a currency that has cents.
    Nano,
    /// A millionth of a currency without minor units.
    Micro,
}

/// Decimals of a cent counted in nano-units.
const CENT_DECIMALS: u32 = 7;

/// Fewest decimals that are shown.
const DECIMALS_MIN: usize = 2;

impl Money {
    /// An amount in nano-units.
    pub fn from_nanos(amount: i64) -> Self {
        Self { amount, scale: MoneyScale::Nano }
    }
}

impl MoneyScale {
    fn decimals(self) -> u32 {
        match self {
            Self::Nano => 9,
            Self::Micro => 6,
        }
    }
}

/// The amount in whole currency, with at least two decimals and no zeros behind them: `0.0042`.
pub(super) fn decimal(money: Money) -> String {
    with_decimals(money.amount, money.scale.decimals())
}

/// The amount in cents, formatted alike; `None` for a currency that has none.
pub(super) fn cents(money: Money) -> Option<String> {
    (money.scale == MoneyScale::Nano).then(|| with_decimals(money.amount, CENT_DECIMALS))
}

fn with_decimals(amount: i64, decimals: u32) -> String {
    let unit = 10_u64.pow(decimals);
    let (whole, part) = (amount.unsigned_abs() / unit, amount.unsigned_abs() % unit);
    let width = usize::try_from(decimals).unwrap_or(usize::MAX);
    let mut fraction = format!("{part:0width$}");
    let needed = fraction.trim_end_matches('0').len();
    fraction.truncate(needed.max(DECIMALS_MIN));
    let sign = if amount < 0 { "-" } else { "" };
    format!("{sign}{whole}.{fraction}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn money_shows_the_digits_that_count_and_two_at_least() {
        let cases = [
            (0, "0.00", "0.00"),
            (1, "0.000000001", "0.0000001"),
            (4_200_000, "0.0042", "0.42"),
            (1_500_000_000, "1.50", "150.00"),
            (-10_000_000, "-0.01", "-1.00"),
            (i64::MAX, "9223372036.854775807", "922337203685.4775807"),
            (i64::MIN, "-9223372036.854775808", "-922337203685.4775808"),
        ];
        for (nanos, whole, in_cents) in cases {
            let money = Money::from_nanos(nanos);
            assert_eq!(decimal(money), whole);
            assert_eq!(cents(money).as_deref(), Some(in_cents));
        }
    }

    #[test]
    fn a_currency_without_minor_units_has_no_cents() {
        let yen = Money { amount: 1_234_500_000, scale: MoneyScale::Micro };
        assert_eq!(decimal(yen), "1234.50");
        assert_eq!(cents(yen), None);
    }

    proptest! {
        #[test]
        fn a_shown_amount_reads_back_to_the_nano_unit(nanos in any::<i64>()) {
            let shown = decimal(Money::from_nanos(nanos));
            let (whole, fraction) = shown.trim_start_matches('-').split_once('.').unwrap();
            let read: u128 = format!("{whole}{fraction:0<9}").parse().unwrap();
            prop_assert_eq!(read, u128::from(nanos.unsigned_abs()));
            prop_assert_eq!(shown.starts_with('-'), nanos < 0);
        }
    }
}
