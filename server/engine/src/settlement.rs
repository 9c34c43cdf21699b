//! From an event to what it charges: the same for the one who appends it, for recovery and for
//! whoever follows the log.

use rateguard_core::amounts::Amounts;
use rateguard_core::counter::{Limit, Position};
use rateguard_core::limits::AMOUNT_MAX;
use rateguard_core::matching::CallFacts;
use rateguard_core::plan::Selected;
use rateguard_core::time::Millis;
use rateguard_core::unit::Unit;
use rateguard_core::usage::{EventFlags, EventKind, Exactness, UsageEvent};

use crate::directory::{Directory, WorkspaceView};
use crate::ports::{SettleCharge, SettleCommand, SettleReservation, Standing};

/// Who else writes to the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Nobody: a reservation that is not known was forgotten by a crash.
    Own,
    /// Other processes: one of them may have taken a reservation that is not known.
    Shared,
}

/// How records are settled here.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Who else writes to the log.
    pub reach: Reach,
    /// Whether counters are shared, so that of some limits a share is kept back in them: a bucket of which
    /// a share is kept back refills at the rest of its rate, whoever looks at it.
    pub keeps_shares_back: bool,
    /// The instant.
    pub now: Millis,
}

/// The settlement of a logged event under the limits of now.
pub fn command(
    directory: &Directory,
    setting: Setting,
    event: &UsageEvent,
    position: Position,
) -> SettleCommand {
    match directory.view(&event.workspace) {
        Some(view) => settlement(&view, setting, event, position),
        None => settles_nothing(event, position, setting.now),
    }
}

fn settlement(
    view: &WorkspaceView,
    setting: Setting,
    event: &UsageEvent,
    position: Position,
) -> SettleCommand {
    let amounts = amounts(event);
    SettleCommand {
        workspace: event.workspace.clone(),
        position,
        now: setting.now,
        accounted_at: event.accounted_at,
        reservation: reservation(setting.reach, event),
        cost: event.cost,
        charges: charges(view, setting, event, position, &amounts),
        amounts,
    }
}

/// The settlement of an event of a workspace that is gone: it charges nothing, and only moves the
/// position on.
fn settles_nothing(event: &UsageEvent, position: Position, now: Millis) -> SettleCommand {
    SettleCommand {
        workspace: event.workspace.clone(),
        position,
        now,
        accounted_at: event.accounted_at,
        reservation: None,
        amounts: Amounts::default(),
        cost: event.cost,
        charges: Vec::new(),
    }
}

fn reservation(reach: Reach, event: &UsageEvent) -> Option<SettleReservation> {
    // A correction takes back the floor of a reservation that is long over.
    let id = event.reservation.clone().filter(|_| event.kind != EventKind::Correction)?;
    Some(SettleReservation {
        id,
        is_final: event.is_final,
        refund: event.exactness == Exactness::Exact,
        standing: standing(reach, event.flags),
        captured_budgets: event.captured_budgets.clone(),
    })
}

fn standing(reach: Reach, flags: EventFlags) -> Standing {
    if flags.contains(EventFlags::RESERVATION_EXPIRED) || flags.contains(EventFlags::RESERVATION_RELEASED) {
        Standing::Ended
    } else if flags.contains(EventFlags::RESERVATION_UNKNOWN) {
        match reach {
            Reach::Own => Standing::Unknown,
            Reach::Shared => Standing::Elsewhere,
        }
    } else {
        Standing::Known
    }
}

/// What the event used by unit, tokens included.
fn amounts(event: &UsageEvent) -> Amounts {
    let mut amounts = event.amounts.clone();
    if let (None, Some(total)) = (amounts.get(&Unit::Tokens), event.tokens.total()) {
        // Both counts are within bounds; where only their sum passes, as much as may be is charged.
        let charged = amounts.insert("tokens", Unit::Tokens, total.min(AMOUNT_MAX));
        debug_assert!(charged.is_ok(), "a clamped sum of tokens is an amount");
    }
    amounts
}

fn charges(
    view: &WorkspaceView,
    setting: Setting,
    event: &UsageEvent,
    position: Position,
    amounts: &Amounts,
) -> Vec<SettleCharge> {
    let mut selection = view.plan.select(&facts(event), setting.now);
    if setting.keeps_shares_back {
        selection.selected.iter_mut().for_each(Selected::keep_share_back);
    }
    let counting = selection.selected.iter().filter(|selected| selected.planned.counts_after < position);
    counting.filter_map(|selected| charge(selected, event, amounts)).collect()
}

fn charge(selected: &Selected<'_>, event: &UsageEvent, amounts: &Amounts) -> Option<SettleCharge> {
    let planned = selected.planned;
    let is_money = planned.unit == Unit::Cost;
    let amount = if is_money { event.cost.get() } else { consumed(&planned.unit, event, amounts)? };
    // A cost limit that is no budget counts what was spent in its window; corrections are money of
    // the past, which only the books take back.
    let past = is_money && !planned.is_budget() && event.kind == EventKind::Correction;
    // A call that was reported is over.
    let is_over = matches!(selected.limit, Limit::Concurrency { .. });
    (!past && !is_over).then(|| SettleCharge {
        counter: selected.counter,
        overflow: planned.overflow_beside(selected.counter),
        limit: selected.limit,
        amount,
    })
}

/// What a limit on `unit` is charged for a record, less what a check has taken before.
fn consumed(unit: &Unit, event: &UsageEvent, amounts: &Amounts) -> Option<i64> {
    if event.kind != EventKind::Usage || event.already_consumed.contains(unit) {
        return None;
    }
    match (amounts.get(unit), unit) {
        (None, Unit::Requests) => Some(1),
        (amount, _) => amount,
    }
}

/// The event as a call that limits match. Its dimensions stand for attributes.
pub fn facts(event: &UsageEvent) -> CallFacts<'_> {
    let call = &event.call;
    CallFacts {
        key: &call.key,
        api: call.api.as_ref(),
        endpoint: &call.endpoint,
        method: &call.method,
        model: &call.model,
        subject: &call.subject,
        ip: event.ip,
        attributes: &event.dimensions,
    }
}
