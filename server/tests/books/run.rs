//! One sequence of steps on one installation.

use std::sync::Arc;

use proptest::prelude::*;
use rateguard_core::amounts::Amounts;
use rateguard_core::decision::Mode;
use rateguard_core::ids::{BudgetId, DisplayName};
use rateguard_core::limits::RESERVATION_TTL_MS_MAX;
use rateguard_core::matching::{Dimension, Match, Scope};
use rateguard_core::money::Nanos;
use rateguard_core::rule::{Budget, BudgetPeriod, Enforcement};
use rateguard_core::time::{CalendarPeriod, Millis};
use rateguard_core::usage::{EventKind, LoggedEvent};
use rateguard_engine::check::{Call, CheckRequest, CheckResponse};
use rateguard_engine::costing::Estimate;
use rateguard_engine::ports::{CounterStore, Resource, ResourceKind};
use rateguard_engine::report::UsageRecord;
use tokio::task::JoinSet;

use crate::books::{Standing, events, standings, summary};
use crate::expectations::{
    the_budget_has_spent_what_events_say, the_budget_holds_what_is_open, the_reservation_counts_once,
    what_was_accepted_is_listed_once,
};
use crate::ledger::{Answered, Ledger, Made, Reserved, SUBJECTS, picked};
use crate::steps::{Expected, NewBudget, Reach, Record, Step};
use crate::world::World;

/// A model of the price list.
const MODEL: &str = "gpt-4o-mini";
/// The first budget: there from the start, so that every reservation holds money.
const FIRST: NewBudget =
    NewBudget { reach: Reach::All, period: CalendarPeriod::Month, amount: 1_000_000_000_000 };

/// A server with what was done to it.
pub struct Run {
    world: World,
    ledger: Ledger,
}

type Checked = Result<(), TestCaseError>;

impl Run {
    pub async fn new() -> Self {
        let mut run = Self { world: World::new().await, ledger: Ledger::default() };
        run.create(&FIRST).await;
        run
    }

    /// Does one thing, and looks at everything afterwards.
    pub async fn step(&mut self, step: &Step) -> Checked {
        match step {
            Step::Reserve { subject, estimate, ttl_ms } => self.reserve(*subject, *estimate, *ttl_ms).await,
            Step::Consume { subject } => {
                let request = request(Mode::Consume, SUBJECTS[*subject], None, 0);
                drop(self.check(&request).await);
            }
            Step::Report(records) => self.report(std::slice::from_ref(records), None, false).await?,
            Step::Concurrent { calls, budget, expire } => {
                self.report(calls, budget.as_ref(), *expire).await?;
            }
            Step::Release { pick } => self.release(*pick).await,
            Step::Advance { ms } => self.world.advance(*ms).await,
            Step::Create(budget) => self.create(budget).await,
            Step::ChangeAmount { pick, amount } => self.change_amount(*pick, *amount).await,
            Step::Restart => self.restart().await?,
            Step::Crash { calls, turns } => self.crash(calls, *turns).await?,
        }
        self.look().await
    }

    /// When all reservations are over and what a crash left is free, nothing is held any more, and
    /// so it stays over an orderly restart.
    pub async fn everything_ends(&mut self) -> Checked {
        self.world.advance(RESERVATION_TTL_MS_MAX + 1).await;
        for _ in 0..2 {
            self.look().await?;
            for standing in standings(&self.world, &self.ledger.budgets).await {
                prop_assert_eq!(standing.reading.held, 0, "an hour later: {:?}", standing);
            }
            self.world.restart().await;
        }
        Ok(())
    }

    async fn check(&self, request: &CheckRequest) -> CheckResponse {
        self.world.engine().check(self.world.caller(), request).await.unwrap()
    }

    async fn reserve(&mut self, subject: usize, expected: Expected, ttl_ms: i64) {
        let subject = SUBJECTS[subject];
        let answer = self.check(&request(Mode::Reserve, subject, Some(expected), ttl_ms)).await;
        let Some((id, expires_at)) = answer.reservation else { return };
        let workspace = &self.world.caller().workspace;
        let known = self.world.counters().reservation(workspace, &id).await.unwrap().unwrap();
        self.ledger.reservations.push(Reserved {
            id,
            subject,
            nanos: answer.reserved.unwrap().get(),
            floor: known.floor.get(),
            decided_at: known.decided_at,
            expires_at,
            is_released: false,
            is_forgotten: false,
        });
    }

    async fn release(&mut self, pick: usize) {
        let Some(id) = picked(&self.ledger.reservations, pick).map(|reserved| reserved.id.clone()) else {
            return;
        };
        let outcome = self.world.engine().release(self.world.caller(), &id).await;
        let state = rateguard_core::reservation::ReservationState::Released;
        if outcome == Ok(rateguard_engine::ports::ReleaseOutcome::State(state)) {
            let released = self.ledger.reservations.iter_mut().find(|reserved| reserved.id == id);
            released.unwrap().is_released = true;
        }
    }

    async fn create(&mut self, budget: &NewBudget) {
        let budget = self.draft(budget);
        let engine = self.world.engine();
        let stored = engine.create(&self.world.identity(), Resource::Budget(budget.0)).await.unwrap();
        self.made(stored.value, budget.1);
    }

    fn draft(&self, budget: &NewBudget) -> (Budget, Reach) {
        let number = u128::try_from(self.ledger.budgets.len()).unwrap();
        let is_first = budget.reach == Reach::FirstSubject;
        let is_each = budget.reach == Reach::EachSubject;
        let draft = Budget {
            id: BudgetId::from_random(number.to_be_bytes()),
            name: DisplayName::parse("display_name", "a budget").unwrap(),
            matches: Match {
                subjects: is_first.then(|| SUBJECTS[0].to_owned()).into_iter().collect(),
                ..Match::default()
            },
            scope: Scope {
                dimensions: is_each.then_some(Dimension::Subject).into_iter().collect(),
                ..Scope::default()
            },
            amount: Nanos::from_stored(budget.amount),
            period: BudgetPeriod::Calendar { period: budget.period, zone: None },
            enforcement: Enforcement::Enforced,
            active: true,
            topped_up: Nanos::ZERO,
            opened_after: None,
        };
        (draft, budget.reach)
    }

    fn made(&mut self, stored: Resource, reach: Reach) {
        let Resource::Budget(budget) = stored else { panic!("{stored:?} is no budget") };
        let reserved_before = self.ledger.reservations.len();
        self.ledger.budgets.push(Made { budget, reach, reserved_before });
    }

    async fn change_amount(&mut self, pick: usize, amount: i64) {
        let Some(id) = picked(&self.ledger.budgets, pick).map(|made| made.id().clone()) else { return };
        let (engine, identity) = (self.world.engine(), self.world.identity());
        let stored = engine.get(&identity, ResourceKind::Budget, id.as_str()).await.unwrap();
        let Resource::Budget(budget) = stored.value else { panic!("{:?} is no budget", stored.value) };
        let changed = Budget { amount: Nanos::from_stored(amount), ..budget };
        let updated = engine.update(&identity, Resource::Budget(changed), stored.version).await.unwrap();
        assert!(!updated.counters_reset, "another amount keeps what is spent");
    }

    fn spawn(&mut self, calls: &[Vec<Record>]) -> JoinSet<Answered> {
        let now = self.world.now();
        let mut reports = JoinSet::new();
        for call in calls {
            let records: Vec<UsageRecord> =
                call.iter().map(|record| self.ledger.record(*record, now)).collect();
            let (engine, caller) = (self.world.engine().clone(), self.world.caller().clone());
            reports.spawn(async move {
                let answer = engine.report(&caller, records.clone()).await;
                (records, answer)
            });
        }
        reports
    }

    async fn report(&mut self, calls: &[Vec<Record>], budget: Option<&NewBudget>, expire: bool) -> Checked {
        let reports = self.spawn(calls);
        let draft = budget.map(|budget| self.draft(budget));
        let (engine, identity) = (Arc::clone(self.world.engine()), self.world.identity());
        let made = async {
            match draft {
                Some((budget, reach)) => {
                    let stored = engine.create(&identity, Resource::Budget(budget)).await.unwrap();
                    Some((stored.value, reach))
                }
                None => None,
            }
        };
        let expired = async {
            if expire {
                engine.expire_reservations().await.unwrap();
            }
        };
        let (answers, made, ()) = tokio::join!(reports.join_all(), made, expired);
        if let Some((stored, reach)) = made {
            self.made(stored, reach);
        }
        self.ledger.take(answers, false)
    }

    async fn restart(&mut self) -> Checked {
        let before = self.held().await;
        self.world.restart().await;
        prop_assert_eq!(self.held().await, before, "an orderly restart keeps what is held");
        Ok(())
    }

    async fn crash(&mut self, calls: &[Vec<Record>], turns: u8) -> Checked {
        let before = self.held().await;
        let reports = self.spawn(calls);
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }
        let answers = self.world.crash(reports.join_all()).await;
        self.ledger.take(answers, true)?;
        self.ledger.crash_holds_until = self.world.now().plus(RESERVATION_TTL_MS_MAX);
        self.ledger.reservations.iter_mut().for_each(|reserved| reserved.is_forgotten = true);
        self.learn().await;
        let after = self.held().await;
        let is_kept = before.iter().zip(&after).all(|(before, after)| before <= after);
        prop_assert!(is_kept || !calls.is_empty(), "a crash frees nothing: {:?}, then {:?}", before, after);
        Ok(())
    }

    /// Finds out which of the reports that a crash cut off are in the log.
    async fn learn(&mut self) {
        let unknown = std::mem::take(&mut self.ledger.unknown);
        for LoggedEvent { event, .. } in events(&self.world).await {
            if unknown.contains(&event.event_id) {
                self.ledger.accepted.entry(event.event_id).or_insert(event.cost.get());
            }
        }
    }

    async fn held(&self) -> Vec<i128> {
        self.world.engine().expire_reservations().await.unwrap();
        standings(&self.world, &self.ledger.budgets).await.iter().map(|s| s.reading.held).collect()
    }

    /// Compares everything that the server tells, once nothing is under way.
    async fn look(&self) -> Checked {
        let engine = self.world.engine();
        engine.expire_reservations().await.unwrap();
        engine.roll_up().await.unwrap();
        let events = events(&self.world).await;
        what_was_accepted_is_listed_once(&self.ledger, &events)?;
        self.the_rollups_agree(&events).await?;
        self.the_budgets_agree(&standings(&self.world, &self.ledger.budgets).await, &events)?;
        let now = self.world.now();
        let reservations = &self.ledger.reservations;
        reservations.iter().try_for_each(|reserved| the_reservation_counts_once(reserved, &events, now))
    }

    fn the_budgets_agree(&self, standings: &[Standing], events: &[LoggedEvent]) -> Checked {
        let now: Millis = self.world.now();
        for standing in standings {
            the_budget_has_spent_what_events_say(standing, events)?;
            the_budget_holds_what_is_open(standing, &self.ledger, events, now)?;
        }
        Ok(())
    }

    async fn the_rollups_agree(&self, events: &[LoggedEvent]) -> Checked {
        for subject in std::iter::once(None).chain(SUBJECTS.map(Some)) {
            let told = summary(&self.world, subject).await;
            let counted: Vec<_> = events
                .iter()
                .map(|logged| &logged.event)
                .filter(|event| subject.is_none_or(|subject| event.call.subject == subject))
                .collect();
            let cost: i128 = counted.iter().map(|event| i128::from(event.cost.get())).sum();
            let requests = counted.iter().filter(|event| event.kind == EventKind::Usage).count();
            prop_assert_eq!(told.cost_nanos, cost, "the rollups of {:?}", subject);
            prop_assert_eq!(usize::try_from(told.requests).unwrap(), requests);
        }
        Ok(())
    }
}

fn request(mode: Mode, subject: &str, expected: Option<Expected>, ttl_ms: i64) -> CheckRequest {
    let estimate = match expected {
        Some(Expected::Cost(nanos)) => {
            Estimate { cost: Some(Nanos::from_stored(nanos)), ..Estimate::default() }
        }
        Some(Expected::Tokens { input, output }) => {
            Estimate { input_tokens: Some(input), output_tokens_max: Some(output), ..Estimate::default() }
        }
        None => Estimate::default(),
    };
    let model = if mode == Mode::Reserve { MODEL.to_owned() } else { String::new() };
    CheckRequest {
        request_id: None,
        call: Call { subject: subject.to_owned(), model, ..Call::default() },
        amounts: Amounts::default(),
        estimate,
        mode,
        reservation_ttl_ms: ttl_ms,
        explain: false,
    }
}
