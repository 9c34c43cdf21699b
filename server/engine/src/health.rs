//! How the counters are: what their store had to give up for want of room, told in the log, and figures of it.

use std::collections::HashMap;

use parking_lot::Mutex;
use rateguard_core::ids::WorkspaceId;

use crate::ports::{CounterHealth, Overflowed};

/// Workspaces named at once; the others are counted.
const WORKSPACES_NAMED_MAX: usize = 8;

/// How the counters are, and what has become of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CounterFigures {
    /// How they were when their store told it last, which is asked once a minute; `None` before it has.
    pub seen: Option<SeenCounters>,
    /// How often this process has found those of a workspace, or of a part of one, lost or set back.
    pub losses: u64,
    /// Workspaces whose counters were lost and whose budgets this process has counted again, since it began.
    pub rebuilt: u64,
}

/// The counters of all workspaces, and of all processes that share their store. Such a store looks at a part of them
/// each time, and what it has lost since is not in it any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeenCounters {
    /// Counters that exist.
    pub live: u64,
    /// Ids of decisions that were forgotten before their time.
    pub request_ids_forgotten_early: u64,
    /// Charges on overflow counters.
    pub overflow_charges: u64,
}

/// The same, as they change.
#[derive(Debug, Default)]
pub(crate) struct CounterCounts(Mutex<CounterFigures>);

impl CounterCounts {
    pub(crate) fn note(&self, health: &CounterHealth) {
        self.0.lock().seen = Some(SeenCounters {
            live: health.live_counters,
            request_ids_forgotten_early: health.request_ids_forgotten_early,
            overflow_charges: health.overflowed.iter().map(|known| known.charges).sum(),
        });
    }

    pub(crate) fn note_rebuilt(&self) {
        self.0.lock().rebuilt += 1;
    }

    /// The figures, with the losses that the store knows of.
    pub(crate) fn figures(&self, losses: u64) -> CounterFigures {
        CounterFigures { losses, ..*self.0.lock() }
    }
}

/// What was given up between two looks.
#[derive(Debug, Default, PartialEq, Eq)]
struct Losses {
    request_ids: u64,
    /// Charges on overflow counters, by workspace, most first.
    charges: Vec<(WorkspaceId, u64)>,
}

impl Losses {
    fn between(before: &CounterHealth, now: &CounterHealth) -> Self {
        let told: HashMap<&WorkspaceId, u64> =
            before.overflowed.iter().map(|known| (&known.workspace, known.charges)).collect();
        let since = |Overflowed { workspace, charges }: &Overflowed| {
            let before = told.get(workspace).copied().unwrap_or(0);
            (workspace.clone(), charges.saturating_sub(before))
        };
        let mut charges: Vec<_> = now.overflowed.iter().map(since).filter(|(_, more)| *more > 0).collect();
        charges.sort_by_key(|(_, more)| std::cmp::Reverse(*more));
        let forgotten = now.request_ids_forgotten_early;
        Self { request_ids: forgotten.saturating_sub(before.request_ids_forgotten_early), charges }
    }
}

/// Warns of what was given up since `before`.
pub(crate) fn tell_losses(before: &CounterHealth, now: &CounterHealth) {
    let Losses { request_ids, charges } = Losses::between(before, now);
    if request_ids > 0 {
        tracing::warn!(
            request_ids,
            "ids of checks were forgotten before their time: repetitions of these may consume again; \
             raise counters.request_ids_bytes_max"
        );
    }
    for (workspace, charges) in charges.iter().take(WORKSPACES_NAMED_MAX) {
        tracing::warn!(
            %workspace,
            charges,
            "a workspace has more counters than it may: new scope values share their limit's overflow \
             counter; raise counters.live_counters_max"
        );
    }
    if let Some(unnamed) = charges.len().checked_sub(WORKSPACES_NAMED_MAX).filter(|unnamed| *unnamed > 0) {
        tracing::warn!(unnamed, "further workspaces have more counters than they may");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workspace(number: u8) -> WorkspaceId {
        WorkspaceId::from_random([number; 16])
    }

    fn health(request_ids: u64, charges: &[(u8, u64)]) -> CounterHealth {
        let overflowed = charges
            .iter()
            .map(|(number, charges)| Overflowed { workspace: workspace(*number), charges: *charges });
        CounterHealth {
            request_ids_forgotten_early: request_ids,
            overflowed: overflowed.collect(),
            ..CounterHealth::default()
        }
    }

    #[test]
    fn only_what_is_new_is_told() {
        let (before, now) = (health(5, &[(1, 10), (2, 3)]), health(7, &[(2, 4), (1, 10), (3, 9)]));
        let losses = Losses::between(&before, &now);
        assert_eq!(losses, Losses { request_ids: 2, charges: vec![(workspace(3), 9), (workspace(2), 1)] });
    }

    #[test]
    fn a_store_with_room_has_nothing_to_tell() {
        let same = health(5, &[(1, 10)]);
        assert_eq!(Losses::between(&same, &same), Losses::default());
        assert_eq!(Losses::between(&CounterHealth::default(), &CounterHealth::default()), Losses::default());
    }
}
