//! How much of each unit one call asks for or one record used.

use smallvec::SmallVec;

use crate::counter::Demand;
use crate::invalid::Invalid;
use crate::limits::AMOUNT_MAX;
use crate::unit::Unit;

/// Amounts by unit. A unit that is absent is unknown; an explicit zero is zero.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Amounts(SmallVec<[(Unit, i64); 3]>);

impl Amounts {
    /// Sets the amount of a unit.
    ///
    /// # Errors
    /// [`Invalid`] naming `field` unless it is 0 to 10^12 (money: 10^18 nano-units) and new.
    pub fn insert(&mut self, field: &str, unit: Unit, amount: i64) -> Result<(), Invalid> {
        let bound = if unit == Unit::Cost { crate::limits::MONEY_NANOS_MAX } else { AMOUNT_MAX };
        if !(0..=bound).contains(&amount) {
            return Err(Invalid::new(field, format!("must be 0 to {bound}")));
        }
        if self.get(&unit).is_some() {
            return Err(Invalid::new(field, format!("names the unit {unit} a second time")));
        }
        self.0.push((unit, amount));
        Ok(())
    }

    /// The amount of a unit, when it is known.
    pub fn get(&self, unit: &Unit) -> Option<i64> {
        self.0.iter().find(|(known, _)| known == unit).map(|(_, amount)| *amount)
    }

    /// All amounts, in the order given.
    pub fn iter(&self) -> impl Iterator<Item = &(Unit, i64)> {
        self.0.iter()
    }

    /// Whether no unit is known.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What a check asks of a limit on `unit`: a known amount is taken, requests count one unless
    /// stated, and an unknown amount only tests that the limit is not exhausted.
    pub fn demand(&self, unit: &Unit) -> Demand {
        match (self.get(unit), unit) {
            (Some(amount), _) => Demand::take(amount),
            (None, Unit::Requests) => Demand::take(1),
            (None, _) => Demand::PROBE,
        }
    }
}
