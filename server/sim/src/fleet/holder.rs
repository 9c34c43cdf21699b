//! One replica and one limit: what it holds, and what it does next.

use rateguard_core::lease::{LENT_LIMIT_MIN, sizing};

use super::{MS_US, SECOND_US, Shared};

/// How long nothing is asked for after there was no lease.
const NO_LEASE_PAUSE_US: i64 = 100 * MS_US;
/// Calls that come within so long near the limit are looked at together.
const STRICT_STEP_US: i64 = 5 * MS_US;

/// What a holder does next, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Next {
    /// When.
    pub at_us: i64,
    /// What.
    pub what: What,
}

/// What a holder may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Its question arrives at the store.
    Question,
    /// It has its lease.
    Lease(i64),
    /// Its calls go to the store one by one for a while.
    Strict {
        /// When it asks for a lease again.
        until_us: i64,
    },
}

/// What something costs the shared store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Questions for leases.
    pub questions: i64,
    /// Decisions that allowed, each a question of its own.
    pub strict: i64,
    /// Decisions that denied.
    pub denied: i64,
}

/// One replica and one limit.
#[derive(Clone, Debug)]
pub struct Holder {
    /// Which replica.
    pub replica: usize,
    /// Which limit.
    pub limit: usize,
    /// What it does next.
    pub next: Option<Next>,
    /// Which of its plans is the present one.
    pub turn: u64,
    per_second: i64,
    units: i64,
    last: i64,
    /// Calls that wait for a lease.
    waiting: i64,
    as_of_us: i64,
    /// Parts of a call that have come by `as_of_us`.
    part: i64,
}

impl Holder {
    /// A holder that holds nothing.
    pub fn new(replica: usize, limit: usize, per_second: i64) -> Self {
        let (units, last, waiting) = (0, 0, 0);
        Self { replica, limit, next: None, turn: 0, per_second, units, last, waiting, as_of_us: 0, part: 0 }
    }

    /// A window begins: it asks with its first call. A planted bug keeps what it held.
    pub fn begin(&mut self, now_us: i64, keeps_units: bool) -> Option<Next> {
        (self.as_of_us, self.waiting) = (now_us, 0);
        if !keeps_units {
            self.units = 0;
        }
        let first_us = now_us + self.us_until(1);
        Some(Next { at_us: first_us, what: What::Question })
    }

    /// What it held at the end of a window.
    pub fn end(&mut self) -> i64 {
        self.next = None;
        self.units
    }

    /// Calls that come from the last instant until this one.
    fn calls_until(&mut self, now_us: i64) -> i64 {
        let parts = self.part + self.per_second * (now_us - self.as_of_us).max(0);
        (self.as_of_us, self.part) = (now_us.max(self.as_of_us), parts % SECOND_US);
        parts / SECOND_US
    }

    /// How long until so many calls have come.
    fn us_until(&self, calls: i64) -> i64 {
        ((calls * SECOND_US - self.part).max(0) + self.per_second - 1) / self.per_second
    }

    /// Spends what was called for by now. What finds nothing waits.
    pub fn spend_until(&mut self, now_us: i64, limit: &mut Shared) {
        let calls = self.calls_until(now_us);
        limit.wanted += calls;
        self.waiting += calls;
        let served = self.waiting.min(self.units);
        self.waiting -= served;
        self.units -= served;
        limit.admitted += served;
    }

    /// Does what it planned. Says what is next, and what it cost the store.
    pub fn act(
        &mut self,
        next: Next,
        limit: &mut Shared,
        ends_us: i64,
        round_trip_us: i64,
    ) -> (Option<Next>, Cost) {
        let Next { at_us, what } = next;
        self.spend_until(at_us, limit);
        match what {
            What::Question => {
                let life_ms = (ends_us - at_us) / MS_US;
                let floor = sizing::floor_of(limit.size, Some(limit.left()));
                let asked = sizing::asked(self.per_second, life_ms, floor).max(self.waiting);
                let lent = if limit.size < LENT_LIMIT_MIN {
                    0
                } else {
                    asked.min(sizing::lent_of(limit.size, limit.left()))
                };
                limit.used += lent;
                let back = Next { at_us: at_us + round_trip_us / 2, what: What::Lease(lent) };
                (Some(back), Cost { questions: 1, ..Cost::default() })
            }
            What::Lease(0) => {
                let until_us = at_us + NO_LEASE_PAUSE_US;
                (Some(Next { at_us, what: What::Strict { until_us } }), Cost::default())
            }
            What::Lease(lent) => (Some(self.take_in(lent, at_us, limit, round_trip_us)), Cost::default()),
            What::Strict { until_us } => self.be_strict(at_us, until_us, limit, ends_us),
        }
    }

    /// Has its lease, and asks for more before that is spent.
    fn take_in(&mut self, lent: i64, now_us: i64, limit: &mut Shared, round_trip_us: i64) -> Next {
        self.units += lent;
        self.last = lent;
        self.spend_until(now_us, limit);
        let low = sizing::low(self.per_second, self.last).min(self.last);
        let above_low = (self.units - low).max(0);
        let asks_us = now_us + self.us_until(above_low.max(1));
        Next { at_us: asks_us + round_trip_us / 2, what: What::Question }
    }

    /// Everything that waits is decided by the store. Once that denies, it is asked now and then until
    /// the window ends: nothing comes back before.
    fn be_strict(
        &mut self,
        now_us: i64,
        until_us: i64,
        limit: &mut Shared,
        ends_us: i64,
    ) -> (Option<Next>, Cost) {
        let taken = self.waiting.min(limit.left());
        limit.used += taken;
        limit.admitted += taken;
        let denied = self.waiting - taken;
        self.waiting = 0;
        let mut cost = Cost { questions: 0, strict: taken, denied: denied.min(1) };
        if limit.left() == 0 {
            let calls = self.calls_until(ends_us);
            limit.wanted += calls;
            cost.denied += calls.min(denials_until(ends_us - now_us));
            return (None, cost);
        }
        let next = if now_us >= until_us {
            Next { at_us: now_us + self.us_until(1), what: What::Question }
        } else {
            let at_us = now_us + self.us_until(1).max(STRICT_STEP_US);
            Next { at_us, what: What::Strict { until_us } }
        };
        (Some(next), cost)
    }
}

/// How often a holder asks again that is denied for so long, when each denial is believed for its time.
fn denials_until(wait_us: i64) -> i64 {
    let (mut wait_ms, mut times) = (wait_us / MS_US, 0);
    while wait_ms > 0 {
        wait_ms -= sizing::denial_ms(wait_ms);
        times += 1;
    }
    times
}
