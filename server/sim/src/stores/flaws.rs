//! Planted bugs: what a store of counters would do that had them. Each is what its name says, seen
//! from outside; the store within stays as it is, so that no build of it carries them.

use std::collections::BTreeMap;

use rateguard_core::counter::{CounterId, Demand, Limit};
use rateguard_core::decision::{Charge, Mode};
use rateguard_core::ids::ReservationId;
use rateguard_core::lease::LeaseOutcome;
use rateguard_core::reservation::{Captured, Reservation};
use rateguard_core::rule::Enforcement;
use rateguard_engine::ports::{CheckCommand, CheckOutcome, CounterStore as _, SettleCommand, StoreError};
use smallvec::{SmallVec, smallvec};

use super::counters::{CounterServer, Turn};

/// A bug that is planted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Flaw {
    /// What is given back of a window that has closed is given back to the one that is open.
    RefundIntoNextWindow,
    /// A record that is settled again because nothing was heard of the first time counts again.
    DoubleSettle,
    /// A check that one limit denies has taken from the first.
    DenialKeepsFirst,
    /// What a reservation held is given back twice when it expires.
    ExpiryFreesTwice,
    /// A replica spends a lease when its window is over.
    LeaseOutlivesWindow,
}

/// What a planted bug has to remember.
#[derive(Default)]
pub(super) struct Plant {
    held: BTreeMap<ReservationId, Reservation>,
}

/// How much longer a lease is spent than it may be, in milliseconds.
const OUTLIVES_MS: i64 = 3_000;

/// Lets leases live on.
pub(super) fn outlive(outcomes: &mut [LeaseOutcome]) {
    for lease in outcomes.iter_mut().filter_map(|outcome| outcome.lease.as_mut()) {
        lease.life_ms += OUTLIVES_MS;
    }
}

impl Turn {
    /// Moves a counter by an amount, whatever stands in it.
    async fn shift(
        &self,
        server: &CounterServer,
        counter: CounterId,
        limit: Limit,
        amount: i64,
    ) -> Result<(), StoreError> {
        let demand = Demand { need: 0, take: amount };
        let enforcement = Enforcement::Soft;
        let charge = Charge { counter, overflow: counter, limit, demand, enforcement, counts_denied: false };
        let command = CheckCommand {
            workspace: server.workspace().clone(),
            now: self.now(),
            mode: Mode::Consume,
            charges: smallvec![charge],
            units: SmallVec::new(),
            request: None,
            reservation: None,
        };
        server.inner().check(&command).await.map(drop)
    }

    async fn shift_captured(
        &self,
        server: &CounterServer,
        captured: &Captured,
        amount: i64,
    ) -> Result<(), StoreError> {
        match self.limits.get(&captured.counter) {
            Some(limit) if amount != 0 => self.shift(server, captured.counter, *limit, amount).await,
            _ => Ok(()),
        }
    }

    pub(super) async fn keep_first(
        &self,
        server: &CounterServer,
        command: &CheckCommand,
        outcome: &CheckOutcome,
    ) -> Result<(), StoreError> {
        let denied = matches!(outcome, CheckOutcome::Decided(decided) if !decided.verdict.allowed);
        match command.charges.first() {
            Some(first) if denied && command.mode != Mode::Peek => {
                self.shift(server, first.counter, first.limit, first.demand.take).await
            }
            _ => Ok(()),
        }
    }

    /// Remembers what a reservation holds.
    pub(super) async fn watch(
        &mut self,
        server: &CounterServer,
        outcome: &CheckOutcome,
    ) -> Result<(), StoreError> {
        let CheckOutcome::Decided(decided) = outcome else { return Ok(()) };
        if let Some((id, _)) = &decided.reservation
            && let Some(kept) = server.inner().reservation(server.workspace(), id).await?
        {
            self.plant.held.insert(id.clone(), kept);
        }
        Ok(())
    }

    pub(super) async fn free_again(
        &mut self,
        server: &CounterServer,
        expired: &[ReservationId],
    ) -> Result<(), StoreError> {
        for id in expired {
            let Some(held) = self.plant.held.remove(id) else { continue };
            for captured in held.captured.iter().filter(|captured| !captured.mark.is_over(self.now())) {
                self.shift_captured(server, captured, -captured.taken).await?;
            }
        }
        Ok(())
    }

    pub(super) async fn before_settling(
        &self,
        server: &CounterServer,
        commands: &[SettleCommand],
    ) -> Result<Vec<Reservation>, StoreError> {
        let mut before = Vec::new();
        for settles in commands.iter().filter_map(|command| command.reservation.as_ref()) {
            before.extend(server.inner().reservation(server.workspace(), &settles.id).await?);
        }
        Ok(before)
    }

    /// Gives what was just given back of a closed window to the open one.
    pub(super) async fn refund(
        &self,
        server: &CounterServer,
        before: Vec<Reservation>,
    ) -> Result<(), StoreError> {
        for reservation in before {
            let after = server.inner().reservation(server.workspace(), &reservation.id).await?;
            let after = after.into_iter().flat_map(|after| after.captured);
            for (was, is) in reservation.captured.iter().zip(after) {
                let freed = was.taken - is.taken;
                if freed > 0 && was.mark.is_over(self.now()) {
                    self.shift_captured(server, was, -freed).await?;
                }
            }
        }
        Ok(())
    }

    pub(super) async fn charge_again(
        &self,
        server: &CounterServer,
        commands: &[SettleCommand],
    ) -> Result<(), StoreError> {
        for charge in commands.iter().flat_map(|command| &command.charges) {
            self.shift(server, charge.counter, charge.limit, charge.amount).await?;
        }
        Ok(())
    }
}
