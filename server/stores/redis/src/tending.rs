//! What is done beside decisions and settlements, for all workspaces in turns.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::{StreamExt, TryStreamExt, stream};
use rateguard_core::counter::{CounterFamily, Position};
use rateguard_core::ids::WorkspaceId;
use rateguard_core::time::Millis;
use rateguard_engine::ports::{
    CounterHealth, ExpiredReservation, LiveBudgets, Overflowed, SLOT_MARGIN_MS, Slot, SlotClaim, SlotHolder,
    StoreError,
};
use redis::{Value, cmd};

use crate::decode;
use crate::pack::Packer;
use crate::reply::{Reply, corrupt};
use crate::scripts::{CLAIM_SLOT, FREE_SLOT, TEND};
use crate::store::{AT_ONCE, RedisCounterStore};
use crate::workspaces::{Figures, Known, Work};

/// Workspaces that one round looks at: those beyond have their turn in the next ones.
const WORKSPACES_PER_ROUND: usize = 256;
/// Shards that one round looks at beside them: what is due in one is also freed by the next call there.
const SHARDS_PER_ROUND: usize = 16;
/// Workspaces that are learnt of at once.
const LEARNT_AT_ONCE: usize = 1_000;
/// Counters that a sweep looks at, about, in one workspace.
const SWEPT_COUNTERS: usize = 200;
/// Counters that one step of a reset looks at, about.
const SET_BACK_COUNTERS: usize = 300;
/// Records of old reservations dropped by one script.
const DROPPED_RESERVATIONS: usize = 100;
/// How long what all workspaces have in common is kept when nobody touches it: 500 days.
const KEPT_MS: i64 = 43_200_000_000;
/// Raises a position, and never lowers it; whoever does it is there, and with it the list of workspaces.
const RAISE: &str = "
redis.call('PEXPIRE', KEYS[2], ARGV[2])
local known = tonumber(redis.call('GET', KEYS[1]) or '0')
local raised = math.max(known, tonumber(ARGV[1]))
redis.call('SET', KEYS[1], string.format('%.0f', raised), 'PX', ARGV[2])
return 1
";

impl RedisCounterStore {
    fn common_key(&self, name: &str) -> String {
        format!("{}:{{all}}:{name}", self.config.key_prefix)
    }

    /// Claims a slot, for longer than the holder counts on.
    pub(crate) async fn claim_slot(&self, claim: &SlotClaim) -> Result<Option<Slot>, StoreError> {
        let mut packer = Packer::default();
        packer.array(6).integer(self.instant(claim.now).get()).text(claim.holder.0.to_be_bytes());
        packer
            .integer(claim.last.map_or(-1, i64::from))
            .integer(claim.life_ms.saturating_add(SLOT_MARGIN_MS));
        packer.integer(claim.settling_ms).integer(claim.slots_max);
        let keys = [self.common_key("slots")];
        let within = self.config.batch_deadline;
        let value = self.link.run(&CLAIM_SLOT, &keys, &packer.finish(), within).await?;
        let mut reply = Reply::of(value)?;
        let (number, usable_in_ms) = (reply.small()?, reply.small()?);
        Ok(u16::try_from(number).ok().map(|number| Slot { number, usable_in_ms }))
    }

    pub(crate) async fn drop_slot(&self, holder: SlotHolder, number: u16) -> Result<(), StoreError> {
        let mut packer = Packer::default();
        packer.array(2).text(holder.0.to_be_bytes()).integer(number);
        let keys = [self.common_key("slots")];
        self.link.run(&FREE_SLOT, &keys, &packer.finish(), self.config.deadline).await.map(drop)
    }

    /// Puts a workspace into the list of all of them, so that whoever is left expires what it holds.
    pub(crate) async fn register(&self, known: &Known) -> Result<(), StoreError> {
        let key = self.common_key("workspaces");
        let within = self.config.deadline;
        self.link.send(cmd("SADD").arg(&key).arg(known.id.as_str()), within).await?;
        self.link.send(cmd("PEXPIRE").arg(&key).arg(KEPT_MS), within).await.map(drop)
    }

    /// Learns of workspaces that others have written to, and puts those back into the list that it has
    /// lost: nobody else may touch them any more.
    async fn learn(&self) -> Result<(), StoreError> {
        let listed = self.listed().await?;
        for known in self.workspaces.all() {
            if !listed.contains(&known.id) {
                self.register(&known).await?;
            }
            known.set_registered(true);
        }
        Ok(())
    }

    async fn listed(&self) -> Result<HashSet<WorkspaceId>, StoreError> {
        let mut listed = HashSet::new();
        let mut cursor = b"0".to_vec();
        loop {
            let mut scan = cmd("SSCAN");
            scan.arg(self.common_key("workspaces")).arg(&cursor).arg("COUNT").arg(LEARNT_AT_ONCE);
            let mut page = Reply::of(self.link.send(&scan, self.config.batch_deadline).await?)?;
            cursor = page.bytes()?;
            let mut ids = page.list()?;
            while !ids.is_empty() {
                let id = WorkspaceId::parse("workspace", &ids.text()?);
                let id = id.map_err(|error| corrupt(format!("in the list of workspaces: {error}")))?;
                self.workspaces.get(&id);
                listed.insert(id);
            }
            if cursor == b"0" {
                return Ok(listed);
            }
        }
    }

    pub(crate) async fn expire(
        &self,
        now: Millis,
        limit: usize,
    ) -> Result<Vec<ExpiredReservation>, StoreError> {
        self.learn().await?;
        let round = self.workspaces.next(Work::Expiring, WORKSPACES_PER_ROUND, SHARDS_PER_ROUND);
        let expired: Vec<Vec<ExpiredReservation>> =
            stream::iter(round.into_iter().map(|known| self.expire_in(known, now, limit)))
                .buffered(AT_ONCE)
                .try_collect()
                .await?;
        Ok(expired.into_iter().flatten().take(limit).collect())
    }

    async fn expire_in(
        &self,
        known: Arc<Known>,
        now: Millis,
        limit: usize,
    ) -> Result<Vec<ExpiredReservation>, StoreError> {
        loop {
            let mut packer = self.head(&known, 2, now);
            packer.text("expire").count(limit);
            let mut reply = self.tend(&known, packer, self.config.batch_deadline).await?;
            let is_all = reply.small()? == 1;
            let mut expired = Vec::new();
            while !reply.is_empty() {
                let reservation = decode::reservation(&mut reply.list()?)?;
                expired.push(ExpiredReservation { workspace: known.id.clone(), reservation });
            }
            if is_all {
                return Ok(expired);
            }
        }
    }

    /// Writes down, step by step, what a reset of a family has set back, and says how many there were. Until
    /// then its counters are set back by whoever looks at them.
    pub(crate) async fn set_back(
        &self,
        known: &Known,
        family: CounterFamily,
        now: Millis,
    ) -> Result<u64, StoreError> {
        let (mut cursor, mut set_back) = (b"0".to_vec(), 0);
        loop {
            let mut packer = self.head(known, 4, now);
            packer.text("set_back").text(family.0.to_be_bytes()).text(&cursor).count(SET_BACK_COUNTERS);
            let mut reply = self.tend(known, packer, self.config.batch_deadline).await?;
            set_back += reply.small()?.unsigned_abs();
            cursor = reply.bytes()?;
            if cursor == b"0" {
                return Ok(set_back);
            }
        }
    }

    pub(crate) async fn drop_idle(&self, now: Millis, budgets: &dyn LiveBudgets) -> Result<(), StoreError> {
        let round = self.workspaces.next(Work::Sweeping, WORKSPACES_PER_ROUND, SHARDS_PER_ROUND);
        let sweeps = round.into_iter().map(|known| {
            let live = budgets.families(&known.id);
            self.drop_idle_in(known, now, live)
        });
        stream::iter(sweeps).buffer_unordered(AT_ONCE).try_collect::<()>().await
    }

    async fn drop_idle_in(
        &self,
        known: Arc<Known>,
        now: Millis,
        live: Option<Arc<HashSet<CounterFamily>>>,
    ) -> Result<(), StoreError> {
        let mut packer = self.head(&known, 4, now);
        packer.text("sweep");
        match live {
            Some(live) => {
                packer.array(live.len());
                for family in live.iter() {
                    packer.text(family.0.to_be_bytes());
                }
            }
            None => drop(packer.none()),
        }
        packer.count(SWEPT_COUNTERS).count(DROPPED_RESERVATIONS);
        self.tend(&known, packer, self.config.batch_deadline).await.map(drop)
    }

    pub(crate) async fn look_after(&self) -> Result<CounterHealth, StoreError> {
        self.learn().await?;
        let round = self.workspaces.next(Work::Looking, usize::MAX, SHARDS_PER_ROUND);
        stream::iter(round.into_iter().map(|known| self.look_at(known)))
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await?;
        let mut health = CounterHealth::default();
        for known in self.workspaces.all() {
            let figures = known.figures();
            health.live_counters += figures.live;
            health.request_ids_forgotten_early += figures.forgotten;
            if figures.overflowed > 0 {
                let workspace = known.id.clone();
                health.overflowed.push(Overflowed { workspace, charges: figures.overflowed });
            }
        }
        Ok(health)
    }

    /// Runs a function on a key that there is not, so that a server that refuses it is noticed before anybody
    /// asks for a decision.
    pub(crate) async fn try_functions(&self) -> Result<(), StoreError> {
        let mut packer = Packer::default();
        packer.array(5).integer(0).text("").text("").integer(0).text("health");
        let keys = [self.common_key("nothing")];
        self.link.run(&TEND, &keys, &packer.finish(), self.config.batch_deadline).await.map(drop)
    }

    async fn look_at(&self, known: Arc<Known>) -> Result<(), StoreError> {
        let mut packer = self.head(&known, 1, Millis::ZERO);
        packer.text("health");
        let keys = [self.key(&known.id)];
        let command = packer.finish();
        let value = self.link.run(&TEND, &keys, &command, self.config.batch_deadline).await?;
        let mut reply = Reply::of(value)?;
        let mut next = || reply.small().map(i64::unsigned_abs);
        known.set_figures(Figures { live: next()?, overflowed: next()?, forgotten: next()? });
        Ok(())
    }

    pub(crate) async fn write_position(&self) -> Result<(), StoreError> {
        let through = self.settled_through();
        if through <= self.written_through.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut raise = cmd("EVAL");
        raise.arg(RAISE).arg(2).arg(self.common_key("position")).arg(self.common_key("workspaces"));
        raise.arg(through).arg(KEPT_MS);
        self.link.send(&raise, self.config.batch_deadline).await?;
        self.written_through.fetch_max(through, Ordering::AcqRel);
        Ok(())
    }

    pub(crate) async fn read_position(&self) -> Result<Position, StoreError> {
        let mut get = cmd("GET");
        get.arg(self.common_key("position"));
        match self.link.send(&get, self.config.batch_deadline).await? {
            Value::Nil => Ok(Position::default()),
            Value::BulkString(text) => {
                let number = std::str::from_utf8(&text).ok().and_then(|text| text.parse().ok());
                number.map(Position).ok_or_else(|| corrupt("the position of the log"))
            }
            _ => Err(corrupt("the position of the log")),
        }
    }
}
