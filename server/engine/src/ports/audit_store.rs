//! The store of the audit trail, for reading. Entries are written by the stores of what is changed, in
//! the transaction of the change, and their hashes once more in another store.

use std::ops::Range;

use async_trait::async_trait;
use rateguard_core::ids::WorkspaceId;
use rateguard_core::time::Millis;

use super::StoreError;
use crate::audit::{AuditEntry, AuditHead, AuditKind};
use crate::listing::SequenceQuery;

/// Which entries. Every part that is set must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// The id of the key or the person who did it.
    pub actor_id: Option<String>,
    /// What kind of thing.
    pub kind: Option<AuditKind>,
    /// Which thing.
    pub id: Option<String>,
    /// When, from the start on and before the end.
    pub at: Option<Range<Millis>>,
}

/// A page of entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditQuery {
    /// Which.
    pub filter: AuditFilter,
    /// Which of these, by their places of the chain.
    pub part: SequenceQuery,
}

/// A place of a chain, as verification sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuditLink {
    /// The entry.
    Entry(Box<AuditEntry>),
    /// A row whose columns hold what no entry has.
    Unreadable {
        /// Its place.
        sequence: u64,
    },
}

impl AuditLink {
    /// The place.
    pub fn sequence(&self) -> u64 {
        match self {
            Self::Entry(entry) => entry.sequence,
            Self::Unreadable { sequence } => *sequence,
        }
    }
}

/// The audit trail. Chains are named by their workspace's id, empty for the installation's.
#[async_trait]
pub trait AuditStore: Send + Sync + 'static {
    /// A page of a workspace's entries; `None` for the installation's.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::Corrupt`] for a row that holds what no entry has.
    async fn audit_entries(
        &self,
        workspace: Option<&WorkspaceId>,
        query: &AuditQuery,
    ) -> Result<Vec<AuditEntry>, StoreError>;

    /// The last entry of every chain, as the store of the entries says.
    ///
    /// # Errors
    /// As [`AuditStore::audit_entries`].
    async fn audit_heads(&self) -> Result<Vec<AuditHead>, StoreError>;

    /// The chain that comes after another one, or first where that is `None`, in an order of the store's own;
    /// `None` where there is no further one. Every chain that has an entry is one, whatever the heads say.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    async fn audit_chain_after(&self, chain: Option<&str>) -> Result<Option<String>, StoreError>;

    /// At most `limit` places of a chain after one, in their order.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    async fn audit_chain(&self, chain: &str, after: u64, limit: usize) -> Result<Vec<AuditLink>, StoreError>;

    /// The entries of a chain whose hash has not gone to the other store yet: few, since it goes there
    /// before a change is answered.
    ///
    /// # Errors
    /// As [`AuditStore::audit_entries`].
    async fn audit_unwitnessed(&self, chain: &str) -> Result<Vec<AuditHead>, StoreError>;

    /// The last entry of every chain, as the other store says.
    ///
    /// # Errors
    /// As [`AuditStore::audit_entries`].
    async fn witnessed_heads(&self) -> Result<Vec<AuditHead>, StoreError>;

    /// What the other store has of a chain, after one place and up to another.
    ///
    /// # Errors
    /// As [`AuditStore::audit_entries`].
    async fn witnessed(&self, chain: &str, after: u64, through: u64) -> Result<Vec<AuditHead>, StoreError>;
}
