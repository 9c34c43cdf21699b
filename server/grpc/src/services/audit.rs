//! `AuditService`.

use std::sync::Arc;

use rateguard_engine::engine::Engine;
use rateguard_proto::v1;
use rateguard_proto::v1::audit_service_server::AuditService;
use tonic::{Request, Response, Status};

use super::{Call, answer, open};
use crate::convert::audit::{audit_entry, audit_filter};
use crate::convert::page_size;
use crate::page::{invalid_token, next_token, place_of};

/// The service over the engine.
pub struct Audit(pub Arc<Engine>);

#[tonic::async_trait]
impl AuditService for Audit {
    async fn list_audit_entries(
        &self,
        request: Request<v1::ListAuditEntriesRequest>,
    ) -> Result<Response<v1::ListAuditEntriesResponse>, Status> {
        let Call { who, message, .. } = open(&self.0, request)?;
        answer(async {
            let filter = audit_filter(message.filter.unwrap_or_default())?;
            let before = place_of(&message.page_token, &filter)?;
            let before = before.map(|place| place.parse().map_err(|_| invalid_token())).transpose()?;
            let size = page_size(message.page_size)?;
            let page = self.0.audit_entries(&who, filter.clone(), before, size).await?;
            let next_page_token =
                page.next_before.map(|place| next_token(place, &filter)).unwrap_or_default();
            let entries = page.entries.into_iter().map(audit_entry).collect();
            Ok(v1::ListAuditEntriesResponse { entries, next_page_token })
        })
        .await
    }
}
