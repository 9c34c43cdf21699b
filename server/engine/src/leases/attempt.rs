//! One try at deciding a call by what is held here.

use std::sync::Arc;
use std::time::Duration;

use rateguard_core::counter::{Demand, Reading};
use rateguard_core::decision::{Charge, Verdict};
use rateguard_core::lease::lent_max;
use rateguard_core::rule::Enforcement;
use smallvec::SmallVec;
use tokio::time::{Instant, timeout_at};

use super::local::{Lack, Local, Spent, Taken};
use super::{Leased, Leases, decided};
use crate::ports::{CheckCommand, CheckOutcome, Decided, StoreError};

/// Longest wait of a call for a lease that is on its way; then the shared store decides it. Short, since it
/// comes before the wait for that decision.
const LEASE_WAIT_MAX: Duration = Duration::from_millis(8);

/// Where one charge of a call is decided.
enum Part {
    /// By the shared store, as always or since too many counters are known here.
    Store,
    /// Here: its units are spent.
    Served { local: Arc<Local>, spent: Spent, reading: Reading },
    /// Here: the shared store has denied the same just now.
    Denied(Reading),
    /// There is not enough here.
    Lacking(Arc<Local>),
}

/// What it has spent here goes back when it ends without a decision, also where its caller is gone.
pub(super) struct Attempt<'a> {
    command: &'a CheckCommand,
    leased: &'a Leased,
    parts: SmallVec<[Part; 8]>,
    /// Whether what was spent is still this attempt's to put back.
    is_open: bool,
}

impl<'a> Attempt<'a> {
    /// Spends for every charge what is held for it.
    pub(super) fn begin(leases: &Arc<Leases>, command: &'a CheckCommand, leased: &'a Leased) -> Self {
        let now = Instant::now();
        let take = |(charge, leased): (&Charge, &bool)| {
            let ids = [charge.counter, charge.overflow];
            // What is given back was taken from the shared counter, which alone knows how much of it there is.
            let is_lent = *leased && charge.demand.take >= 0 && lent_max(&charge.limit) >= charge.demand.need;
            let local =
                is_lent.then(|| leases.table.get_or_insert(&command.workspace, ids, &charge.limit, now));
            let Some(local) = local.flatten() else { return Part::Store };
            let taken = local.take(&charge.limit, charge.demand, now);
            // Behind it, since whoever looks through what is wanted must find that it is.
            leases.table.want(&local);
            match taken {
                Taken::Served { reading, spent, is_low } => {
                    if is_low {
                        leases.refill(&local, false);
                    }
                    Part::Served { local, spent, reading }
                }
                Taken::Denied(reading) => Part::Denied(reading),
                Taken::Lacking => Part::Lacking(local),
            }
        };
        let parts = command.charges.iter().zip(leased).map(take).collect();
        Self { command, leased, parts, is_open: true }
    }

    /// Waits for the leases that are lacking, if all of them are on their way, and puts back what was
    /// spent: the call tries again.
    pub(super) async fn wait_for_leases(&mut self, leases: &Arc<Leases>) -> bool {
        if self.is_denied() {
            return false;
        }
        let mut waits: SmallVec<[_; 2]> = SmallVec::new();
        let mut is_worth_it = true;
        for (charge, local) in self.lacking() {
            match local.lack(charge.demand.need, Instant::now()) {
                Lack::Wait { refilled, is_new } => {
                    ask(leases, local, is_new, true);
                    waits.push(refilled);
                }
                Lack::Strict => is_worth_it = false,
            }
        }
        if waits.is_empty() || !is_worth_it {
            return false;
        }
        let deadline = Instant::now() + LEASE_WAIT_MAX;
        for refilled in waits {
            if timeout_at(deadline, refilled).await.is_err() {
                break;
            }
        }
        self.put_back();
        true
    }

    /// The decision, where nothing else is needed for it. What a denied call has spent is put back.
    pub(super) fn decided_here(&mut self) -> Option<CheckOutcome> {
        let is_denied = self.is_denied();
        let readings: Option<SmallVec<[Reading; 8]>> = self
            .command
            .charges
            .iter()
            .zip(&self.parts)
            .map(|(charge, part)| part.reading(charge, is_denied))
            .collect();
        let readings = readings?;
        if is_denied {
            self.put_back();
        }
        self.is_open = false;
        Some(decided(!is_denied, readings, false))
    }

    /// Lets the shared store decide what is not decided here, and everything with it.
    pub(super) async fn decide_with_rest(
        mut self,
        leases: &Arc<Leases>,
        command: &CheckCommand,
    ) -> Result<CheckOutcome, StoreError> {
        for (charge, local) in self.lacking() {
            if let Lack::Wait { is_new: true, .. } = local.lack(charge.demand.need, Instant::now()) {
                ask(leases, local, true, false);
            }
        }
        let is_rest = |part: &Part| !matches!(part, Part::Served { .. });
        let rest = CheckCommand { charges: self.of_rest(&command.charges, is_rest), ..command.clone() };
        let leased: Leased =
            self.leased.iter().zip(&self.parts).filter(|(_, part)| is_rest(part)).map(|(l, _)| *l).collect();
        // From here on it may be done, whoever hears of it.
        self.is_open = false;
        let outcome = leases.by_store(&rest, &leased).await;
        let goes_ahead = match &outcome {
            Ok(CheckOutcome::Decided(decided)) => decided.verdict.allowed && !decided.replayed,
            Ok(CheckOutcome::ContentDiffers) => false,
            // It may have been done, so what was spent stays spent.
            Err(error) => matches!(error, StoreError::OutcomeUnknown { .. }),
        };
        self.is_open = !goes_ahead;
        self.put_back();
        Ok(match outcome? {
            CheckOutcome::Decided(decided) => CheckOutcome::Decided(self.with_rest(decided, goes_ahead)),
            CheckOutcome::ContentDiffers => CheckOutcome::ContentDiffers,
        })
    }

    fn of_rest(&self, charges: &[Charge], is_rest: impl Fn(&Part) -> bool) -> SmallVec<[Charge; 8]> {
        charges.iter().zip(&self.parts).filter(|(_, part)| is_rest(part)).map(|(charge, _)| *charge).collect()
    }

    /// The store's verdict on the rest, with what was decided here in its place.
    fn with_rest(&self, rest: Decided, goes_ahead: bool) -> Decided {
        let Verdict { allowed, readings, marks } = rest.verdict;
        let mut rest_of = readings.into_iter().zip(marks);
        let mut verdict = Verdict { allowed, readings: SmallVec::new(), marks: SmallVec::new() };
        for (charge, part) in self.command.charges.iter().zip(&self.parts) {
            let (reading, mark) = match part {
                Part::Served { .. } => (part.reading(charge, !goes_ahead), None),
                _ => rest_of.next().map_or((None, None), |(reading, mark)| (Some(reading), mark)),
            };
            verdict.readings.extend(reading);
            verdict.marks.push(mark);
        }
        Decided { verdict, ..rest }
    }

    fn lacking(&self) -> impl Iterator<Item = (&Charge, &Arc<Local>)> {
        self.command.charges.iter().zip(&self.parts).filter_map(|(charge, part)| match part {
            Part::Lacking(local) => Some((charge, local)),
            _ => None,
        })
    }

    fn is_denied(&self) -> bool {
        let denies = |(charge, part): (&Charge, &Part)| {
            charge.enforcement == Enforcement::Enforced && matches!(part, Part::Denied(_))
        };
        self.command.charges.iter().zip(&self.parts).any(denies)
    }

    /// Puts back what was spent, once.
    fn put_back(&mut self) {
        if !std::mem::take(&mut self.is_open) {
            return;
        }
        for part in &self.parts {
            if let Part::Served { local, spent, .. } = part {
                local.put_back(spent);
            }
        }
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        self.put_back();
    }
}

impl Part {
    /// How the charge's counter stands by what is known here, once what was spent has been put back or not.
    fn reading(&self, charge: &Charge, is_put_back: bool) -> Option<Reading> {
        match self {
            Self::Store => None,
            Self::Served { reading, .. } if is_put_back => {
                Some(reading.shifted(&charge.limit, -charge.demand.take))
            }
            Self::Served { reading, .. } | Self::Denied(reading) => Some(*reading),
            Self::Lacking(local) if is_put_back => local.peek(Demand::take(0), Instant::now()),
            Self::Lacking(_) => None,
        }
    }
}

/// Asks for more, unless somebody does already.
fn ask(leases: &Arc<Leases>, local: &Arc<Local>, is_new: bool, is_urgent: bool) {
    if is_new {
        leases.refill(local, is_urgent);
    } else {
        leases.hurry(local);
    }
}
