//! The fake of managed resources.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use parking_lot::Mutex;
use rateguard_core::ids::{DisplayName, KeyId, WorkspaceId};
use rateguard_core::money::Currency;
use rateguard_core::time::{Millis, Zone};
use tokio::sync::watch;

use super::super::workspace;
use super::unavailable;
use crate::audit::Deed;
use crate::listing::{PageQuery, SequenceQuery, page_of};
use crate::ports::{
    Change, ClientRequest, ConfigStore, KeyUse, NewTopUp, Once, Resource, ResourceChange, ResourceKind,
    ResourcePlace, Snapshot, StoreError, Stored, TopUp, TopUpOutcome, WorkspaceState,
};
use crate::resources::Workspace;

/// Managed resources.
#[derive(Default)]
pub(crate) struct FakeConfig {
    resources: Mutex<BTreeMap<String, Stored<Resource>>>,
    pub(crate) changes: Mutex<Vec<Change>>,
    uses: Mutex<BTreeMap<KeyId, Millis>>,
    /// Whether it wakes whoever reads its feed.
    pub(crate) notifies: AtomicBool,
    notifications: watch::Sender<u64>,
    /// By whom each change was made.
    pub(crate) deeds: Mutex<Vec<Deed>>,
    /// The ids of what was read together, of each time.
    pub(crate) reads: Mutex<Vec<Vec<String>>>,
    /// Whether every call fails.
    pub(crate) away: AtomicBool,
    /// Whether replacing fails.
    pub(crate) frozen: AtomicBool,
    /// Whether what has changed cannot be learnt.
    pub(crate) feed_away: AtomicBool,
}

impl FakeConfig {
    fn answers(&self) -> Result<(), StoreError> {
        if self.away.load(Ordering::SeqCst) { Err(unavailable("config")) } else { Ok(()) }
    }

    fn tell(&self, workspace: WorkspaceId, kind: ResourceKind, id: &str) {
        let mut changes = self.changes.lock();
        let revision = changes.last().map_or(0, |change| change.revision) + 1;
        changes.push(Change { revision, workspace, kind: Some(kind), id: id.to_owned() });
        self.notifications.send_replace(revision);
    }

    /// Makes a resource of another workspace than the one that the fake knows.
    pub(crate) fn insert_into(&self, workspace: &WorkspaceId, resource: Resource, by: &Deed) {
        self.put(workspace.clone(), resource, 1, by);
    }

    fn put(&self, workspace: WorkspaceId, value: Resource, version: u64, by: &Deed) -> Stored<Resource> {
        let (kind, id) = (value.kind(), value.id().to_owned());
        let stored =
            Stored { workspace: workspace.clone(), value, version, created_at: by.at, updated_at: by.at };
        self.deeds.lock().push(by.clone());
        self.resources.lock().insert(id.clone(), stored.clone());
        self.tell(workspace, kind, &id);
        stored
    }
}

fn tenant(id: WorkspaceId) -> Workspace {
    let name = DisplayName::parse("name", "test").expect("a plain name");
    Workspace { id, name, zone: Zone::UTC, currency: Currency::USD }
}

#[async_trait]
impl ConfigStore for FakeConfig {
    async fn create_workspace(&self, _: Workspace, _: &Deed) -> Result<(), StoreError> {
        Err(StoreError::AlreadyExists { field: "id" })
    }

    async fn insert(
        &self,
        _: &WorkspaceId,
        resource: Resource,
        _: usize,
        by: &Deed,
    ) -> Result<Stored<Resource>, StoreError> {
        self.answers()?;
        Ok(self.put(workspace(), resource, 1, by))
    }

    async fn replace(
        &self,
        _: &WorkspaceId,
        resource: Resource,
        expected: u64,
        by: &Deed,
    ) -> Result<Stored<Resource>, StoreError> {
        self.answers()?;
        if self.frozen.load(Ordering::SeqCst) {
            return Err(unavailable("config"));
        }
        let version = self.resources.lock().get(resource.id()).map(|stored| stored.version);
        if version != Some(expected) {
            return Err(StoreError::VersionMismatch);
        }
        Ok(self.put(workspace(), resource, expected + 1, by))
    }

    async fn remove(
        &self,
        _: &WorkspaceId,
        kind: ResourceKind,
        id: &str,
        _: Option<u64>,
        by: &Deed,
    ) -> Result<(), StoreError> {
        self.answers()?;
        self.resources.lock().remove(id).ok_or(StoreError::NotFound)?;
        self.deeds.lock().push(by.clone());
        self.tell(workspace(), kind, id);
        Ok(())
    }

    /// Only whoever tests a real store names requests.
    async fn change_once(
        &self,
        _: &WorkspaceId,
        _: ResourceChange,
        _: &ClientRequest,
        _: &Deed,
    ) -> Result<Once, StoreError> {
        Err(unavailable("config"))
    }

    async fn changed_before(
        &self,
        _: &WorkspaceId,
        _: &ClientRequest,
        _: Millis,
    ) -> Result<Option<Once>, StoreError> {
        Err(unavailable("config"))
    }

    /// Only whoever tests a real store tops up.
    async fn top_up(
        &self,
        _: &WorkspaceId,
        _: NewTopUp,
        _: usize,
        _: &Deed,
    ) -> Result<TopUpOutcome, StoreError> {
        Err(unavailable("config"))
    }

    async fn top_ups(&self, _: &WorkspaceId, _: &str, _: &SequenceQuery) -> Result<Vec<TopUp>, StoreError> {
        Err(unavailable("config"))
    }

    async fn apply_all(
        &self,
        workspace: &WorkspaceId,
        changes: Vec<ResourceChange>,
        seen: u64,
        by: &Deed,
    ) -> Result<Vec<Stored<Resource>>, StoreError> {
        self.answers()?;
        if self.changes.lock().len() as u64 > seen {
            return Err(StoreError::VersionMismatch);
        }
        let mut stored = Vec::new();
        for change in changes {
            match change {
                ResourceChange::Insert { resource, limit } => {
                    stored.push(self.insert(workspace, resource, limit, by).await?);
                }
                ResourceChange::Replace { resource, expected } => {
                    stored.push(self.replace(workspace, resource, expected, by).await?);
                }
                ResourceChange::Remove { kind, id, expected } => {
                    self.remove(workspace, kind, &id, expected, by).await?;
                }
            }
        }
        Ok(stored)
    }

    async fn workspace_state(&self, _: &WorkspaceId, _: usize) -> Result<WorkspaceState, StoreError> {
        let Snapshot { revision, resources, .. } = self.snapshot().await?;
        Ok(WorkspaceState { revision, resources })
    }

    async fn get(
        &self,
        _: &WorkspaceId,
        _: ResourceKind,
        id: &str,
    ) -> Result<Option<Stored<Resource>>, StoreError> {
        self.answers()?;
        Ok(self.resources.lock().get(id).cloned())
    }

    async fn get_all(&self, places: &[ResourcePlace]) -> Result<Vec<Stored<Resource>>, StoreError> {
        self.answers()?;
        self.reads.lock().push(places.iter().map(|place| place.id.clone()).collect());
        let resources = self.resources.lock();
        Ok(places.iter().filter_map(|place| resources.get(&place.id).cloned()).collect())
    }

    async fn workspaces(&self, ids: &[WorkspaceId]) -> Result<Vec<Workspace>, StoreError> {
        self.answers()?;
        Ok(ids.iter().cloned().map(tenant).collect())
    }

    async fn list(
        &self,
        _: &WorkspaceId,
        kind: ResourceKind,
        query: &PageQuery,
    ) -> Result<Vec<Stored<Resource>>, StoreError> {
        let resources = self.resources.lock();
        let of_kind = resources.values().filter(|stored| stored.value.kind() == kind);
        Ok(page_of(of_kind.cloned(), query).items)
    }

    async fn snapshot(&self) -> Result<Snapshot, StoreError> {
        self.answers()?;
        Ok(Snapshot {
            revision: self.changes.lock().last().map_or(0, |change| change.revision),
            workspaces: vec![tenant(workspace())],
            resources: self.resources.lock().values().cloned().collect(),
        })
    }

    async fn changes_after(&self, revision: u64, limit: usize) -> Result<Vec<Change>, StoreError> {
        self.answers()?;
        if self.feed_away.load(Ordering::SeqCst) {
            return Err(unavailable("config"));
        }
        let changes = self.changes.lock();
        Ok(changes.iter().filter(|change| change.revision > revision).take(limit).cloned().collect())
    }

    fn wake(&self) -> Option<watch::Receiver<u64>> {
        self.notifies.load(Ordering::SeqCst).then(|| self.notifications.subscribe())
    }

    async fn touch_keys(&self, uses: &[KeyUse]) -> Result<(), StoreError> {
        self.answers()?;
        let mut noted = self.uses.lock();
        for used in uses {
            let last = noted.entry(used.key.clone()).or_insert(used.at);
            *last = used.at.max(*last);
        }
        Ok(())
    }

    async fn key_uses(&self, _: &WorkspaceId, keys: &[KeyId]) -> Result<Vec<(KeyId, Millis)>, StoreError> {
        self.answers()?;
        let noted = self.uses.lock();
        Ok(keys.iter().filter_map(|key| Some((key.clone(), *noted.get(key)?))).collect())
    }
}
