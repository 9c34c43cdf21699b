//! Text and numbers of any kind are parsed or refused, naming the field; nothing panics.

use proptest::prelude::*;
use rateguard_core::amounts::Amounts;
use rateguard_core::counter::Demand;
use rateguard_core::ids::{ApiId, DisplayName, EventId, KeyId, RequestId, ReservationId, RuleId, Slug};
use rateguard_core::limits::{AMOUNT_MAX, LIMIT_MAX, MONEY_NANOS_MAX, WINDOW_MS_MAX, WINDOW_MS_MIN};
use rateguard_core::rule::Algorithm;
use rateguard_core::unit::Unit;

fn config() -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1_000) }
}

/// Any text, and texts that nearly are what they should be.
fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "(rsv_|key_|rule_|api_|ws_|expired:)?[0-9a-zA-Z_+-]{0,45}",
        "[ -~]{0,140}",
        "[a-z][a-z0-9_-]{0,70}",
    ]
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn what_is_parsed_reads_as_it_was_written(text in any_text()) {
        macro_rules! check {
            ($($kind:ty),*) => {$(
                match <$kind>::parse("some_field", &text) {
                    Ok(parsed) => prop_assert_eq!(parsed.as_str(), &text),
                    Err(invalid) => prop_assert_eq!(invalid.field, "some_field"),
                }
            )*};
        }
        check!(KeyId, RuleId, ApiId, ReservationId, RequestId, EventId, Slug, DisplayName, Unit);
    }

    #[test]
    fn the_bits_of_any_reservation_id_can_be_asked_for(text in any_text()) {
        if let Ok(id) = ReservationId::parse("id", &text) {
            prop_assert!(id.to_bits() == 0 || id.as_str().len() > ReservationId::PREFIX.len());
        }
    }

    #[test]
    fn a_reservation_id_is_its_bits(bits in any::<u128>()) {
        let id = ReservationId::from_bits(bits);
        prop_assert_eq!(id.to_bits(), bits);
        prop_assert_eq!(ReservationId::parse("id", id.as_str()), Ok(id));
    }

    #[test]
    fn callers_cannot_name_the_servers_own_events(text in any_text()) {
        let ours = text.starts_with("expired:") || text.starts_with("corrected:");
        prop_assert!(!(ours && EventId::parse_from_caller("event_id", &text).is_ok()));
    }

    #[test]
    fn amounts_within_bounds_are_kept_and_all_others_refused(amount in any::<i64>(), small in 0..=AMOUNT_MAX) {
        for (unit, bound) in [(Unit::Tokens, AMOUNT_MAX), (Unit::Cost, MONEY_NANOS_MAX)] {
            for amount in [amount, small, bound, -1] {
                let mut amounts = Amounts::default();
                let inserted = amounts.insert("amounts[0].amount", unit.clone(), amount);
                prop_assert_eq!(inserted.is_ok(), (0..=bound).contains(&amount));
                prop_assert_eq!(amounts.get(&unit), inserted.ok().map(|()| amount));
            }
        }
    }

    #[test]
    fn windows_and_limits_within_bounds_pass_and_all_others_are_refused(limit in any::<i64>(), window_ms in any::<i64>()) {
        let good = (0..=LIMIT_MAX).contains(&limit) && (WINDOW_MS_MIN..=WINDOW_MS_MAX).contains(&window_ms);
        for algorithm in [Algorithm::FixedWindow { limit, window_ms }, Algorithm::SlidingWindow { limit, window_ms }] {
            prop_assert_eq!(algorithm.check().is_ok(), good);
        }
    }
}

#[test]
fn a_unit_named_twice_is_refused() {
    let mut amounts = Amounts::default();
    assert!(amounts.is_empty());
    amounts.insert("amounts[0]", Unit::Tokens, 5).unwrap();
    let invalid = amounts.insert("amounts[1]", Unit::Tokens, 5).unwrap_err();
    assert_eq!(invalid.field, "amounts[1]");
    assert_eq!(amounts.iter().count(), 1);
}

#[test]
fn a_check_takes_one_request_and_probes_what_it_does_not_know() {
    let mut amounts = Amounts::default();
    assert_eq!(amounts.demand(&Unit::Requests), Demand::take(1));
    assert_eq!(amounts.demand(&Unit::Tokens), Demand::PROBE);
    amounts.insert("amounts[0]", Unit::Requests, 0).unwrap();
    amounts.insert("amounts[1]", Unit::Tokens, 7).unwrap();
    assert_eq!(amounts.demand(&Unit::Requests), Demand::take(0));
    assert_eq!(amounts.demand(&Unit::Tokens), Demand::take(7));
}

#[test]
fn the_bounds_of_lengths_are_exact() {
    let text = |len: usize| "a".repeat(len);
    assert!(RequestId::parse("id", &text(128)).is_ok() && RequestId::parse("id", &text(129)).is_err());
    assert!(Slug::parse("slug", &text(64)).is_ok() && Slug::parse("slug", &text(65)).is_err());
    assert!(
        DisplayName::parse("name", &text(128)).is_ok() && DisplayName::parse("name", &text(129)).is_err()
    );
    assert!(Unit::parse("unit", &text(64)).is_ok() && Unit::parse("unit", &text(65)).is_err());
    let rule = |len| RuleId::parse("id", &format!("rule_{}", text(len)));
    assert!(rule(0).is_err() && rule(1).is_ok() && rule(40).is_ok() && rule(41).is_err());
}
