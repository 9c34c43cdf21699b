//! Other amounts for single keys and subjects, in place of a rule's own.

use std::collections::HashSet;

use super::{Algorithm, Rule};
use crate::counter::Refill;
use crate::ids::KeyId;
use crate::invalid::Invalid;
use crate::limits::{OVERRIDES_PER_RULE_MAX, TEXT_BYTES_MAX};

/// Another amount for one key or subject. What is counted, and on which counter, stays the rule's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// Whose calls.
    pub whose: OverrideOf,
    /// How much they may.
    pub amount: OverrideAmount,
}

/// Whose calls have another amount. Of a call that both means, the subject's holds: it is the narrower.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum OverrideOf {
    /// A key's.
    Key(KeyId),
    /// A subject's, 1 to [`TEXT_BYTES_MAX`] bytes.
    Subject(String),
}

/// What takes the place of a rule's amount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OverrideAmount {
    /// The limit of a window, or of calls at the same time.
    Limit(i64),
    /// The bucket of a token bucket.
    TokenBucket {
        /// Units that may be taken at once.
        capacity: i64,
        /// The rate at which use is given back.
        refill: Refill,
    },
    /// None: the rule does not apply to such calls, and counts nothing of them.
    Unlimited,
}

impl Override {
    /// Checks everything that one override says by itself and of its rule.
    fn check(&self, rule: &Rule) -> Result<(), Invalid> {
        self.check_whose(rule)?;
        match &self.amount {
            OverrideAmount::Unlimited => Ok(()),
            amount => match rule.algorithm.with(amount) {
                Some(algorithm) => algorithm.check(),
                None => Err(Invalid::new("amount", "must be one of the rule's own algorithm")),
            },
        }
    }

    /// An override of calls that the rule does not mean would never hold.
    fn check_whose(&self, rule: &Rule) -> Result<(), Invalid> {
        match &self.whose {
            OverrideOf::Key(key) if leaves_out(&rule.matches.keys, key) => {
                Err(Invalid::new("key_id", "must be among the keys of the rule's match"))
            }
            OverrideOf::Subject(subject) if !(1..=TEXT_BYTES_MAX).contains(&subject.len()) => {
                Err(Invalid::new("subject", format!("must be 1 to {TEXT_BYTES_MAX} bytes")))
            }
            OverrideOf::Subject(subject) if leaves_out(&rule.matches.subjects, subject) => {
                Err(Invalid::new("subject", "must be among the subjects of the rule's match"))
            }
            _ => Ok(()),
        }
    }
}

fn leaves_out<T: PartialEq>(meant: &[T], value: &T) -> bool {
    !meant.is_empty() && !meant.contains(value)
}

/// Checks the overrides of a rule.
///
/// # Errors
/// [`Invalid`] naming the override at fault.
pub(super) fn check(rule: &Rule) -> Result<(), Invalid> {
    if rule.overrides.len() > OVERRIDES_PER_RULE_MAX {
        let bound = format!("must have at most {OVERRIDES_PER_RULE_MAX} elements");
        return Err(Invalid::new("overrides", bound));
    }
    let mut seen = HashSet::new();
    for (place, other) in rule.overrides.iter().enumerate() {
        let at = format!("overrides[{place}]");
        other.check(rule).map_err(|error| error.within(&at))?;
        if !seen.insert(&other.whose) {
            return Err(Invalid::new(at, "must not be for whom another is"));
        }
    }
    Ok(())
}

impl Algorithm {
    /// The same with another amount; `None` where the amount is none of its kind.
    pub fn with(&self, amount: &OverrideAmount) -> Option<Self> {
        let mut other = self.clone();
        match (&mut other, amount) {
            (
                Self::TokenBucket { capacity, refill },
                OverrideAmount::TokenBucket { capacity: more, refill: faster },
            ) => (*capacity, *refill) = (*more, *faster),
            (
                Self::FixedWindow { limit, .. }
                | Self::SlidingWindow { limit, .. }
                | Self::CalendarWindow { limit, .. }
                | Self::Concurrency { limit },
                OverrideAmount::Limit(more),
            ) => *limit = *more,
            _ => return None,
        }
        Some(other)
    }
}
