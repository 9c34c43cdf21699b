//! What is read from answers that pass, whole and cut off, at any chunk boundary.

use http::Method;
use proptest::prelude::*;

use super::*;
use crate::gateway::slots::Memory;
use crate::usage::{RequestView, dialect_for};

const CHAT: &str = "/v1/chat/completions";
const MESSAGES: &str = "/v1/messages";

/// The event that a client who did not ask for it does not get.
const USAGE: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":5}}\n\n";

const CHAT_STREAM: &str = concat!(
    "data: {\"model\":\"gpt\",\"choices\":[{\"delta\":{\"content\":\"Hello\"}}]}\n\n",
    ": a comment\n\n",
    "data: {\"model\":\"gpt\",\"choices\":[{\"delta\":{\"content\":\" you\"}}]}\r\n\r\n",
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":5}}\n\n",
    "data: [DONE]\n\n",
);

fn spoken(path: &str, body: &'static str) -> Spoken {
    let dialect = dialect_for(&Method::POST, path).unwrap();
    let body = Bytes::from_static(body.as_bytes());
    let prepared =
        dialect.prepare_request(&RequestView { method: &Method::POST, path, body: &body }).unwrap();
    Spoken { dialect, prepared }
}

fn chat_meter(body: &'static str) -> Meter {
    Meter::Events(EventMeter::new(&spoken(CHAT, body)))
}

fn expected() -> Expected {
    Expected { model: None, input_tokens: 40, output_tokens_max: 100, choices: 1 }
}

/// Feeds a stream in pieces of these lengths and gives what goes on to the client.
fn pass(meter: &mut Meter, stream: &str, lengths: &[usize]) -> Vec<u8> {
    let mut rest = Bytes::copy_from_slice(stream.as_bytes());
    let mut passed = Vec::new();
    for length in lengths {
        let piece = rest.split_to((*length).min(rest.len()));
        passed.extend_from_slice(&meter.feed(piece));
    }
    passed.extend_from_slice(&meter.feed(rest));
    passed.extend_from_slice(&meter.finish());
    passed
}

fn without_usage() -> String {
    CHAT_STREAM.replace(USAGE, "")
}

proptest! {
    #[test]
    fn wherever_the_network_cuts_the_client_gets_the_same(lengths in prop::collection::vec(1_usize..40, 0..20)) {
        let mut asked = chat_meter("{\"stream\":true,\"stream_options\":{\"include_usage\":true}}");
        prop_assert_eq!(pass(&mut asked, CHAT_STREAM, &lengths), CHAT_STREAM.as_bytes());
        let mut unasked = chat_meter("{\"stream\":true}");
        prop_assert_eq!(pass(&mut unasked, CHAT_STREAM, &lengths), without_usage().into_bytes());
        for meter in [asked, unasked] {
            let figures = meter.figures(200, Reach::Whole, Some(&expected()));
            let tokens = figures.tokens.unwrap();
            prop_assert_eq!((tokens.input_total, tokens.output), (Some(7), Some(5)));
            prop_assert_eq!(figures.exactness, UsageExactness::Exact);
        }
    }

    #[test]
    fn no_stream_is_held_back_or_panics(pieces in prop::collection::vec(any::<Vec<u8>>(), 0..8)) {
        let mut meter = chat_meter("{\"stream\":true}");
        let mut passed = Vec::new();
        for piece in &pieces {
            passed.extend_from_slice(&meter.feed(Bytes::copy_from_slice(piece)));
        }
        passed.extend_from_slice(&meter.finish());
        prop_assert_eq!(passed, pieces.concat());
    }
}

#[test]
fn a_cut_stream_costs_its_input_and_what_was_seen() {
    let mut meter = chat_meter("{\"stream\":true}");
    meter.feed(Bytes::from_static(&CHAT_STREAM.as_bytes()[..90]));
    let figures = meter.figures(200, Reach::Cut, Some(&expected()));
    let tokens = figures.tokens.unwrap();
    assert_eq!((tokens.input_total, tokens.output), (Some(40), Some(2)));
    assert_eq!((figures.exactness, figures.model.as_deref()), (UsageExactness::Partial, Some("gpt")));
}

#[test]
fn the_vendors_own_input_goes_before_the_estimate() {
    let mut meter = Meter::Events(EventMeter::new(&spoken(MESSAGES, "{\"stream\":true,\"max_tokens\":9}")));
    let start = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"model\":\"claude\",\
                 \"usage\":{\"input_tokens\":11,\"output_tokens\":1}}}\n\n";
    meter.feed(Bytes::from_static(start.as_bytes()));
    let figures = meter.figures(200, Reach::Cut, Some(&expected()));
    let tokens = figures.tokens.unwrap();
    assert_eq!((tokens.input_total, tokens.output), (Some(11), Some(1)));
    assert_eq!(figures.exactness, UsageExactness::Partial);
}

#[test]
fn a_stream_that_ends_well_without_usage_is_left_to_the_policy() {
    let mut meter = chat_meter("{\"stream\":true}");
    pass(&mut meter, &without_usage(), &[]);
    let figures = meter.figures(200, Reach::Whole, Some(&expected()));
    assert_eq!((figures.tokens, figures.exactness), (None, UsageExactness::Estimated));
}

#[test]
fn errors_without_usage_are_free_and_those_with_usage_are_not() {
    let dialect = spoken(CHAT, "{}").dialect;
    assert!(of_whole(dialect, b"{\"error\":{}}", 400).is_free);
    let billed = of_whole(dialect, b"{\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}", 500);
    assert!(!billed.is_free);
    assert!(!of_whole(dialect, b"{\"error\":{}}", 200).is_free);
    assert!(Meter::Unread.figures(404, Reach::Whole, None).is_free);
}

#[test]
fn a_tier_that_no_record_takes_is_left_out() {
    let body = format!(
        "{{\"service_tier\":\"{}\",\"usage\":{{\"prompt_tokens\":1,\"completion_tokens\":2}}}}",
        "t".repeat(SERVICE_TIER_BYTES_MAX + 1)
    );
    let figures = of_whole(spoken(CHAT, "{}").dialect, body.as_bytes(), 200);
    assert_eq!(figures.service_tier, None);
    assert!(figures.tokens.is_some());
}

#[test]
fn an_answer_for_which_there_is_no_memory_is_estimated() {
    let mut meter = Meter::Whole(WholeMeter::new(spoken(CHAT, "{}").dialect, 1_000, Memory::new(0).lease()));
    let answer = Bytes::from_static(b"{\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}");
    assert_eq!(meter.feed(answer.clone()), answer);
    let figures = meter.figures(200, Reach::Whole, Some(&expected()));
    assert_eq!(figures.exactness, UsageExactness::Estimated);
    let tokens = figures.tokens.unwrap();
    assert_eq!(tokens.output, i64::try_from(answer.len().div_ceil(3)).ok());
    assert_eq!(tokens.input_total, Some(40));
}
