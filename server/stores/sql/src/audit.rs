//! The audit trail in SQL. Entries stand in the file of what is changed, each written by the
//! transaction of the change; their hashes go to the file of the event log soon after the commit.
//!
//! A hash waits in an outbox, written by the same transaction, until the other file has it. So a
//! process that is killed in between leaves no entry unwitnessed: the next one goes on.

mod append;
mod file;
mod read;
mod witness;

use async_trait::async_trait;
use rateguard_core::ids::WorkspaceId;
use rateguard_engine::audit::{AuditEntry, AuditHead, INSTALLATION_CHAIN};
use rateguard_engine::ports::{AuditLink, AuditQuery, AuditStore, StoreError};

use crate::database::{Database, OpenError, PostgresDatabase, Scope};
pub(crate) use append::{Fact, What, record, record_all};
pub(crate) use witness::{Trail, Witness};

/// The name by which errors know the store.
const STORE: &str = "audit";

/// The audit trail, for reading.
#[derive(Clone, Debug)]
pub struct SqlAuditStore {
    trail: Trail,
}

impl SqlAuditStore {
    pub(crate) fn over(trail: Trail) -> Self {
        Self { trail }
    }

    /// Opens the trail of an installation in a database on a server. Nothing is written, and nothing is
    /// migrated, whatever the database says of migrations.
    ///
    /// # Errors
    /// [`OpenError`], also where the schemas are not those of this version.
    pub async fn open_on_server(server: &PostgresDatabase) -> Result<Self, OpenError> {
        let server = server.clone().requiring_migrations();
        let entries = Database::open_on_server(&server, &crate::config::SERVER_SCHEMA).await?;
        let copies = Database::open_on_server(&server, &crate::events::SERVER_SCHEMA).await?;
        Ok(Self::over(Trail { entries, copies }))
    }
}

/// Runs one function over a connection that only reads.
macro_rules! with_reader {
    ($database:expr, $scope:expr, $function:path $(, $argument:expr)*) => {{
        let work = async {
            let mut reader = $database.reader($scope).await?;
            $function(&mut reader $(, $argument)*).await
        };
        $database.within_deadline(work).await
    }};
}

#[async_trait]
impl AuditStore for SqlAuditStore {
    async fn audit_entries(
        &self,
        workspace: Option<&WorkspaceId>,
        query: &AuditQuery,
    ) -> Result<Vec<AuditEntry>, StoreError> {
        let chain = workspace.map_or(INSTALLATION_CHAIN, WorkspaceId::as_str);
        let scope = workspace.map_or(Scope::Installation, Scope::Workspace);
        with_reader!(self.trail.entries, scope, read::page, chain, query)
    }

    async fn audit_heads(&self) -> Result<Vec<AuditHead>, StoreError> {
        with_reader!(self.trail.entries, Scope::Installation, read::heads)
    }

    async fn audit_chain_after(&self, chain: Option<&str>) -> Result<Option<String>, StoreError> {
        with_reader!(self.trail.entries, Scope::Installation, read::chain_after, chain)
    }

    async fn audit_chain(&self, chain: &str, after: u64, limit: usize) -> Result<Vec<AuditLink>, StoreError> {
        with_reader!(self.trail.entries, Scope::Installation, read::chain, chain, after, limit)
    }

    async fn audit_unwitnessed(&self, chain: &str) -> Result<Vec<AuditHead>, StoreError> {
        with_reader!(self.trail.entries, Scope::Installation, read::unwitnessed, chain)
    }

    async fn witnessed_heads(&self) -> Result<Vec<AuditHead>, StoreError> {
        with_reader!(self.trail.copies, Scope::Installation, witness::heads)
    }

    async fn witnessed(&self, chain: &str, after: u64, through: u64) -> Result<Vec<AuditHead>, StoreError> {
        with_reader!(self.trail.copies, Scope::Installation, witness::between, chain, after, through)
    }
}

fn to_column(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn from_column(number: i64) -> Result<u64, StoreError> {
    u64::try_from(number).map_err(|_| corrupt(format!("place {number} is negative")))
}

fn hash_of(bytes: Vec<u8>) -> Result<[u8; 32], StoreError> {
    bytes.try_into().map_err(|_| corrupt("a hash is not 32 bytes".to_owned()))
}

fn corrupt(detail: String) -> StoreError {
    StoreError::Corrupt { store: STORE, detail }
}
