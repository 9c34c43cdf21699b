//! What runs beside the use cases: reading the feed, rotating signing keys, sweeping.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rateguard_core::ids::{SigningKeyId, WorkspaceId};
use rateguard_core::time::Millis;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::access_tokens::draw_key;
use super::live::REMEMBERED_MS;
use super::{People, internal};
use crate::audit::Deed;
use crate::error::EngineError;
use crate::ports::{PeopleChange, SealedSigningKey};
use crate::resources::Workspace;
use crate::secrets::random;
use crate::telling::{Seldom, Telling};
use crate::wake::Wake;

/// How often the feed is read, besides being woken: what ends a session anywhere is known here well within a second.
const REFRESH_INTERVAL: Duration = Duration::from_millis(400);
/// How often signing keys are looked at, and what is over is dropped.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);
/// How long one key signs: a week.
const SIGNING_KEY_LIFE_MS: i64 = 7 * 24 * 60 * 60 * 1_000;
/// How long a new key is known before it signs: many times the interval in which every process reads
/// of it, and their clocks' difference.
const SIGNING_KEY_LEAD_MS: i64 = 10 * 60 * 1_000;
/// Changes read at once.
const CHANGES_PER_READ: usize = 1_000;
/// Workspaces read at once.
const WORKSPACES_PER_READ: usize = 1_000;
/// While an upgrade rolls out there may be many: one in a while tells of them.
static UNKNOWN_TOLD: Seldom = Seldom::new();
/// The feed's entries outlive what is remembered of them by this, for a process that starts.
const FEED_MARGIN_MS: i64 = 60 * 60 * 1_000;

/// What the audit trail calls a new signing key.
const ROTATING: &str = "RotateSigningKeys";

#[derive(Clone, Copy, Debug)]
enum Task {
    Refresh,
    Sweep,
}

pub(super) fn start(people: &Arc<People>, stop: &CancellationToken) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for (period, task) in [(REFRESH_INTERVAL, Task::Refresh), (SWEEP_INTERVAL, Task::Sweep)] {
        tasks.spawn(repeat(people.clone(), stop.clone(), period, task));
    }
    tasks
}

/// Does one thing again and again.
async fn repeat(people: Arc<People>, stop: CancellationToken, period: Duration, task: Task) {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut wake, mut telling) = match task {
        Task::Refresh => (Wake::by(people.store.wake()), Telling::of("reading the feed of people")),
        Task::Sweep => (Wake::by(None), Telling::of("rotating keys, and dropping what is over of people")),
    };
    while until_stopped(&stop, wake.turn(&mut ticks)).await.is_some() {
        let done = match task {
            Task::Refresh => people.refresh().await,
            Task::Sweep => people.sweep().await,
        };
        telling.tell(&done);
    }
}

async fn until_stopped<T>(stop: &CancellationToken, event: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        () = stop.cancelled() => None,
        value = event => Some(value),
    }
}

impl People {
    /// Everything that access tokens are verified by.
    pub(super) async fn load(&self) -> Result<(), EngineError> {
        let since = self.now().plus(-REMEMBERED_MS);
        self.revision.store(self.store.revision_before(since).await?, Ordering::Release);
        self.refresh().await?;
        self.load_keys().await?;
        self.rotate().await
    }

    /// Takes in what has changed since the last time, here or in another process.
    ///
    /// # Errors
    /// Those of the store; what was taken in before stays.
    pub async fn refresh(&self) -> Result<(), EngineError> {
        let now = self.now();
        let refreshed = self.read_feed().await;
        self.pulse.note(now, &refreshed);
        refreshed
    }

    async fn read_feed(&self) -> Result<(), EngineError> {
        let _reading = self.reading.lock().await;
        loop {
            let after = self.revision.load(Ordering::Acquire);
            let feed = self.store.people_changes_after(after, CHANGES_PER_READ).await?;
            if feed.has_gap_after(after) {
                self.catch_up().await?;
            }
            let read_to = feed.changes.last().map_or(feed.last_recorded.max(after), |(last, _)| *last);
            let is_all = feed.changes.is_empty();
            for (_, change) in feed.changes {
                self.take_in(change).await?;
            }
            self.revision.store(read_to, Ordering::Release);
            if is_all {
                return Ok(());
            }
        }
    }

    /// Reads from the store what the feed has told of and tells no more, after a process was cut off for
    /// longer than entries are kept. Sessions and roles need it not: what was signed before then is over.
    async fn catch_up(&self) -> Result<(), EngineError> {
        tracing::warn!("changes of people were dropped before they were read; workspaces are read anew");
        let mut after: Option<WorkspaceId> = None;
        loop {
            let workspaces = self.store.workspaces(after.as_ref(), WORKSPACES_PER_READ).await?;
            let Some(last) = workspaces.last() else { break };
            after = Some(last.id.clone());
            for workspace in workspaces {
                self.put_changed(workspace).await;
            }
        }
        self.load_new_keys().await;
        Ok(())
    }

    async fn put_changed(&self, workspace: Workspace) {
        let known = self.directory.view(&workspace.id);
        if known.is_none_or(|known| known.workspace != workspace) {
            self.directory.put_workspace(workspace, self.now()).await;
        }
    }

    /// The same after a change of one's own, which is stored whatever becomes of this.
    pub(super) async fn refresh_now(&self) {
        if let Err(error) = self.refresh().await {
            tracing::warn!(%error, "a change is stored, and will be taken in with the next refresh");
        }
    }

    async fn take_in(&self, change: PeopleChange) -> Result<(), EngineError> {
        let now = self.now();
        self.live.take_in(&change, now);
        match change {
            PeopleChange::Workspace(workspace) => self.directory.put_workspace(workspace, now).await,
            PeopleChange::SigningKeys => self.load_new_keys().await,
            PeopleChange::Unknown(kind) => {
                if let Some(untold) = UNKNOWN_TOLD.due() {
                    tracing::warn!(
                        kind,
                        untold,
                        "a change of people is of a kind that a newer version knows"
                    );
                }
            }
            PeopleChange::SessionEnded(_) | PeopleChange::Role { .. } => {}
        }
        Ok(())
    }

    /// A key that cannot be read now is read with the next sweep: it must not hold up what ends
    /// sessions.
    async fn load_new_keys(&self) {
        if let Err(error) = self.load_keys().await {
            tracing::error!(%error, "new signing keys cannot be read; tokens that they sign are refused here");
        }
    }

    async fn load_keys(&self) -> Result<(), EngineError> {
        self.keyring.install(&self.store.signing_keys().await?, &self.cipher)
    }

    /// Makes a signing key where there is none, or the newest has signed long enough.
    pub(super) async fn rotate(&self) -> Result<(), EngineError> {
        let (keys, now) = (self.store.signing_keys().await?, self.now());
        let newest = keys.last();
        if newest.is_some_and(|key| now.since(key.created_at) < SIGNING_KEY_LIFE_MS) {
            return Ok(());
        }
        let key = self.draw_signing_key(newest, now)?;
        let newest = newest.map(|key| key.id.clone());
        if !self.store.add_signing_key(key, newest.as_ref(), &Deed::of_server(ROTATING, now)).await? {
            tracing::debug!("another process has rotated the signing keys");
        }
        self.load_keys().await
    }

    /// The first key signs at once; each further one when every process has read of it.
    fn draw_signing_key(
        &self,
        newest: Option<&SealedSigningKey>,
        now: Millis,
    ) -> Result<SealedSigningKey, EngineError> {
        let id = SigningKeyId::from_random(random().map_err(internal)?);
        let signs_from = if newest.is_some() { now.plus(SIGNING_KEY_LEAD_MS) } else { now };
        draw_key(id, &self.cipher, now, signs_from)
    }

    async fn sweep(&self) -> Result<(), EngineError> {
        let now = self.now();
        self.live.sweep(now);
        self.rotate().await?;
        self.load_keys().await?;
        Ok(self.store.sweep_people(now, now.plus(-(REMEMBERED_MS + FEED_MARGIN_MS))).await?)
    }
}
