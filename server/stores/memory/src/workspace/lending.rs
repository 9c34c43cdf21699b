//! Leases of one workspace.

use rateguard_core::counter::Limit;
use rateguard_core::lease::{LeaseOutcome, LeaseRequest, exchange};
use rateguard_engine::ports::LeaseCommand;

use super::{Shared, Workspace};
use crate::covering::{Uncovered, UncoveredCounters};

/// Leases, with counters that have to be on disk before these are told of.
pub(crate) struct Lent {
    pub(crate) outcomes: Vec<LeaseOutcome>,
    /// Those that the leads do not cover.
    pub(crate) uncovered: UncoveredCounters,
    /// Buckets. Their leads cover what was taken, but not that it is spent later: after a crash the bucket
    /// must not refill what a holder still has.
    pub(crate) buckets: UncoveredCounters,
}

fn buckets_of(requests: &[LeaseRequest], outcomes: &[LeaseOutcome]) -> UncoveredCounters {
    let lent = requests.iter().zip(outcomes).filter(|(_, outcome)| outcome.lease.is_some());
    let buckets = lent.filter(|(request, _)| matches!(request.limit, Limit::TokenBucket { .. }));
    buckets.map(|(request, _)| Uncovered { counter: request.counter, limit: request.limit }).collect()
}

impl Workspace {
    /// Ends leases and takes new ones.
    pub(crate) fn lease(&self, command: &LeaseCommand, shared: &Shared) -> Lent {
        let mut state = self.lock();
        let now = state.tick(command.now);
        state.expire_some(now);
        let live_max = shared.config.live_counters_max;
        let requests = state.counters.fall_requests(&command.requests, live_max);
        state.counters.settle_losses(requests.iter().map(|request| (request.counter, &request.limit)), now);
        let fell = requests.iter().zip(&command.requests).filter(|(fell, own)| fell.counter != own.counter);
        state.overflowed += fell.count() as u64;
        let outcomes = exchange(&mut state.counters, &command.returns, &requests, now).into_vec();
        Lent {
            uncovered: state.counters.take_uncovered(),
            buckets: buckets_of(&requests, &outcomes),
            outcomes,
        }
    }
}

#[cfg(test)]
mod tests;
