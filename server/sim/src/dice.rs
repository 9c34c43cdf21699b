//! The one source of chance of a run: whatever could go either way is drawn here, in the order in
//! which the run comes by.

use std::ops::RangeInclusive;

use fastrand::Rng;
use parking_lot::Mutex;

/// Chances are given in parts of this.
pub const PER_MILLE: u32 = 1_000;

/// A seeded generator that the parts of a run share.
#[derive(Debug)]
pub struct Dice(Mutex<Rng>);

impl Dice {
    /// The sequence of a seed.
    pub fn of(seed: u64) -> Self {
        Self(Mutex::new(Rng::with_seed(seed)))
    }

    /// A number of a range.
    pub fn within(&self, range: RangeInclusive<i64>) -> i64 {
        self.0.lock().i64(range)
    }

    /// A place in a list of `length`; zero in an empty one.
    pub fn below(&self, length: usize) -> usize {
        self.0.lock().usize(..length.max(1))
    }

    /// Whether something happens that does so `per_mille` times in a thousand.
    pub fn happens(&self, per_mille: u32) -> bool {
        per_mille > 0 && self.0.lock().u32(..PER_MILLE) < per_mille
    }

    /// Bytes for an id.
    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.lock().fill(&mut bytes);
        bytes
    }
}
