//! Choices that a seed repeats.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::ops::RangeInclusive;

use proptest::prelude::RngExt;
use proptest::test_runner::{RngAlgorithm, TestRng};

/// The variable that names the seed of the first round; each round after it adds one.
const SEED_VARIABLE: &str = "RATEGUARD_SEED";

/// The seed of the first round: as asked for, else any.
pub fn first_seed() -> u64 {
    match std::env::var(SEED_VARIABLE) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{SEED_VARIABLE} is no number: {text:?}")),
        Err(_) => RandomState::new().build_hasher().finish(),
    }
}

/// Tells the seed of a round at its start, and how to run it again where it fails.
pub struct Told(u64);

impl Told {
    pub fn at_start(seed: u64) -> Self {
        eprintln!("kill test: seed {seed}");
        Self(seed)
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("kill test failed: {SEED_VARIABLE}={} makes the same choices", self.0);
        }
    }
}

/// One stream of choices of a seed.
pub struct Random(TestRng);

impl Random {
    pub fn of(seed: u64, stream: u64) -> Self {
        let words = [seed, stream, 0, 0];
        let bytes: Vec<u8> = words.into_iter().flat_map(u64::to_le_bytes).collect();
        Self(TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
    }

    pub fn within(&mut self, range: RangeInclusive<i64>) -> i64 {
        self.0.random_range(range)
    }

    /// True in so many of a hundred cases.
    pub fn percent(&mut self, cases: i64) -> bool {
        self.within(1..=100) <= cases
    }

    /// The place of one of `count` things, if there are any.
    pub fn place(&mut self, count: usize) -> Option<usize> {
        let last = count.checked_sub(1)?;
        Some(self.0.random_range(0..=last))
    }
}
