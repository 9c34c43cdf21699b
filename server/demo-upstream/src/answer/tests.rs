//! Tests of what an answer says and counts.

use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;

use super::*;
use crate::{knobs::Defaults, models::OPENAI};

fn knobs(pairs: &[(&'static str, &'static str)]) -> Knobs {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    let defaults = Defaults { delay: std::time::Duration::ZERO, chunk_delay: std::time::Duration::ZERO };
    Knobs::read(&headers, defaults).unwrap()
}

fn prompt(model: &str, output_tokens_max: Option<u64>) -> Prompt {
    Prompt { model: model.to_owned(), bytes: 41, last_text: "Grüße".to_owned(), output_tokens_max }
}

#[test]
fn the_answer_labels_itself_and_repeats_what_was_said() {
    let answer = prompt("gpt-4o-mini", None).answer(&OPENAI, &knobs(&[])).unwrap();
    assert_eq!(answer.text, "This is RateGuard's demo upstream, not a model. You said: Grüße");
    assert_eq!(answer.model, "gpt-4o-mini-2024-07-18");
    assert_eq!((answer.input_tokens, answer.output_tokens), (11, 17));
    assert!(!answer.truncated);
}

#[test]
fn an_unknown_model_answers_under_its_own_name() {
    let answer = prompt("my-model", None).answer(&OPENAI, &knobs(&[])).unwrap();
    assert_eq!(answer.model, "my-model");
}

#[test]
fn the_requests_maximum_bounds_the_output_whatever_the_header_says() {
    let knobs = knobs(&[("x-demo-output-tokens", "5000")]);
    let answer = prompt("gpt-4o", Some(2)).answer(&OPENAI, &knobs).unwrap();
    assert_eq!((answer.output_tokens, answer.text.as_str()), (2, "This is "));
    assert!(answer.truncated);
}

#[test]
fn the_header_sets_the_output_below_the_maximum_and_leaves_the_text() {
    let knobs = knobs(&[("x-demo-output-tokens", "5000"), ("x-demo-input-tokens", "70")]);
    let answer = prompt("gpt-4o", Some(6000)).answer(&OPENAI, &knobs).unwrap();
    assert_eq!((answer.input_tokens, answer.output_tokens), (70, 5000));
    assert!(answer.text.ends_with("Grüße"));
}

#[test]
fn a_reasoning_model_bills_more_than_it_shows() {
    let answer = prompt("gpt-5-mini", None).answer(&OPENAI, &knobs(&[])).unwrap();
    assert_eq!((answer.output_tokens, answer.reasoning_tokens), (22, 5));
    assert!(answer.text.ends_with("Grüße"));
}

#[test]
fn a_model_without_a_name_is_refused() {
    assert!(matches!(prompt("", None).answer(&OPENAI, &knobs(&[])), Err(Refusal::Model)));
    let long = "m".repeat(MODEL_BYTES_MAX + 1);
    assert!(matches!(prompt(&long, None).answer(&OPENAI, &knobs(&[])), Err(Refusal::Model)));
}

proptest! {
    #[test]
    fn pieces_are_as_many_as_asked_and_join_to_the_text(said in "\\PC{0,500}", count in 1_u64..=600) {
        let prompt = Prompt { last_text: said, ..prompt("gpt-4o", None) };
        let answer = prompt.answer(&OPENAI, &knobs(&[])).unwrap();
        let pieces = answer.pieces(count);
        prop_assert_eq!(pieces.len() as u64, count);
        prop_assert_eq!(pieces.concat(), answer.text);
    }

    #[test]
    fn a_cut_text_has_no_more_bytes_than_its_tokens(said in "\\PC{0,50}", most in 1_u64..=60) {
        let prompt = Prompt { last_text: said, ..prompt("o4-mini", Some(most)) };
        let answer = prompt.answer(&OPENAI, &knobs(&[])).unwrap();
        prop_assert!(answer.output_tokens <= most);
        prop_assert!(answer.text.len() as u64 <= (answer.output_tokens - answer.reasoning_tokens) * 4);
    }
}
