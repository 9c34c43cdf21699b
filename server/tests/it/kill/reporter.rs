//! One client among many: it reserves, reports, releases and forgets, as its seed has it.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rateguard_proto::v1;
use tokio::sync::watch;
use tonic::Status;

use super::ledger::{Ledger, Reserved, Sent, Worth};
use super::random::Random;
use crate::clients::Clients;

/// Who is charged for records without a reservation.
pub const UNRESERVED: &str = "unreserved";
/// Who is charged for reserved calls.
pub const RESERVED: &str = "reserved";
/// Most records of one report.
const BATCH_RECORDS: i64 = 4;
/// Records resent in one report.
const RESENT_RECORDS: usize = 500;
/// Most money of one record or reservation, and most tokens of either kind.
const NANOS_MAX: i64 = 1_000_000;
const TOKENS_MAX: i64 = 2_000;
/// Longest wait for the reporters to get on.
const RISES_WITHIN: Duration = Duration::from_secs(30);
/// How long a reservation lives that is meant to expire while the server runs.
const SHORT_TTL_MS: RangeInclusive<i64> = 1_000..=2_000;

/// What all clients of one round see and move.
#[derive(Clone, Default)]
pub struct Pulse {
    /// Records that were accepted, over all clients.
    accepted: Arc<watch::Sender<i64>>,
    /// Whether the server is being killed: from then on calls may fail.
    killing: Arc<AtomicBool>,
}

impl Pulse {
    /// Waits until so many records were accepted.
    async fn reaches(&self, count: i64) {
        let mut accepted = self.accepted.subscribe();
        accepted.wait_for(|accepted| *accepted >= count).await.expect("the pulse outlives its watchers");
    }

    /// Waits until so many more records were accepted.
    pub async fn rises_by(&self, more: i64) {
        let count = *self.accepted.borrow() + more;
        let reached = tokio::time::timeout(RISES_WITHIN, self.reaches(count)).await;
        reached.expect("the reporters get on");
    }

    /// Says that the server is about to be killed.
    pub fn announce_kill(&self) {
        self.killing.store(true, Ordering::SeqCst);
    }
}

/// A client.
pub struct Reporter {
    name: String,
    client: Clients,
    random: Random,
    pulse: Pulse,
    pub ledger: Ledger,
    /// Records made so far.
    records: u64,
    /// Short-lived reservations that no report has named.
    expiring: Vec<String>,
}

impl Reporter {
    pub fn new(name: String, client: Clients, random: Random, pulse: Pulse) -> Self {
        Self { name, client, random, pulse, ledger: Ledger::default(), records: 0, expiring: Vec::new() }
    }

    /// Short-lived reservations that no report has named.
    pub fn expiring(&self) -> &[String] {
        &self.expiring
    }

    /// Calls until the server is killed, or until so many records were accepted, over all clients:
    /// it goes away then, whatever it is waiting for.
    pub async fn call_until_leaving(mut self, leaves_at: Option<i64>) -> Self {
        let pulse = self.pulse.clone();
        tokio::select! {
            () = self.call_until_killed() => {}
            () = pulse.reaches(leaves_at.unwrap_or(i64::MAX)) => {}
        }
        self
    }

    /// Goes on over another connection.
    pub fn reconnect(&mut self, client: &Clients) {
        self.client = client.clone();
    }

    /// Sends everything again: what is listed is a duplicate, and what the kill swallowed is
    /// accepted now.
    pub async fn resend_all(&mut self, listed: &BTreeSet<&str>) -> Result<(), Status> {
        self.ledger.sent.iter_mut().for_each(|(id, sent)| sent.accepted = listed.contains(id.as_str()));
        let records: Vec<_> = self.ledger.sent.values().map(|sent| sent.record.clone()).collect();
        for records in records.chunks(RESENT_RECORDS) {
            self.report(records.to_vec()).await?;
        }
        Ok(())
    }

    async fn call_until_killed(&mut self) {
        loop {
            if let Err(status) = self.call().await {
                let killing = self.pulse.killing.load(Ordering::SeqCst);
                assert!(killing, "a call failed before the kill: {status}");
                return;
            }
        }
    }

    async fn call(&mut self) -> Result<(), Status> {
        match self.random.within(0..=99) {
            0..40 => self.report_unreserved().await,
            40..50 => self.report_again().await,
            50..80 => self.reserve_and_go_on().await,
            80..92 => self.reserve_briefly().await.map(drop),
            _ => self.report_late().await,
        }
    }

    async fn report_unreserved(&mut self) -> Result<(), Status> {
        let count = self.random.within(1..=BATCH_RECORDS);
        let mut batch = Vec::new();
        for _ in 0..count {
            let worth = self.worth();
            batch.push(Sent::new(self.new_record(worth, UNRESERVED), worth));
        }
        self.report_new(batch).await
    }

    async fn report_again(&mut self) -> Result<(), Status> {
        let accepted: Vec<&Sent> = self.ledger.accepted().map(|(_, sent)| sent).collect();
        let Some(place) = self.random.place(accepted.len()) else { return Ok(()) };
        let record = accepted[place].record.clone();
        self.report(vec![record]).await
    }

    /// Reserves, and then reports at once or in parts, releases, or leaves it open.
    async fn reserve_and_go_on(&mut self) -> Result<(), Status> {
        let worth = self.worth();
        let Some(id) = self.reserve(RESERVED, worth, None).await? else { return Ok(()) };
        match self.random.within(0..=9) {
            0..5 => self.report_reserved(&id, 1, true).await,
            5..7 => {
                self.report_reserved(&id, 1, false).await?;
                self.report_reserved(&id, 2, true).await
            }
            7 => self.report_reserved(&id, 1, false).await,
            8 => self.release(&id).await,
            _ => Ok(()),
        }
    }

    /// Reserves by tokens for a moment, so that it expires into the floor of its input.
    pub async fn reserve_briefly(&mut self) -> Result<Option<String>, Status> {
        let ttl_ms = self.random.within(SHORT_TTL_MS);
        let worth = self.tokens();
        let id = self.reserve(RESERVED, worth, Some(ttl_ms)).await?;
        self.expiring.extend(id.clone());
        Ok(id)
    }

    /// Reports what may have expired meanwhile.
    pub async fn report_late(&mut self) -> Result<(), Status> {
        let Some(place) = self.random.place(self.expiring.len()) else { return Ok(()) };
        let id = self.expiring.swap_remove(place);
        self.report_reserved(&id, 1, true).await
    }

    /// Reserves; `None` when the budget has no room.
    pub async fn reserve(
        &mut self,
        subject: &str,
        worth: Worth,
        ttl_ms: Option<i64>,
    ) -> Result<Option<String>, Status> {
        self.ledger.asked_nanos += worth.nanos();
        let answer = self.client.check(worth.reserve(subject, ttl_ms)).await?;
        if answer.decision() == v1::Decision::Denied {
            return Ok(None);
        }
        assert_eq!(answer.reserved.unwrap().nanos, worth.nanos(), "what is held for {worth:?}");
        let id = answer.reservation_id;
        self.ledger.reservations.insert(id.clone(), Reserved::of(worth, ttl_ms.is_some()));
        Ok(Some(id))
    }

    async fn report_reserved(&mut self, id: &str, attempt: i32, is_final: bool) -> Result<(), Status> {
        let worth = self.worth();
        let record = v1::UsageRecord {
            attempt: Some(attempt),
            r#final: Some(is_final),
            ..self.new_record(worth, RESERVED)
        };
        self.settle(id, record, worth).await
    }

    /// Reserves a call and reports what it truly cost.
    pub async fn reserve_and_settle(
        &mut self,
        subject: &str,
        estimate: Worth,
        truth: Worth,
    ) -> Result<(), Status> {
        let Some(id) = self.reserve(subject, estimate, None).await? else { return Ok(()) };
        let record = self.new_record(truth, subject);
        self.settle(&id, record, truth).await
    }

    /// Reports a reservation that is open, as far as it knows.
    pub async fn report_one_open(&mut self, subject: &str, truth: Worth) -> Result<(), Status> {
        let open = self.ledger.reservations.iter().find(|(_, reserved)| reserved.surely_held_nanos > 0);
        let id = open.expect("a reservation is open").0.clone();
        let record = self.new_record(truth, subject);
        self.settle(&id, record, truth).await
    }

    async fn settle(&mut self, id: &str, record: v1::UsageRecord, worth: Worth) -> Result<(), Status> {
        let held = self.ledger.reservations.get_mut(id).expect("only known reservations are reported");
        let is_final = record.r#final.unwrap_or(true);
        held.surely_held_nanos = if is_final { 0 } else { (held.surely_held_nanos - worth.nanos()).max(0) };
        let record = v1::UsageRecord { reservation_id: id.to_owned(), ..record };
        self.report_new(vec![Sent::new(record, worth)]).await
    }

    async fn release(&mut self, id: &str) -> Result<(), Status> {
        let held = self.ledger.reservations.get_mut(id).expect("only known reservations are released");
        held.surely_held_nanos = 0;
        let request = v1::ReleaseReservationRequest { reservation_id: id.to_owned() };
        let answer = self.client.quota().release_reservation(request).await?.into_inner();
        assert_eq!(answer.state(), v1::ReservationState::Released);
        Ok(())
    }

    fn new_record(&mut self, worth: Worth, subject: &str) -> v1::UsageRecord {
        self.records += 1;
        worth.record(format!("{}-{}", self.name, self.records), subject)
    }

    async fn report_new(&mut self, batch: Vec<Sent>) -> Result<(), Status> {
        let records = batch.iter().map(|sent| sent.record.clone()).collect();
        self.ledger.sent.extend(batch.into_iter().map(|sent| (sent.record.event_id.clone(), sent)));
        self.report(records).await
    }

    /// Sends records that the ledger has: each is accepted once, and a duplicate from then on.
    async fn report(&mut self, records: Vec<v1::UsageRecord>) -> Result<(), Status> {
        for result in self.client.report(records).await? {
            let sent = self.ledger.sent.get_mut(&result.event_id).expect("only what was sent is answered");
            let expected =
                if sent.accepted { v1::RecordStatus::Duplicate } else { v1::RecordStatus::Accepted };
            assert_eq!(result.status(), expected, "{}: {}", result.event_id, result.message);
            assert_eq!(result.cost.unwrap().nanos, sent.nanos, "the cost of {}", result.event_id);
            if !std::mem::replace(&mut sent.accepted, true) {
                self.pulse.accepted.send_modify(|accepted| *accepted += 1);
            }
        }
        Ok(())
    }

    /// Some money, or some tokens of a listed model.
    fn worth(&mut self) -> Worth {
        if self.random.percent(50) { Worth::Nanos(self.random.within(1..=NANOS_MAX)) } else { self.tokens() }
    }

    fn tokens(&mut self) -> Worth {
        let (input, output) = (self.random.within(1..=TOKENS_MAX), self.random.within(1..=TOKENS_MAX));
        Worth::Tokens { input, output }
    }
}
