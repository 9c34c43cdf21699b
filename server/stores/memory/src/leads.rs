//! Leads of one workspace: what calls may take of a plain counter before it has to be on disk.
//!
//! One lead stands for all counters of a limit, those included that are not on disk at all: so the
//! first call of a new counter waits for nothing either. It is on disk before it is in force, and
//! grows with what was taken between two writes.

use hashbrown::HashMap;
use rateguard_core::counter::{Counter, CounterFamily, Limit};
use rateguard_core::ids::WorkspaceId;
use rateguard_core::time::Millis;
use rateguard_engine::ports::{LeadRow, Loss};

/// A lead grows to so many times what was taken of a counter between two writes, so that the next
/// such time passes without waiting.
const LEAD_OF_TAKEN: i64 = 4;
/// It shrinks when it is this many times what it would grow to.
const SHRINKS_FROM: i64 = 4;
/// Losses of one limit that are told apart; beyond it the two oldest count as one.
const LOSSES_MAX: usize = 32;
/// A loss is kept for so many times the limit's span, since neighbouring windows of a calendar
/// differ in length …
const KEPT_SPANS: i64 = 2;
/// … and at least for a day, since the capacity of a bucket may be raised meanwhile.
const KEPT_MS_MIN: i64 = 24 * 60 * 60 * 1_000;

#[derive(Default)]
struct Lead {
    /// What calls may take of a counter since it was written down.
    in_force: i64,
    /// The lead on disk, which is never less.
    on_disk: i64,
    span_ms: i64,
    losses: Vec<Loss>,
    /// The most that was taken of a counter between two writes, since the last round began.
    peak: i64,
    /// Whether the round under way writes the lower lead.
    falls: bool,
    /// Whether losses stand on disk that are not owed any more.
    forgiven: bool,
}

impl Lead {
    /// The lead for a counter of which so much was taken between two writes.
    fn wanted(&self, limit: &Limit, taken: i64) -> i64 {
        let most = limit.lead_units_max();
        let grown = if most == i64::MAX { most } else { taken.saturating_mul(LEAD_OF_TAKEN).min(most) };
        grown.max(self.on_disk)
    }

    fn shrink(&mut self) {
        let enough = std::mem::take(&mut self.peak).saturating_mul(LEAD_OF_TAKEN);
        let is_quiet = 0 < enough && enough.saturating_mul(SHRINKS_FROM) < self.in_force;
        if is_quiet && self.in_force < i64::MAX {
            self.in_force = enough.max(self.in_force / 2);
        }
    }

    /// For how long a loss may count.
    fn kept_ms(&self) -> i64 {
        kept_ms(self.span_ms)
    }

    /// Whether the round under way lowers it on disk.
    fn falls_now(&self) -> bool {
        self.falls && self.in_force < self.on_disk
    }

    fn row(&self, workspace: &WorkspaceId, family: CounterFamily, units: i64) -> LeadRow {
        let Self { span_ms, losses, .. } = self;
        LeadRow { workspace: workspace.clone(), family, units, span_ms: *span_ms, losses: losses.clone() }
    }
}

/// The leads of a workspace.
#[derive(Default)]
pub(crate) struct Leads {
    by_family: HashMap<CounterFamily, Lead>,
    /// Crashes so far: what is up to date includes the losses of all of them.
    crashes: u32,
    /// Whether nothing comes into force any more, because the store is being closed.
    suspended: bool,
}

impl Leads {
    pub(crate) fn new(crashes: u32) -> Self {
        Self { crashes, ..Self::default() }
    }

    /// The number of the last crash.
    pub(crate) fn crashes(&self) -> u32 {
        self.crashes
    }

    /// A limit whose lead is not in force before somebody calls.
    pub(crate) fn load(&mut self, row: LeadRow) {
        let LeadRow { family, span_ms, losses, .. } = row;
        self.by_family.insert(family, Lead { span_ms, losses, ..Lead::default() });
    }

    /// Whether so much may have been taken of a counter since it was written down.
    pub(crate) fn covers(&self, family: CounterFamily, limit: &Limit, taken: i64) -> bool {
        let in_force = self.by_family.get(&family).map_or(0, |lead| lead.in_force);
        taken <= in_force && limit.leads_by(taken)
    }

    /// Whether a crash that a counter does not include has lost anything of it.
    pub(crate) fn owes(&self, family: CounterFamily, included: u32) -> bool {
        let lead = self.by_family.get(&family);
        lead.is_some_and(|lead| lead.losses.iter().any(|loss| loss.crash > included))
    }

    /// Whether a counter that is made now owes something, or may when its limit has changed.
    pub(crate) fn may_owe(&self, family: CounterFamily, now: Millis) -> bool {
        let lead = self.by_family.get(&family);
        lead.is_some_and(|lead| lead.losses.iter().any(|loss| now < loss.at.plus(lead.kept_ms())))
    }

    /// Lets no counter of a limit owe what crashes have lost so far; on disk with the end of the next round.
    pub(crate) fn forgive(&mut self, family: CounterFamily) {
        if let Some(lead) = self.by_family.get_mut(&family) {
            lead.forgiven |= !lead.losses.is_empty();
            lead.losses.clear();
        }
    }

    /// Counts as taken what crashes have lost after those that the counter includes.
    pub(crate) fn settle(
        &self,
        family: CounterFamily,
        included: u32,
        counter: &mut Counter,
        limit: &Limit,
        now: Millis,
    ) {
        let losses = self.by_family.get(&family).map_or(&[][..], |lead| &lead.losses);
        for loss in losses.iter().filter(|loss| loss.crash > included) {
            counter.owe(limit, loss.units, loss.at, now);
        }
    }

    /// A counter that is in no row: every crash may have lost something of it.
    pub(crate) fn fresh(&self, family: CounterFamily, limit: &Limit, now: Millis) -> Counter {
        let mut counter = Counter::fresh(limit, now);
        if !matches!(limit, Limit::Budget { .. } | Limit::Concurrency { .. }) {
            self.settle(family, 0, &mut counter, limit, now);
        }
        counter
    }

    /// Notes what was taken of a counter between two writes.
    pub(crate) fn note(&mut self, family: CounterFamily, taken: i64) {
        if let Some(lead) = self.by_family.get_mut(&family) {
            lead.peak = lead.peak.max(taken);
        }
    }

    /// The lead to write so that `taken` is within it next time, if it is not on disk.
    pub(crate) fn raise(
        &mut self,
        workspace: &WorkspaceId,
        family: CounterFamily,
        limit: &Limit,
        taken: i64,
    ) -> Option<LeadRow> {
        let lead = self.by_family.entry(family).or_default();
        let wanted = lead.wanted(limit, taken);
        lead.span_ms = limit.span_ms();
        (wanted > lead.in_force).then(|| lead.row(workspace, family, wanted))
    }

    /// Puts leads that are on disk in force.
    pub(crate) fn arrived(&mut self, rows: &[LeadRow]) {
        for row in rows {
            if let Some(lead) = self.by_family.get_mut(&row.family) {
                lead.on_disk = row.units;
                lead.in_force = if self.suspended { 0 } else { row.units };
            }
        }
    }

    /// Notes that fallen leads of the workspace are on disk.
    pub(crate) fn fell(&mut self, workspace: &WorkspaceId, rows: &[LeadRow]) {
        for row in rows.iter().filter(|row| row.workspace == *workspace) {
            if let Some(lead) = self.by_family.get_mut(&row.family) {
                lead.on_disk = row.units;
                // Unless more was forgiven meanwhile.
                lead.forgiven &= row.losses != lead.losses;
            }
        }
    }

    /// Takes every lead out of force for good: from here on a call waits until what it took is on
    /// disk, so that a mark of a clean stop is true or is taken back.
    pub(crate) fn suspend(&mut self) {
        self.suspended = true;
        self.by_family.values_mut().for_each(|lead| lead.in_force = 0);
    }

    /// Lowers leads that are larger than need be, in memory alone. What was taken beyond them is on
    /// disk when the round is over that begins now; with its end they may fall there too. Says
    /// whether any do.
    pub(crate) fn begin_round(&mut self) -> bool {
        let mut any = false;
        for lead in self.by_family.values_mut() {
            lead.shrink();
            lead.falls = lead.in_force < lead.on_disk;
            any |= lead.falls || lead.forgiven;
        }
        any
    }

    /// A write failed: the round does not leave behind what it promised.
    pub(crate) fn round_failed(&mut self) {
        self.by_family.values_mut().for_each(|lead| lead.falls = false);
    }

    /// The leads that fall with the end of the round, unless they were raised since it began; and those whose
    /// losses are forgiven.
    pub(crate) fn fallen(&self, workspace: &WorkspaceId) -> Vec<LeadRow> {
        let written = self.by_family.iter().filter(|(_, lead)| lead.falls_now() || lead.forgiven);
        let units = |lead: &Lead| if lead.falls_now() { lead.in_force } else { lead.on_disk };
        written.map(|(family, lead)| lead.row(workspace, *family, units(lead))).collect()
    }
}

fn kept_ms(span_ms: i64) -> i64 {
    span_ms.saturating_mul(KEPT_SPANS).max(KEPT_MS_MIN)
}

/// What a start makes of a lead that it finds: after a crash it is lost, and nothing is in force.
pub(crate) fn at_start(row: &mut LeadRow, crash: Option<(u32, Millis)>, now: Millis) {
    let units = std::mem::take(&mut row.units);
    if let Some((crash, at)) = crash.filter(|_| units > 0) {
        row.losses.push(Loss { crash, at, units });
    }
    let kept_ms = kept_ms(row.span_ms);
    row.losses.retain(|loss| now < loss.at.plus(kept_ms));
    if row.losses.len() > LOSSES_MAX {
        // Both count as late and in as many counters as the later one.
        let oldest = row.losses.remove(0);
        row.losses[0].units = row.losses[0].units.saturating_add(oldest.units);
    }
}

#[cfg(test)]
mod tests;
