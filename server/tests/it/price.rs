//! A model of the list prices, and what its tokens cost.

/// The model.
pub const MODEL: &str = "gpt-4o-mini";
/// Nano-dollars for a token of input: 0.15 dollars a million.
const INPUT_NANOS: i64 = 150;
/// Nano-dollars for a token of output: 0.60 dollars a million.
const OUTPUT_NANOS: i64 = 600;

/// What a call of so many tokens costs, in nano-dollars.
pub fn cost_nanos(input: i64, output: i64) -> i64 {
    input * INPUT_NANOS + output * OUTPUT_NANOS
}

/// The tokens of input of a call that costs so much with so many tokens of output, rounded down.
pub fn input_worth(nanos: i64, output: i64) -> i64 {
    (nanos - output * OUTPUT_NANOS) / INPUT_NANOS
}
