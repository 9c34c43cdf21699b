use proptest::prelude::*;

use super::*;
use crate::matching::Glob;

fn matches(pattern: &str, entries: &[(&str, &str)]) -> bool {
    Glob::parse("endpoints", pattern).unwrap().matches(&endpoint(entries.iter().copied()))
}

#[test]
fn keys_their_order_and_their_number_are_told_apart() {
    let entries = [("message_type", "marketing"), ("to_number", "+1 206")];
    assert_eq!(endpoint(entries), "/message_type=marketing/to_number=%2B1%20206");
    assert!(matches("/message_type=marketing/to_number=*", &entries));
    assert!(!matches("/message_type=*", &entries), "there is another entry");
    assert!(!matches("/to_number=*/message_type=*", &entries));
    assert!(!matches("/message_type=*/to_number=*/user=*", &entries));
}

#[test]
fn a_value_with_slashes_stays_one_value() {
    assert!(matches("/path=%2Ffiles%2F*", &[("path", "/files/a/b.pdf")]));
    assert!(!matches("/path=%2Ffiles%2F*", &[("path", "/other")]));
    assert!(matches("/path=*", &[("path", "")]));
}

#[test]
fn values_have_attributes_by_their_places() {
    assert_eq!(value_attribute(1), "envoy_value_1");
}

proptest! {
    #[test]
    fn an_escaped_text_means_itself_alone(text in ".{0,40}", other in ".{0,40}") {
        let pattern = format!("/key={}", escaped(&text));
        prop_assert!(matches(&pattern, &[("key", &text)]));
        prop_assert_eq!(matches(&pattern, &[("key", &other)]), text == other);
    }
}
