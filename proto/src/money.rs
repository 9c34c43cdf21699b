//! What a whole number of money counts: by the contract nano-units of its currency, and micro-units of one
//! without minor units.

/// Currencies without minor units (ISO 4217).
pub const CURRENCIES_WITHOUT_MINOR_UNITS: [&str; 17] = [
    "BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "UYI", "VND", "VUV", "XAF",
    "XOF", "XPF",
];

/// Decimals of nano-units, and of what counts in micro-units instead.
const NANO_DECIMALS: usize = 9;
const MICRO_DECIMALS: usize = 6;

/// Decimals that money of a currency counts on the wire.
pub fn decimals(currency_code: &str) -> usize {
    if CURRENCIES_WITHOUT_MINOR_UNITS.contains(&currency_code) { MICRO_DECIMALS } else { NANO_DECIMALS }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_currency_without_minor_units_counts_in_micro_units() {
        assert_eq!((decimals("USD"), decimals("JPY"), decimals("")), (9, 6, 9));
        assert!(CURRENCIES_WITHOUT_MINOR_UNITS.is_sorted());
    }
}
