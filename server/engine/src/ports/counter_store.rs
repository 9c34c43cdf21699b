//! The store that decides: counters, reservations and the ids of decisions.

mod attempts;
mod principal;
mod prompt;
mod settlement;
mod slots;

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use rateguard_core::counter::{CounterFamily, CounterId, Limit, Position, Reading, Shard};
use rateguard_core::decision::{Charge, Mode, Verdict};
use rateguard_core::ids::{RequestId, ReservationId, WorkspaceId};
use rateguard_core::lease::{LeaseOutcome, LeaseRequest, LeaseReturn};
use rateguard_core::money::Nanos;
use rateguard_core::reservation::{Reservation, ReservationState};
use rateguard_core::time::Millis;
use rateguard_core::unit::Unit;
use rateguard_core::usage::CallIdentity;
use smallvec::SmallVec;

pub use attempts::{ATTEMPTS_MAX, Attempt};
pub use principal::{Principal, RESERVATION_RANDOM_BYTES};
pub use prompt::Prompt;
pub use settlement::{SettleCharge, SettleCommand, SettleReservation, Standing};
pub use slots::{SLOT_MARGIN_MS, Slot, SlotClaim, SlotHolder};

use super::StoreError;

/// What makes a check the same check: hashes of its id and of everything that it asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestFingerprint {
    /// Hash of principal and request id.
    pub id: u128,
    /// Hash of what is asked.
    pub content: u64,
    /// Until when a repetition gives the same decision.
    pub expires_at: Millis,
    /// Which attempt it is; `None` where none is ever cancelled.
    pub attempt: Option<Attempt>,
}

/// The reservation that a RESERVE makes when it is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReservationRequest {
    /// The id to give it.
    pub id: ReservationId,
    /// Who takes it.
    pub principal: Principal,
    /// When it expires.
    pub expires_at: Millis,
    /// What the call is thought to cost; `None` where nothing says how much.
    pub cost: Option<Nanos>,
    /// What its input costs.
    pub floor: Nanos,
    /// The call, for the event that its expiry becomes.
    pub call: Arc<CallIdentity>,
    /// The id of the check.
    pub request_id: Option<RequestId>,
}

/// One check.
#[derive(Clone, Debug)]
pub struct CheckCommand {
    /// The tenant.
    pub workspace: WorkspaceId,
    /// The instant of the decision.
    pub now: Millis,
    /// Whether it takes.
    pub mode: Mode,
    /// What it asks of each limit.
    pub charges: SmallVec<[Charge; 8]>,
    /// The limits' units, in the same order; empty unless it reserves.
    pub units: SmallVec<[Unit; 8]>,
    /// Its id; `None` is never remembered.
    pub request: Option<RequestFingerprint>,
    /// The reservation to make; only with [`Mode::Reserve`].
    pub reservation: Option<ReservationRequest>,
}

/// A decision.
#[derive(Clone, Debug, PartialEq)]
pub struct Decided {
    /// The answer.
    pub verdict: Verdict,
    /// The reservation made, with its expiry.
    pub reservation: Option<(ReservationId, Millis)>,
    /// The cost for which it was made, also when it is repeated under other prices.
    pub reserved: Option<Nanos>,
    /// Whether the decision was taken before, for the same request id.
    pub replayed: bool,
}

/// What became of a check.
#[derive(Clone, Debug, PartialEq)]
pub enum CheckOutcome {
    /// It was decided, now or before.
    Decided(Decided),
    /// The id was used for other content before.
    ContentDiffers,
}

/// What became of the cancel of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CancelOutcome {
    /// It is undone: nothing stands that it alone was answered with, and nothing will, should it arrive later.
    Undone,
    /// What the decision took that it was answered with stays taken until its windows are over, and what it reserved
    /// until the reservation is: too many were answered to know of each, or it was the last, and none that was
    /// cancelled named the decision's amounts.
    Stands,
    /// The time of its request id is over, or that of the decision that it repeated, and nothing is undone any more:
    /// what it took, if it arrived, stays taken until its windows are over.
    TooLate,
}

/// A counter to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CounterQuery {
    /// Which counter.
    pub counter: CounterId,
    /// Which counter instead, when this one does not exist and the workspace has too many.
    pub overflow: CounterId,
    /// What it is held against.
    pub limit: Limit,
}

/// What a holder of leases gives back to the counters of one workspace, and what it asks of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseCommand {
    /// The tenant.
    pub workspace: WorkspaceId,
    /// The instant.
    pub now: Millis,
    /// What it does not hold any more; this comes first.
    pub returns: Vec<LeaseReturn>,
    /// What it would like, at most [`LEASES_PER_COMMAND_MAX`] together with what it gives back.
    pub requests: Vec<LeaseRequest>,
}

/// Leases that one command gives back and asks for: more would keep decisions waiting.
pub const LEASES_PER_COMMAND_MAX: usize = 256;

/// What became of a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReleaseOutcome {
    /// The reservation is in this state; `Released` also when it was so before.
    State(ReservationState),
    /// There is none, or none of this principal.
    Unknown,
}

/// What became of a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RenewOutcome {
    /// It is open, and expires then.
    Open(Millis),
    /// It had ended before.
    Ended(ReservationState),
    /// There is none, or none of this principal.
    Unknown,
}

/// Which counters of a rule are set back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetCounters {
    /// One, held against this limit.
    One(CounterId, Limit),
    /// All of the rule's.
    All {
        /// Their family. Two rules may by chance share one, which the caller rules out.
        family: CounterFamily,
        /// Whether they stand in shards.
        is_spread: bool,
    },
}

impl ResetCounters {
    /// Whether a counter is among them.
    pub fn holds(&self, id: CounterId) -> bool {
        match self {
            Self::One(one, _) => *one == id,
            Self::All { family, .. } => id.family() == *family,
        }
    }
}

/// A reservation whose floor waits to become an event.
#[derive(Clone, Debug, PartialEq)]
pub struct ExpiredReservation {
    /// The tenant.
    pub workspace: WorkspaceId,
    /// The reservation, expired.
    pub reservation: Reservation,
}

/// What became of the opening of a budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BudgetOpening {
    /// The counters have what was spent.
    Opened,
    /// Others have settled the log up to here, further than the sums go: nothing was changed, and the sums
    /// have to take in the records up to there.
    Behind(Position),
}

/// A workspace whose counters, or the last writes to them, a store found to be lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostCounters {
    /// The tenant.
    pub workspace: WorkspaceId,
    /// Tells this loss from those that come after it.
    pub loss: u128,
}

/// The budgets that there are, so that the counters of others can be dropped.
pub trait LiveBudgets: Send + Sync {
    /// The counters' families of all budgets of a workspace, also of those that are switched off;
    /// `None` when nothing is known of the workspace.
    fn families(&self, workspace: &WorkspaceId) -> Option<Arc<HashSet<CounterFamily>>>;
}

/// How the counters of all workspaces are, for all processes that share their store. A shared store keeps these
/// figures with each workspace's memory: they outlive this process, and what the store has lost is no more in them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CounterHealth {
    /// Counters over all workspaces.
    pub live_counters: u64,
    /// Ids of decisions that were forgotten before their time: a repetition of such a call is
    /// decided anew.
    pub request_ids_forgotten_early: u64,
    /// The workspaces with charges on overflow counters, in no order.
    pub overflowed: Vec<Overflowed>,
}

/// A workspace that had more counters than it may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overflowed {
    /// The tenant.
    pub workspace: WorkspaceId,
    /// Charges that fell on an overflow counter, those of denied checks included.
    pub charges: u64,
}

/// Decides checks and keeps counters.
///
/// Decisions and settlements of one workspace are one step each, where its rules are not spread over several servers.
/// Settling is idempotent by log
/// position: a record that a counter includes is not charged again.
#[async_trait]
pub trait CounterStore: Send + Sync + 'static {
    /// Decides one check over all its limits.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] and [`StoreError::Full`] when nothing was decided.
    async fn check(&self, command: &CheckCommand) -> Result<CheckOutcome, StoreError>;

    /// The same, at once where the store need not wait. What it waits for does not need the command.
    fn check_promptly<'a>(&'a self, command: &CheckCommand) -> Prompt<'a> {
        let command = command.clone();
        Prompt::Waiting(Box::pin(async move { self.check(&command).await }))
    }

    /// What [`CounterStore::check`] answers when the command repeats a decision that stands; `None`
    /// when it would have to decide. Takes nothing.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]; after [`StoreError::OutcomeUnknown`] its attempt may count among those that
    /// the decision has answered, and whoever asked cancels it.
    async fn recall(&self, command: &CheckCommand) -> Result<Option<CheckOutcome>, StoreError>;

    /// Undoes the attempt of a command, as if it had never been made: what it took is given back and
    /// its reservation released, unless another attempt at the same request id was answered by the same
    /// decision. Should the attempt arrive later, it is refused as [`StoreError::AttemptRefused`]. Again
    /// does nothing; neither does the cancel of a command without an attempt. Only while the time of the
    /// request id lasts is it known what an attempt took.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] and [`StoreError::OutcomeUnknown`]; the caller cancels again.
    async fn cancel(&self, command: &CheckCommand, now: Millis) -> Result<CancelOutcome, StoreError>;

    /// Reads the counters on which a check over all of them would fall, without a decision.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    async fn read(
        &self,
        workspace: &WorkspaceId,
        counters: &[CounterQuery],
        now: Millis,
    ) -> Result<Vec<Reading>, StoreError>;

    /// Ends leases and takes new ones, one outcome for each request. What a lease has is taken from its
    /// counter for good; whoever holds it may spend it for its life.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when nothing was done; after [`StoreError::OutcomeUnknown`] whatever
    /// was asked for may be taken, and whatever was given back may be free.
    async fn lease(&self, command: &LeaseCommand) -> Result<Vec<LeaseOutcome>, StoreError>;

    /// A reservation, while its record stands.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    async fn reservation(
        &self,
        workspace: &WorkspaceId,
        id: &ReservationId,
    ) -> Result<Option<Reservation>, StoreError>;

    /// Settles records in the order of their positions, which the caller keeps.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]; the caller settles again.
    async fn settle(&self, commands: Vec<SettleCommand>) -> Result<(), StoreError>;

    /// Gives a reservation back whole. Again gives the same answer.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    async fn release(
        &self,
        workspace: &WorkspaceId,
        id: &ReservationId,
        principal: &Principal,
        now: Millis,
    ) -> Result<ReleaseOutcome, StoreError>;

    /// Lets an open reservation expire later: at `expires_at`, but never before it would have, and at most
    /// [`RESERVATION_LIFE_MS_MAX`](rateguard_core::limits::RESERVATION_LIFE_MS_MAX) after its decision. The
    /// id of its check is remembered as long. Again is harmless.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    async fn renew(
        &self,
        workspace: &WorkspaceId,
        id: &ReservationId,
        principal: &Principal,
        expires_at: Millis,
        now: Millis,
    ) -> Result<RenewOutcome, StoreError>;

    /// Sets counters of a rule back to nothing used, and says how many there were. What was decided before
    /// counts in them no more: neither what reservations hold, nor what these turn out to have used, nor
    /// is any of it given back. Durable when it returns; each counter by itself is one step. Budgets are
    /// left alone.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]; some may have been set back, and all are when it is done again.
    /// [`StoreError::Full`] where a store remembers too many of them.
    async fn reset(
        &self,
        workspace: &WorkspaceId,
        counters: ResetCounters,
        now: Millis,
    ) -> Result<u64, StoreError>;

    /// Expires what is due and names at most `limit` reservations whose floor has no event yet.
    /// They are named again until that event is settled.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    async fn expire_due(&self, now: Millis, limit: usize) -> Result<Vec<ExpiredReservation>, StoreError>;

    /// Sets what its counters have spent of a budget that is not in force yet, in the period of the
    /// openings' limits, which may be over by now; nothing spent makes no counter.
    /// `through` is the position that the sums include; the counters take every record after it
    /// themselves. What they hold stays. Durable when it returns; again with the same is harmless.
    /// Only where [`CounterStore::is_shared`] can it answer [`BudgetOpening::Behind`].
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    async fn open_budget(
        &self,
        workspace: &WorkspaceId,
        openings: Vec<SettleCharge>,
        through: Position,
        now: Millis,
    ) -> Result<BudgetOpening, StoreError>;

    /// Drops counters that equal fresh ones, budgets' counters whose money nobody can ask for any
    /// more, forgotten ids and old reservations, a bounded number at a time. The counters of a
    /// budget that is gone stay for an hour, in case it is only not known yet.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    async fn sweep(&self, now: Millis, budgets: &dyn LiveBudgets) -> Result<(), StoreError>;

    /// How the counters are, and what their store had to give up for want of room.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    async fn health(&self) -> Result<CounterHealth, StoreError>;

    /// How often this process has found the counters of a workspace, or of a part of one, lost or set back. It knows
    /// that without asking the store, which may be away.
    fn losses(&self) -> u64 {
        0
    }

    /// Writes down what changed, where the store keeps counters in memory; `clean` also writes
    /// what only a clean stop may keep. Does nothing in a store that is durable by itself.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]; what changed is written with the next call.
    async fn checkpoint(&self, clean: bool) -> Result<(), StoreError>;

    /// Every counter includes the log up to here; recovery settles what comes after.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    async fn recovered_through(&self) -> Result<Position, StoreError>;

    /// Whether other processes decide on the same counters. What one of them has opened is then open
    /// for all.
    fn is_shared(&self) -> bool {
        false
    }

    /// How many parts of a shared store may be away by themselves.
    fn parts(&self) -> usize {
        1
    }

    /// In which of the [`parts`](Self::parts) a workspace's counters are, or those of one of its shards.
    fn part_of(&self, _workspace: &WorkspaceId, _shard: Option<Shard>) -> usize {
        0
    }

    /// Claims a slot or renews the claim. `None` when all are held, or where a store is not shared: then
    /// there is nobody to share with.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]; the holder counts its claim from when it asked.
    async fn hold_slot(&self, _claim: &SlotClaim) -> Result<Option<Slot>, StoreError> {
        Ok(None)
    }

    /// Gives a slot up, where this holder has it.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]; the claim then ends by itself.
    async fn free_slot(&self, _holder: SlotHolder, _number: u16) -> Result<(), StoreError> {
        Ok(())
    }

    /// Workspaces whose counters, or the last writes to them, the store found to be lost. Their budgets
    /// deny until they are opened again, each with what the log says, and [`CounterStore::rebuilt`] is
    /// called. Nothing where a store cannot lose what it has.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    async fn lost(&self) -> Result<Vec<LostCounters>, StoreError> {
        Ok(Vec::new())
    }

    /// Lets the budgets of a workspace decide again that was lost, unless more was lost since: then it is
    /// told of as lost again.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]; the caller does it again.
    async fn rebuilt(&self, _lost: &LostCounters) -> Result<(), StoreError> {
        Ok(())
    }
}
