//! Other amounts for single keys and subjects.

use rateguard_core::counter::Refill;
use rateguard_core::ids::KeyId;
use rateguard_core::invalid::Invalid;
use rateguard_core::rule::{Override, OverrideAmount, OverrideOf};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OverrideBody {
    whose: WhoseBody,
    amount: AmountBody,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum WhoseBody {
    Key(String),
    Subject(String),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum AmountBody {
    Limit(i64),
    TokenBucket { capacity: i64, refill_units: i64, refill_period_ms: i64 },
    Unlimited,
}

impl From<&Override> for OverrideBody {
    fn from(other: &Override) -> Self {
        let whose = match &other.whose {
            OverrideOf::Key(key) => WhoseBody::Key(key.to_string()),
            OverrideOf::Subject(subject) => WhoseBody::Subject(subject.clone()),
        };
        let amount = match &other.amount {
            OverrideAmount::Limit(limit) => AmountBody::Limit(*limit),
            OverrideAmount::TokenBucket { capacity, refill } => AmountBody::TokenBucket {
                capacity: *capacity,
                refill_units: refill.units(),
                refill_period_ms: refill.period_ms(),
            },
            OverrideAmount::Unlimited => AmountBody::Unlimited,
        };
        Self { whose, amount }
    }
}

impl OverrideBody {
    pub(super) fn into_override(self) -> Result<Override, Invalid> {
        let whose = match self.whose {
            WhoseBody::Key(key) => OverrideOf::Key(KeyId::parse("key", &key)?),
            WhoseBody::Subject(subject) => OverrideOf::Subject(subject),
        };
        let amount = match self.amount {
            AmountBody::Limit(limit) => OverrideAmount::Limit(limit),
            AmountBody::TokenBucket { capacity, refill_units, refill_period_ms } => {
                let refill = Refill::new(refill_units, refill_period_ms, capacity)?;
                OverrideAmount::TokenBucket { capacity, refill }
            }
            AmountBody::Unlimited => OverrideAmount::Unlimited,
        };
        Ok(Override { whose, amount })
    }
}
