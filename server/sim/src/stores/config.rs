//! The shared configuration: what a run begins with. Nobody manages anything in it.

use std::sync::Arc;

use async_trait::async_trait;
use rateguard_core::ids::{KeyId, WorkspaceId};
use rateguard_core::time::Millis;
use rateguard_engine::audit::Deed;
use rateguard_engine::listing::{PageQuery, SequenceQuery, page_of};
use rateguard_engine::ports::{
    Change, ClientRequest, ConfigStore, KeyUse, NewTopUp, Once, Resource, ResourceChange, ResourceKind,
    ResourcePlace, Snapshot, StoreError, Stored, TopUp, TopUpOutcome, WorkspaceState,
};
use rateguard_engine::resources::Workspace;

use crate::network::{Link, Nature};

/// The configuration as one replica reaches it.
pub struct LinkedConfig {
    /// The way.
    pub link: Link,
    /// What there is.
    pub snapshot: Arc<Snapshot>,
}

impl LinkedConfig {
    async fn read<T: Send + 'static>(
        &self,
        of: impl Fn(&Snapshot) -> T + Send + Sync + 'static,
    ) -> Result<T, StoreError> {
        let snapshot = self.snapshot.clone();
        let work = move || {
            let read = of(&snapshot);
            Box::pin(async move { Ok(read) }) as _
        };
        self.link.ask(Nature::Read, Arc::new(work)).await
    }
}

/// Runs change nothing.
fn unmanaged() -> StoreError {
    StoreError::Unavailable { store: "config", detail: "the simulation manages nothing".to_owned() }
}

#[async_trait]
impl ConfigStore for LinkedConfig {
    async fn create_workspace(&self, _: Workspace, _: &Deed) -> Result<(), StoreError> {
        Err(unmanaged())
    }

    async fn insert(
        &self,
        _: &WorkspaceId,
        _: Resource,
        _: usize,
        _: &Deed,
    ) -> Result<Stored<Resource>, StoreError> {
        Err(unmanaged())
    }

    async fn replace(
        &self,
        _: &WorkspaceId,
        _: Resource,
        _: u64,
        _: &Deed,
    ) -> Result<Stored<Resource>, StoreError> {
        Err(unmanaged())
    }

    async fn remove(
        &self,
        _: &WorkspaceId,
        _: ResourceKind,
        _: &str,
        _: Option<u64>,
        _: &Deed,
    ) -> Result<(), StoreError> {
        Err(unmanaged())
    }

    async fn change_once(
        &self,
        _: &WorkspaceId,
        _: ResourceChange,
        _: &ClientRequest,
        _: &Deed,
    ) -> Result<Once, StoreError> {
        Err(unmanaged())
    }

    async fn changed_before(
        &self,
        _: &WorkspaceId,
        _: &ClientRequest,
        _: Millis,
    ) -> Result<Option<Once>, StoreError> {
        Err(unmanaged())
    }

    async fn top_up(
        &self,
        _: &WorkspaceId,
        _: NewTopUp,
        _: usize,
        _: &Deed,
    ) -> Result<TopUpOutcome, StoreError> {
        Err(unmanaged())
    }

    async fn top_ups(&self, _: &WorkspaceId, _: &str, _: &SequenceQuery) -> Result<Vec<TopUp>, StoreError> {
        Err(unmanaged())
    }

    async fn apply_all(
        &self,
        _: &WorkspaceId,
        _: Vec<ResourceChange>,
        _: u64,
        _: &Deed,
    ) -> Result<Vec<Stored<Resource>>, StoreError> {
        Err(unmanaged())
    }

    async fn workspace_state(&self, _: &WorkspaceId, limit: usize) -> Result<WorkspaceState, StoreError> {
        self.read(move |snapshot| {
            let resources = snapshot.resources.iter().take(limit).cloned().collect();
            WorkspaceState { revision: snapshot.revision, resources }
        })
        .await
    }

    async fn get(
        &self,
        _: &WorkspaceId,
        _: ResourceKind,
        id: &str,
    ) -> Result<Option<Stored<Resource>>, StoreError> {
        let id = id.to_owned();
        self.read(move |snapshot| snapshot.resources.iter().find(|stored| stored.value.id() == id).cloned())
            .await
    }

    async fn get_all(&self, places: &[ResourcePlace]) -> Result<Vec<Stored<Resource>>, StoreError> {
        let ids: Vec<String> = places.iter().map(|place| place.id.clone()).collect();
        let named = move |stored: &&Stored<Resource>| ids.iter().any(|id| id == stored.value.id());
        self.read(move |snapshot| snapshot.resources.iter().filter(&named).cloned().collect()).await
    }

    async fn workspaces(&self, ids: &[WorkspaceId]) -> Result<Vec<Workspace>, StoreError> {
        let ids = ids.to_vec();
        let named = move |workspace: &&Workspace| ids.contains(&workspace.id);
        self.read(move |snapshot| snapshot.workspaces.iter().filter(&named).cloned().collect()).await
    }

    async fn list(
        &self,
        _: &WorkspaceId,
        kind: ResourceKind,
        query: &PageQuery,
    ) -> Result<Vec<Stored<Resource>>, StoreError> {
        let query = query.clone();
        self.read(move |snapshot| {
            let of_kind = snapshot.resources.iter().filter(|stored| stored.value.kind() == kind);
            page_of(of_kind.cloned(), &query).items
        })
        .await
    }

    async fn snapshot(&self) -> Result<Snapshot, StoreError> {
        self.read(Snapshot::clone).await
    }

    async fn changes_after(&self, _: u64, _: usize) -> Result<Vec<Change>, StoreError> {
        self.read(|_| Vec::new()).await
    }

    async fn touch_keys(&self, _: &[KeyUse]) -> Result<(), StoreError> {
        self.read(|_| ()).await
    }

    async fn key_uses(&self, _: &WorkspaceId, _: &[KeyId]) -> Result<Vec<(KeyId, Millis)>, StoreError> {
        self.read(|_| Vec::new()).await
    }
}
