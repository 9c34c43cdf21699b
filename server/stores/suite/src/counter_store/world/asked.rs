//! What calls ask of limits.

use rateguard_core::counter::{CounterFamily, CounterId, Demand, Limit};
use rateguard_core::decision::Charge;
use rateguard_core::rule::Enforcement;
use rateguard_core::unit::Unit;
use rateguard_engine::ports::SettleCharge;

/// What a call asks of one limit.
#[derive(Clone, Debug)]
pub struct Ask {
    number: u8,
    /// The charge.
    pub charge: Charge,
    /// The limit's unit.
    pub unit: Unit,
}

/// `amount` of the limit with the number `counter`.
pub fn ask(counter: u8, limit: Limit, amount: i64) -> Ask {
    let unit = if matches!(limit, Limit::Budget { .. }) { Unit::Cost } else { Unit::Requests };
    let charge = Charge {
        counter: counter_of(counter, 0),
        overflow: counter_of(counter, u128::MAX),
        limit,
        demand: Demand::take(amount),
        enforcement: Enforcement::Enforced,
        counts_denied: false,
    };
    Ask { number: counter, charge, unit }
}

impl Ask {
    /// The same in another unit.
    #[must_use]
    pub fn of(self, unit: Unit) -> Self {
        Self { unit, ..self }
    }

    /// The same of a limit that only watches.
    #[must_use]
    pub fn shadow(mut self) -> Self {
        self.charge.enforcement = Enforcement::Shadow;
        self
    }

    /// The same of a limit that counts what is denied.
    #[must_use]
    pub fn counting_denied(mut self) -> Self {
        self.charge.counts_denied = true;
        self
    }

    /// The same that gives back so much.
    #[must_use]
    pub fn giving_back(mut self, amount: i64) -> Self {
        self.charge.demand = Demand::give_back(amount);
        self
    }

    /// The same for another value of the limit's scope.
    #[must_use]
    pub fn scoped(mut self, value: u128) -> Self {
        self.charge.counter = counter_of(self.number, value);
        self
    }

    /// The same that only tests whether anything is left.
    #[must_use]
    pub fn probe(mut self) -> Self {
        self.charge.demand = Demand::PROBE;
        self
    }

    /// The same of the counter that new values share beyond the bound.
    #[must_use]
    pub fn overflow(mut self) -> Self {
        self.charge.counter = self.charge.overflow;
        self
    }

    /// What a record charges this limit.
    pub fn charged(&self, amount: i64) -> SettleCharge {
        let Charge { counter, overflow, limit, .. } = self.charge;
        SettleCharge { counter, overflow, limit, amount }
    }
}

/// The counter of a limit for one value of its scope.
fn counter_of(limit: u8, value: u128) -> CounterId {
    CounterId::of(CounterFamily(limit.into()), spread(value << 32 | u128::from(limit)))
}

/// Spreads numbers over all bits, as hashes do.
pub(super) fn spread(number: u128) -> u128 {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835).rotate_left(77) ^ number
}
