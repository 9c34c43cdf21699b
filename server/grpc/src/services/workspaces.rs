//! `WorkspaceService`.

use std::sync::Arc;

use prost::Message as _;
use rateguard_core::ids::DisplayName;
use rateguard_engine::audit::Origin;
use rateguard_engine::error::EngineError;
use rateguard_engine::listing::{Order, OrderBy};
use rateguard_engine::people::{People, Person};
use rateguard_proto::v1;
use rateguard_proto::v1::workspace_service_server::WorkspaceService;
use tonic::{Request, Response, Status};

use super::answer;
use super::mask::{Maskable, masked};
use super::people::{FromPerson, from_person};
use crate::convert::lists::workspace_filter;
use crate::convert::people::{workspace_id, workspace_message, zone_and_currency};
use crate::convert::{client_request, etag_version, missing, within};
use crate::listing::{ListMethod, page_fields};

/// The field of requests that holds the workspace.
const FIELD: &str = "workspace";
const MASKABLE: Maskable = Maskable {
    message: "rateguard.v1.Workspace",
    fixed: &["id", "time_zone", "currency_code", "role", "etag", "create_time", "update_time"],
};

/// The list of a person's workspaces.
const WORKSPACES: ListMethod = ListMethod {
    what: "workspaces",
    orders: &[
        ("id", OrderBy::Id),
        ("join_time", OrderBy::JoinTime),
        ("create_time", OrderBy::CreateTime),
        ("update_time", OrderBy::UpdateTime),
        ("display_name", OrderBy::DisplayName),
    ],
    default: Order::ascending(OrderBy::JoinTime),
};

/// The service over people.
pub struct Workspaces(pub Arc<People>);

#[tonic::async_trait]
impl WorkspaceService for Workspaces {
    async fn create_workspace(
        &self,
        request: Request<v1::CreateWorkspaceRequest>,
    ) -> Result<Response<v1::CreateWorkspaceResponse>, Status> {
        let FromPerson { person, origin, message } = from_person(request)?;
        answer(async {
            let draft = message.workspace.ok_or_else(|| missing(FIELD))?;
            let request = client_request(&message.request_id, FIELD, &draft.encode_to_vec())?;
            let name = DisplayName::parse("workspace.display_name", &draft.display_name)?;
            let (zone, currency) = zone_and_currency(draft.time_zone, &draft.currency_code)
                .map_err(|error| within(FIELD, error))?;
            let (role, stored) =
                self.0.create_workspace(&person, name, zone, currency, request, &origin).await?;
            Ok(v1::CreateWorkspaceResponse { workspace: Some(workspace_message(&stored, role)) })
        })
        .await
    }

    async fn get_workspace(
        &self,
        request: Request<v1::GetWorkspaceRequest>,
    ) -> Result<Response<v1::GetWorkspaceResponse>, Status> {
        let FromPerson { person, message, .. } = from_person(request)?;
        answer(async {
            let (membership, stored) = self.0.workspace(&person, &workspace_id("id", &message.id)?).await?;
            Ok(v1::GetWorkspaceResponse { workspace: Some(workspace_message(&stored, membership.role)) })
        })
        .await
    }

    async fn list_workspaces(
        &self,
        request: Request<v1::ListWorkspacesRequest>,
    ) -> Result<Response<v1::ListWorkspacesResponse>, Status> {
        let FromPerson { person, message, .. } = from_person(request)?;
        answer(async {
            let fields = page_fields(message.page_size, &message.page_token, &message.order_by);
            let filter = workspace_filter(&message)?;
            let turn = WORKSPACES.turn(person.user.as_str(), &filter, fields)?;
            let page = self.0.workspace_page(&person, &filter, &turn.page()?).await?;
            let next_page_token = turn.token_after(page.next_after.as_ref());
            let messages =
                page.items.iter().map(|(membership, stored)| workspace_message(stored, membership.role));
            Ok(v1::ListWorkspacesResponse { workspaces: messages.collect(), next_page_token })
        })
        .await
    }

    async fn update_workspace(
        &self,
        request: Request<v1::UpdateWorkspaceRequest>,
    ) -> Result<Response<v1::UpdateWorkspaceResponse>, Status> {
        let FromPerson { person, origin, message } = from_person(request)?;
        answer(async { update(&self.0, &person, message, &origin).await }).await
    }
}

async fn update(
    people: &People,
    person: &Person,
    request: v1::UpdateWorkspaceRequest,
    origin: &Origin,
) -> Result<v1::UpdateWorkspaceResponse, EngineError> {
    let changes = request.workspace.ok_or_else(|| missing(FIELD))?;
    let id = workspace_id("workspace.id", &changes.id)?;
    let expected = etag_version(&changes.etag)?;
    let (membership, stored) = people.workspace(person, &id).await?;
    let present = workspace_message(&stored, membership.role);
    let merged = masked(MASKABLE, &present, &changes, request.update_mask.as_ref())?;
    let name = DisplayName::parse("workspace.display_name", &merged.display_name)?;
    let renamed = people.rename_workspace(person, &id, &name, expected, origin).await?;
    Ok(v1::UpdateWorkspaceResponse { workspace: Some(workspace_message(&renamed, membership.role)) })
}
