//! Tests of money: parsing, printing, rounding, bounds.

use proptest::prelude::*;

use super::*;

/// Tokens in the quotation of list prices.
const MILLION: i64 = 1_000_000;

fn price(text: &str, per: i64) -> Price {
    Price::parse_decimal("rate", text, per).unwrap()
}

#[test]
fn a_price_per_million_tokens_is_whole_picos_per_token() {
    assert_eq!(price("2.50", MILLION).picos(), 2_500_000);
    assert_eq!(price("0.000001", MILLION).picos(), 1);
    assert_eq!(price("0", MILLION).picos(), 0);
    assert_eq!(price("0.000083333333", 1).picos(), 83_333_333);
}

#[test]
fn a_price_finer_than_twelve_decimals_a_unit_is_refused() {
    assert!(Price::parse_decimal("rate", "0.0000001", MILLION).is_err());
    assert!(Price::parse_decimal("rate", "0.0000000000001", 1).is_err());
}

#[test]
fn a_price_that_is_no_plain_decimal_is_refused() {
    let malformed =
        ["", ".", ".5", "1.", "-1", "+1", "1e3", "1,5", "1.2.3", " 1", "1 ", "٣", "0x1", "NaN", "1_000"];
    for text in malformed {
        let refused = Price::parse_decimal("rate", text, 1).unwrap_err();
        assert_eq!(refused.field, "rate", "{text:?}");
        assert!(refused.description.contains("plain decimal"), "{text:?}: {}", refused.description);
    }
}

#[test]
fn the_largest_price_is_a_million_a_unit() {
    assert_eq!(price("1000000", 1).picos(), PRICE_PICOS_MAX);
    for text in ["1000000.000000000001", "999999999999999999", "9999999999999999999"] {
        assert!(Price::parse_decimal("rate", text, 1).is_err(), "{text}");
    }
    let refused = Price::parse_decimal("rate", "999999999999999999", 1).unwrap_err();
    assert!(refused.description.contains(&PRICE_PICOS_MAX.to_string()), "{}", refused.description);
    assert!(Price::parse_picos("rate", PRICE_PICOS_MAX + 1).is_err());
    assert!(Price::parse_picos("rate", -1).is_err());
}

#[test]
fn a_sum_is_rounded_up_to_whole_nanos() {
    let nanos = |picos| Picos::new(picos).round_up("cost").unwrap().get();
    assert_eq!(nanos(0), 0);
    assert_eq!(nanos(1), 1);
    assert_eq!(nanos(999), 1);
    assert_eq!(nanos(1_000), 1);
    assert_eq!(nanos(1_001), 2);
    assert_eq!(nanos(-1), 0);
    assert_eq!(nanos(-1_999), -1);
}

#[test]
fn money_ends_at_ten_to_the_eighteenth_either_way() {
    let edge = i128::from(MONEY_NANOS_MAX) * PICOS_PER_NANO;
    assert_eq!(Picos::new(edge).round_up("cost").unwrap().get(), MONEY_NANOS_MAX);
    assert!(Picos::new(edge + 1).round_up("cost").is_err());
    assert!(Picos::new(i128::MAX).round_up("cost").is_err());
    assert!(Picos::new(i128::MIN).round_up("cost").is_err());
    assert!(Nanos::parse("cost", -MONEY_NANOS_MAX).is_ok());
    assert!(Nanos::parse("cost", -MONEY_NANOS_MAX - 1).is_err());
    assert!(Nanos::parse("cost", i64::MIN).is_err());
}

#[test]
fn money_taken_back_never_wraps() {
    assert_eq!(Nanos::from_stored(7).negated().get(), -7);
    assert_eq!(Nanos::from_stored(i64::MIN).negated().get(), i64::MAX);
}

#[test]
fn a_sum_beyond_the_width_is_none() {
    assert_eq!(Picos::new(i128::MAX).checked_add(Picos::new(1)), None);
    assert_eq!(Picos::new(2).checked_add(Picos::new(3)), Some(Picos::new(5)));
}

#[test]
fn a_currency_is_three_capital_letters() {
    assert_eq!(Currency::parse("currency", "EUR").unwrap().to_string(), "EUR");
    for text in ["", "EU", "EURO", "eur", "E1R", "€", "XXX"] {
        assert!(Currency::parse("currency", text).is_err(), "{text:?}");
    }
}

proptest! {
    #[test]
    fn a_printed_price_reads_back_as_itself(
        picos in 0..=PRICE_PICOS_MAX,
        per in prop_oneof![Just(1), Just(MILLION)],
    ) {
        let price = Price::parse_picos("rate", picos).unwrap();
        // Quoted for a million, the digits before the point may be more than a price may have.
        let text = price.to_decimal(per);
        prop_assert_eq!(Price::parse_decimal("rate", &text, per), Ok(price));
        prop_assert!(!text.contains('.') || !text.ends_with('0'));
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC{0,40}", per in 1..=MILLION) {
        if let Ok(price) = Price::parse_decimal("rate", &text, per) {
            prop_assert!((0..=PRICE_PICOS_MAX).contains(&price.picos()));
        }
    }

    #[test]
    fn no_decimal_makes_the_parser_panic(text in "[0-9]{1,24}(\\.[0-9]{0,14})?") {
        if let Ok(price) = Price::parse_decimal("rate", &text, 1) {
            prop_assert!((0..=PRICE_PICOS_MAX).contains(&price.picos()));
        }
    }

    #[test]
    fn rounding_never_goes_down_and_never_by_a_whole_nano(picos in -(1_i128 << 80)..(1_i128 << 69)) {
        if let Ok(nanos) = Picos::new(picos).round_up("cost") {
            let over = i128::from(nanos.get()) * 1_000 - picos;
            prop_assert!((0..1_000).contains(&over));
        }
    }

    #[test]
    fn any_price_times_any_amount_is_exact(picos in 0..=PRICE_PICOS_MAX, amount in any::<i64>()) {
        let product = Price::parse_picos("rate", picos).unwrap().times(amount).get();
        let (price, amount) = (i128::from(picos), i128::from(amount));
        prop_assert_eq!(product.checked_div(price), (price > 0).then_some(amount));
        prop_assert_eq!(product.checked_rem(price), (price > 0).then_some(0));
    }
}
