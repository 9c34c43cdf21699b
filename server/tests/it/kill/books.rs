//! What the server tells of its money, and what has to be true of it after a kill.

use std::collections::{BTreeMap, BTreeSet};

use rateguard_proto::v1;

use super::ledger::Ledger;
use crate::clients::{Clients, eventually};

/// Every event, newest first, and all of them rolled up.
pub struct Books(Vec<v1::UsageEvent>);

impl Books {
    /// Reads them once the rollups have come as far as the events. A floor is taken back before
    /// the late report of its call is rolled up: where the events that are read after the sums are
    /// no more than those, none is on its way.
    pub async fn read(client: &Clients) -> Self {
        let mut books = Self(Vec::new());
        eventually("the rollups equal the events", async || {
            let summary = client.rolled_up().await;
            books.0 = client.all_events().await;
            let sums = (summary.request_count, summary.cost.unwrap().nanos);
            sums == (books.usage().count().try_into().unwrap(), books.cost_nanos(|_| true))
        })
        .await;
        books
    }

    fn of_kind(&self, kind: v1::UsageEventKind) -> impl Iterator<Item = &v1::UsageEvent> {
        self.0.iter().filter(move |event| event.kind() == kind)
    }

    /// The reported calls.
    fn usage(&self) -> impl Iterator<Item = &v1::UsageEvent> {
        self.of_kind(v1::UsageEventKind::Usage)
    }

    /// The ids of the reported calls.
    pub fn reported_ids(&self) -> BTreeSet<&str> {
        self.usage().map(id).collect()
    }

    fn cost_nanos(&self, counts: impl Fn(&v1::UsageRecord) -> bool) -> i64 {
        self.0.iter().filter(|event| counts(record(event))).map(cost_nanos).sum()
    }

    /// What all events of a subject cost.
    pub fn spent_by(&self, subject: &str) -> i64 {
        self.cost_nanos(|record| record.subject == subject)
    }

    /// Every id that was answered ACCEPTED is listed exactly once with its cost, and nothing is
    /// that was never sent.
    pub fn list_what_was_accepted_once(&self, ledger: &Ledger) {
        let mut times: BTreeMap<&str, usize> = BTreeMap::new();
        for event in &self.0 {
            *times.entry(id(event)).or_default() += 1;
        }
        let twice: Vec<_> = times.iter().filter(|(_, times)| **times > 1).collect();
        assert!(twice.is_empty(), "listed more than once: {twice:?}");
        let accepted = ledger.accepted().map(|(id, _)| id);
        let missing: Vec<&String> = accepted.filter(|id| !times.contains_key(id.as_str())).collect();
        assert!(missing.is_empty(), "accepted and not listed: {missing:?}");
        for event in self.usage() {
            let sent = ledger.sent.get(id(event)).unwrap_or_else(|| panic!("never sent: {event:?}"));
            assert_eq!(cost_nanos(event), sent.nanos, "the cost of {}", id(event));
        }
    }

    /// A reservation is charged at most one floor, of at most its input, which is taken back when
    /// its report came later and else is not.
    pub fn charge_floors_only_where_no_report_came_late(&self, ledger: &Ledger) {
        let floors = self.places_by_reservation(v1::UsageEventKind::Expired);
        let corrections = self.places_by_reservation(v1::UsageEventKind::Correction);
        let reports = self.places_by_reservation(v1::UsageEventKind::Usage);
        for (reservation, places) in &floors {
            let [floor] = places[..] else { panic!("{reservation} was charged {} floors", places.len()) };
            let cost = cost_nanos(&self.0[floor]);
            // One whose check was never answered is not in the ledger.
            let most = ledger.reservations.get(*reservation).map_or(cost, |known| known.floor_nanos);
            assert!((0..=most).contains(&cost), "the floor of {reservation} is {cost} of {most}");
            let reports = reports.get(reservation).map_or(&[][..], |places| places);
            // The newest stands first.
            let all_late = reports.iter().all(|report| *report < floor);
            assert!(all_late, "{reservation} was charged a floor after its report");
            let taken_back = corrections.get(reservation).map_or(&[][..], |places| places);
            let corrections_due = usize::from(!reports.is_empty());
            assert_eq!(taken_back.len(), corrections_due, "corrections of {reservation}");
            for correction in taken_back {
                assert_eq!(cost_nanos(&self.0[*correction]), -cost, "the correction of {reservation}");
            }
        }
        assert!(corrections.keys().all(|id| floors.contains_key(id)), "a correction without a floor");
    }

    fn places_by_reservation(&self, kind: v1::UsageEventKind) -> BTreeMap<&str, Vec<usize>> {
        let mut places: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        let of_kind = self.0.iter().enumerate().filter(|(_, event)| event.kind() == kind);
        for (place, event) in of_kind {
            places.entry(&record(event).reservation_id).or_default().push(place);
        }
        places
    }
}

fn record(event: &v1::UsageEvent) -> &v1::UsageRecord {
    event.record.as_ref().unwrap()
}

fn id(event: &v1::UsageEvent) -> &str {
    &record(event).event_id
}

fn cost_nanos(event: &v1::UsageEvent) -> i64 {
    event.cost.as_ref().unwrap().nanos
}
