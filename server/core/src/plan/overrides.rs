//! The overrides of a rule, ready to be looked up.

use std::collections::HashMap;

use crate::counter::Limit;
use crate::ids::KeyId;
use crate::matching::CallFacts;
use crate::rule::{Override, OverrideAmount, OverrideOf};

/// Other amounts by whose calls have them.
#[derive(Clone, Debug, Default)]
pub(super) struct Overrides {
    by_key: HashMap<KeyId, OverrideAmount>,
    by_subject: HashMap<String, OverrideAmount>,
}

impl Overrides {
    /// `None` where there are none, so that a call need not look.
    pub(super) fn of(overrides: &[Override]) -> Option<Box<Self>> {
        if overrides.is_empty() {
            return None;
        }
        let mut planned = Box::<Self>::default();
        for Override { whose, amount } in overrides {
            match whose {
                OverrideOf::Key(key) => planned.by_key.insert(key.clone(), amount.clone()),
                OverrideOf::Subject(subject) => planned.by_subject.insert(subject.clone(), amount.clone()),
            };
        }
        Some(planned)
    }

    /// What takes the place of `own` for a call; `None` where nothing limits it.
    pub(super) fn limit(&self, facts: &CallFacts<'_>, own: Limit) -> Option<Limit> {
        let amount = self.by_subject.get(facts.subject).or_else(|| self.by_key.get(facts.key));
        match amount {
            None => Some(own),
            Some(OverrideAmount::Unlimited) => None,
            Some(OverrideAmount::Limit(limit)) => Some(own.sized(*limit)),
            Some(OverrideAmount::TokenBucket { capacity, refill }) => {
                Some(Limit::TokenBucket { capacity: *capacity, refill: *refill })
            }
        }
    }
}
