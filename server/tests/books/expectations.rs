//! What has to be true whenever nothing is under way.

use std::collections::BTreeMap;

use proptest::prelude::*;
use rateguard_core::ids::EventId;
use rateguard_core::time::Millis;
use rateguard_core::usage::{EventKind, LoggedEvent};

use crate::books::Standing;
use crate::ledger::{Ledger, Reserved};

/// Every accepted id is listed once with its cost, and nothing else is.
pub fn what_was_accepted_is_listed_once(
    ledger: &Ledger,
    events: &[LoggedEvent],
) -> Result<(), TestCaseError> {
    let mut listed: BTreeMap<EventId, i64> = BTreeMap::new();
    for LoggedEvent { event, .. } in events {
        let before = listed.insert(event.event_id.clone(), event.cost.get());
        prop_assert_eq!(before, None, "{} is listed twice", event.event_id);
    }
    let usage = events.iter().filter(|logged| logged.event.kind == EventKind::Usage);
    let ids = usage.map(|logged| &logged.event.event_id);
    listed = ids.map(|id| (id.clone(), listed[id])).collect();
    prop_assert_eq!(&listed, &ledger.accepted, "the listed events are those accepted");
    Ok(())
}

/// A budget has spent what the events of its period say.
pub fn the_budget_has_spent_what_events_say(
    standing: &Standing,
    events: &[LoggedEvent],
) -> Result<(), TestCaseError> {
    let counted = events.iter().filter(|logged| standing.counts_event(&logged.event));
    let expected: i128 = counted.map(|logged| i128::from(logged.event.cost.get())).sum();
    prop_assert_eq!(standing.spent(), expected, "spent of {:?}", standing);
    Ok(())
}

/// A budget holds what open reservations hold; for a while after a crash, it may hold more.
pub fn the_budget_holds_what_is_open(
    standing: &Standing,
    ledger: &Ledger,
    events: &[LoggedEvent],
    now: Millis,
) -> Result<(), TestCaseError> {
    let skipped = ledger.budgets[standing.place].reserved_before;
    let open =
        ledger.reservations.iter().skip(skipped).filter(|reserved| {
            standing.counts(reserved.subject) && standing.bounds.contain(reserved.decided_at)
        });
    let expected: i128 = open.map(|reserved| i128::from(open_nanos(reserved, events, now))).sum();
    let held = standing.reading.held;
    if now < ledger.crash_holds_until {
        prop_assert!(held >= expected, "{} held, {} are open: {:?}", held, expected, standing);
    } else {
        prop_assert_eq!(held, expected, "held of {:?}", standing);
    }
    Ok(())
}

fn open_nanos(reserved: &Reserved, events: &[LoggedEvent], now: Millis) -> i64 {
    if reserved.is_released || reserved.is_forgotten || now >= reserved.expires_at {
        return 0;
    }
    let reports = events.iter().filter(|logged| logged.event.reservation.as_ref() == Some(&reserved.id));
    reports.fold(reserved.nanos, |open, logged| match &logged.event {
        event if event.is_final => 0,
        event => open - open.min(event.cost.get()),
    })
}

/// A reservation's cost counts once: by its reports, or by its floor until there is a report.
pub fn the_reservation_counts_once(
    reserved: &Reserved,
    events: &[LoggedEvent],
    now: Millis,
) -> Result<(), TestCaseError> {
    let of = |kind| {
        let named = move |logged: &&LoggedEvent| {
            logged.event.kind == kind && logged.event.reservation.as_ref() == Some(&reserved.id)
        };
        events.iter().filter(named).collect::<Vec<_>>()
    };
    let (reports, floors, corrections) =
        (of(EventKind::Usage), of(EventKind::Expired), of(EventKind::Correction));
    prop_assert!(floors.len() <= 1 && corrections.len() <= floors.len(), "{:?}", reserved);
    let sum = |of: &[&LoggedEvent]| of.iter().map(|logged| logged.event.cost.get()).sum::<i64>();
    let (reported, floor) = (sum(&reports), sum(&floors) + sum(&corrections));
    let is_late = |report: &&LoggedEvent| floors.iter().any(|floor| floor.position < report.position);
    if reports.iter().any(is_late) {
        prop_assert_eq!(floor, 0, "the floor of {:?} beside its report", reserved);
    } else if reports.is_empty() {
        let is_due = now >= reserved.expires_at && !reserved.is_released && !reserved.is_forgotten;
        let due = if is_due { reserved.floor } else { 0 };
        // A crash forgets a reservation, but not the floor that was recorded before.
        prop_assert!(floor == due || reserved.is_forgotten && floor == reserved.floor, "{:?}", reserved);
    } else {
        let most = reserved.floor.max(reported);
        prop_assert!(reported + floor <= most, "{} reported, floor {}: {:?}", reported, floor, reserved);
    }
    Ok(())
}
