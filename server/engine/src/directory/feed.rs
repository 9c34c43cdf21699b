//! How the directory follows the store: by its feed of changes, and as a whole where the feed does not
//! reach back far enough.
//!
//! What has changed is read in batches, each resource once however often it has changed, and without
//! holding what others need. Keys come first: whatever else one tenant has changed, what another has
//! revoked does not wait behind it.

use std::collections::{BTreeSet, HashSet};

use rateguard_core::ids::WorkspaceId;
use rateguard_core::time::Millis;

use super::{Directory, Loaded, place_of};
use crate::ports::{Change, Resource, ResourceKind, ResourcePlace, Snapshot, StoreError, Stored, has_gap};

/// Changes read at once from the feed.
pub(super) const CHANGES_PER_READ: usize = 1_000;
/// Changes taken in together: more than one application of a workspace's configuration makes.
const CHANGES_PER_TURN_MAX: usize = 16_000;
/// Resources read at once.
const RESOURCES_PER_READ: usize = 1_000;

/// How far the feed has been taken in.
#[derive(Debug, Default)]
pub(super) struct Feed {
    revision: u64,
    /// Changes of kinds that only a later version knows.
    unknown: u64,
}

impl Feed {
    /// Goes on after a revision.
    pub fn begin_at(&mut self, revision: u64) {
        self.revision = revision;
    }

    /// Counts changes of unknown kinds, and tells of the first.
    fn count_unknown(&mut self, changes: &[Change]) {
        let unknown = changes.iter().filter(|change| change.kind.is_none()).count() as u64;
        if self.unknown == 0 && unknown > 0 {
            tracing::warn!(
                unknown,
                "a later version has changed resources of a kind that this one does not know: they have no \
                 effect here"
            );
        }
        self.unknown += unknown;
    }
}

impl Directory {
    /// Takes in what has changed since the last time: the caller's own change too, and those of
    /// other replicas.
    ///
    /// # Errors
    /// Those of the store; what was taken in before stays.
    pub async fn refresh(&self, now: Millis) -> Result<(), StoreError> {
        let refreshed = self.read_feed(now).await;
        self.pulse.note(now, &refreshed);
        refreshed
    }

    async fn read_feed(&self, now: Millis) -> Result<(), StoreError> {
        let mut feed = self.feed.lock().await;
        loop {
            let changes = self.next_changes(feed.revision).await?;
            let Some(last) = changes.last() else { return Ok(()) };
            let mut revision = last.revision;
            if has_gap(feed.revision, &changes) {
                revision = self.reload(now).await?;
            } else {
                self.take_in(&changes, now).await?;
                feed.count_unknown(&changes);
            }
            feed.revision = revision;
            self.revision.send_replace(revision);
        }
    }

    async fn next_changes(&self, revision: u64) -> Result<Vec<Change>, StoreError> {
        let mut changes: Vec<Change> = Vec::new();
        while changes.len() < CHANGES_PER_TURN_MAX {
            let after = changes.last().map_or(revision, |last| last.revision);
            let read = self.store.changes_after(after, CHANGES_PER_READ).await?;
            let is_last = read.len() < CHANGES_PER_READ;
            changes.extend(read);
            if is_last {
                break;
            }
        }
        Ok(changes)
    }

    /// Takes everything in anew: some changes can no longer be learnt one by one.
    async fn reload(&self, now: Millis) -> Result<u64, StoreError> {
        let snapshot = self.store.snapshot().await?;
        let revision = snapshot.revision;
        tracing::warn!(
            revision,
            "the feed of changes does not reach back far enough: everything is read anew"
        );
        self.take_in_all(snapshot, now).await;
        Ok(revision)
    }

    /// Takes in what has changed. The workspaces come before what belongs to them, which may be told of
    /// sooner than they are.
    async fn take_in(&self, changes: &[Change], now: Millis) -> Result<(), StoreError> {
        let place = |change: &Change| {
            let (workspace, id) = (change.workspace.clone(), change.id.clone());
            Some(ResourcePlace { workspace, kind: change.kind?, id })
        };
        let places: BTreeSet<ResourcePlace> = changes.iter().filter_map(place).collect();
        self.take_in_workspaces(&places, now).await?;
        let (keys, others): (Vec<_>, Vec<_>) =
            places.into_iter().partition(|place| place.kind == ResourceKind::Key);
        for places in [keys, others] {
            let stored = self.read(&places).await?;
            self.take_in_resources(&places, stored, now).await;
        }
        Ok(())
    }

    async fn take_in_workspaces(
        &self,
        places: &BTreeSet<ResourcePlace>,
        now: Millis,
    ) -> Result<(), StoreError> {
        let new: Vec<WorkspaceId> = {
            let loaded = self.loaded.lock().await;
            let ids: BTreeSet<_> = places.iter().map(|place| &place.workspace).collect();
            ids.into_iter().filter(|id| !loaded.workspaces.contains_key(*id)).cloned().collect()
        };
        if new.is_empty() {
            return Ok(());
        }
        for workspace in self.store.workspaces(&new).await? {
            self.put_workspace_if_new(workspace, now).await;
        }
        Ok(())
    }

    async fn read(&self, places: &[ResourcePlace]) -> Result<Vec<Stored<Resource>>, StoreError> {
        let mut stored = Vec::new();
        for places in places.chunks(RESOURCES_PER_READ) {
            stored.extend(self.store.get_all(places).await?);
        }
        Ok(stored)
    }

    /// Puts what was read of these places into memory; where nothing was found, nothing is any more.
    async fn take_in_resources(&self, places: &[ResourcePlace], stored: Vec<Stored<Resource>>, now: Millis) {
        let mut loaded = self.loaded.lock().await;
        let found: HashSet<ResourcePlace> = stored.iter().map(place_of).collect();
        for place in places.iter().filter(|place| !found.contains(place)) {
            self.take_out(&mut loaded, place, now);
        }
        for stored in stored {
            self.put_unless_behind(&mut loaded, stored, now);
        }
        // Keys stand in no view.
        let of_views = places.iter().filter(|place| place.kind != ResourceKind::Key);
        let touched: BTreeSet<&WorkspaceId> = of_views.map(|place| &place.workspace).collect();
        let touched: Vec<WorkspaceId> = touched.into_iter().cloned().collect();
        self.swap(&loaded, &touched, now);
    }

    /// Puts everything into memory. What was there and is not among it goes.
    pub(super) async fn take_in_all(&self, snapshot: Snapshot, now: Millis) {
        let mut loaded = self.loaded.lock().await;
        let found: HashSet<ResourcePlace> = snapshot.resources.iter().map(place_of).collect();
        let known = loaded.resources.iter().flat_map(|(workspace, resources)| resources.places(workspace));
        let gone: Vec<ResourcePlace> = known.filter(|place| !found.contains(place)).collect();
        for place in &gone {
            self.take_out(&mut loaded, place, now);
        }
        for workspace in snapshot.workspaces {
            loaded.resources.entry(workspace.id.clone()).or_default();
            // Of one that is known, people may have told more since this was read.
            loaded.workspaces.entry(workspace.id.clone()).or_insert(workspace);
        }
        for stored in snapshot.resources {
            self.put_unless_behind(&mut loaded, stored, now);
        }
        let everyone: Vec<WorkspaceId> = loaded.workspaces.keys().cloned().collect();
        self.swap(&loaded, &everyone, now);
        self.revision.send_replace(snapshot.revision);
    }

    /// What was put in force meanwhile is newer than what was read before.
    fn put_unless_behind(&self, loaded: &mut Loaded, stored: Stored<Resource>, now: Millis) {
        let place = place_of(&stored);
        match loaded.ahead.get(&place) {
            Some(version) if *version > stored.version => return,
            Some(_) => drop(loaded.ahead.remove(&place)),
            None => {}
        }
        self.put(loaded, stored, now);
    }
}
