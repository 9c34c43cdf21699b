//! Decisions without the counters: while they do not answer, the strictest failure policy of the limits
//! that match a call decides, CLOSED before LOCAL before OPEN.

mod local;
mod slot;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rateguard_core::counter::Limit;
use rateguard_core::decision::{Charge, Mode};
use rateguard_core::plan::{LimitId, PlannedLimit, Selected};
use rateguard_core::rule::{Enforcement, FailurePolicy};

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

/// A limit that matches a call, and what it is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Matched<'a> {
    /// The workspace's limit; `None` for one that the caller has set itself, which has no policy.
    pub(crate) planned: Option<&'a PlannedLimit>,
    /// All of it, without a share kept back.
    pub(crate) whole: Limit,
    /// What it is asked.
    pub(crate) charge: &'a Charge,
}

impl<'a> Matched<'a> {
    /// Of a selection, with what each of its limits is asked.
    pub(crate) fn all(
        selected: &'a [Selected<'a>],
        charges: &'a [Charge],
    ) -> impl Iterator<Item = Self> + Clone {
        selected.iter().zip(charges).map(|(selected, charge)| Self {
            planned: Some(selected.planned),
            whole: selected.whole,
            charge,
        })
    }

    fn policy(&self) -> FailurePolicy {
        self.planned.map(|planned| planned.policies.failure).unwrap_or_default()
    }

    fn local_charge(&self, place: usize) -> Option<LocalCharge> {
        let FailurePolicy::Local { share_percent, replicas_max } = self.policy() else { return None };
        let limit = self.whole.local_share(share_percent, replicas_max);
        Some(LocalCharge { place, charge: Charge { limit, ..*self.charge }, replicas_max })
    }
}

/// Whose policy decides a call over these limits. Those that never deny have no say.
pub(crate) fn rule<'a>(matched: impl Iterator<Item = Matched<'a>> + Clone) -> Ruling {
    let has_say = |matched: &Matched<'_>| matched.charge.enforcement == Enforcement::Enforced;
    let closed = matched.clone().filter(has_say).find(|matched| matched.policy() == FailurePolicy::Closed);
    if let Some(planned) = closed.and_then(|closed| closed.planned) {
        return Ruling::Closed(planned.id.clone());
    }
    let deciding = matched.enumerate().filter(|(_, matched)| has_say(matched));
    let local: Vec<LocalCharge> =
        deciding.filter_map(|(place, matched)| matched.local_charge(place)).collect();
    if local.is_empty() { Ruling::Open } else { Ruling::Local(local) }
}

/// How a share is taken of: reservations need the counters, so that nothing is held.
pub(crate) fn local_mode(mode: Mode) -> Mode {
    match mode {
        Mode::Peek => Mode::Peek,
        Mode::Consume | Mode::Reserve => Mode::Consume,
    }
}
