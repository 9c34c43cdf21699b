//! Tests of the steering headers' bounds.

use http::{HeaderName, HeaderValue};

use super::*;

const DEFAULTS: Defaults = Defaults { delay: Duration::from_millis(7), chunk_delay: Duration::ZERO };

fn read(pairs: &[(&'static str, &'static str)]) -> Result<Knobs, String> {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    Knobs::read(&headers, DEFAULTS).map_err(|refusal| refusal.to_string())
}

#[test]
fn a_request_without_headers_gets_the_defaults() {
    let knobs = read(&[]).unwrap();
    assert_eq!(knobs.delay, DEFAULTS.delay);
    assert_eq!(knobs.chunks, CHUNKS_DEFAULT);
    assert_eq!((knobs.input_tokens, knobs.status, knobs.no_usage), (None, None, false));
}

#[test]
fn a_header_replaces_its_default_even_with_zero() {
    let knobs = read(&[(DELAY_MS, "0"), (CHUNK_DELAY_MS, "25"), (CACHED_TOKENS, "0")]).unwrap();
    assert_eq!(knobs.delay, Duration::ZERO);
    assert_eq!(knobs.chunk_delay, Duration::from_millis(25));
    assert_eq!(knobs.cached_tokens, Some(0));
}

#[test]
fn each_header_is_refused_one_past_its_bound_and_accepted_at_it() {
    let bounds = [
        (DELAY_MS, "60000", "60001"),
        (CHUNKS, "10000", "10001"),
        (CHUNKS, "1", "0"),
        (CHUNK_DELAY_MS, "10000", "10001"),
        (OUTPUT_TOKENS, "1000000000", "1000000001"),
        (STATUS, "400", "399"),
        (STATUS, "599", "600"),
        (NO_USAGE, "true", "yes"),
    ];
    for (header, at, past) in bounds {
        assert!(read(&[(header, at)]).is_ok(), "{header}: {at}");
        let refused = read(&[(header, past)]).unwrap_err();
        assert!(refused.starts_with(header), "{refused}");
    }
}

#[test]
fn what_is_not_a_whole_number_is_refused_naming_the_bound() {
    for raw in ["-1", "1.5", "", "many", "99999999999999999999999"] {
        let refused = read(&[(INPUT_TOKENS, raw)]).unwrap_err();
        assert_eq!(refused, "x-demo-input-tokens must be a whole number from 0 to 1000000000");
    }
}

#[test]
fn a_stream_longer_than_its_bound_is_refused() {
    assert!(read(&[(CHUNKS, "60"), (CHUNK_DELAY_MS, "10000")]).is_ok());
    let refused = read(&[(CHUNKS, "61"), (CHUNK_DELAY_MS, "10000")]).unwrap_err();
    assert_eq!(refused, "x-demo-chunk-delay-ms times x-demo-chunks must be at most 600000 ms");
}
