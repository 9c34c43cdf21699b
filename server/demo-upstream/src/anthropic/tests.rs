//! Tests of the split of the input into cache classes.

use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use proptest::prelude::*;

use super::*;
use crate::knobs::Defaults;

fn knobs(cached_tokens: Option<u64>) -> Knobs {
    let mut headers = HeaderMap::new();
    if let Some(tokens) = cached_tokens {
        headers.insert("x-demo-cached-tokens", HeaderValue::from(tokens));
    }
    Knobs::read(&headers, Defaults { delay: Duration::ZERO, chunk_delay: Duration::ZERO }).unwrap()
}

fn request(block: Value) -> MessagesRequest {
    let body = json!({
        "model": "claude-haiku-4-5", "max_tokens": 9, "messages": [{ "role": "user", "content": [block] }]
    });
    serde_json::from_value(body).unwrap()
}

#[test]
fn the_cache_life_is_read_from_the_blocks() {
    let plain = json!({ "type": "text", "text": "a" });
    assert_eq!(request(plain).cache_life(), None);
    let short = json!({ "type": "text", "text": "a", "cache_control": { "type": "ephemeral" } });
    assert_eq!(request(short).cache_life(), Some(CacheLife::FiveMinutes));
    let long = json!({ "type": "text", "text": "a", "cache_control": { "type": "ephemeral", "ttl": "1h" } });
    assert_eq!(request(long).cache_life(), Some(CacheLife::OneHour));
}

#[test]
fn a_cached_prompt_has_a_read_a_written_and_a_plain_part() {
    let split = InputTokens::split(1_000, Some(CacheLife::OneHour), &knobs(None));
    let expected = InputTokens { plain: 250, cache_read: 500, cache_write_5m: 0, cache_write_1h: 250 };
    assert_eq!(split, expected);
}

#[test]
fn without_cache_control_only_the_knob_makes_cached_tokens() {
    let split = InputTokens::split(1_000, None, &knobs(None));
    assert_eq!((split.plain, split.cache_read), (1_000, 0));
    let split = InputTokens::split(1_000, None, &knobs(Some(5_000)));
    assert_eq!((split.plain, split.cache_read), (0, 1_000));
}

proptest! {
    #[test]
    fn the_classes_add_up_to_the_input(
        input in 0_u64..=1_000_000_000,
        cached in proptest::option::of(0_u64..=1_000_000_000),
        life in proptest::sample::select(vec![None, Some(CacheLife::FiveMinutes), Some(CacheLife::OneHour)]),
    ) {
        let split = InputTokens::split(input, life, &knobs(cached));
        prop_assert_eq!(split.plain + split.cache_read + split.cache_write_5m + split.cache_write_1h, input);
    }
}
