//! Other amounts for single keys and subjects.

use rateguard_core::ids::KeyId;
use rateguard_core::limits::OVERRIDES_PER_RULE_MAX;
use rateguard_core::rule::{Override, OverrideAmount, OverrideOf};
use rateguard_engine::error::EngineError;
use rateguard_proto::v1;
use rateguard_proto::v1::rule_override::{Amount, Whose};

use super::{bucket_message, token_bucket};
use crate::convert::{missing, out_of_bounds, text, within};

/// The overrides of a rule.
///
/// # Errors
/// Those of its elements, or too many of them.
pub fn overrides(messages: Vec<v1::RuleOverride>) -> Result<Vec<Override>, EngineError> {
    if messages.len() > OVERRIDES_PER_RULE_MAX {
        let bound = format!("must have at most {OVERRIDES_PER_RULE_MAX} elements");
        return Err(out_of_bounds("overrides", bound));
    }
    let convert = |(place, message)| {
        override_of(message).map_err(|error| within(&format!("overrides[{place}]"), error))
    };
    messages.into_iter().enumerate().map(convert).collect()
}

fn override_of(message: v1::RuleOverride) -> Result<Override, EngineError> {
    let whose = match message.whose.ok_or_else(|| missing("whose"))? {
        Whose::KeyId(id) => OverrideOf::Key(KeyId::parse("key_id", &id)?),
        Whose::Subject(subject) => OverrideOf::Subject(text("subject", subject)?),
    };
    let amount = match message.amount.ok_or_else(|| missing("amount"))? {
        Amount::Limit(limit) => OverrideAmount::Limit(limit),
        Amount::TokenBucket(bucket) => {
            let (capacity, refill) = token_bucket(&bucket).map_err(|error| within("token_bucket", error))?;
            OverrideAmount::TokenBucket { capacity, refill }
        }
        Amount::Unlimited(v1::UnlimitedAmount {}) => OverrideAmount::Unlimited,
    };
    Ok(Override { whose, amount })
}

/// An override for the wire.
pub fn override_message(other: &Override) -> v1::RuleOverride {
    let whose = match &other.whose {
        OverrideOf::Key(key) => Whose::KeyId(key.to_string()),
        OverrideOf::Subject(subject) => Whose::Subject(subject.clone()),
    };
    let amount = match other.amount {
        OverrideAmount::Limit(limit) => Amount::Limit(limit),
        OverrideAmount::TokenBucket { capacity, refill } => {
            Amount::TokenBucket(bucket_message(capacity, &refill))
        }
        OverrideAmount::Unlimited => Amount::Unlimited(v1::UnlimitedAmount {}),
    };
    v1::RuleOverride { whose: Some(whose), amount: Some(amount) }
}
