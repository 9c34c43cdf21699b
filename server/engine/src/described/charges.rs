//! Which limits a descriptor meets, and what it asks of them.

use rateguard_core::counter::{CounterId, Demand, Limit};
use rateguard_core::decision::Charge;
use rateguard_core::descriptor::{DOMAIN_ATTRIBUTE, REQUEST_GROUP, endpoint, value_attribute};
use rateguard_core::matching::CallFacts;
use rateguard_core::plan::{Plan, PlannedLimit, Selected, Selection, callers_counter};
use rateguard_core::rule::Enforcement;
use rateguard_core::time::Millis;
use rateguard_core::unit::Unit;
use smallvec::SmallVec;

use super::{Descriptor, Hits, OwnLimit};
use crate::caller::Caller;
use crate::degraded::Matched;
use crate::error::EngineError;

/// One descriptor with the limits that it meets.
pub(super) struct Asked<'p> {
    /// Its limits, by falling priority.
    pub(super) limits: SmallVec<[Limited<'p>; 2]>,
    /// A limit that denies whatever lacks a value of its scope, as this does.
    pub(super) denied_by_missing: Option<&'p PlannedLimit>,
}

/// A limit that a descriptor meets.
pub(super) struct Limited<'p> {
    /// The workspace's limit; `None` for one that the caller has set itself.
    pub(super) planned: Option<&'p PlannedLimit>,
    /// All of it, without a share that is kept back.
    pub(super) whole: Limit,
    /// What is asked of it.
    pub(super) charge: Charge,
}

impl Limited<'_> {
    /// Whether replicas may decide by units that they took in advance.
    pub(super) fn is_leased(&self) -> bool {
        self.planned.is_some_and(PlannedLimit::is_leased)
    }

    /// What its failure policy is asked.
    pub(super) fn matched(&self) -> Matched<'_> {
        Matched { planned: self.planned, whole: self.whole, charge: &self.charge }
    }
}

impl<'p> Asked<'p> {
    /// The limits of one descriptor; of shared counters without the share that is kept back.
    ///
    /// # Errors
    /// Those of the key's subject.
    pub(super) fn of(
        caller: &Caller,
        plan: &'p Plan,
        domain: &str,
        descriptor: &Descriptor,
        keeps_share_back: bool,
        now: Millis,
    ) -> Result<Self, EngineError> {
        let entries = descriptor.entries.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        let endpoint = endpoint(entries);
        let attributes = attributes(domain, descriptor);
        let facts = CallFacts {
            key: &caller.key.id,
            api: None,
            endpoint: &endpoint,
            method: "",
            model: "",
            subject: caller.subject("")?,
            ip: None,
            attributes: &attributes,
        };
        let mut selection = plan.select_among(&facts, now, sees_descriptors);
        if keeps_share_back {
            selection.selected.iter_mut().for_each(Selected::keep_share_back);
        }
        Ok(match descriptor.own_limit {
            None => Self::met(selection, descriptor.hits),
            Some(own) => {
                let counters = callers_counter(&caller.workspace, domain, &endpoint, own.window_ms);
                Self::own(&selection, own, counters, descriptor.hits)
            }
        })
    }

    /// The caller's own limit alone. It counts denied amounts where one of the limits does that it stands for.
    fn own(
        replaced: &Selection<'_>,
        own: OwnLimit,
        (counter, overflow): (CounterId, CounterId),
        hits: Hits,
    ) -> Self {
        let charge = Charge {
            counter,
            overflow,
            limit: Limit::FixedWindow { limit: own.amount, window_ms: own.window_ms },
            demand: demand(hits, &Unit::Requests),
            enforcement: Enforcement::Enforced,
            counts_denied: replaced.selected.iter().any(|selected| selected.planned.policies.counts_denied),
        };
        let limited = Limited { planned: None, whole: charge.limit, charge };
        Self { limits: SmallVec::from_iter([limited]), denied_by_missing: None }
    }

    fn met(selection: Selection<'p>, hits: Hits) -> Self {
        let limited = |selected: Selected<'p>| {
            let Selected { planned, counter, limit, whole } = selected;
            let charge = Charge {
                counter,
                overflow: planned.overflow_beside(counter),
                limit,
                demand: demand(hits, &planned.unit),
                enforcement: planned.enforcement,
                counts_denied: planned.policies.counts_denied,
            };
            Limited { planned: Some(planned), whole, charge }
        };
        let limits = selection.selected.into_iter().map(limited).collect();
        Self { limits, denied_by_missing: selection.denied_by_missing }
    }
}

/// Whether a limit is one for descriptors: its match names their domain.
fn sees_descriptors(planned: &PlannedLimit) -> bool {
    planned.matches.attributes.iter().any(|(name, _)| name == DOMAIN_ATTRIBUTE)
}

fn attributes(domain: &str, descriptor: &Descriptor) -> Vec<(String, String)> {
    let values = descriptor.entries.iter().map(|(_, value)| value);
    let values = (1..).zip(values).map(|(place, value)| (value_attribute(place), value.clone()));
    std::iter::once((DOMAIN_ATTRIBUTE.to_owned(), domain.to_owned())).chain(values).collect()
}

/// Hits are of whatever the limit counts, but never money: of a limit in money is only asked whether anything
/// is left.
fn demand(hits: Hits, unit: &Unit) -> Demand {
    match (hits, unit) {
        (Hits::Take(_), Unit::Cost) => Demand::PROBE,
        (Hits::GiveBack(_), Unit::Cost) => Demand::take(0),
        (Hits::Take(amount), _) => Demand::take(amount),
        (Hits::GiveBack(amount), _) => Demand::give_back(amount),
    }
}

/// Of the limits in one group that counts over all descriptors, only the first by priority stays, wherever it
/// was met.
pub(super) fn drop_overridden(asked: &mut [Asked<'_>]) {
    let winners: Vec<&PlannedLimit> = asked
        .iter()
        .flat_map(|asked| &asked.limits)
        .filter_map(|limited| limited.planned)
        .filter(|planned| request_group(planned).is_some())
        .collect();
    let is_overridden = |planned: &PlannedLimit| {
        let group = request_group(planned);
        group.is_some()
            && winners.iter().any(|other| request_group(other) == group && other.in_order(planned).is_lt())
    };
    if !winners.is_empty() {
        for asked in asked.iter_mut() {
            asked.limits.retain(|limited| !limited.planned.is_some_and(is_overridden));
        }
    }
}

fn request_group(planned: &PlannedLimit) -> Option<&str> {
    planned.override_group().filter(|group| group.starts_with(REQUEST_GROUP))
}
