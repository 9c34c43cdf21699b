//! Decisions without the counters: while they do not answer, the strictest failure policy of the limits
//! that match a call decides, CLOSED before LOCAL before OPEN.

mod local;
mod slot;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rateguard_core::decision::{Charge, Mode};
use rateguard_core::plan::{LimitId, Selected};
use rateguard_core::rule::{Enforcement, FailurePolicy};
use rateguard_core::time::Millis;

pub(crate) use self::local::{LocalCall, LocalCounters, LocalDecision};
pub(crate) use self::slot::SlotKeeper;

/// What a caller who was denied without the counters is told to wait at least: by then they may answer.
pub(crate) const RETRY_MIN: Duration = Duration::from_secs(1);

/// By which policy a decision was taken without the counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Degraded {
    /// It was allowed.
    Open,
    /// This process decided alone, by its share of the limits.
    Local,
    /// It was denied.
    Closed,
}

/// Decisions without the counters, by policy and outcome. Counts begin with the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DegradedFigures {
    /// Allowed since all policies are OPEN.
    pub open_allowed: u64,
    /// Denied since a policy is CLOSED.
    pub closed_denied: u64,
    /// Allowed by this process's share.
    pub local_allowed: u64,
    /// Denied by this process's share.
    pub local_denied: u64,
}

/// The same, as they grow.
#[derive(Default)]
pub(crate) struct Counts {
    open_allowed: AtomicU64,
    closed_denied: AtomicU64,
    local_allowed: AtomicU64,
    local_denied: AtomicU64,
}

impl Counts {
    pub(crate) fn note(&self, policy: Degraded, allowed: bool) {
        let count = match (policy, allowed) {
            (Degraded::Open, _) => &self.open_allowed,
            (Degraded::Closed, _) => &self.closed_denied,
            (Degraded::Local, true) => &self.local_allowed,
            (Degraded::Local, false) => &self.local_denied,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn figures(&self) -> DegradedFigures {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        DegradedFigures {
            open_allowed: read(&self.open_allowed),
            closed_denied: read(&self.closed_denied),
            local_allowed: read(&self.local_allowed),
            local_denied: read(&self.local_denied),
        }
    }
}

/// What decides a call without the counters.
#[derive(Debug, PartialEq)]
pub(crate) enum Ruling {
    /// Nothing stands in its way.
    Open,
    /// This limit denies.
    Closed(LimitId),
    /// These limits decide by this process's share of them, by their places in the selection.
    Local(Vec<LocalCharge>),
}

/// What a limit is asked of this process's share.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LocalCharge {
    /// Its place in the selection.
    pub(crate) place: usize,
    /// What it is asked, held against the share.
    pub(crate) charge: Charge,
    /// Replicas that have a share.
    pub(crate) replicas_max: u16,
}

/// Whose policy decides a call over these limits. Those that never deny have no say.
pub(crate) fn rule(selected: &[Selected<'_>], charges: &[Charge], now: Millis) -> Ruling {
    let enforced = |selected: &&Selected<'_>| selected.planned.enforcement == Enforcement::Enforced;
    let is_closed = |selected: &&Selected<'_>| selected.planned.policies.failure == FailurePolicy::Closed;
    if let Some(closed) = selected.iter().filter(enforced).find(is_closed) {
        return Ruling::Closed(closed.planned.id.clone());
    }
    let local = selected.iter().zip(charges).enumerate().filter(|(_, (selected, _))| enforced(selected));
    let local = local.filter_map(|(place, (selected, charge))| local_charge(place, selected, charge, now));
    let local: Vec<LocalCharge> = local.collect();
    if local.is_empty() { Ruling::Open } else { Ruling::Local(local) }
}

fn local_charge(place: usize, selected: &Selected<'_>, charge: &Charge, now: Millis) -> Option<LocalCharge> {
    let FailurePolicy::Local { share_percent, replicas_max } = selected.planned.policies.failure else {
        return None;
    };
    // Of the whole limit: the selection's is without what is kept back.
    let limit = selected.planned.limit_at(now).local_share(share_percent, replicas_max);
    Some(LocalCharge { place, charge: Charge { limit, ..*charge }, replicas_max })
}

/// How a share is taken of: reservations need the counters, so that nothing is held.
pub(crate) fn local_mode(mode: Mode) -> Mode {
    match mode {
        Mode::Peek => Mode::Peek,
        Mode::Consume | Mode::Reserve => Mode::Consume,
    }
}
