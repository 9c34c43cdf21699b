//! Properties of pricing over any rates and any counts.

use proptest::prelude::*;

use super::*;
use crate::limits::AMOUNT_MAX;

/// Prices up to a hundred currency units a token, so that most costs stay within all money.
const PICOS_MAX: i64 = 100_000_000_000_000;

fn any_rate() -> impl Strategy<Value = Option<Price>> {
    let picos = prop_oneof![Just(0), 1..=9_999_i64, 1..=PICOS_MAX];
    proptest::option::weighted(0.7, picos.prop_map(|picos| Price::parse_picos("rate", picos).unwrap()))
}

prop_compose! {
    fn any_rates()(rates in proptest::array::uniform8(any_rate())) -> TokenRates {
        let [input, cached_input, cache_write_5m, cache_write_1h, output, reasoning, ..] = rates;
        let [.., audio_input, audio_output] = rates;
        TokenRates {
            input,
            output,
            cached_input,
            cache_write_5m,
            cache_write_1h,
            reasoning,
            audio_input,
            audio_output,
        }
    }
}

prop_compose! {
    fn any_sheet()(
        token_rates in any_rates(),
        per_request in any_rate(),
        by_unit in any_rate(),
        priced_input_tokens_max in proptest::option::weighted(0.1, 0..=AMOUNT_MAX),
        output_tokens_max in proptest::option::of(0..=100_000_i64),
    ) -> PriceSheet {
        let per_unit = by_unit.map(|price| (unit("pages"), price)).into_iter().collect();
        PriceSheet { per_request, per_unit, priced_input_tokens_max, output_tokens_max, ..sheet(token_rates) }
    }
}

fn any_count() -> impl Strategy<Value = Option<i64>> {
    let count = prop_oneof![Just(0), 1..=10_000_i64, 0..=AMOUNT_MAX, Just(AMOUNT_MAX)];
    proptest::option::weighted(0.8, count)
}

prop_compose! {
    fn any_tokens()(counts in proptest::array::uniform8(any_count())) -> TokenCounts {
        let [input_total, cached_input, cache_write_5m, cache_write_1h, output, reasoning, ..] = counts;
        let [.., audio_input, audio_output] = counts;
        TokenCounts {
            input_total,
            cached_input,
            cache_write_5m,
            cache_write_1h,
            output,
            reasoning,
            audio_input,
            audio_output,
        }
    }
}

prop_compose! {
    /// Counts whose parts fit into their wholes, without cache writes, as an upstream would send them.
    fn consistent_tokens()(
        (input, cached, audio) in (0..=1_000_000_i64, 0..=1_000_000_i64, 0..=1_000_000_i64),
        (output, reasoning, spoken) in (0..=1_000_000_i64, 0..=1_000_000_i64, 0..=1_000_000_i64),
    ) -> TokenCounts {
        let cached = cached.min(input);
        let reasoning = reasoning.min(output);
        TokenCounts {
            cached_input: Some(cached),
            audio_input: Some(audio.min(input - cached)),
            reasoning: Some(reasoning),
            audio_output: Some(spoken.min(output - reasoning)),
            ..tokens(input, output)
        }
    }
}

fn any_amounts() -> impl Strategy<Value = Amounts> {
    (any_count(), any_count()).prop_map(|(requests, pages)| {
        let named = [("requests", requests), ("pages", pages)];
        let known: Vec<_> = named.into_iter().filter_map(|(name, amount)| Some((name, amount?))).collect();
        amounts(&known)
    })
}

fn usage<'a>(tokens: TokenCounts, amounts: &'a Amounts, tier: &'a str) -> PricedUsage<'a> {
    PricedUsage { tokens, amounts, service_tier: tier, api_request_price: None }
}

/// Pico-units of a record, added up token class by token class with the rate that each falls back
/// to. Written from the description alone; `None` where a rate is missing.
fn recomputed(sheet: &PriceSheet, tokens: &TokenCounts, amounts: &Amounts) -> Option<u128> {
    let rates = &sheet.token_rates;
    let hour_write = match (rates.cache_write_1h, rates.cache_write_5m) {
        (None, Some(_)) => None,
        (own, _) => own.or(rates.input),
    };
    let input = [
        (tokens.cached_input, rates.cached_input.or(rates.input)),
        (tokens.cache_write_5m, rates.cache_write_5m.or(rates.input)),
        (tokens.cache_write_1h, hour_write),
        (tokens.audio_input, rates.audio_input.or(rates.input)),
    ];
    let output = [
        (tokens.reasoning, rates.reasoning.or(rates.output)),
        (tokens.audio_output, rates.audio_output.or(rates.output)),
    ];
    let mut picos = 0;
    if *rates != TokenRates::default() {
        picos += recomputed_whole(tokens.input_total, rates.input, &input)?;
        picos += recomputed_whole(tokens.output, rates.output, &output)?;
    }
    for (unit, price) in &sheet.per_unit {
        picos += product(amounts.get(unit).unwrap_or(0), Some(*price))?;
    }
    let requests = amounts.get(&Unit::Requests).unwrap_or(1);
    Some(picos + product(requests, sheet.per_request.or(Some(each("0"))))?)
}

fn recomputed_whole(
    total: Option<i64>,
    rate: Option<Price>,
    parts: &[(Option<i64>, Option<Price>)],
) -> Option<u128> {
    let known: i64 = parts.iter().map(|(amount, _)| amount.unwrap_or(0)).sum();
    let rest = (total.unwrap_or(0) - known).max(0);
    let priced = parts.iter().map(|(amount, rate)| product(amount.unwrap_or(0), *rate));
    priced.chain([product(rest, rate)]).sum()
}

fn product(amount: i64, rate: Option<Price>) -> Option<u128> {
    let amount = u128::try_from(amount).unwrap();
    match rate {
        Some(rate) => Some(amount * u128::try_from(rate.picos()).unwrap()),
        None => (amount == 0).then_some(0),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_cost_equals_its_independent_recomputation(
        sheet in any_sheet(),
        tokens in any_tokens(),
        amounts in any_amounts(),
    ) {
        let recomputed = recomputed(&sheet, &tokens, &amounts);
        match price(&sheet, &usage(tokens, &amounts, "")) {
            Ok(cost) => {
                let rounded_up = recomputed.unwrap().div_ceil(1_000);
                prop_assert_eq!(u128::try_from(cost.total.get()).unwrap(), rounded_up);
            }
            Err(Unpriceable::RateMissing { .. }) => prop_assert_eq!(recomputed, None),
            Err(Unpriceable::CostOutOfRange { .. }) => {
                prop_assert!(recomputed.is_none_or(|picos| picos > 10_u128.pow(21)));
            }
            Err(Unpriceable::InputTooLong { priced_input_tokens_max: max }) => {
                let writes = [tokens.cache_write_5m, tokens.cache_write_1h];
                let parts = [tokens.cached_input, tokens.audio_input].into_iter().chain(writes);
                let known: i64 = parts.flatten().sum();
                prop_assert!(tokens.input_total.unwrap_or(known) > max);
            }
            Err(Unpriceable::UsageMissing) => {
                prop_assert!(tokens == TokenCounts::default() || !sheet.token_rates.charge());
                prop_assert_eq!(amounts.get(&unit("pages")).filter(|_| sheet.charges_any_unit()), None);
            }
            Err(Unpriceable::PriceUnknown) => prop_assert!(sheet.is_empty()),
            Err(Unpriceable::TierUnknown) => prop_assert!(false, "the default tier is known"),
        }
    }

    #[test]
    fn components_add_up_and_are_rounded_up_once(
        sheet in any_sheet(),
        tokens in any_tokens(),
        amounts in any_amounts(),
    ) {
        if let Ok(cost) = price(&sheet, &usage(tokens, &amounts, "")) {
            for part in &cost.components {
                prop_assert_eq!(part.cost, part.price.times(part.amount));
                prop_assert!(part.amount > 0);
            }
            let sum: i128 = cost.components.iter().map(|part| part.cost.get()).sum();
            let over = i128::from(cost.total.get()) * 1_000 - sum;
            prop_assert!((0..1_000).contains(&over), "over by {} picos", over);
        }
    }

    #[test]
    fn parts_beyond_their_total_are_always_flagged_and_others_never(
        sheet in any_sheet(),
        tokens in any_tokens(),
        amounts in any_amounts(),
    ) {
        let exceed = |total: Option<i64>, parts: &[Option<i64>]| {
            total.is_some_and(|total| parts.iter().flatten().sum::<i64>() > total)
        };
        let input = [tokens.cached_input, tokens.cache_write_5m, tokens.cache_write_1h, tokens.audio_input];
        let expected = !sheet.token_rates.is_empty()
            && (exceed(tokens.input_total, &input)
                || exceed(tokens.output, &[tokens.reasoning, tokens.audio_output]));
        if let Ok(cost) = price(&sheet, &usage(tokens, &amounts, "")) {
            prop_assert_eq!(cost.flags.contains(EventFlags::PARTS_EXCEED_TOTAL), expected);
        }
    }

    #[test]
    fn more_tokens_never_cost_less(
        sheet in any_sheet(),
        tokens in any_tokens(),
        amounts in any_amounts(),
        more_input in 0..=AMOUNT_MAX,
        more_output in 0..=AMOUNT_MAX,
    ) {
        let (Some(input), Some(output)) = (tokens.input_total, tokens.output) else { return Ok(()) };
        let more = TokenCounts {
            input_total: Some((input + more_input).min(AMOUNT_MAX)),
            output: Some((output + more_output).min(AMOUNT_MAX)),
            ..tokens
        };
        let cost = |tokens| price(&sheet, &usage(tokens, &amounts, "")).map(|cost| cost.total);
        if let (Ok(fewer), Ok(more)) = (cost(tokens), cost(more)) {
            prop_assert!(fewer <= more);
        }
    }

    #[test]
    fn an_estimate_covers_every_usage_within_it(
        sheet in any_sheet(),
        used in consistent_tokens(),
        amounts in any_amounts(),
        spare_input in prop_oneof![Just(0), 0..=1_000_000_i64],
        asked in proptest::option::of(0..=1_000_000_i64),
        output_tokens_default in proptest::option::of(0..=1_000_000_i64),
    ) {
        let api_request_price = Some(each("0.000000000001"));
        let expected = ExpectedUsage {
            input_tokens: used.input_total.map(|input| input + spare_input),
            output_tokens_asked: asked,
            output_tokens_default,
            answers: 1,
            amounts: &amounts,
            api_request_price,
        };
        let Ok(estimated) = estimate(&sheet, &expected) else { return Ok(()) };
        prop_assert!(estimated.floor <= estimated.cost);
        let output = used.output.unwrap().min(estimated.output_tokens);
        let reasoning = used.reasoning.map(|tokens| tokens.min(output));
        let spoken = used.audio_output.map(|tokens| tokens.min(output - reasoning.unwrap()));
        let within = TokenCounts { output: Some(output), reasoning, audio_output: spoken, ..used };
        let usage = PricedUsage { api_request_price, ..usage(within, &amounts, "") };
        match price(&sheet, &usage) {
            Ok(cost) => prop_assert!(cost.total <= estimated.cost, "{:?} > {:?}", cost, estimated),
            Err(reason) => prop_assert!(false, "estimated but without a price: {}", reason),
        }
    }

    #[test]
    fn no_counts_make_an_estimate_panic(
        sheet in any_sheet(),
        amounts in any_amounts(),
        input_tokens in any_count(),
        output_tokens_asked in any_count(),
        output_tokens_default in any_count(),
    ) {
        let expected = ExpectedUsage {
            input_tokens,
            output_tokens_asked,
            output_tokens_default,
            answers: 1,
            amounts: &amounts,
            api_request_price: sheet.per_request,
        };
        if let Ok(estimated) = estimate(&sheet, &expected) {
            prop_assert!(Nanos::ZERO <= estimated.floor && estimated.floor <= estimated.cost);
            prop_assert!(sheet.output_tokens_max.is_none_or(|max| estimated.output_tokens <= max));
        }
    }

    #[test]
    fn the_dearest_rates_and_largest_counts_are_refused_not_wrapped(tokens in any_tokens()) {
        let dearest = Some(each("1000000"));
        let rates = TokenRates { input: dearest, output: dearest, ..TokenRates::default() };
        let none = Amounts::default();
        match price(&sheet(rates), &usage(tokens, &none, "")) {
            Ok(cost) => prop_assert_eq!(
                u128::try_from(cost.total.get()).unwrap(),
                recomputed(&sheet(rates), &tokens, &none).unwrap().div_ceil(1_000)
            ),
            Err(reason) => {
                let known =
                    matches!(reason, Unpriceable::CostOutOfRange { .. } | Unpriceable::UsageMissing);
                prop_assert!(known, "{}", reason);
            }
        }
    }
}
