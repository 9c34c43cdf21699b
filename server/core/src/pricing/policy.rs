//! What happens to a call that has no price.

use crate::money::Nanos;
use crate::usage::EventFlags;

use super::{Cost, Unpriceable};

/// An API's choice for calls without a known price and answers without usage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum UnknownPricePolicy {
    /// A check is refused. A report is about the past and is taken, at no cost and flagged.
    Deny,
    /// This much is held and charged, and flagged.
    ChargeDefault(Nanos),
    /// The call passes at no cost, and is flagged.
    #[default]
    AllowAndFlag,
}

/// What a policy makes of a missing price.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolution {
    /// Whether a check may go ahead; reports are taken either way.
    pub allowed: bool,
    /// What is held or charged. Always flagged.
    pub cost: Cost,
}

impl UnknownPricePolicy {
    /// Decides on a call that has no price for this reason; never asked about
    /// [`Unpriceable::CostOutOfRange`], where the price is known.
    pub fn resolve(self, reason: &Unpriceable) -> Resolution {
        let mut flags = EventFlags::default();
        flags.insert(match reason {
            Unpriceable::UsageMissing => EventFlags::USAGE_UNKNOWN,
            _ => EventFlags::PRICE_UNKNOWN,
        });
        let charged = match self {
            Self::ChargeDefault(nanos) => nanos,
            Self::Deny | Self::AllowAndFlag => Nanos::ZERO,
        };
        Resolution { allowed: self != Self::Deny, cost: Cost::stated("default", charged, flags) }
    }
}
