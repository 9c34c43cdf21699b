//! Tests of pricing: each rule of reading usage as a sentence, with figures worked out by hand.

mod book;
mod dated;
mod properties;

use super::*;
use crate::ids::PriceId;
use crate::money::Picos;

/// Tokens in the quotation of list prices.
const MILLION: i64 = 1_000_000;

fn per_million(text: &str) -> Option<Price> {
    Some(Price::parse_decimal("rate", text, MILLION).unwrap())
}

fn each(text: &str) -> Price {
    Price::parse_decimal("rate", text, 1).unwrap()
}

fn unit(name: &str) -> Unit {
    Unit::parse("unit", name).unwrap()
}

fn amounts(named: &[(&str, i64)]) -> Amounts {
    let mut amounts = Amounts::default();
    for (name, amount) in named {
        amounts.insert("amounts", unit(name), *amount).unwrap();
    }
    amounts
}

fn reference(version: u32) -> PriceRef {
    PriceRef { id: PriceId::parse("price", "price_test").unwrap(), version }
}

fn sheet(token_rates: TokenRates) -> PriceSheet {
    PriceSheet {
        reference: reference(1),
        provider: "maker".into(),
        model: "model".into(),
        token_rates,
        per_request: None,
        per_unit: Vec::new(),
        input_tokens_max: None,
        output_tokens_max: None,
        priced_input_tokens_max: None,
        effective_from: Millis::ZERO,
        source: PriceSource::Catalogue,
    }
}

/// 2.50 for input, 10 for output, a million tokens each.
fn plain_sheet() -> PriceSheet {
    sheet(TokenRates { input: per_million("2.5"), output: per_million("10"), ..TokenRates::default() })
}

fn unit_sheet(name: &str, price: &str) -> PriceSheet {
    PriceSheet { per_unit: vec![(unit(name), each(price))], ..sheet(TokenRates::default()) }
}

fn tokens(input_total: i64, output: i64) -> TokenCounts {
    TokenCounts { input_total: Some(input_total), output: Some(output), ..TokenCounts::default() }
}

fn price_of(sheet: &PriceSheet, tokens: TokenCounts, named: &[(&str, i64)]) -> Result<Cost, Unpriceable> {
    let amounts = amounts(named);
    price(sheet, &PricedUsage { tokens, amounts: &amounts, service_tier: "", api_request_price: None })
}

fn price_tokens(sheet: &PriceSheet, tokens: TokenCounts) -> Result<Cost, Unpriceable> {
    price_of(sheet, tokens, &[])
}

fn nanos(cost: &Cost) -> i64 {
    cost.total.get()
}

fn parts(cost: &Cost) -> Vec<(&str, i64)> {
    cost.components.iter().map(|part| (part.name.as_str(), part.amount)).collect()
}

fn expect(asked: Option<i64>, input_tokens: i64, amounts: &Amounts) -> ExpectedUsage<'_> {
    ExpectedUsage {
        input_tokens: Some(input_tokens),
        output_tokens_asked: asked,
        output_tokens_default: None,
        answers: 1,
        amounts,
        api_request_price: None,
    }
}

#[test]
fn input_and_output_cost_their_rates() {
    let cost = price_tokens(&plain_sheet(), tokens(1_000, 100)).unwrap();
    assert_eq!(nanos(&cost), 2_500_000 + 1_000_000);
    assert_eq!(parts(&cost), [("input_total", 1_000), ("output", 100)]);
    assert_eq!(cost.flags, EventFlags::default());
}

#[test]
fn a_fraction_of_a_nano_is_rounded_up_once_for_the_whole_record() {
    let rates = TokenRates {
        input: per_million("0.000001"),
        output: per_million("0.000001"),
        ..TokenRates::default()
    };
    let cost = price_tokens(&sheet(rates), tokens(1, 1)).unwrap();
    assert_eq!(cost.components.iter().map(|part| part.cost.get()).sum::<i128>(), 2);
    assert_eq!(nanos(&cost), 1);
}

#[test]
fn cached_tokens_are_taken_off_the_input_once() {
    let rates = TokenRates { cached_input: per_million("1.25"), ..plain_sheet().token_rates };
    let usage = TokenCounts { cached_input: Some(600), ..tokens(1_000, 0) };
    let cost = price_tokens(&sheet(rates), usage).unwrap();
    assert_eq!(nanos(&cost), 400 * 2_500 + 600 * 1_250);
    assert_eq!(parts(&cost), [("input_total", 400), ("cached_input", 600)]);
}

#[test]
fn cached_tokens_without_a_rate_cost_the_input_rate() {
    let usage = TokenCounts { cached_input: Some(600), ..tokens(1_000, 0) };
    let cost = price_tokens(&plain_sheet(), usage).unwrap();
    assert_eq!(nanos(&cost), 1_000 * 2_500);
    assert_eq!(parts(&cost), [("input_total", 1_000)]);
}

#[test]
fn cache_writes_cost_their_own_rates_by_lifetime() {
    let rates = TokenRates {
        cached_input: per_million("0.1"),
        cache_write_5m: per_million("1.25"),
        cache_write_1h: per_million("2"),
        input: per_million("1"),
        output: per_million("5"),
        ..TokenRates::default()
    };
    let usage = TokenCounts {
        cached_input: Some(100),
        cache_write_5m: Some(200),
        cache_write_1h: Some(300),
        ..tokens(1_000, 10)
    };
    let cost = price_tokens(&sheet(rates), usage).unwrap();
    assert_eq!(nanos(&cost), 400 * 1_000 + 100 * 100 + 200 * 1_250 + 300 * 2_000 + 10 * 5_000);
}

#[test]
fn a_one_hour_write_costs_the_input_rate_only_where_no_write_has_a_rate() {
    let usage = TokenCounts { cache_write_1h: Some(300), ..tokens(1_000, 0) };
    assert_eq!(nanos(&price_tokens(&plain_sheet(), usage).unwrap()), 1_000 * 2_500);

    let rates = TokenRates { cache_write_5m: per_million("3"), ..plain_sheet().token_rates };
    let refused = price_tokens(&sheet(rates), usage);
    assert_eq!(refused, Err(Unpriceable::RateMissing { class: "cache_write_1h" }));

    let none_written = TokenCounts { cache_write_1h: Some(0), ..usage };
    assert_eq!(nanos(&price_tokens(&sheet(rates), none_written).unwrap()), 1_000 * 2_500);
}

#[test]
fn reasoning_and_audio_are_split_only_where_they_have_rates() {
    let usage = TokenCounts {
        reasoning: Some(30),
        audio_output: Some(20),
        audio_input: Some(40),
        ..tokens(100, 100)
    };
    let plain = price_tokens(&plain_sheet(), usage).unwrap();
    assert_eq!(parts(&plain), [("input_total", 100), ("output", 100)]);

    let rates = TokenRates {
        reasoning: per_million("20"),
        audio_output: per_million("80"),
        audio_input: per_million("40"),
        ..plain_sheet().token_rates
    };
    let split = price_tokens(&sheet(rates), usage).unwrap();
    assert_eq!(nanos(&split), 60 * 2_500 + 40 * 40_000 + 50 * 10_000 + 30 * 20_000 + 20 * 80_000);
}

#[test]
fn parts_larger_than_their_whole_are_charged_in_full_and_flagged() {
    let rates = TokenRates { cached_input: per_million("1.25"), ..plain_sheet().token_rates };
    let usage = TokenCounts { cached_input: Some(1_500), ..tokens(1_000, 0) };
    let cost = price_tokens(&sheet(rates), usage).unwrap();
    assert_eq!(nanos(&cost), 1_500 * 1_250);
    assert!(cost.flags.contains(EventFlags::PARTS_EXCEED_TOTAL));

    let without_rate = price_tokens(&plain_sheet(), usage).unwrap();
    assert_eq!(nanos(&without_rate), 1_500 * 2_500);
    assert!(without_rate.flags.contains(EventFlags::PARTS_EXCEED_TOTAL));

    let output = TokenCounts { reasoning: Some(11), ..tokens(0, 10) };
    assert!(price_tokens(&plain_sheet(), output).unwrap().flags.contains(EventFlags::PARTS_EXCEED_TOTAL));
}

#[test]
fn parts_that_make_up_their_whole_are_not_flagged() {
    let usage = TokenCounts { cached_input: Some(1_000), reasoning: Some(10), ..tokens(1_000, 10) };
    assert_eq!(price_tokens(&plain_sheet(), usage).unwrap().flags, EventFlags::default());
}

#[test]
fn an_absent_whole_is_the_sum_of_its_parts() {
    let usage = TokenCounts { cached_input: Some(100), reasoning: Some(10), ..TokenCounts::default() };
    let cost = price_tokens(&plain_sheet(), usage).unwrap();
    assert_eq!(nanos(&cost), 100 * 2_500 + 10 * 10_000);
    assert_eq!(cost.flags, EventFlags::default());
}

#[test]
fn an_explicit_zero_is_a_price() {
    let free = TokenRates { input: per_million("0"), output: per_million("0"), ..TokenRates::default() };
    let cost = price_tokens(&sheet(free), tokens(5, 7)).unwrap();
    assert_eq!(nanos(&cost), 0);
    assert_eq!(parts(&cost), [("input_total", 5), ("output", 7)]);
    assert_eq!(cost.flags, EventFlags::default());
}

#[test]
fn a_missing_rate_of_tokens_that_were_used_is_unknown() {
    let rates = TokenRates { input: per_million("0.1"), ..TokenRates::default() };
    let refused = price_tokens(&sheet(rates), tokens(10, 1));
    assert_eq!(refused, Err(Unpriceable::RateMissing { class: "output" }));
    assert_eq!(nanos(&price_tokens(&sheet(rates), tokens(10, 0)).unwrap()), 1_000);

    let rates = TokenRates { audio_input: per_million("0.1"), ..TokenRates::default() };
    let refused = price_tokens(&sheet(rates), tokens(10, 0));
    assert_eq!(refused, Err(Unpriceable::RateMissing { class: "input_total" }));
}

#[test]
fn a_record_without_what_the_sheet_charges_for_has_no_price() {
    let nothing = TokenCounts::default();
    assert_eq!(price_tokens(&plain_sheet(), nothing), Err(Unpriceable::UsageMissing));
    let seconds = unit_sheet("input_second", "0.0001");
    assert_eq!(price_tokens(&seconds, nothing), Err(Unpriceable::UsageMissing));
    assert_eq!(price_tokens(&seconds, tokens(10, 10)), Err(Unpriceable::UsageMissing));
    assert_eq!(nanos(&price_tokens(&plain_sheet(), tokens(0, 0)).unwrap()), 0);
}

#[test]
fn free_tokens_do_not_stand_in_for_a_unit_that_costs() {
    let free = TokenRates { input: per_million("0"), output: per_million("0"), ..TokenRates::default() };
    let rerank = PriceSheet { token_rates: free, ..unit_sheet("query", "0.002") };
    assert_eq!(price_of(&rerank, tokens(50, 0), &[]), Err(Unpriceable::UsageMissing));
    assert_eq!(nanos(&price_of(&rerank, TokenCounts::default(), &[("query", 3)]).unwrap()), 6_000_000);
}

#[test]
fn a_model_priced_by_token_or_by_second_is_priced_by_what_the_record_names() {
    let both = PriceSheet { token_rates: plain_sheet().token_rates, ..unit_sheet("input_second", "0.0001") };
    let by_second = price_of(&both, TokenCounts::default(), &[("input_second", 30)]).unwrap();
    assert_eq!(nanos(&by_second), 3_000_000);
    assert_eq!(nanos(&price_of(&both, tokens(1_000, 0), &[]).unwrap()), 2_500_000);
}

#[test]
fn a_wholly_free_sheet_needs_no_usage() {
    let free = TokenRates { input: per_million("0"), output: per_million("0"), ..TokenRates::default() };
    assert_eq!(nanos(&price_tokens(&sheet(free), TokenCounts::default()).unwrap()), 0);
}

#[test]
fn requests_count_one_unless_they_are_named() {
    let by_request = PriceSheet { per_request: Some(each("0.01")), ..sheet(TokenRates::default()) };
    assert_eq!(nanos(&price_tokens(&by_request, TokenCounts::default()).unwrap()), 10_000_000);
    let three = price_of(&by_request, TokenCounts::default(), &[("requests", 3)]).unwrap();
    assert_eq!(nanos(&three), 30_000_000);
    assert_eq!(parts(&three), [("requests", 3)]);
}

#[test]
fn an_api_charges_for_requests_on_top_of_the_sheet() {
    let amounts = Amounts::default();
    let api_request_price = Some(each("0.001"));
    let usage =
        PricedUsage { tokens: tokens(1_000, 0), amounts: &amounts, service_tier: "", api_request_price };
    assert_eq!(nanos(&price(&plain_sheet(), &usage).unwrap()), 2_500_000 + 1_000_000);
    assert_eq!(nanos(&price_requests(each("0.001"), &amounts).unwrap()), 1_000_000);
}

#[test]
fn a_service_tier_other_than_the_default_is_unknown() {
    let amounts = Amounts::default();
    let in_tier = |service_tier| {
        let usage =
            PricedUsage { tokens: tokens(1, 1), amounts: &amounts, service_tier, api_request_price: None };
        price(&plain_sheet(), &usage)
    };
    for tier in ["", "default", "standard", "on_demand"] {
        assert!(in_tier(tier).is_ok(), "{tier}");
    }
    for tier in ["flex", "priority", "batch", "scale", "Default"] {
        assert_eq!(in_tier(tier), Err(Unpriceable::TierUnknown), "{tier}");
    }
}

#[test]
fn an_input_beyond_the_priced_length_is_unknown() {
    let short = PriceSheet { priced_input_tokens_max: Some(200_000), ..plain_sheet() };
    let too_long = Err(Unpriceable::InputTooLong { priced_input_tokens_max: 200_000 });
    assert!(price_tokens(&short, tokens(200_000, 1)).is_ok());
    assert_eq!(price_tokens(&short, tokens(200_001, 1)), too_long);
    let only_cached = TokenCounts { cached_input: Some(200_001), ..TokenCounts::default() };
    assert_eq!(price_tokens(&short, only_cached), too_long);
}

#[test]
fn a_sheet_without_any_price_is_no_price() {
    assert_eq!(price_tokens(&sheet(TokenRates::default()), tokens(1, 1)), Err(Unpriceable::PriceUnknown));
    let none = Amounts::default();
    let estimated = estimate(&sheet(TokenRates::default()), &expect(None, 1, &none));
    assert_eq!(estimated, Err(Unpriceable::PriceUnknown));
}

#[test]
fn a_cost_beyond_all_money_is_refused() {
    let dear = PriceSheet { per_request: Some(each("1000000")), ..sheet(TokenRates::default()) };
    let refused = price_of(&dear, TokenCounts::default(), &[("requests", 1_000_000_000_000)]);
    assert_eq!(refused, Err(Unpriceable::CostOutOfRange { component: "requests".to_owned() }));
}

#[test]
fn of_a_cost_beyond_all_money_the_dearest_part_is_named() {
    let dear = PriceSheet { per_request: Some(each("1000000")), ..plain_sheet() };
    let refused = price_of(&dear, tokens(1_000_000_000_000, 1), &[("requests", 1_000)]);
    assert_eq!(refused, Err(Unpriceable::CostOutOfRange { component: "requests".to_owned() }));
    let rates = TokenRates { output: Some(each("1000000")), ..plain_sheet().token_rates };
    let refused = price_of(&sheet(rates), tokens(1, 1_001), &[]);
    assert_eq!(refused, Err(Unpriceable::CostOutOfRange { component: "output".to_owned() }));
}

#[test]
fn output_to_allow_for_is_asked_or_default_and_at_most_the_models() {
    let capped = PriceSheet { output_tokens_max: Some(8_192), ..plain_sheet() };
    assert_eq!(output_tokens_expected(Some(&capped), Some(999_999_999), None), 8_192);
    assert_eq!(output_tokens_expected(Some(&capped), Some(100), Some(200)), 100);
    assert_eq!(output_tokens_expected(Some(&capped), None, Some(200)), 200);
    assert_eq!(output_tokens_expected(Some(&capped), None, None), 4_096);
    assert_eq!(output_tokens_expected(Some(&plain_sheet()), Some(999_999_999), None), 999_999_999);
    assert_eq!(output_tokens_expected(None, None, None), 4_096);
    let small = PriceSheet { output_tokens_max: Some(1_000), ..plain_sheet() };
    assert_eq!(output_tokens_expected(Some(&small), None, None), 1_000);
}

#[test]
fn an_estimate_of_a_plain_call_is_what_it_costs_in_full() {
    let none = Amounts::default();
    let by_request = PriceSheet { per_request: Some(each("0.001")), ..plain_sheet() };
    let estimated = estimate(&by_request, &expect(Some(100), 1_000, &none)).unwrap();
    assert_eq!(estimated.cost.get(), 2_500_000 + 1_000_000 + 1_000_000);
    assert_eq!(estimated.floor.get(), 2_500_000 + 1_000_000);
    assert_eq!(estimated.output_tokens, 100);
}

#[test]
fn an_estimate_takes_the_highest_rate_that_tokens_may_have() {
    let rates = TokenRates {
        audio_input: per_million("40"),
        reasoning: per_million("20"),
        cache_write_1h: per_million("100"),
        ..plain_sheet().token_rates
    };
    let none = Amounts::default();
    let estimated = estimate(&sheet(rates), &expect(Some(10), 10, &none)).unwrap();
    assert_eq!(estimated.cost.get(), 10 * 40_000 + 10 * 20_000);
    assert_eq!(estimated.floor.get(), 10 * 2_500);
}

#[test]
fn a_model_without_output_needs_no_output_rate() {
    let rates = TokenRates { input: per_million("0.1"), ..TokenRates::default() };
    let embedding = PriceSheet { output_tokens_max: Some(0), ..sheet(rates) };
    let none = Amounts::default();
    assert_eq!(estimate(&embedding, &expect(None, 10, &none)).unwrap().cost.get(), 1_000);
    let refused = estimate(&sheet(rates), &expect(None, 10, &none));
    assert_eq!(refused, Err(Unpriceable::RateMissing { class: "output" }));
}

#[test]
fn an_estimate_of_unit_prices_needs_their_amounts() {
    let seconds = unit_sheet("input_second", "0.0001");
    let none = Amounts::default();
    assert_eq!(estimate(&seconds, &expect(None, 0, &none)), Err(Unpriceable::UsageMissing));
    let half_a_minute = amounts(&[("input_second", 30)]);
    assert_eq!(estimate(&seconds, &expect(None, 0, &half_a_minute)).unwrap().cost.get(), 3_000_000);
}

#[test]
fn each_policy_flags_a_missing_price() {
    let default_cost = Nanos::parse("cost", 5_000_000).unwrap();
    let cases = [
        (UnknownPricePolicy::Deny, false, 0),
        (UnknownPricePolicy::ChargeDefault(default_cost), true, 5_000_000),
        (UnknownPricePolicy::AllowAndFlag, true, 0),
    ];
    for (policy, allowed, charged) in cases {
        let resolution = policy.resolve(&Unpriceable::PriceUnknown);
        assert_eq!((resolution.allowed, nanos(&resolution.cost)), (allowed, charged), "{policy:?}");
        assert_eq!(resolution.cost.flags, EventFlags::PRICE_UNKNOWN, "{policy:?}");
        let resolution = policy.resolve(&Unpriceable::UsageMissing);
        assert_eq!(resolution.cost.flags, EventFlags::USAGE_UNKNOWN, "{policy:?}");
    }
}

#[test]
fn a_stated_cost_adds_up_like_any_other() {
    let total = Nanos::parse("cost", crate::limits::MONEY_NANOS_MAX).unwrap();
    let cost = Cost::stated("explicit", total, EventFlags::COST_EXPLICIT);
    let sum = cost.components.iter().try_fold(Picos::ZERO, |sum, part| sum.checked_add(part.cost)).unwrap();
    assert_eq!(sum.round_up("cost").unwrap(), total);
    assert_eq!(parts(&cost), [("explicit", total.get())]);
    assert!(Cost::stated("default", Nanos::ZERO, EventFlags::PRICE_UNKNOWN).components.is_empty());
}
