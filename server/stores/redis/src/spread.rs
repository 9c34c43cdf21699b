//! Counters of spread rules, each in the shard of its subject, beside those of a workspace that are not spread.
//!
//! Each shard, and all that is not spread, is a workspace of its own to the store beneath, and a check that
//! stands in several of these places asks them in turn. Each decides for itself at once; between them there is
//! an instant in which what one has taken is not yet given back that another denies. So no limit ever admits
//! too much, and a check may be denied by what was about to be given back.

mod pieces;

use async_trait::async_trait;
use futures::future::join_all;
use futures::{StreamExt, TryStreamExt, stream};
use rateguard_core::counter::{Position, Reading, Shard};
use rateguard_core::ids::{ReservationId, WorkspaceId};
use rateguard_core::lease::LeaseOutcome;
use rateguard_core::reservation::Reservation;
use rateguard_core::time::Millis;
use rateguard_engine::ports::{
    BudgetOpening, CancelOutcome, CheckCommand, CheckOutcome, CounterHealth, CounterQuery, CounterStore,
    Decided, ExpiredReservation, LeaseCommand, LiveBudgets, LostCounters, Overflowed, Principal,
    ReleaseOutcome, RenewOutcome, ResetCounters, SettleCharge, SettleCommand, SettleReservation, Slot,
    SlotClaim, SlotHolder, Standing, StoreError,
};
use smallvec::SmallVec;

use self::pieces::{Piece, Pieces, Place, name_of};
use crate::link::STORE;
use crate::reply::corrupt;
use crate::store::AT_ONCE;

/// A store whose counters of one workspace may stand on several servers.
pub struct SpreadCounterStore<S>(S);

impl<S: CounterStore> SpreadCounterStore<S> {
    /// Spreads what is kept in `store`, which keeps each workspace for itself.
    pub fn new(store: S) -> Self {
        Self(store)
    }

    /// Asks one place after the other, until one denies.
    async fn decide(&self, mut pieces: Pieces) -> Result<CheckOutcome, StoreError> {
        pieces.can_be_undone()?;
        let mut decided: SmallVec<[Decided; 2]> = SmallVec::new();
        for place in 0..pieces.all().len() {
            let outcome = self.0.check(&pieces.all()[place].command).await;
            let before = &pieces.all()[..place];
            match outcome {
                Ok(CheckOutcome::Decided(allowed)) if allowed.verdict.allowed => {
                    if let Some((held, _)) = &allowed.reservation {
                        pieces.hold_under(held);
                    }
                    decided.push(allowed);
                }
                Ok(CheckOutcome::Decided(denied)) => return self.deny(&pieces, place, denied).await,
                Ok(CheckOutcome::ContentDiffers) => {
                    self.undo(before).await?;
                    return Ok(CheckOutcome::ContentDiffers);
                }
                Err(error) if before.is_empty() => return Err(error),
                // Whoever asked cancels all of it.
                Err(StoreError::Unavailable { store, detail }) => {
                    return Err(StoreError::OutcomeUnknown { store, detail });
                }
                Err(error) => {
                    self.undo(before).await?;
                    return Err(error);
                }
            }
        }
        Ok(CheckOutcome::Decided(pieces.together(decided)))
    }

    /// Gives back what stands before the place that denied, and tells the others of the denial.
    async fn deny(&self, pieces: &Pieces, place: usize, denied: Decided) -> Result<CheckOutcome, StoreError> {
        self.undo(&pieces.all()[..place]).await?;
        let others = pieces.all().iter().enumerate().filter(|(other, _)| *other != place);
        let others = others.map(|(_, piece)| async move { self.0.check(&piece.denied_elsewhere()).await });
        let mut decided: SmallVec<[Decided; 2]> = SmallVec::new();
        for outcome in join_all(others).await {
            match outcome? {
                CheckOutcome::Decided(other) => decided.push(other),
                CheckOutcome::ContentDiffers => return Ok(CheckOutcome::ContentDiffers),
            }
        }
        decided.insert(place, denied);
        Ok(CheckOutcome::Decided(pieces.together(decided)))
    }

    async fn undo(&self, pieces: &[Piece]) -> Result<(), StoreError> {
        for outcome in join_all(pieces.iter().map(|piece| self.cancel_piece(piece))).await {
            outcome.map_err(|error| {
                let detail = format!("what one shard took may stand, and another denied: {error}");
                StoreError::OutcomeUnknown { store: STORE, detail }
            })?;
        }
        Ok(())
    }

    async fn cancel_piece(&self, piece: &Piece) -> Result<CancelOutcome, StoreError> {
        self.0.cancel(&piece.command, piece.command.now).await
    }
}

/// What pieces answered that are only looked at; `None` where one has nothing to say.
fn looked_at(
    pieces: &Pieces,
    answers: Vec<Result<Option<CheckOutcome>, StoreError>>,
) -> Result<Option<CheckOutcome>, StoreError> {
    let mut decided: SmallVec<[Decided; 2]> = SmallVec::new();
    for answer in answers {
        match answer? {
            Some(CheckOutcome::Decided(piece)) => decided.push(piece),
            other => return Ok(other),
        }
    }
    Ok(Some(CheckOutcome::Decided(pieces.together(decided))))
}

/// The places in which things stand, each once.
fn places_of(shards: impl Iterator<Item = Place>) -> SmallVec<[Place; 4]> {
    let mut places: SmallVec<[Place; 4]> = SmallVec::new();
    for place in shards {
        if !places.contains(&place) {
            places.push(place);
        }
    }
    places
}

/// What came back of questions in several places, put into the order in which these were asked.
fn in_order<T>(
    asked: impl Iterator<Item = Place>,
    places: &[Place],
    answers: Vec<Vec<T>>,
) -> Result<Vec<T>, StoreError> {
    let mut answers: Vec<_> = answers.into_iter().map(Vec::into_iter).collect();
    let next = |place: Place| {
        let at = places.iter().position(|other| *other == place)?;
        answers.get_mut(at)?.next()
    };
    asked.map(next).collect::<Option<_>>().ok_or_else(|| corrupt("an answer ends early"))
}

/// A record, as each place is charged that it is of.
fn settled_in(command: SettleCommand) -> impl Iterator<Item = SettleCommand> {
    let held_in = command.reservation.as_ref().and_then(|reservation| reservation.id.shard());
    let shards = command.charges.iter().filter_map(|charge| charge.counter.shard()).chain(held_in);
    let mut places = places_of(shards.map(Some));
    // Beside the shards every record is noted: those that open a budget rely on it.
    places.push(None);
    places.into_iter().filter_map(move |place| piece_of(&command, held_in, place))
}

fn piece_of(command: &SettleCommand, held_in: Place, place: Place) -> Option<SettleCommand> {
    let reservation = command.reservation.as_ref();
    let is_held_here = place.is_none() || place == held_in;
    // Of a reservation that stands, limits are charged only where it holds something of them.
    if !is_held_here && reservation.is_some_and(|reservation| reservation.standing == Standing::Known) {
        return None;
    }
    let here = |reservation: &SettleReservation| match place {
        None => reservation.clone(),
        Some(_) => SettleReservation { captured_budgets: Vec::new(), ..reservation.clone() },
    };
    let charges = command.charges.iter().filter(|charge| charge.counter.shard() == place).cloned();
    Some(SettleCommand {
        workspace: name_of(&command.workspace, place),
        reservation: reservation.filter(|_| is_held_here).map(here),
        charges: charges.collect(),
        amounts: command.amounts.clone(),
        ..*command
    })
}

#[async_trait]
impl<S: CounterStore> CounterStore for SpreadCounterStore<S> {
    async fn check(&self, command: &CheckCommand) -> Result<CheckOutcome, StoreError> {
        match Pieces::of(command) {
            None => self.0.check(command).await,
            Some(pieces) if pieces.is_peek() => {
                let asked = pieces.all().iter().map(|piece| self.0.check(&piece.command));
                let answers = join_all(asked).await.into_iter().map(|answer| answer.map(Some)).collect();
                looked_at(&pieces, answers)?.ok_or_else(|| corrupt("no answer to a check"))
            }
            Some(pieces) => self.decide(pieces).await,
        }
    }

    async fn recall(&self, command: &CheckCommand) -> Result<Option<CheckOutcome>, StoreError> {
        match Pieces::of(command) {
            None => self.0.recall(command).await,
            Some(pieces) => {
                let asked = pieces.all().iter().map(|piece| self.0.recall(&piece.command));
                looked_at(&pieces, join_all(asked).await)
            }
        }
    }

    async fn cancel(&self, command: &CheckCommand, now: Millis) -> Result<CancelOutcome, StoreError> {
        let Some(pieces) = Pieces::of(command) else { return self.0.cancel(command, now).await };
        let mut together = CancelOutcome::Undone;
        for outcome in join_all(pieces.all().iter().map(|piece| self.0.cancel(&piece.command, now))).await {
            if outcome? == CancelOutcome::TooLate {
                together = CancelOutcome::TooLate;
            }
        }
        Ok(together)
    }

    async fn read(
        &self,
        workspace: &WorkspaceId,
        counters: &[CounterQuery],
        now: Millis,
    ) -> Result<Vec<Reading>, StoreError> {
        let asked = || counters.iter().map(|query| query.counter.shard());
        let places = places_of(asked());
        let here = |place: &Place| {
            let queries = counters.iter().filter(|query| query.counter.shard() == *place).copied();
            (name_of(workspace, *place), queries.collect())
        };
        let queries: Vec<(WorkspaceId, Vec<CounterQuery>)> = places.iter().map(here).collect();
        let reads = queries.iter().map(|(name, queries)| self.0.read(name, queries, now));
        let answers = join_all(reads).await.into_iter().collect::<Result<Vec<_>, _>>()?;
        in_order(asked(), &places, answers)
    }

    async fn lease(&self, command: &LeaseCommand) -> Result<Vec<LeaseOutcome>, StoreError> {
        let asked = || command.requests.iter().map(|request| request.counter.shard());
        let returned = command.returns.iter().map(|returned| returned.counter.shard());
        let places = places_of(asked().chain(returned));
        let here = |place: &Place| LeaseCommand {
            workspace: name_of(&command.workspace, *place),
            now: command.now,
            returns: command.returns.iter().filter(|r| r.counter.shard() == *place).copied().collect(),
            requests: command.requests.iter().filter(|r| r.counter.shard() == *place).copied().collect(),
        };
        let commands: Vec<LeaseCommand> = places.iter().map(here).collect();
        let outcomes = join_all(commands.iter().map(|here| self.0.lease(here))).await;
        let is_done_somewhere = outcomes.iter().any(Result::is_ok);
        let answers = outcomes.into_iter().collect::<Result<Vec<_>, _>>().map_err(|error| match error {
            StoreError::Unavailable { store, detail } if is_done_somewhere => {
                StoreError::OutcomeUnknown { store, detail }
            }
            error => error,
        })?;
        in_order(asked(), &places, answers)
    }

    async fn reservation(
        &self,
        workspace: &WorkspaceId,
        id: &ReservationId,
    ) -> Result<Option<Reservation>, StoreError> {
        self.0.reservation(workspace, id).await
    }

    async fn settle(&self, commands: Vec<SettleCommand>) -> Result<(), StoreError> {
        self.0.settle(commands.into_iter().flat_map(settled_in).collect()).await
    }

    async fn release(
        &self,
        workspace: &WorkspaceId,
        id: &ReservationId,
        principal: &Principal,
        now: Millis,
    ) -> Result<ReleaseOutcome, StoreError> {
        // First, so that it is done again where what comes after it fails.
        if let Some(shard) = id.shard() {
            self.0.release(&workspace.shard(shard), id, principal, now).await?;
        }
        self.0.release(workspace, id, principal, now).await
    }

    async fn renew(
        &self,
        workspace: &WorkspaceId,
        id: &ReservationId,
        principal: &Principal,
        expires_at: Millis,
        now: Millis,
    ) -> Result<RenewOutcome, StoreError> {
        // First, so that nothing ends in it before the reservation does.
        if let Some(shard) = id.shard() {
            self.0.renew(&workspace.shard(shard), id, principal, expires_at, now).await?;
        }
        self.0.renew(workspace, id, principal, expires_at, now).await
    }

    async fn reset(
        &self,
        workspace: &WorkspaceId,
        counters: ResetCounters,
        now: Millis,
    ) -> Result<u64, StoreError> {
        let place = match counters {
            ResetCounters::One(counter, _) => counter.shard(),
            ResetCounters::All { is_spread: false, .. } => None,
            ResetCounters::All { is_spread: true, .. } => {
                let names: Vec<WorkspaceId> = Shard::all().map(|shard| workspace.shard(shard)).collect();
                let resets: Vec<_> = names.iter().map(|name| self.0.reset(name, counters, now)).collect();
                let resets = stream::iter(resets).buffer_unordered(AT_ONCE);
                return resets.try_fold(0, |sum, count| async move { Ok(sum + count) }).await;
            }
        };
        self.0.reset(&name_of(workspace, place), counters, now).await
    }

    async fn expire_due(&self, now: Millis, limit: usize) -> Result<Vec<ExpiredReservation>, StoreError> {
        // What is held in a shard has no floor, so that none of these is named.
        self.0.expire_due(now, limit).await
    }

    async fn open_budget(
        &self,
        workspace: &WorkspaceId,
        openings: Vec<SettleCharge>,
        through: Position,
        now: Millis,
    ) -> Result<BudgetOpening, StoreError> {
        self.0.open_budget(workspace, openings, through, now).await
    }

    async fn sweep(&self, now: Millis, budgets: &dyn LiveBudgets) -> Result<(), StoreError> {
        self.0.sweep(now, budgets).await
    }

    async fn health(&self) -> Result<CounterHealth, StoreError> {
        let mut health = self.0.health().await?;
        let mut overflowed: Vec<Overflowed> = Vec::new();
        for Overflowed { workspace, charges } in std::mem::take(&mut health.overflowed) {
            let workspace = workspace.of_shard().unwrap_or(workspace);
            match overflowed.iter_mut().find(|known| known.workspace == workspace) {
                Some(known) => known.charges += charges,
                None => overflowed.push(Overflowed { workspace, charges }),
            }
        }
        Ok(CounterHealth { overflowed, ..health })
    }

    async fn checkpoint(&self, clean: bool) -> Result<(), StoreError> {
        self.0.checkpoint(clean).await
    }

    async fn recovered_through(&self) -> Result<Position, StoreError> {
        self.0.recovered_through().await
    }

    fn is_shared(&self) -> bool {
        self.0.is_shared()
    }

    fn parts(&self) -> usize {
        self.0.parts()
    }

    async fn hold_slot(&self, claim: &SlotClaim) -> Result<Option<Slot>, StoreError> {
        self.0.hold_slot(claim).await
    }

    async fn free_slot(&self, holder: SlotHolder, number: u16) -> Result<(), StoreError> {
        self.0.free_slot(holder, number).await
    }

    /// No budget is in a shard, so that there is nothing to count again in one.
    async fn lost(&self) -> Result<Vec<LostCounters>, StoreError> {
        let (in_shards, others): (Vec<_>, Vec<_>) =
            self.0.lost().await?.into_iter().partition(|lost| lost.workspace.of_shard().is_some());
        for lost in &in_shards {
            self.0.rebuilt(lost).await?;
        }
        Ok(others)
    }

    async fn rebuilt(&self, lost: &LostCounters) -> Result<(), StoreError> {
        self.0.rebuilt(lost).await
    }
}
