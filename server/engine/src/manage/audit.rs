//! The audit trail, as those who manage a workspace read it.

use crate::audit::AuditEntry;
use crate::caller::Identity;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::listing::{SequencePage, SequenceQuery};
use crate::ports::{AuditFilter, AuditQuery};

impl Engine {
    /// A page of the workspace's audit trail.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn audit_entries(
        &self,
        identity: &Identity,
        filter: AuditFilter,
        part: SequenceQuery,
    ) -> Result<SequencePage<AuditEntry>, EngineError> {
        let query = AuditQuery { filter, part: part.one_more() };
        let entries = self.audit.audit_entries(Some(identity.workspace()?), &query).await?;
        Ok(part.page(entries, |entry| entry.sequence))
    }
}
