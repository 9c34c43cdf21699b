//! A store of the configuration in which somebody else is always a moment faster.

use std::sync::Arc;

use rateguard_core::ids::WorkspaceId;
use rateguard_core::time::Millis;
use rateguard_engine::ports::{Change, ConfigStore, Resource, ResourceKind, Snapshot, StoreError, Stored};
use rateguard_engine::resources::Workspace;

/// Whatever override is made, its model has got one between the look and the insertion.
pub struct Racing(pub Arc<dyn ConfigStore>);

#[tonic::async_trait]
impl ConfigStore for Racing {
    async fn create_workspace(&self, workspace: Workspace, now: Millis) -> Result<(), StoreError> {
        self.0.create_workspace(workspace, now).await
    }

    async fn insert(
        &self,
        workspace: &WorkspaceId,
        resource: Resource,
        limit: usize,
        now: Millis,
    ) -> Result<Stored<Resource>, StoreError> {
        match resource {
            Resource::PriceOverride(_) => Err(StoreError::AlreadyExists { field: "model" }),
            resource => self.0.insert(workspace, resource, limit, now).await,
        }
    }

    async fn replace(
        &self,
        workspace: &WorkspaceId,
        resource: Resource,
        expected: u64,
        now: Millis,
    ) -> Result<Stored<Resource>, StoreError> {
        self.0.replace(workspace, resource, expected, now).await
    }

    async fn remove(
        &self,
        workspace: &WorkspaceId,
        kind: ResourceKind,
        id: &str,
        expected: Option<u64>,
        now: Millis,
    ) -> Result<(), StoreError> {
        self.0.remove(workspace, kind, id, expected, now).await
    }

    async fn get(
        &self,
        workspace: &WorkspaceId,
        kind: ResourceKind,
        id: &str,
    ) -> Result<Option<Stored<Resource>>, StoreError> {
        self.0.get(workspace, kind, id).await
    }

    async fn list(
        &self,
        workspace: &WorkspaceId,
        kind: ResourceKind,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Stored<Resource>>, StoreError> {
        self.0.list(workspace, kind, after, limit).await
    }

    async fn snapshot(&self) -> Result<Snapshot, StoreError> {
        self.0.snapshot().await
    }

    async fn changes_after(&self, revision: u64, limit: usize) -> Result<Vec<Change>, StoreError> {
        self.0.changes_after(revision, limit).await
    }
}
