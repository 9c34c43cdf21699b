//! Callers: they check, reserve, report, release, forget, and ask again when nothing is heard.

use std::sync::Arc;
use std::time::Duration;

use rateguard_core::amounts::Amounts;
use rateguard_core::decision::Mode;
use rateguard_core::ids::{EventId, RequestId, ReservationId};
use rateguard_core::money::Nanos;
use rateguard_core::unit::Unit;
use rateguard_core::usage::{CallOutcome, Exactness, TokenCounts};
use rateguard_engine::check::{Call, CheckRequest, CheckResponse};
use rateguard_engine::costing::Estimate;
use rateguard_engine::report::UsageRecord;
use tokio::time::{sleep, timeout};

use crate::calls::{Answer, Ask, send};
use crate::network::{World, millis};
use crate::replica::{Replica, Servers};

/// How long a caller waits for an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(300);
/// How often a caller asks the same.
const ATTEMPTS_MAX: usize = 4;
/// Longest hint that a caller waits for.
const HINT_MS_MAX: i64 = 2_500;
/// Shortest and longest life of a reservation.
const TTL_MS: std::ops::RangeInclusive<i64> = 1_000..=3_000;
/// Who is charged.
pub const SUBJECTS: [&str; 3] = ["", "ada", "bob"];
/// Most money of one call.
const NANOS_MAX: i64 = 900;

/// One caller.
pub struct Client {
    /// Which.
    pub number: usize,
    /// What everybody shares.
    pub world: Arc<World>,
    /// The stores, for their clock.
    pub servers: Servers,
    /// Whom it calls.
    pub replicas: Vec<Arc<Replica>>,
    /// Longest pause between two calls.
    pub pause_ms_max: i64,
    /// Most tokens of one call.
    pub tokens_max: i64,
    /// How many ids it has given.
    pub named: u64,
}

impl Client {
    /// Calls until the run has lasted that long.
    pub async fn live(mut self, until_ms: i64) {
        while self.world.time.elapsed_ms() < until_ms {
            let pause_ms = self.world.dice.within(0..=self.pause_ms_max);
            sleep(millis(pause_ms)).await;
            match self.world.dice.within(0..=99) {
                0..=39 => self.consume().await,
                40..=79 => self.reserve().await,
                80..=89 => self.peek().await,
                _ => self.report_alone().await,
            }
        }
    }

    fn name(&mut self, kind: &str) -> String {
        self.named += 1;
        format!("{kind}-{}-{}", self.number, self.named)
    }

    fn request(&mut self, mode: Mode) -> CheckRequest {
        let dice = &self.world.dice;
        let subject = SUBJECTS[dice.below(SUBJECTS.len())];
        let mut amounts = Amounts::default();
        let tokens = dice.happens(700).then(|| dice.within(1..=self.tokens_max));
        let requests = dice.happens(200).then(|| dice.within(0..=4));
        for (unit, amount) in [(Unit::Tokens, tokens), (Unit::Requests, requests)] {
            if let Some(amount) = amount {
                amounts = with(amounts, unit, amount);
            }
        }
        let cost = (mode == Mode::Reserve && dice.happens(700)).then(|| dice.within(1..=NANOS_MAX));
        let ttl_ms = dice.within(TTL_MS);
        let has_id = mode != Mode::Peek && dice.happens(900);
        CheckRequest {
            request_id: has_id.then(|| self.name("check")).and_then(|id| RequestId::parse("id", &id).ok()),
            call: Call { subject: subject.to_owned(), ..Call::default() },
            amounts,
            estimate: Estimate { cost: cost.map(Nanos::from_stored), ..Estimate::default() },
            mode,
            reservation_ttl_ms: ttl_ms,
            explain: false,
        }
    }

    async fn consume(&mut self) {
        let request = self.request(Mode::Consume);
        let Some(response) = self.check(&request).await else { return };
        let Some(wait_ms) = response.retry_after_ms.filter(|ms| *ms <= HINT_MS_MAX) else { return };
        // The same call again at its hint, or a little before.
        let early_ms = self.world.dice.within(0..=8);
        if self.world.dice.happens(500) {
            sleep(millis(wait_ms - early_ms)).await;
            let request_id = RequestId::parse("id", &self.name("hinted")).ok();
            self.check(&CheckRequest { request_id, ..request }).await;
        }
    }

    async fn peek(&mut self) {
        let request = self.request(Mode::Peek);
        self.check(&request).await;
    }

    async fn reserve(&mut self) {
        let request = self.request(Mode::Reserve);
        let Some(response) = self.check(&request).await else { return };
        let Some((id, _)) = response.reservation else { return };
        if self.world.dice.happens(150) {
            sleep(millis(self.world.dice.within(0..=request.reservation_ttl_ms))).await;
            drop(self.ask(true, Ask::Renew(id.clone(), self.world.dice.within(TTL_MS))).await);
        }
        let works_ms = self.world.dice.within(0..=request.reservation_ttl_ms * 3 / 2);
        sleep(millis(works_ms)).await;
        match self.world.dice.within(0..=99) {
            0..=59 => self.settle(&request, &id).await,
            60..=79 => drop(self.ask(true, Ask::Release(id)).await),
            // It forgets: the reservation expires.
            _ => {}
        }
    }

    /// Reports what a reserved call used: in one part or in two, exactly or not, less or more.
    async fn settle(&mut self, request: &CheckRequest, id: &ReservationId) {
        let parts = if self.world.dice.happens(200) { 2 } else { 1 };
        for attempt in 1..=parts {
            let mut record = self.record(&request.call.subject);
            record.reservation = Some(id.clone());
            record.attempt = attempt;
            record.is_final = attempt == parts;
            let sent = self.ask(true, Ask::Report(record.clone())).await;
            if sent.is_some() && record.is_final && self.world.dice.happens(100) {
                // Another record for what is settled already.
                record.event_id = self.event_id();
                self.ask(true, Ask::Report(record)).await;
            }
        }
    }

    async fn report_alone(&mut self) {
        let subject = SUBJECTS[self.world.dice.below(SUBJECTS.len())];
        let mut record = self.record(subject);
        if self.world.dice.happens(500) {
            record.already_consumed = vec![Unit::Requests];
        }
        self.ask(true, Ask::Report(record.clone())).await;
        if self.world.dice.happens(150) {
            self.ask(true, Ask::Report(record)).await;
        }
    }

    fn event_id(&mut self) -> EventId {
        let name = self.name("event");
        // Plain names are ids.
        EventId::parse("event_id", &name).unwrap_or_else(|_| EventId::expired(&ReservationId::from_bits(0)))
    }

    fn record(&mut self, subject: &str) -> UsageRecord {
        let event_id = self.event_id();
        let dice = &self.world.dice;
        let mut amounts = Amounts::default();
        if dice.happens(700) {
            amounts = with(amounts, Unit::Tokens, dice.within(0..=self.tokens_max * 3 / 2));
        }
        let exactness = if dice.happens(800) { Exactness::Exact } else { Exactness::Partial };
        UsageRecord {
            event_id,
            occurred_at: None,
            request_id: None,
            reservation: None,
            attempt: 0,
            is_final: true,
            api: String::new(),
            endpoint: String::new(),
            method: String::new(),
            subject: subject.to_owned(),
            model: String::new(),
            service_tier: String::new(),
            outcome: CallOutcome::default(),
            tokens: TokenCounts::default(),
            amounts,
            cost: Some(Nanos::from_stored(dice.within(0..=NANOS_MAX))),
            price: None,
            dimensions: Vec::new(),
            exactness,
            already_consumed: Vec::new(),
            ip: None,
        }
    }

    /// Asks until somebody answers. Without an id it asks once: nobody could tell a second time from
    /// another call.
    async fn check(&self, request: &CheckRequest) -> Option<CheckResponse> {
        let may_repeat = request.request_id.is_some() || request.mode == Mode::Peek;
        match self.ask(may_repeat, Ask::Check(request.clone())).await {
            Some(Answer::Checked(response)) => Some(response),
            Some(Answer::Done) | None => None,
        }
    }

    async fn ask(&self, may_repeat: bool, ask: Ask) -> Option<Answer> {
        let attempts = if may_repeat { ATTEMPTS_MAX } else { 1 };
        for _ in 0..attempts {
            if may_repeat && self.world.dice.happens(self.world.faults().doubled) {
                // The same arrives somewhere else too, and nobody waits for its answer.
                tokio::spawn(self.send(ask.clone()));
            }
            if let Ok(Some(answer)) = timeout(ANSWER_TIMEOUT, self.send(ask.clone())).await {
                return Some(answer);
            }
        }
        None
    }

    /// Sends a call to any replica.
    fn send(&self, ask: Ask) -> impl Future<Output = Option<Answer>> + Send + use<> {
        let replica = self.replicas[self.world.dice.below(self.replicas.len())].clone();
        send(self.world.clone(), self.servers.clone(), replica, ask)
    }
}

/// Amounts with one more; what is drawn is within its bounds.
fn with(mut amounts: Amounts, unit: Unit, amount: i64) -> Amounts {
    let inserted = amounts.insert("amount", unit, amount);
    debug_assert!(inserted.is_ok(), "a drawn amount is within bounds");
    amounts
}
