//! What normalising promises whatever a vendor states.

use proptest::prelude::*;

use super::*;

fn known(tokens: TokenUsage) -> Usage {
    match UsageReading::from_counts(None, None, Ok((tokens, UsageFlags::default()))) {
        UsageReading::Known(usage) => usage,
        UsageReading::Unknown { reason, .. } => panic!("unknown: {reason}"),
    }
}

#[test]
fn parts_within_their_totals_stay_as_they_are() {
    let tokens = TokenUsage {
        input_total: Some(100),
        cached_input: Some(60),
        cache_write_5m: Some(20),
        cache_write_1h: Some(20),
        output: Some(50),
        reasoning: Some(50),
        audio_input: Some(100),
        audio_output: Some(0),
    };
    let usage = known(tokens);
    assert_eq!(usage.tokens, tokens);
    assert!(!usage.flags.any());
}

#[test]
fn a_part_larger_than_its_total_is_cut_and_flagged() {
    let base = TokenUsage { input_total: Some(10), output: Some(5), ..TokenUsage::default() };
    let cases = [
        TokenUsage { cached_input: Some(11), ..base },
        TokenUsage { cache_write_5m: Some(6), cached_input: Some(5), ..base },
        TokenUsage { reasoning: Some(6), ..base },
        TokenUsage { audio_input: Some(11), ..base },
        TokenUsage { audio_output: Some(6), ..base },
    ];
    for tokens in cases {
        let usage = known(tokens);
        assert!(usage.flags.parts_exceed_total, "{tokens:?}");
        assert_eq!((usage.tokens.input_total, usage.tokens.output), (Some(10), Some(5)));
    }
}

#[test]
fn the_dearest_parts_are_kept_when_parts_are_cut() {
    let usage = known(TokenUsage {
        input_total: Some(10),
        cached_input: Some(10),
        cache_write_1h: Some(8),
        ..TokenUsage::default()
    });
    assert_eq!((usage.tokens.cache_write_1h, usage.tokens.cached_input), (Some(8), Some(2)));
}

#[test]
fn absent_and_zero_stay_different() {
    let usage = known(TokenUsage { input_total: Some(1), cached_input: Some(0), ..TokenUsage::default() });
    assert_eq!((usage.tokens.cached_input, usage.tokens.reasoning), (Some(0), None));
}

fn count() -> impl Strategy<Value = Option<u64>> {
    proptest::option::of(0..=TOKEN_COUNT_MAX)
}

proptest! {
    #[test]
    fn parts_never_exceed_their_totals_afterwards(
        input_total in count(), cached_input in count(), cache_write_5m in count(),
        cache_write_1h in count(), output in count(), reasoning in count(),
        audio_input in count(), audio_output in count(),
    ) {
        let stated = TokenUsage {
            input_total, cached_input, cache_write_5m, cache_write_1h,
            output, reasoning, audio_input, audio_output,
        };
        let usage = known(stated);
        let tokens = usage.tokens;
        let or_zero = |part: Option<u64>| part.unwrap_or(0);
        if let Some(total) = tokens.input_total {
            let parts = [tokens.cached_input, tokens.cache_write_5m, tokens.cache_write_1h];
            prop_assert!(parts.into_iter().map(or_zero).sum::<u64>() <= total);
            prop_assert!(or_zero(tokens.audio_input) <= total);
        }
        if let Some(total) = tokens.output {
            prop_assert!(or_zero(tokens.reasoning).max(or_zero(tokens.audio_output)) <= total);
        }
        prop_assert_eq!(usage.flags.parts_exceed_total, tokens != stated);
    }
}
