//! The audit trail, as those who manage a workspace read it.

use crate::audit::AuditEntry;
use crate::caller::Identity;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::ports::{AuditFilter, AuditQuery};

/// A page of entries, the newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditPage {
    /// The entries.
    pub entries: Vec<AuditEntry>,
    /// The place of the chain before which the next page goes on; `None` at the end.
    pub next_before: Option<u64>,
}

impl Engine {
    /// A page of the workspace's audit trail, before a place of its chain.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn audit_entries(
        &self,
        identity: &Identity,
        filter: AuditFilter,
        before: Option<u64>,
        limit: usize,
    ) -> Result<AuditPage, EngineError> {
        let query = AuditQuery { filter, before, limit: limit + 1 };
        let mut entries = self.audit.audit_entries(Some(identity.workspace()?), &query).await?;
        let more = entries.len() > limit;
        entries.truncate(limit);
        let next_before = entries.last().filter(|_| more).map(|last| last.sequence);
        Ok(AuditPage { entries, next_before })
    }
}
