//! What the event log took in, what was accepted of it, and what was rolled up.

use std::collections::{BTreeMap, BTreeSet};

use rateguard_core::ids::EventId;
use rateguard_core::usage::LoggedEvent;

/// The history of the log.
#[derive(Clone, Debug, Default)]
pub struct LogBook {
    /// Costs by position.
    pub costs: BTreeMap<u64, i64>,
    /// Positions by id.
    pub positions: BTreeMap<EventId, u64>,
    /// Records that were answered with ACCEPTED, and how often.
    pub accepted: BTreeMap<EventId, u32>,
    /// Positions that were rolled up.
    pub rolled_up: BTreeSet<u64>,
    /// Positions that were rolled up a second time.
    pub rolled_up_again: BTreeSet<u64>,
}

impl LogBook {
    pub(super) fn append(&mut self, events: &[LoggedEvent]) {
        for LoggedEvent { position, event } in events {
            self.costs.insert(position.0, event.cost.get());
            self.positions.insert(event.event_id.clone(), position.0);
        }
    }

    pub(super) fn accept(&mut self, event: &EventId) {
        *self.accepted.entry(event.clone()).or_default() += 1;
    }

    pub(super) fn roll_up(&mut self, events: &[LoggedEvent]) {
        for LoggedEvent { position, .. } in events {
            if !self.rolled_up.insert(position.0) {
                self.rolled_up_again.insert(position.0);
            }
        }
    }

    /// The last position.
    pub fn end(&self) -> u64 {
        self.costs.keys().next_back().copied().unwrap_or(0)
    }

    /// What everything up to a position cost.
    pub fn cost_through(&self, position: u64) -> i128 {
        self.costs.range(..=position).map(|(_, cost)| i128::from(*cost)).sum()
    }
}
