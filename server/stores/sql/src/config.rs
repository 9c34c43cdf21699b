//! [`ConfigStore`] in SQL: a table for each kind of resource, and the feed of their changes.
//!
//! A transaction that writes begins with the store's one place for writers. A second writer waits for it,
//! so revisions become visible in their order, and checks that precede a write stay true until it is
//! committed.

mod body;
mod change;
mod client_requests;
mod read;
mod references;
mod reseal;
mod sealed;
mod shown;
mod table;
mod top_ups;
mod uses;

use async_trait::async_trait;
use rateguard_core::ids::{KeyId, WorkspaceId};
use rateguard_core::time::Millis;
use rateguard_engine::audit::Deed;
use rateguard_engine::listing::{PageQuery, SequenceQuery};
use rateguard_engine::ports::{
    Change, ClientRequest, ConfigStore, KeyUse, NewTopUp, Once, Resource, ResourceChange, ResourceKind,
    ResourcePlace, Snapshot, StoreError, Stored, TopUp, TopUpOutcome, WorkspaceState,
};
use rateguard_engine::resources::Workspace;
use sqlx::migrate::Migrator;
use tokio::sync::watch;

pub(crate) use change::insert_workspace;
pub(crate) use read::workspace as workspace_of;
pub use sealed::SqlSealedReader;
pub(crate) use shown::workspace as shown_workspace;

use crate::audit::{SqlAuditStore, Witness};
use crate::database::{
    CALL_MS_MAX, Content, DataFolder, Database, Durability, Feed, LOAD_MS_MAX, OpenError, PostgresDatabase,
    Schema, Scope, ServerSchema, Transaction, Writing, failure, query, query_scalar,
};
use crate::events::SqlEventLog;
use crate::people::SqlPeopleStore;

/// The name by which errors know the store.
const STORE: &str = "config";
/// Longest wait for a workspace that is changed as a whole. Ten thousand resources are some two hundred
/// statements, each of which the server bounds by itself; this is for both on a machine that is busy.
const APPLY_MS_MAX: u64 = 30_000;
static MIGRATOR: Migrator = sqlx::migrate!("../../../migrations/config/sqlite");
static SERVER_MIGRATOR: Migrator = sqlx::migrate!("../../../migrations/config/postgres");
pub(crate) const SCHEMA: Schema = Schema {
    store: STORE,
    file: "config.db",
    migrator: &MIGRATOR,
    durability: Durability::EveryCommit,
    content: Content { table: "workspaces", rows: "SELECT 1 FROM workspaces" },
    writing: Writing::Seldom,
    remedy: crate::installation::RESTORE_CONFIG,
};
pub(crate) const SERVER_SCHEMA: ServerSchema = ServerSchema {
    store: STORE,
    name: "rateguard_config",
    migrator: &SERVER_MIGRATOR,
    writer_lock: 0x7261_7465_636f_6e66,
};

/// Managed resources in `config.db`.
#[derive(Clone, Debug)]
pub struct SqlConfigStore {
    database: Database,
    witness: Witness,
}

impl SqlConfigStore {
    /// Opens the store in a data folder, beside the log whose file keeps the hashes of the audit trail.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open(folder: &DataFolder, log: &SqlEventLog) -> Result<Self, OpenError> {
        Ok(Self::over(Database::open(folder, &SCHEMA).await?, log).await)
    }

    /// The store over its file, open.
    pub(crate) async fn over(database: Database, log: &SqlEventLog) -> Self {
        let witness = Witness::start(database.clone(), log.database().clone());
        // What a process that was killed has left.
        witness.catch_up().await;
        Self { database, witness }
    }

    /// Opens the store in a database on a server, beside the log that keeps the second copy of the
    /// audit trail's hashes.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open_on_server(server: &PostgresDatabase, log: &SqlEventLog) -> Result<Self, OpenError> {
        let database = Database::open_on_server(server, &SERVER_SCHEMA).await?;
        Ok(Self::over(database.listening(server, &SERVER_SCHEMA), log).await)
    }

    /// Closes it, once the audit trail's hashes have their second copy; calls afterwards are unavailable.
    pub async fn close(&self) {
        self.witness.finish().await;
        self.database.close().await;
    }

    /// Whether notices of other processes are heard now; `None` where none can come. Without them their
    /// changes are found a moment later, by asking.
    pub fn notices_heard(&self) -> Option<watch::Receiver<bool>> {
        self.database.hears()
    }

    /// The store of people, in the same file.
    pub fn people(&self) -> SqlPeopleStore {
        SqlPeopleStore::over(self.database.clone(), self.witness.clone())
    }

    /// The audit trail of both.
    pub fn audit(&self) -> SqlAuditStore {
        SqlAuditStore::over(self.witness.trail().clone())
    }

    /// Runs and commits a change, and has its audit entries witnessed.
    async fn change<T>(
        &self,
        work: impl Future<Output = Result<(Transaction, T), StoreError>> + Send,
    ) -> Result<T, StoreError> {
        self.change_within(CALL_MS_MAX, work).await
    }

    /// The same, under a deadline of its own.
    async fn change_within<T>(
        &self,
        deadline_ms: u64,
        work: impl Future<Output = Result<(Transaction, T), StoreError>> + Send,
    ) -> Result<T, StoreError> {
        let changed = self.database.write_within(deadline_ms, work).await;
        // What was refused, or could not be asked, has left nothing to take over.
        if matches!(changed, Ok(_) | Err(StoreError::OutcomeUnknown { .. })) {
            self.witness.wake();
        }
        changed
    }

    /// Makes or replaces one resource.
    async fn change_one(
        &self,
        scope: Scope<'_>,
        workspace: &WorkspaceId,
        change: ResourceChange,
        by: &Deed,
    ) -> Result<Stored<Resource>, StoreError> {
        let work = async {
            let mut transaction = self.database.begin(scope).await?;
            let stored = change::make_all(&mut transaction, workspace, vec![change], by).await?.pop();
            let stored = stored.ok_or_else(|| corrupt("a change has left nothing".to_owned()))?;
            Ok((transaction, stored))
        };
        self.change(work).await
    }

    /// The known text that was sealed with the key of this installation, when there is one.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn encryption_check(&self) -> Result<Option<Vec<u8>>, StoreError> {
        let work = async {
            let mut reader = self.database.reader(Scope::Installation).await?;
            let query = query_scalar("SELECT sealed FROM encryption_check");
            query.fetch_optional(&mut reader).await.map_err(failure(STORE))
        };
        self.database.within_deadline(work).await
    }

    /// Keeps a known text that was sealed with the key of this installation. The first one stays.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when nothing was written.
    pub async fn keep_encryption_check(&self, sealed: Vec<u8>) -> Result<(), StoreError> {
        let work = async {
            let mut transaction = self.database.begin(Scope::Installation).await?;
            query("INSERT INTO encryption_check (only_row, sealed) VALUES (1, $1) ON CONFLICT DO NOTHING")
                .bind(sealed)
                .execute(&mut transaction)
                .await
                .map_err(failure(STORE))?;
            Ok((transaction, ()))
        };
        self.database.write(work).await
    }

    /// Its database.
    pub(crate) fn database(&self) -> &Database {
        &self.database
    }
}

#[async_trait]
impl ConfigStore for SqlConfigStore {
    async fn create_workspace(&self, workspace: Workspace, by: &Deed) -> Result<(), StoreError> {
        let work = async {
            let mut transaction = self.database.begin(Scope::Workspace(&workspace.id)).await?;
            change::create_workspace(&mut transaction, &workspace, by).await?;
            Ok((transaction, ()))
        };
        self.change(work).await
    }

    async fn insert(
        &self,
        workspace: &WorkspaceId,
        resource: Resource,
        limit: usize,
        by: &Deed,
    ) -> Result<Stored<Resource>, StoreError> {
        self.change_one(
            Scope::Workspace(workspace),
            workspace,
            ResourceChange::Insert { resource, limit },
            by,
        )
        .await
    }

    async fn replace(
        &self,
        workspace: &WorkspaceId,
        resource: Resource,
        expected: u64,
        by: &Deed,
    ) -> Result<Stored<Resource>, StoreError> {
        let scope = table::of(resource.kind()).scope_of_change(workspace);
        self.change_one(scope, workspace, ResourceChange::Replace { resource, expected }, by).await
    }

    async fn remove(
        &self,
        workspace: &WorkspaceId,
        kind: ResourceKind,
        id: &str,
        expected: Option<u64>,
        by: &Deed,
    ) -> Result<(), StoreError> {
        let work = async {
            let mut transaction = self.database.begin(Scope::Workspace(workspace)).await?;
            let remove = ResourceChange::Remove { kind, id: id.to_owned(), expected };
            change::make_all(&mut transaction, workspace, vec![remove], by).await?;
            Ok((transaction, ()))
        };
        self.change(work).await
    }

    async fn change_once(
        &self,
        workspace: &WorkspaceId,
        change: ResourceChange,
        request: &ClientRequest,
        by: &Deed,
    ) -> Result<Once, StoreError> {
        let work = async {
            let scope = change::scope_of(workspace, std::slice::from_ref(&change));
            let mut transaction = self.database.begin(scope).await?;
            let once = client_requests::once(&mut transaction, workspace, change, request, by).await?;
            Ok((transaction, once))
        };
        self.change(work).await
    }

    async fn changed_before(
        &self,
        workspace: &WorkspaceId,
        request: &ClientRequest,
        now: Millis,
    ) -> Result<Option<Once>, StoreError> {
        let work = async {
            let mut transaction = self.database.begin_read(Scope::Workspace(workspace)).await?;
            client_requests::before(&mut transaction, workspace, request, now).await
        };
        self.database.within_deadline(work).await
    }

    async fn top_up(
        &self,
        workspace: &WorkspaceId,
        top_up: NewTopUp,
        limit: usize,
        by: &Deed,
    ) -> Result<TopUpOutcome, StoreError> {
        let work = async {
            let mut transaction = self.database.begin(Scope::Workspace(workspace)).await?;
            let outcome = top_ups::top_up(&mut transaction, workspace, top_up, limit, by).await?;
            Ok((transaction, outcome))
        };
        self.change(work).await
    }

    async fn top_ups(
        &self,
        workspace: &WorkspaceId,
        budget: &str,
        part: &SequenceQuery,
    ) -> Result<Vec<TopUp>, StoreError> {
        let work = async {
            let mut reader = self.database.reader(Scope::Workspace(workspace)).await?;
            top_ups::list(&mut reader, workspace, budget, part).await
        };
        self.database.within_deadline(work).await
    }

    async fn apply_all(
        &self,
        workspace: &WorkspaceId,
        changes: Vec<ResourceChange>,
        seen: u64,
        by: &Deed,
    ) -> Result<Vec<Stored<Resource>>, StoreError> {
        let work = async {
            let mut transaction = self.database.begin(change::scope_of(workspace, &changes)).await?;
            change::check_unchanged(&mut transaction, workspace, seen).await?;
            let stored = change::make_all(&mut transaction, workspace, changes, by).await?;
            Ok((transaction, stored))
        };
        self.change_within(APPLY_MS_MAX, work).await
    }

    async fn workspace_state(
        &self,
        workspace: &WorkspaceId,
        limit: usize,
    ) -> Result<WorkspaceState, StoreError> {
        let work = async {
            let mut transaction = self.database.begin_read(Scope::Workspace(workspace)).await?;
            read::workspace_state(&mut transaction, workspace, limit).await
        };
        self.database.within_deadline(work).await
    }

    async fn get(
        &self,
        workspace: &WorkspaceId,
        kind: ResourceKind,
        id: &str,
    ) -> Result<Option<Stored<Resource>>, StoreError> {
        let work = async {
            let mut reader = self.database.reader(Scope::Workspace(workspace)).await?;
            read::find(&mut reader, workspace, kind, id).await
        };
        self.database.within_deadline(work).await
    }

    async fn get_all(&self, places: &[ResourcePlace]) -> Result<Vec<Stored<Resource>>, StoreError> {
        let work = async {
            let mut reader = self.database.reader(Scope::Installation).await?;
            read::find_all(&mut reader, places).await
        };
        self.database.within_deadline(work).await
    }

    async fn workspaces(&self, ids: &[WorkspaceId]) -> Result<Vec<Workspace>, StoreError> {
        let work = async {
            let mut reader = self.database.reader(Scope::Installation).await?;
            read::workspaces(&mut reader, ids).await
        };
        self.database.within_deadline(work).await
    }

    async fn list(
        &self,
        workspace: &WorkspaceId,
        kind: ResourceKind,
        query: &PageQuery,
    ) -> Result<Vec<Stored<Resource>>, StoreError> {
        let work = async {
            let mut reader = self.database.reader(Scope::Workspace(workspace)).await?;
            read::list(&mut reader, workspace, kind, query).await
        };
        self.database.within_deadline(work).await
    }

    async fn snapshot(&self) -> Result<Snapshot, StoreError> {
        let work = async {
            let mut transaction = self.database.begin_read(Scope::Installation).await?;
            read::snapshot(&mut transaction).await
        };
        self.database.within(LOAD_MS_MAX, work).await
    }

    async fn changes_after(&self, revision: u64, limit: usize) -> Result<Vec<Change>, StoreError> {
        let work = async {
            let mut reader = self.database.reader(Scope::Installation).await?;
            read::changes(&mut reader, revision, limit).await
        };
        self.database.within_deadline(work).await
    }

    async fn touch_keys(&self, uses: &[KeyUse]) -> Result<(), StoreError> {
        if uses.is_empty() {
            return Ok(());
        }
        let work = async {
            let mut transaction = self.database.begin(Scope::Installation).await?;
            uses::touch(&mut transaction, uses).await?;
            Ok((transaction, ()))
        };
        self.database.write(work).await
    }

    async fn key_uses(
        &self,
        workspace: &WorkspaceId,
        keys: &[KeyId],
    ) -> Result<Vec<(KeyId, Millis)>, StoreError> {
        let work = async {
            let mut reader = self.database.reader(Scope::Workspace(workspace)).await?;
            uses::of_keys(&mut reader, workspace, keys).await
        };
        self.database.within_deadline(work).await
    }

    fn wake(&self) -> Option<watch::Receiver<u64>> {
        self.database.wake(Feed::Config)
    }
}

fn row_limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

fn corrupt(detail: String) -> StoreError {
    StoreError::Corrupt { store: STORE, detail }
}

#[cfg(test)]
mod tests;
