//! What goes wrong in a run, and how often. A seed draws a profile, so that some runs see much of one
//! thing and nothing of another.

use crate::dice::Dice;

/// Longest time on an ordinary way, in milliseconds.
const DELAY_MS_MAX: i64 = 6;
/// Longest time on a slow way: beyond every deadline.
const SLOW_MS_MAX: i64 = 400;

/// How often what goes wrong, each in a thousand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Requests that never arrive.
    pub lost_requests: u32,
    /// Replies that never arrive, though it was done.
    pub lost_replies: u32,
    /// Requests that arrive twice.
    pub doubled: u32,
    /// Messages that take far too long.
    pub slow: u32,
    /// Requests that are refused, and surely not done.
    pub refused: u32,
    /// Whether replicas crash.
    pub crashes: bool,
    /// Whether replicas are cut off, and stores go away.
    pub outages: bool,
    /// Whether clocks are wrong and step.
    pub clocks: bool,
}

/// What becomes of one message to a store and its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fate {
    /// How long the request is on its way; `None` for one that is lost.
    pub there_ms: Option<i64>,
    /// When it arrives a second time, after the first.
    pub again_ms: Option<i64>,
    /// How long the reply is on its way; `None` for one that is lost.
    pub back_ms: Option<i64>,
}

impl Faults {
    /// What a seed's run suffers from.
    pub fn draw(dice: &Dice) -> Self {
        let often = |chance: u32, per_mille: i64| {
            let drawn = dice.within(1..=per_mille);
            if dice.happens(chance) { u32::try_from(drawn).unwrap_or(0) } else { 0 }
        };
        Self {
            lost_requests: often(500, 60),
            lost_replies: often(600, 80),
            doubled: often(500, 80),
            slow: often(400, 60),
            refused: often(300, 60),
            crashes: dice.happens(600),
            outages: dice.happens(400),
            clocks: dice.happens(500),
        }
    }

    /// What becomes of a message. Only what may be done twice is doubled.
    pub fn fate(&self, dice: &Dice, may_repeat: bool) -> Fate {
        let there_ms = self.delay_ms(dice);
        let back_ms = self.delay_ms(dice);
        let again_ms = dice.within(0..=SLOW_MS_MAX / 2);
        Fate {
            there_ms: (!dice.happens(self.lost_requests)).then_some(there_ms),
            again_ms: (may_repeat && dice.happens(self.doubled)).then_some(again_ms),
            back_ms: (!dice.happens(self.lost_replies)).then_some(back_ms),
        }
    }

    fn delay_ms(&self, dice: &Dice) -> i64 {
        dice.within(0..=if dice.happens(self.slow) { SLOW_MS_MAX } else { DELAY_MS_MAX })
    }
}
