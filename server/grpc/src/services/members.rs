//! `MemberService`.

use std::sync::Arc;

use prost::Message;
use rateguard_core::ids::{InvitationId, WorkspaceId};
use rateguard_engine::error::EngineError;
use rateguard_engine::listing::{Order, OrderBy};
use rateguard_engine::people::{Invited, People, Person};
use rateguard_proto::v1;
use rateguard_proto::v1::member_service_server::MemberService;
use tonic::{Request, Response, Status};

use super::answer;
use super::people::{FromPerson, from_person};
use crate::convert::lists::{invitation_filter, member_filter};
use crate::convert::people::{
    email, grant_message, invitation_message, member_message, role, secret, secret_message, user_id,
};
use crate::convert::{client_request, etag_version, missing};
use crate::listing::{ListMethod, page_fields};

/// What a named request invites to, apart from what other requests make.
const INVITED: &str = "invitation";
/// The list of members.
const MEMBERS: ListMethod = ListMethod {
    what: "members",
    orders: &[("id", OrderBy::Id), ("join_time", OrderBy::JoinTime), ("display_name", OrderBy::DisplayName)],
    default: Order::ascending(OrderBy::Id),
};
/// The list of invitations.
const INVITATIONS: ListMethod = ListMethod {
    what: "invitations",
    orders: &[("id", OrderBy::Id), ("create_time", OrderBy::CreateTime)],
    default: Order::ascending(OrderBy::Id),
};

/// The service over people.
pub struct Members(pub Arc<People>);

#[tonic::async_trait]
impl MemberService for Members {
    async fn invite_member(
        &self,
        request: Request<v1::InviteMemberRequest>,
    ) -> Result<Response<v1::InviteMemberResponse>, Status> {
        let FromPerson { person, origin, message } = from_person(request)?;
        answer(async {
            let to = match message.email.as_str() {
                "" => None,
                text => Some(email("email", text)?),
            };
            let role = role("role", message.role)?;
            let content = v1::InviteMemberRequest { request_id: String::new(), ..message.clone() };
            let request = client_request(&message.request_id, INVITED, &content.encode_to_vec())?;
            let Invited { invitation, token } = self.0.invite(&person, to, role, request, &origin).await?;
            Ok(v1::InviteMemberResponse {
                invitation: Some(invitation_message(&invitation)),
                token: token.as_ref().map(secret_message),
            })
        })
        .await
    }

    async fn list_invitations(
        &self,
        request: Request<v1::ListInvitationsRequest>,
    ) -> Result<Response<v1::ListInvitationsResponse>, Status> {
        let FromPerson { person, message, .. } = from_person(request)?;
        answer(async {
            let fields = page_fields(message.page_size, &message.page_token, &message.order_by);
            let filter = invitation_filter(&message)?;
            let turn = INVITATIONS.turn(workspace(&person), &filter, fields)?;
            let page = self.0.invitations(&person, &filter, &turn.page()?).await?;
            let next_page_token = turn.token_after(page.next_after.as_ref());
            Ok(v1::ListInvitationsResponse {
                invitations: page.items.iter().map(invitation_message).collect(),
                next_page_token,
            })
        })
        .await
    }

    async fn revoke_invitation(
        &self,
        request: Request<v1::RevokeInvitationRequest>,
    ) -> Result<Response<v1::RevokeInvitationResponse>, Status> {
        let FromPerson { person, origin, message } = from_person(request)?;
        answer(async {
            self.0.revoke_invitation(&person, &invitation_id(&message.id)?, &origin).await?;
            Ok(v1::RevokeInvitationResponse {})
        })
        .await
    }

    async fn accept_invitation(
        &self,
        request: Request<v1::AcceptInvitationRequest>,
    ) -> Result<Response<v1::AcceptInvitationResponse>, Status> {
        let FromPerson { person, origin, message } = from_person(request)?;
        answer(async {
            let token = secret("token", message.token)?;
            let grant = self.0.accept_invitation(&person, &token, &origin).await?;
            Ok(v1::AcceptInvitationResponse { grant: Some(grant_message(&grant)) })
        })
        .await
    }

    async fn list_members(
        &self,
        request: Request<v1::ListMembersRequest>,
    ) -> Result<Response<v1::ListMembersResponse>, Status> {
        let FromPerson { person, message, .. } = from_person(request)?;
        answer(async {
            let fields = page_fields(message.page_size, &message.page_token, &message.order_by);
            let filter = member_filter(&message)?;
            let turn = MEMBERS.turn(workspace(&person), &filter, fields)?;
            let page = self.0.members(&person, &filter, &turn.page()?).await?;
            let next_page_token = turn.token_after(page.next_after.as_ref());
            Ok(v1::ListMembersResponse {
                members: page.items.iter().map(member_message).collect(),
                next_page_token,
            })
        })
        .await
    }

    async fn update_member(
        &self,
        request: Request<v1::UpdateMemberRequest>,
    ) -> Result<Response<v1::UpdateMemberResponse>, Status> {
        let FromPerson { person, origin, message } = from_person(request)?;
        answer(async {
            let (user, role) = (user_id("user_id", &message.user_id)?, role("role", message.role)?);
            let expected = etag_version(&message.etag)?;
            let member = self.0.change_role(&person, user, role, expected, &origin).await?;
            Ok(v1::UpdateMemberResponse { member: Some(member_message(&member)) })
        })
        .await
    }

    async fn remove_member(
        &self,
        request: Request<v1::RemoveMemberRequest>,
    ) -> Result<Response<v1::RemoveMemberResponse>, Status> {
        let FromPerson { person, origin, message } = from_person(request)?;
        answer(async {
            self.0.remove_member(&person, user_id("user_id", &message.user_id)?, &origin).await?;
            Ok(v1::RemoveMemberResponse {})
        })
        .await
    }

    async fn transfer_ownership(
        &self,
        request: Request<v1::TransferOwnershipRequest>,
    ) -> Result<Response<v1::TransferOwnershipResponse>, Status> {
        let FromPerson { person, origin, message } = from_person(request)?;
        answer(async {
            let to = user_id("user_id", &message.user_id)?;
            let member = self.0.transfer_ownership(&person, &to, &origin).await?;
            Ok(v1::TransferOwnershipResponse { member: Some(member_message(&member)) })
        })
        .await
    }
}

/// Whose the list is. A person without a workspace has none, and no role there.
fn workspace(person: &Person) -> &str {
    person.workspace.as_ref().map_or("", WorkspaceId::as_str)
}

fn invitation_id(text: &str) -> Result<InvitationId, EngineError> {
    if text.is_empty() { Err(missing("id")) } else { Ok(InvitationId::parse("id", text)?) }
}
