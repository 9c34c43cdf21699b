//! Draws of which few are frequent and most are rare: the place `k` of all is drawn in proportion to
//! `1 / k^1.1` (Zipf's law).

/// Bits behind the point of a tenth root.
const ROOT_BITS: u32 = 8;
/// What the first place weighs.
const FIRST_WEIGHT: u64 = 1 << 40;
/// Largest tenth root that is looked for, as a whole number: of places far above any used.
const ROOT_MAX: u128 = 8 << ROOT_BITS;

/// Places from 0, drawn the same in every run.
pub struct Zipf {
    /// The sum of the weights up to each place.
    sums: Vec<u64>,
    state: u64,
}

impl Zipf {
    /// Draws out of so many places.
    pub fn new(places: u64) -> Self {
        let mut sum = 0;
        let sums = (1..=places).map(|place| {
            sum += weight(place);
            sum
        });
        Self { sums: sums.collect(), state: 1 }
    }

    /// The next draw.
    pub fn draw(&mut self) -> usize {
        let whole = self.sums.last().copied().unwrap_or(1);
        let at = self.random() % whole;
        self.sums.partition_point(|sum| *sum <= at)
    }

    /// Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (2014): SplitMix64.
    fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// `FIRST_WEIGHT / place^1.1` in whole numbers, to a few thousandths: `place^1.1` is `place` times its tenth
/// root.
fn weight(place: u64) -> u64 {
    (FIRST_WEIGHT << ROOT_BITS) / (place * tenth_root(place))
}

/// The tenth root with [`ROOT_BITS`] bits behind the point.
fn tenth_root(value: u64) -> u64 {
    let scaled = u128::from(value) << (10 * ROOT_BITS);
    let (mut low, mut high) = (1_u128, ROOT_MAX);
    while high - low > 1 {
        let middle = u128::midpoint(low, high);
        if middle.pow(10) <= scaled { low = middle } else { high = middle }
    }
    u64::try_from(low).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenth_roots_are_those_of_powers() {
        assert_eq!(tenth_root(1), 1 << ROOT_BITS);
        assert_eq!(tenth_root(1_024), 2 << ROOT_BITS);
        assert_eq!(tenth_root(59_049), 3 << ROOT_BITS);
    }

    #[test]
    fn the_first_place_is_drawn_about_twice_as_often_as_the_second() {
        let mut zipf = Zipf::new(1_000);
        let mut drawn = [0_u32; 1_000];
        (0..100_000).for_each(|_| drawn[zipf.draw()] += 1);
        // 2^1.1 is 2.14.
        let ratio_percent = drawn[0] * 100 / drawn[1];
        assert!((200..230).contains(&ratio_percent), "{ratio_percent}");
        assert!(drawn.iter().filter(|count| **count > 0).count() > 900);
    }
}
