//! The store: decisions and settlements, one script call each.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use crc16::{State, XMODEM};
use futures::{StreamExt, TryStreamExt, stream};
use hashbrown::HashMap;
use rateguard_core::counter::{Position, Reading, Shard};
use rateguard_core::decision::Mode;
use rateguard_core::ids::{ReservationId, WorkspaceId};
use rateguard_core::lease::LeaseOutcome;
use rateguard_core::limits::RESERVATION_LIFE_MS_MAX;
use rateguard_core::reservation::{Reservation, ReservationState};
use rateguard_core::time::Millis;
use rateguard_engine::ports::{
    BudgetOpening, CancelOutcome, CheckCommand, CheckOutcome, CounterHealth, CounterQuery, CounterStore,
    ExpiredReservation, LeaseCommand, LiveBudgets, LostCounters, Principal, ReleaseOutcome, RenewOutcome,
    ResetCounters, SettleCharge, SettleCommand, Slot, SlotClaim, SlotHolder, StoreError,
};

use crate::config::{RedisCounterStoreConfig, ScriptClock, Topology};
use crate::decode;
use crate::encode::{self, Bounded, counter_bytes, reservation_bytes};
use crate::link::{Link, STORE, unavailable};
use crate::pack::Packer;
use crate::reply::{Doubt, Generation, Head, Reply, corrupt};
use crate::scripts::{CANCEL, CHECK, Function, LEASE, SETTLE, TEND};
use crate::workspaces::{Known, Workspaces};

/// Records settled by one script: longer ones would keep others waiting.
const RECORDS_PER_SCRIPT: usize = 100;
/// Slots of a cluster by which keys are spread over its servers.
const SLOTS: usize = 16_384;
/// Ranges of slots of which each may be on a server of its own. Servers have few ranges, and long ones, so that
/// next to none of these stands on two; and there are few enough that each soon learns how its server is.
const CLUSTER_PARTS: usize = 256;
/// Openings told by one script.
const OPENINGS_PER_SCRIPT: usize = 512;
/// Workspaces that are worked on at once.
pub(crate) const AT_ONCE: usize = 16;
/// Keys that the ids of one workspace's decisions are spread over: with a few hundred thousand ids
/// each key holds so few that Redis packs them.
const ID_BUCKETS: usize = 4_096;
/// What one id takes, packed.
const ID_BYTES: usize = 60;
/// Fewest ids that a key holds before some are forgotten early.
const BUCKET_IDS_MIN: usize = 8;

/// The answers of the scripts.
mod code {
    pub(super) const DECIDED: i64 = 0;
    pub(super) const CONTENT_DIFFERS: i64 = 1;
    pub(super) const UNDECIDED: i64 = 2;
    pub(super) const FULL: i64 = 3;
    pub(super) const TAKEN: i64 = 4;
    /// An opening's, whose sums go less far than the counters.
    pub(super) const BEHIND: i64 = 1;
    pub(super) const CANCELLED: i64 = 5;
    /// A cancel's.
    pub(super) const UNDONE: i64 = 0;
    pub(super) const TOO_LATE: i64 = 1;
    pub(super) const STANDS: i64 = 2;
    /// A reset's.
    pub(super) const RESETS_FULL: i64 = 2;
}

/// Counters in Redis.
pub struct RedisCounterStore {
    pub(crate) config: RedisCounterStoreConfig,
    pub(crate) link: Link,
    pub(crate) workspaces: Workspaces,
    bounds: Bounded,
    generation: Generation,
    /// Every record up to here is in the counters, by this process.
    settled_through: AtomicU64,
    /// And this is written down.
    pub(crate) written_through: AtomicU64,
}

/// The slot of keys with a hash tag, which is a workspace's name; as Redis' cluster specification has it.
fn slot_of(tag: &str) -> usize {
    usize::from(State::<XMODEM>::calculate(tag.as_bytes())) % SLOTS
}

impl RedisCounterStore {
    /// A store on servers that may be away: it connects with its first call.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when an address is malformed or the system has no randomness.
    pub fn new(config: RedisCounterStoreConfig) -> Result<Self, StoreError> {
        let mut generation = Generation::default();
        getrandom::fill(&mut generation).map_err(|error| unavailable(error.to_string()))?;
        let bounds = Bounded {
            live_counters_max: config.live_counters_max,
            reservations_max: config.reservations_max,
            ids_max: (config.request_ids_bytes_max / ID_BYTES / ID_BUCKETS).max(BUCKET_IDS_MIN),
        };
        Ok(Self {
            link: Link::new(&config)?,
            config,
            workspaces: Workspaces::default(),
            bounds,
            generation,
            settled_through: AtomicU64::new(0),
            written_through: AtomicU64::new(0),
        })
    }

    /// Whether the servers know nothing of an installation with such a log. Of one without records nothing needs to
    /// be known.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the servers cannot be asked, or do not let this user run its functions.
    pub async fn is_new_to(&self, log_end: Position) -> Result<bool, StoreError> {
        self.try_functions().await?;
        Ok(self.read_position().await? == Position::default() && log_end != Position::default())
    }

    /// Prepares servers that know nothing of an installation for its log: budgets of its workspaces deny
    /// until they are counted from it, and other limits begin anew.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the servers cannot be asked; it may be repeated.
    pub async fn begin(&self, workspaces: &[WorkspaceId], log_end: Position) -> Result<(), StoreError> {
        for workspace in workspaces {
            let known = self.enter(workspace).await?;
            let mut packer = self.head(&known, 1, Millis::ZERO);
            packer.text("doubt");
            self.tend(&known, packer, self.config.batch_deadline).await?;
        }
        self.settled_through.fetch_max(log_end.0, Ordering::AcqRel);
        self.write_position().await
    }

    /// The instant that a script is given; zero lets it take the server's.
    pub(crate) fn instant(&self, now: Millis) -> Millis {
        match self.config.clock {
            ScriptClock::Server => Millis::ZERO,
            ScriptClock::Command => now,
        }
    }

    /// A command's head, for `length` fields after it.
    pub(crate) fn head(&self, known: &Known, length: usize, now: Millis) -> Packer {
        known.head(length, self.instant(now), self.generation)
    }

    /// The key of a workspace's counters; those of everything else begin with the same.
    pub(crate) fn key(&self, workspace: &WorkspaceId) -> String {
        format!("{}:{{{workspace}}}:c", self.config.key_prefix)
    }

    /// The key that the id of a decision is kept under.
    fn ids_key(&self, workspace: &WorkspaceId, id: u128) -> String {
        format!("{}:{{{workspace}}}:i:{:x}", self.config.key_prefix, id % ID_BUCKETS as u128)
    }

    /// The workspace, which stands in the list of all of them before anything is written to it.
    pub(crate) async fn enter(&self, id: &WorkspaceId) -> Result<Arc<Known>, StoreError> {
        let known = self.workspaces.get(id);
        if !known.is_registered() {
            self.register(&known).await?;
            known.set_registered(true);
        }
        Ok(known)
    }

    /// Runs a function on a workspace.
    pub(crate) async fn run(
        &self,
        function: &Function,
        known: &Known,
        keys: &[String],
        command: Packer,
        within: Duration,
    ) -> Result<(Head, Reply), StoreError> {
        let value = self.link.run(function, keys, &command.finish(), within).await?;
        let mut reply = Reply::of(value)?;
        let head = reply.head()?;
        known.take_in(&head);
        Ok((head, reply))
    }

    pub(crate) async fn tend(
        &self,
        known: &Known,
        command: Packer,
        within: Duration,
    ) -> Result<Reply, StoreError> {
        let keys = [self.key(&known.id)];
        Ok(self.run(&TEND, known, &keys, command, within).await?.1)
    }

    async fn ask(&self, command: &CheckCommand, recalls: bool) -> Result<(Head, Reply), StoreError> {
        let known = self.enter(&command.workspace).await?;
        let mut packer = self.head(&known, 9, command.now);
        encode::check(&mut packer, command, self.bounds, recalls);
        let mut keys = vec![self.key(&command.workspace)];
        if let Some(request) = command.request.filter(|_| command.mode != Mode::Peek) {
            keys.push(self.ids_key(&command.workspace, request.id));
        }
        self.run(&CHECK, &known, &keys, packer, self.config.deadline).await
    }

    async fn settle_workspace(&self, commands: Vec<SettleCommand>) -> Result<(), StoreError> {
        let Some(first) = commands.first() else { return Ok(()) };
        let known = self.enter(&first.workspace).await?;
        let keys = [self.key(&first.workspace)];
        let together = |a: &SettleCommand, b: &SettleCommand| self.instant(a.now) == self.instant(b.now);
        for records in commands.chunk_by(together).flat_map(|records| records.chunks(RECORDS_PER_SCRIPT)) {
            let mut packer = self.head(&known, 2, encode::latest(records));
            encode::settlements(&mut packer, records, self.bounds);
            self.run(&SETTLE, &known, &keys, packer, self.config.batch_deadline).await?;
        }
        Ok(())
    }

    pub(crate) fn settled_through(&self) -> u64 {
        self.settled_through.load(Ordering::Acquire)
    }
}

/// The caller gave the attempt up before it arrived.
fn cancelled() -> StoreError {
    StoreError::AttemptRefused { store: STORE, detail: "the attempt was cancelled before it arrived" }
}

#[async_trait]
impl CounterStore for RedisCounterStore {
    async fn check(&self, command: &CheckCommand) -> Result<CheckOutcome, StoreError> {
        if command.mode == Mode::Reserve && command.reservation.is_none() {
            return Err(unavailable("a check that reserves came without a reservation to make"));
        }
        let (head, mut reply) = self.ask(command, false).await?;
        match head.code {
            code::DECIDED => decode::decided(&mut reply, command),
            code::CONTENT_DIFFERS => Ok(CheckOutcome::ContentDiffers),
            code::FULL => Err(StoreError::Full { what: "the table of reservations" }),
            code::CANCELLED => Err(cancelled()),
            code::TAKEN => Err(StoreError::AlreadyExists { field: "reservation id" }),
            other => Err(corrupt(format!("the answer {other} to a check"))),
        }
    }

    async fn recall(&self, command: &CheckCommand) -> Result<Option<CheckOutcome>, StoreError> {
        let (head, mut reply) = self.ask(command, true).await?;
        match head.code {
            code::DECIDED => decode::decided(&mut reply, command).map(Some),
            code::CONTENT_DIFFERS => Ok(Some(CheckOutcome::ContentDiffers)),
            code::UNDECIDED => Ok(None),
            code::CANCELLED => Err(cancelled()),
            other => Err(corrupt(format!("the answer {other} to a recall"))),
        }
    }

    async fn cancel(&self, command: &CheckCommand, now: Millis) -> Result<CancelOutcome, StoreError> {
        let Some(request) = command.request.filter(|_| command.mode != Mode::Peek) else {
            return Ok(CancelOutcome::Undone);
        };
        if request.attempt.is_none() {
            return Ok(CancelOutcome::Undone);
        }
        let known = self.enter(&command.workspace).await?;
        let mut packer = self.head(&known, 3, now);
        encode::cancel(&mut packer, command, &request);
        let keys = [self.key(&command.workspace), self.ids_key(&command.workspace, request.id)];
        let (head, _) = self.run(&CANCEL, &known, &keys, packer, self.config.deadline).await?;
        match head.code {
            code::UNDONE => Ok(CancelOutcome::Undone),
            code::STANDS => Ok(CancelOutcome::Stands),
            code::TOO_LATE => Ok(CancelOutcome::TooLate),
            other => Err(corrupt(format!("the answer {other} to a cancel"))),
        }
    }

    async fn hold_slot(&self, claim: &SlotClaim) -> Result<Option<Slot>, StoreError> {
        self.claim_slot(claim).await
    }

    async fn free_slot(&self, holder: SlotHolder, number: u16) -> Result<(), StoreError> {
        self.drop_slot(holder, number).await
    }

    async fn read(
        &self,
        workspace: &WorkspaceId,
        counters: &[CounterQuery],
        now: Millis,
    ) -> Result<Vec<Reading>, StoreError> {
        let known = self.enter(workspace).await?;
        let mut packer = self.head(&known, 3, now);
        packer.text("read").array(counters.len());
        for CounterQuery { counter, overflow, limit } in counters {
            let charge = SettleCharge { counter: *counter, overflow: *overflow, limit: *limit, amount: 0 };
            encode::limit(&mut packer, &charge);
        }
        packer.count(self.bounds.live_counters_max);
        let mut reply = self.tend(&known, packer, self.config.deadline).await?;
        counters.iter().map(|query| decode::reading(&mut reply, &query.limit)).collect()
    }

    async fn lease(&self, command: &LeaseCommand) -> Result<Vec<LeaseOutcome>, StoreError> {
        let known = self.enter(&command.workspace).await?;
        let mut packer = self.head(&known, 3, command.now);
        encode::leases(&mut packer, command, self.bounds);
        let keys = [self.key(&command.workspace)];
        let (_, mut reply) = self.run(&LEASE, &known, &keys, packer, self.config.deadline).await?;
        command.requests.iter().map(|request| decode::leased(&mut reply, &request.limit)).collect()
    }

    async fn reservation(
        &self,
        workspace: &WorkspaceId,
        id: &ReservationId,
    ) -> Result<Option<Reservation>, StoreError> {
        let known = self.enter(workspace).await?;
        let mut packer = self.head(&known, 2, Millis::ZERO);
        packer.text("reservation").text(reservation_bytes(id));
        let mut reply = self.tend(&known, packer, self.config.deadline).await?;
        if reply.is_empty() {
            return Ok(None);
        }
        // Text that is no number has the bits of zero, so the id itself is compared too.
        Ok(Some(decode::reservation(&mut reply)?).filter(|reservation| reservation.id == *id))
    }

    async fn settle(&self, commands: Vec<SettleCommand>) -> Result<(), StoreError> {
        let last = commands.iter().map(|command| command.position.0).max().unwrap_or(0);
        let mut by_workspace: HashMap<WorkspaceId, Vec<SettleCommand>> = HashMap::new();
        for command in commands {
            by_workspace.entry(command.workspace.clone()).or_default().push(command);
        }
        stream::iter(by_workspace.into_values().map(|commands| self.settle_workspace(commands)))
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await?;
        self.settled_through.fetch_max(last, Ordering::AcqRel);
        Ok(())
    }

    async fn release(
        &self,
        workspace: &WorkspaceId,
        id: &ReservationId,
        principal: &Principal,
        now: Millis,
    ) -> Result<ReleaseOutcome, StoreError> {
        let known = self.enter(workspace).await?;
        let mut packer = self.head(&known, 4, now);
        packer.text("release").text(reservation_bytes(id));
        packer.text(principal.key.as_str()).integer(i64::from(principal.by_gateway));
        let state = self.tend(&known, packer, self.config.deadline).await?.small()?;
        Ok(decode::released(state)?.map_or(ReleaseOutcome::Unknown, ReleaseOutcome::State))
    }

    async fn renew(
        &self,
        workspace: &WorkspaceId,
        id: &ReservationId,
        principal: &Principal,
        expires_at: Millis,
        now: Millis,
    ) -> Result<RenewOutcome, StoreError> {
        let known = self.enter(workspace).await?;
        let mut packer = self.head(&known, 5, now);
        packer.text("renew").text(reservation_bytes(id));
        packer.text(principal.key.as_str()).integer(i64::from(principal.by_gateway));
        packer.array(3).integer(expires_at.get()).integer(now.get()).integer(RESERVATION_LIFE_MS_MAX);
        let mut reply = self.tend(&known, packer, self.config.deadline).await?;
        let (state, expires_at) = (decode::released(reply.small()?)?, reply.instant()?);
        Ok(match state {
            None => RenewOutcome::Unknown,
            Some(ReservationState::Open) => RenewOutcome::Open(expires_at),
            Some(ended) => RenewOutcome::Ended(ended),
        })
    }

    async fn reset(
        &self,
        workspace: &WorkspaceId,
        counters: ResetCounters,
        now: Millis,
    ) -> Result<u64, StoreError> {
        let known = self.enter(workspace).await?;
        let mut packer = self.head(&known, 3, now);
        packer.text("reset");
        match counters {
            ResetCounters::One(counter, _) => packer.text(counter_bytes(counter)).flag(false),
            ResetCounters::All { family, .. } => packer.text(family.0.to_be_bytes()).flag(true),
        };
        let keys = [self.key(workspace)];
        let (head, mut reply) = self.run(&TEND, &known, &keys, packer, self.config.batch_deadline).await?;
        if head.code == code::RESETS_FULL {
            return Err(StoreError::Full { what: "the list of counters that were set back" });
        }
        let set_back = reply.small()?.unsigned_abs();
        Ok(match counters {
            ResetCounters::One(..) => set_back,
            ResetCounters::All { family, .. } => self.set_back(&known, family, now).await?,
        })
    }

    async fn expire_due(&self, now: Millis, limit: usize) -> Result<Vec<ExpiredReservation>, StoreError> {
        self.expire(now, limit).await
    }

    async fn open_budget(
        &self,
        workspace: &WorkspaceId,
        openings: Vec<SettleCharge>,
        through: Position,
        now: Millis,
    ) -> Result<BudgetOpening, StoreError> {
        let known = self.enter(workspace).await?;
        for openings in openings.chunks(OPENINGS_PER_SCRIPT) {
            let mut packer = self.head(&known, 4, now);
            packer.text("open").array(openings.len());
            openings.iter().for_each(|opening| encode::limit(&mut packer, opening));
            packer.integer(through.0).count(self.bounds.live_counters_max);
            let keys = [self.key(workspace)];
            let (head, mut reply) =
                self.run(&TEND, &known, &keys, packer, self.config.batch_deadline).await?;
            if head.code == code::BEHIND {
                let settled = u64::try_from(reply.integer()?).map_err(|_| corrupt("a position"))?;
                return Ok(BudgetOpening::Behind(Position(settled)));
            }
        }
        Ok(BudgetOpening::Opened)
    }

    async fn sweep(&self, now: Millis, budgets: &dyn LiveBudgets) -> Result<(), StoreError> {
        self.drop_idle(now, budgets).await
    }

    async fn health(&self) -> Result<CounterHealth, StoreError> {
        self.look_after().await
    }

    fn losses(&self) -> u64 {
        self.workspaces.losses()
    }

    async fn checkpoint(&self, _clean: bool) -> Result<(), StoreError> {
        self.write_position().await
    }

    async fn recovered_through(&self) -> Result<Position, StoreError> {
        self.read_position().await
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn parts(&self) -> usize {
        match self.config.topology {
            Topology::Single { .. } | Topology::Sentinel { .. } => 1,
            Topology::Cluster { .. } => CLUSTER_PARTS,
        }
    }

    fn part_of(&self, workspace: &WorkspaceId, _: Option<Shard>) -> usize {
        let parts = self.parts();
        if parts == 1 { 0 } else { slot_of(workspace.as_str()) * parts / SLOTS }
    }

    async fn lost(&self) -> Result<Vec<LostCounters>, StoreError> {
        let lost = |known: &Arc<Known>| {
            known.loss().map(|doubt| LostCounters { workspace: known.id.clone(), loss: doubt.to_bits() })
        };
        Ok(self.workspaces.all().iter().filter_map(lost).collect())
    }

    async fn rebuilt(&self, lost: &LostCounters) -> Result<(), StoreError> {
        let known = self.enter(&lost.workspace).await?;
        let Doubt { generation, number } = Doubt::from_bits(lost.loss);
        let mut packer = self.head(&known, 3, Millis::ZERO);
        packer.text("rebuilt").text(generation).integer(number);
        self.tend(&known, packer, self.config.batch_deadline).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_cluster_specification() {
        // Those of the documentation of CLUSTER KEYSLOT.
        assert_eq!([slot_of("somekey"), slot_of("hash_tag")], [11_058, 2_515]);
    }
}
