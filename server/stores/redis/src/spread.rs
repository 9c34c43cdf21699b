//! Counters of spread rules, each in the shard of its subject, beside those of a workspace that are not spread.
//!
//! Each shard, and all that is not spread, is a workspace of its own to the store beneath, and a check that
//! stands in several of these places asks them in turn. Each decides for itself at once; between them there is
//! an instant in which what one has taken is not yet given back that another denies. So no limit ever admits
//! too much, and a check may be denied by what was about to be given back.

mod pieces;
mod records;

use async_trait::async_trait;
use futures::future::{join_all, try_join_all};
use futures::{StreamExt, TryStreamExt, stream};
use rateguard_core::counter::{Position, Reading, Shard};
use rateguard_core::ids::{ReservationId, WorkspaceId};
use rateguard_core::lease::{Lease, LeaseOutcome, LeaseReturn};
use rateguard_core::reservation::Reservation;
use rateguard_core::time::Millis;
use rateguard_engine::ports::{
    BudgetOpening, CancelOutcome, CheckCommand, CheckOutcome, CounterHealth, CounterQuery, CounterStore,
    Decided, ExpiredReservation, LeaseCommand, LiveBudgets, LostCounters, Overflowed, Principal,
    ReleaseOutcome, RenewOutcome, ResetCounters, SettleCharge, SettleCommand, Slot, SlotClaim, SlotHolder,
    StoreError,
};
use smallvec::SmallVec;

use self::pieces::{Piece, Pieces, Place, name_of, places_of};
use self::records::settled_in;
use crate::link::STORE;
use crate::reply::corrupt;
use crate::store::AT_ONCE;

/// A store whose counters of one workspace may stand on several servers.
pub struct SpreadCounterStore<S> {
    /// Keeps each place like a workspace.
    store: S,
}

impl<S: CounterStore> SpreadCounterStore<S> {
    /// Spreads what is kept in `store`, which keeps each workspace for itself.
    pub fn new(store: S) -> Self {
        Self { store }
    }

    /// Asks one place after the other, until one denies.
    async fn decide(&self, mut pieces: Pieces) -> Result<CheckOutcome, StoreError> {
        pieces.can_be_undone()?;
        let mut allowed: SmallVec<[Decided; 2]> = SmallVec::new();
        for index in 0..pieces.all().len() {
            match self.store.check(&pieces.all()[index].command).await {
                Ok(CheckOutcome::Decided(decided)) if decided.verdict.allowed => {
                    if let Some(earlier) = held(&decided)
                        && !pieces.hold_under(index, earlier)
                    {
                        allowed = self.follow(&mut pieces, index, allowed, earlier).await?;
                    }
                    allowed.push(decided);
                }
                Ok(CheckOutcome::Decided(denied)) => {
                    self.undo(&pieces.all()[..index]).await?;
                    return Ok(CheckOutcome::Decided(self.deny(&pieces, allowed, denied).await));
                }
                Ok(CheckOutcome::ContentDiffers) => {
                    self.undo(&pieces.all()[..index]).await?;
                    return Ok(CheckOutcome::ContentDiffers);
                }
                // Whoever asked undoes all of it, once it is known that it comes no more.
                Err(error @ StoreError::OutcomeUnknown { .. }) => return Err(error),
                Err(error) => {
                    self.undo(&pieces.all()[..index]).await?;
                    // The reservation stands there whose id has been forgotten.
                    let is_half_done = index > 0 && matches!(error, StoreError::AlreadyExists { .. });
                    return Err(if is_half_done { half_done() } else { error });
                }
            }
        }
        Ok(CheckOutcome::Decided(pieces.together(allowed)))
    }

    /// Lets the places before the one at `index` hold under the reservation that this one has of an earlier
    /// attempt, instead of one of their own.
    async fn follow(
        &self,
        pieces: &mut Pieces,
        index: usize,
        before: SmallVec<[Decided; 2]>,
        earlier: &ReservationId,
    ) -> Result<SmallVec<[Decided; 2]>, StoreError> {
        self.undo(&pieces.all()[..index]).await?;
        if earlier.shard().is_none() {
            // It was decided before anything was spread, and stands as it is.
            return Ok(pieces.all()[..index]
                .iter()
                .zip(before)
                .map(|(piece, decided)| piece.given_back(decided))
                .collect());
        }
        pieces.ask_again_under(index, earlier);
        let mut following = SmallVec::new();
        for piece in &pieces.all()[..index] {
            match self.store.check(&piece.command).await {
                Ok(CheckOutcome::Decided(again))
                    if again.verdict.allowed && held(&again) == Some(earlier) =>
                {
                    following.push(again);
                }
                // Also one whose outcome nobody knows: whoever asked knows nothing of this attempt.
                _ => {
                    self.undo(&pieces.all()[..=index]).await?;
                    return Err(half_done());
                }
            }
        }
        Ok(following)
    }

    /// Tells all other places of a denial, which stands whether they hear of it or not. Those that had allowed it
    /// have given back what they took.
    async fn deny(&self, pieces: &Pieces, allowed: SmallVec<[Decided; 2]>, denied: Decided) -> Decided {
        let index = allowed.len();
        let mut before = allowed.into_iter();
        let others = pieces.all().iter().enumerate().filter(|(other, _)| *other != index);
        let told = others.map(|(_, piece)| self.tell(piece, before.next()));
        let mut decided: SmallVec<[Decided; 2]> = join_all(told).await.into_iter().collect();
        decided.insert(index, denied);
        pieces.together(decided)
    }

    /// How a place stands that has heard of a denial elsewhere.
    async fn tell(&self, piece: &Piece, undone: Option<Decided>) -> Decided {
        if let Some(undone) = undone.filter(|_| !piece.counts_denied()) {
            return piece.given_back(undone);
        }
        match self.store.check(&piece.denied_elsewhere()).await {
            Ok(CheckOutcome::Decided(other)) => other,
            outcome => {
                let workspace = &piece.command.workspace;
                // That a server is away is told elsewhere, once for many calls.
                tracing::debug!(%workspace, ?outcome, "a denial could not be told to other counters of a call");
                piece.unread()
            }
        }
    }

    async fn undo(&self, pieces: impl IntoIterator<Item = &Piece>) -> Result<(), StoreError> {
        let undone = pieces.into_iter().map(|piece| self.store.cancel(&piece.command, piece.command.now));
        for outcome in join_all(undone).await {
            outcome.map_err(|error| {
                let detail = format!("what one shard took may stand, and another denied: {error}");
                StoreError::OutcomeUnknown { store: STORE, detail }
            })?;
        }
        Ok(())
    }

    /// Gives back what a command over several places has lent in those that answered.
    async fn give_back(&self, commands: &[LeaseCommand], lent: Vec<Option<Vec<LeaseOutcome>>>) {
        for (command, lent) in commands.iter().zip(lent) {
            let leases = lent.into_iter().flatten().filter_map(|outcome| outcome.lease);
            let returns: Vec<LeaseReturn> = leases
                .map(|Lease { counter, mark, amount, .. }| LeaseReturn {
                    counter,
                    mark,
                    closed: amount,
                    unused: amount,
                })
                .collect();
            if returns.is_empty() {
                continue;
            }
            let returned = LeaseCommand { returns, requests: Vec::new(), ..command.clone() };
            if let Err(error) = self.store.lease(&returned).await {
                let workspace = &command.workspace;
                tracing::warn!(%workspace, %error, "units that nobody was lent count as spent");
            }
        }
    }
}

/// The reservation under which a piece holds.
fn held(decided: &Decided) -> Option<&ReservationId> {
    decided.reservation.as_ref().map(|(id, _)| id)
}

/// An earlier attempt at the same id stands in one place and not in another, or under another reservation: it
/// is being undone, or one place has forgotten it.
fn half_done() -> StoreError {
    StoreError::AttemptRefused {
        store: STORE,
        detail: "an earlier attempt at the same request id is half done",
    }
}

/// What pieces answered that took nothing; `None` where one has nothing to say.
///
/// # Errors
/// [`StoreError::AttemptRefused`] where they hold under different reservations.
fn one_answer(
    pieces: &Pieces,
    answers: Vec<Option<CheckOutcome>>,
) -> Result<Option<CheckOutcome>, StoreError> {
    let differs = |answer: &Option<CheckOutcome>| matches!(answer, Some(CheckOutcome::ContentDiffers));
    if answers.iter().any(differs) {
        return Ok(Some(CheckOutcome::ContentDiffers));
    }
    let decided: Option<SmallVec<[Decided; 2]>> = answers
        .into_iter()
        .map(|answer| match answer {
            Some(CheckOutcome::Decided(piece)) => Some(piece),
            _ => None,
        })
        .collect();
    let Some(decided) = decided else { return Ok(None) };
    if decided.windows(2).any(|two| held(&two[0]) != held(&two[1])) {
        return Err(half_done());
    }
    Ok(Some(CheckOutcome::Decided(pieces.together(decided))))
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

/// The shard in which a principal holds something under an id.
fn shard_of(id: &ReservationId, principal: &Principal) -> Place {
    id.shard().filter(|_| principal.took(id))
}

#[async_trait]
impl<S: CounterStore> CounterStore for SpreadCounterStore<S> {
    async fn check(&self, command: &CheckCommand) -> Result<CheckOutcome, StoreError> {
        match Pieces::of(command) {
            None => self.store.check(command).await,
            Some(pieces) if pieces.is_peek() => {
                let asked = pieces.all().iter().map(|piece| self.store.check(&piece.command));
                let answers = try_join_all(asked).await?.into_iter().map(Some).collect();
                one_answer(&pieces, answers)?.ok_or_else(|| corrupt("no answer to a check"))
            }
            Some(pieces) => self.decide(pieces).await,
        }
    }

    async fn recall(&self, command: &CheckCommand) -> Result<Option<CheckOutcome>, StoreError> {
        match Pieces::of(command) {
            None => self.store.recall(command).await,
            Some(pieces) => {
                let asked = pieces.all().iter().map(|piece| self.store.recall(&piece.command));
                let answers = join_all(asked).await;
                let knows_nothing = |answer: &Result<Option<_>, _>| match answer {
                    Ok(known) => known.is_none(),
                    Err(error) => {
                        matches!(error, StoreError::Unavailable { .. } | StoreError::AttemptRefused { .. })
                    }
                };
                let may_know = answers.iter().zip(pieces.all()).filter(|(answer, _)| !knows_nothing(answer));
                let may_know: SmallVec<[&Piece; 2]> = may_know.map(|(_, piece)| piece).collect();
                let answers = answers.into_iter().collect::<Result<Vec<_>, _>>();
                let together = answers.and_then(|answers| one_answer(&pieces, answers));
                if !matches!(together, Ok(Some(CheckOutcome::Decided(_)))) {
                    // Whoever is told nothing is none of those who were answered, where one place knew the id.
                    self.undo(may_know).await?;
                }
                together
            }
        }
    }

    async fn cancel(&self, command: &CheckCommand, now: Millis) -> Result<CancelOutcome, StoreError> {
        let Some(pieces) = Pieces::of(command) else { return self.store.cancel(command, now).await };
        let again = pieces.asked_again();
        let commands = pieces.all().iter().map(|piece| &piece.command).chain(&again);
        let asked = commands.map(|command| self.store.cancel(command, now));
        let outcomes = join_all(asked).await.into_iter().collect::<Result<SmallVec<[_; 2]>, _>>()?;
        let not_undone = outcomes.into_iter().find(|outcome| *outcome != CancelOutcome::Undone);
        Ok(not_undone.unwrap_or(CancelOutcome::Undone))
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
        let reads = queries.iter().map(|(name, queries)| self.store.read(name, queries, now));
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
        let outcomes = join_all(commands.iter().map(|here| self.store.lease(here))).await;
        let (mut lent, mut failed, mut is_unknown) = (Vec::new(), None, false);
        for outcome in outcomes {
            is_unknown |= matches!(outcome, Err(StoreError::OutcomeUnknown { .. }));
            lent.push(outcome.map_err(|error| failed = Some(error)).ok());
        }
        if let Some(error) = failed {
            let returned =
                |(here, lent): (&LeaseCommand, &Option<_>)| lent.is_some() && !here.returns.is_empty();
            is_unknown |= commands.iter().zip(&lent).any(returned);
            self.give_back(&commands, lent).await;
            return Err(match error {
                StoreError::Unavailable { store, detail } if is_unknown => {
                    StoreError::OutcomeUnknown { store, detail }
                }
                error => error,
            });
        }
        let answers = lent.into_iter().flatten().collect();
        in_order(asked(), &places, answers)
    }

    async fn reservation(
        &self,
        workspace: &WorkspaceId,
        id: &ReservationId,
    ) -> Result<Option<Reservation>, StoreError> {
        self.store.reservation(workspace, id).await
    }

    async fn settle(&self, commands: Vec<SettleCommand>) -> Result<(), StoreError> {
        self.store.settle(commands.into_iter().flat_map(settled_in).collect()).await
    }

    async fn release(
        &self,
        workspace: &WorkspaceId,
        id: &ReservationId,
        principal: &Principal,
        now: Millis,
    ) -> Result<ReleaseOutcome, StoreError> {
        // First, so that it is done again where what comes after it fails.
        if let Some(shard) = shard_of(id, principal) {
            self.store.release(&workspace.shard(shard), id, principal, now).await?;
        }
        self.store.release(workspace, id, principal, now).await
    }

    async fn renew(
        &self,
        workspace: &WorkspaceId,
        id: &ReservationId,
        principal: &Principal,
        expires_at: Millis,
        now: Millis,
    ) -> Result<RenewOutcome, StoreError> {
        let Some(shard) = shard_of(id, principal).map(|shard| workspace.shard(shard)) else {
            return self.store.renew(workspace, id, principal, expires_at, now).await;
        };
        // First: what has ended there is held no more, whatever stands beside it.
        let ended @ RenewOutcome::Ended(_) = self.store.renew(&shard, id, principal, expires_at, now).await?
        else {
            let renewed = self.store.renew(workspace, id, principal, expires_at, now).await?;
            if matches!(renewed, RenewOutcome::Ended(_)) {
                self.store.release(&shard, id, principal, now).await?;
            }
            return Ok(renewed);
        };
        Ok(ended)
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
                let resets: Vec<_> = names.iter().map(|name| self.store.reset(name, counters, now)).collect();
                let resets = stream::iter(resets).buffer_unordered(AT_ONCE);
                return resets.try_fold(0, |sum, count| async move { Ok(sum + count) }).await;
            }
        };
        self.store.reset(&name_of(workspace, place), counters, now).await
    }

    async fn expire_due(&self, now: Millis, limit: usize) -> Result<Vec<ExpiredReservation>, StoreError> {
        // What is held in a shard has no floor, so that none of these is named.
        self.store.expire_due(now, limit).await
    }

    async fn open_budget(
        &self,
        workspace: &WorkspaceId,
        openings: Vec<SettleCharge>,
        through: Position,
        now: Millis,
    ) -> Result<BudgetOpening, StoreError> {
        self.store.open_budget(workspace, openings, through, now).await
    }

    async fn sweep(&self, now: Millis, budgets: &dyn LiveBudgets) -> Result<(), StoreError> {
        self.store.sweep(now, budgets).await
    }

    async fn health(&self) -> Result<CounterHealth, StoreError> {
        let mut health = self.store.health().await?;
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

    fn losses(&self) -> u64 {
        self.store.losses()
    }

    async fn checkpoint(&self, clean: bool) -> Result<(), StoreError> {
        self.store.checkpoint(clean).await
    }

    async fn recovered_through(&self) -> Result<Position, StoreError> {
        self.store.recovered_through().await
    }

    fn is_shared(&self) -> bool {
        self.store.is_shared()
    }

    fn parts(&self) -> usize {
        self.store.parts()
    }

    fn part_of(&self, workspace: &WorkspaceId, shard: Option<Shard>) -> usize {
        match shard {
            None => self.store.part_of(workspace, None),
            Some(shard) => self.store.part_of(&workspace.shard(shard), None),
        }
    }

    async fn hold_slot(&self, claim: &SlotClaim) -> Result<Option<Slot>, StoreError> {
        self.store.hold_slot(claim).await
    }

    async fn free_slot(&self, holder: SlotHolder, number: u16) -> Result<(), StoreError> {
        self.store.free_slot(holder, number).await
    }

    /// No budget is in a shard, so that there is nothing to count again in one.
    async fn lost(&self) -> Result<Vec<LostCounters>, StoreError> {
        let (in_shards, others): (Vec<_>, Vec<_>) =
            self.store.lost().await?.into_iter().partition(|lost| lost.workspace.of_shard().is_some());
        let told = in_shards.iter().map(|lost| self.store.rebuilt(lost));
        for (lost, told) in in_shards.iter().zip(join_all(told).await) {
            if let Err(error) = told {
                // It is told again, and nothing waits for it.
                tracing::debug!(shard = %lost.workspace, %error, "a shard does not know that it lost nothing to count");
            }
        }
        Ok(others)
    }

    async fn rebuilt(&self, lost: &LostCounters) -> Result<(), StoreError> {
        self.store.rebuilt(lost).await
    }
}
