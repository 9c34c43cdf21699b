//! `AuditService`.

use std::sync::Arc;

use rateguard_engine::engine::Engine;
use rateguard_proto::v1;
use rateguard_proto::v1::audit_service_server::AuditService;
use tonic::{Request, Response, Status};

use super::{Call, answer, open};
use crate::convert::audit::{audit_entry, audit_filter};
use crate::listing::{ListMethod, page_fields};

/// The list of entries.
const ENTRIES: ListMethod = ListMethod::of_ledger("audit entries");

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
            let fields = page_fields(message.page_size, &message.page_token, &message.order_by);
            let turn = ENTRIES.turn(who.workspace()?.as_str(), &filter, fields)?;
            let page = self.0.audit_entries(&who, filter, turn.part()?).await?;
            let next_page_token = turn.token_after_number(page.next_after);
            let entries = page.items.into_iter().map(audit_entry).collect();
            Ok(v1::ListAuditEntriesResponse { entries, next_page_token })
        })
        .await
    }
}
