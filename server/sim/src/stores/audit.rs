//! An audit trail in which nothing stands: nobody changes anything that it would tell of.

use async_trait::async_trait;
use rateguard_core::ids::WorkspaceId;
use rateguard_engine::audit::{AuditEntry, AuditHead};
use rateguard_engine::ports::{AuditLink, AuditQuery, AuditStore, StoreError};

/// The empty trail.
pub struct NoTrail;

#[async_trait]
impl AuditStore for NoTrail {
    async fn audit_entries(
        &self,
        _: Option<&WorkspaceId>,
        _: &AuditQuery,
    ) -> Result<Vec<AuditEntry>, StoreError> {
        Ok(Vec::new())
    }

    async fn audit_heads(&self) -> Result<Vec<AuditHead>, StoreError> {
        Ok(Vec::new())
    }

    async fn audit_chain_after(&self, _: Option<&str>) -> Result<Option<String>, StoreError> {
        Ok(None)
    }

    async fn audit_chain(&self, _: &str, _: u64, _: usize) -> Result<Vec<AuditLink>, StoreError> {
        Ok(Vec::new())
    }

    async fn audit_unwitnessed(&self, _: &str) -> Result<Vec<AuditHead>, StoreError> {
        Ok(Vec::new())
    }

    async fn witnessed_heads(&self) -> Result<Vec<AuditHead>, StoreError> {
        Ok(Vec::new())
    }

    async fn witnessed(&self, _: &str, _: u64, _: u64) -> Result<Vec<AuditHead>, StoreError> {
        Ok(Vec::new())
    }
}
