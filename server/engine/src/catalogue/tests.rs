//! Tests of the catalogue: the shipped file as a whole, and what a malformed one is refused for.

use rateguard_core::amounts::Amounts;
use rateguard_core::limits::OUTPUT_TOKENS_DEFAULT;
use rateguard_core::pricing::{
    Cost, ExpectedUsage, ModelQuery, PricedUsage, Unpriceable, estimate, find_price, price,
};
use rateguard_core::usage::{EventFlags, TokenCounts};
use xxhash_rust::xxh3::xxh3_64;

use super::*;

/// Entries of the shipped file.
const MODELS: usize = 439;

fn found<'a>(book: &'a PriceBook, model: &str) -> &'a PriceSheet {
    book.find(&ModelQuery { model, provider_hint: None, at: Millis::ZERO }).unwrap()
}

fn tokens(input: i64, output: i64) -> TokenCounts {
    TokenCounts { input_total: Some(input), output: Some(output), ..TokenCounts::default() }
}

fn cost(sheet: &PriceSheet, tokens: TokenCounts) -> Result<Cost, Unpriceable> {
    let amounts = Amounts::default();
    price(sheet, &PricedUsage { tokens, amounts: &amounts, service_tier: "", api_request_price: None })
}

fn nanos(sheet: &PriceSheet, tokens: TokenCounts) -> i64 {
    cost(sheet, tokens).unwrap().total.get()
}

/// An entry with these fields beside its provider, model and mode.
fn one(fields: &str) -> String {
    format!(r#"[{{"provider": "p", "model": "m", "mode": "chat", {fields}}}]"#)
}

fn refusal(text: &str) -> String {
    match read(text) {
        Ok(_) => String::new(),
        Err(CatalogueError::Malformed(source)) => source.to_string(),
        Err(CatalogueError::OutOfBounds { source, .. }) => source.to_string(),
        Err(repeated @ CatalogueError::Repeated { .. }) => repeated.to_string(),
    }
}

#[test]
fn the_shipped_file_loads_whole() {
    let book = load().unwrap();
    assert_eq!(book.len(), MODELS);
    for sheet in book.iter() {
        let own = ModelQuery { model: &sheet.model, provider_hint: Some(&sheet.provider), at: Millis::ZERO };
        assert_eq!(book.find(&own), Some(sheet));
        assert_eq!(book.version(&sheet.reference), Some(sheet));
        assert_eq!((sheet.reference.version, sheet.source), (CATALOGUE_VERSION, PriceSource::Catalogue));
    }
}

#[test]
fn a_change_of_the_file_raises_its_version() {
    // Whoever changes the file raises `CATALOGUE_VERSION` and puts the new hash here.
    let known = (1, 9_340_360_195_479_169_613);
    assert_eq!((CATALOGUE_VERSION, xxh3_64(MODEL_PRICES.as_bytes())), known);
}

#[test]
fn the_same_model_has_the_same_id_in_every_release() {
    let book = load().unwrap();
    assert_eq!(found(&book, "gpt-4o-mini").reference.id.as_str(), "price_2108f99eaefccb0ebe92d04b36d37a5e");
    assert_ne!(price_id("a", "bc").unwrap(), price_id("ab", "c").unwrap());
}

#[test]
fn plain_calls_cost_their_tokens_times_the_list_price() {
    let book = load().unwrap();
    // 0.15 in, 0.60 out; 3.00 in, 15.00 out; a million tokens each.
    assert_eq!(nanos(found(&book, "gpt-4o-mini"), tokens(1_000, 100)), 150_000 + 60_000);
    assert_eq!(nanos(found(&book, "claude-sonnet-4-5"), tokens(1_000, 100)), 3_000_000 + 1_500_000);
}

#[test]
fn caches_cost_their_list_price_by_kind() {
    let book = load().unwrap();
    let usage = TokenCounts {
        cached_input: Some(1_000),
        cache_write_5m: Some(1_000),
        cache_write_1h: Some(1_000),
        ..tokens(4_000, 0)
    };
    // claude-haiku-4-5: 1.00 in, 0.10 read, 1.25 and 2.00 written.
    assert_eq!(nanos(found(&book, "claude-haiku-4-5"), usage), 1_000_000 + 100_000 + 1_250_000 + 2_000_000);
}

#[test]
fn a_response_with_a_date_or_a_prefix_finds_its_model() {
    let book = load().unwrap();
    for name in ["openai/gpt-4o-mini", "gpt-4o-mini-2024-07-18", "openai/gpt-4o-mini-2031-01-01"] {
        assert_eq!(nanos(found(&book, name), tokens(1_000, 100)), 210_000, "{name}");
    }
    assert_eq!(found(&book, "claude-sonnet-5-20270101").model, "claude-sonnet-5");
    let none = PriceBook::default();
    let query = ModelQuery { model: "no-such-model", provider_hint: Some("openai"), at: Millis::ZERO };
    assert!(find_price(&none, &book, &query).is_none());
}

#[test]
fn beyond_the_lowest_threshold_the_price_is_unknown() {
    let book = load().unwrap();
    let gemini = found(&book, "gemini-2.5-pro");
    assert!(cost(gemini, tokens(200_000, 1)).is_ok());
    let too_long = Err(Unpriceable::InputTooLong { priced_input_tokens_max: 200_000 });
    assert_eq!(cost(gemini, tokens(200_001, 1)), too_long);
}

#[test]
fn a_threshold_of_xai_is_passed_when_it_is_reached() {
    let book = load().unwrap();
    let grok = found(&book, "grok-4.3");
    assert!(cost(grok, tokens(199_999, 1)).is_ok());
    let too_long = Err(Unpriceable::InputTooLong { priced_input_tokens_max: 199_999 });
    assert_eq!(cost(grok, tokens(200_000, 1)), too_long);
}

#[test]
fn units_are_priced_by_their_names() {
    let book = load().unwrap();
    let mut amounts = Amounts::default();
    amounts.insert("amounts", Unit::parse("unit", "input_second").unwrap(), 90).unwrap();
    let usage = PricedUsage {
        tokens: TokenCounts::default(),
        amounts: &amounts,
        service_tier: "",
        api_request_price: None,
    };
    assert_eq!(price(found(&book, "whisper-1"), &usage).unwrap().total.get(), 9_000_000);
    let unmeasured = cost(found(&book, "whisper-1"), tokens(10, 10));
    assert_eq!(unmeasured, Err(Unpriceable::UsageMissing));
}

#[test]
fn output_that_may_be_images_has_no_known_price() {
    let book = load().unwrap();
    for model in ["gpt-image-1", "gpt-image-1.5", "gemini-2.5-flash-image", "gemini-3-pro-image"] {
        let refused = cost(found(&book, model), tokens(10, 10));
        assert_eq!(refused, Err(Unpriceable::RateMissing { class: "output" }), "{model}");
    }
}

#[test]
fn embeddings_and_rankings_reserve_no_output() {
    let book = load().unwrap();
    let amounts = Amounts::default();
    let expected = ExpectedUsage {
        input_tokens: Some(1_000),
        output_tokens_asked: None,
        output_tokens_default: None,
        answers: 1,
        amounts: &amounts,
        api_request_price: None,
    };
    let embedding = estimate(found(&book, "mistral-embed"), &expected).unwrap();
    assert_eq!((embedding.output_tokens, embedding.cost.get()), (0, 100_000));
    let chat = estimate(found(&book, "gpt-4o-mini"), &expected).unwrap();
    assert_eq!(chat.output_tokens, OUTPUT_TOKENS_DEFAULT);
}

#[test]
fn every_token_priced_chat_model_prices_a_small_plain_call() {
    let book = load().unwrap();
    let entries: Vec<Entry> = serde_json::from_str(MODEL_PRICES).unwrap();
    let chats = entries.iter().filter(|entry| matches!(entry.mode, Mode::Chat | Mode::Responses));
    let mut priced = 0;
    for entry in chats.filter(|entry| entry.usd_per_unit.is_empty()) {
        let cost = cost(found(&book, &entry.model), tokens(1_000, 100));
        assert_eq!(cost.map(|cost| cost.flags), Ok(EventFlags::default()), "{}", entry.model);
        priced += 1;
    }
    assert!(priced > 200, "only {priced} chat models");
}

#[test]
fn a_malformed_catalogue_is_refused_with_the_reason() {
    let rates = r#""usd_per_million_tokens": {"input": "1"}"#;
    let cases = [
        ("{}".to_owned(), "expected a sequence"),
        ("[".to_owned(), "EOF"),
        (one(r#""usd_per_million_tokens": {"input": 1}"#), "expected a string"),
        (one(r#""usd_per_million_tokens": {"input": "-1"}"#), "plain decimal"),
        (one(r#""usd_per_million_tokens": {"input": "0.0000001"}"#), "plain decimal"),
        (one(r#""usd_per_million_tokens": {"inputs": "1"}"#), "unknown field `inputs`"),
        (one(&format!(r#"{rates}, "price": "1""#)), "unknown field `price`"),
        (
            one(&format!(r#"{rates}, "service_tiers": {{"slow": {{"input": "1"}}}}"#)),
            "unknown variant `slow`",
        ),
        (one(&format!(r#"{rates}, "service_tiers": {{"flex": {{}}}}"#)), "service_tiers"),
        (one(&format!(r#"{rates}, "above_input_tokens": {{"200000": {{}}}}"#)), "above_input_tokens"),
        (one(&format!(r#"{rates}, "above_input_tokens": {{"0": {{"input": "1"}}}}"#)), "above_input_tokens"),
        (one(&format!(r#"{rates}, "above_input_tokens": {{"many": {{"input": "1"}}}}"#)), "expected"),
        (one(&format!(r#"{rates}, "max_output_tokens": 0"#)), "max_output_tokens"),
        (one(&format!(r#"{rates}, "max_input_tokens": -1"#)), "max_input_tokens"),
        (one(&format!(r#"{rates}, "source": "ftp://prices""#)), "source"),
        (one(r#""usd_per_unit": {"requests": "1"}"#), "must not price requests"),
        (one(r#""usd_per_unit": {"Input Second": "1"}"#), "usd_per_unit"),
        (one(r#""max_input_tokens": 1"#), "must name a rate"),
        (format!(r#"[{{"provider": "p", "model": "", "mode": "chat", {rates}}}]"#), "model"),
        (format!(r#"[{{"provider": "p", "model": "m", "mode": "poetry", {rates}}}]"#), "unknown variant"),
        (format!(r#"[{{"provider": "p", "mode": "chat", {rates}}}]"#), "missing field `model`"),
    ];
    for (text, reason) in cases {
        let refusal = refusal(&text);
        assert!(refusal.contains(reason), "{text}: {refusal:?} does not say {reason:?}");
    }
    assert_eq!(refusal(&one(rates)), "");
}

#[test]
fn a_model_that_stands_twice_is_refused() {
    let entry =
        r#"{"provider": "p", "model": "m", "mode": "chat", "usd_per_million_tokens": {"input": "1"}}"#;
    assert!(refusal(&format!("[{entry}, {entry}]")).contains("p/m twice"));
}
