//! People who call, as the tests of people want them.

use rateguard_proto::v1;
use rateguard_proto::v1::auth_service_client::AuthServiceClient;
use rateguard_proto::v1::member_service_client::MemberServiceClient;
use rateguard_proto::v1::workspace_service_client::WorkspaceServiceClient;
use tonic::Status;

use super::world::{Transport, World};

/// The password of everybody here.
pub const PASSWORD: &str = "correct horse battery";

/// A person with their tokens.
#[derive(Clone, Debug)]
pub struct Someone {
    pub id: String,
    pub email: String,
    pub access: String,
    pub refresh: String,
    pub workspace: String,
}

pub fn secret(text: &str) -> Option<v1::SecretText> {
    Some(v1::SecretText { value: text.to_owned() })
}

/// What a grant holds, as access token, refresh token and workspace.
pub fn tokens(grant: Option<v1::AccessGrant>) -> (String, String, String) {
    let grant = grant.expect("an answer with tokens");
    let text = |secret: Option<v1::SecretText>| secret.map(|secret| secret.value).unwrap_or_default();
    (text(grant.access_token), text(grant.refresh_token), grant.workspace_id)
}

pub fn registration(email: &str) -> v1::RegisterRequest {
    v1::RegisterRequest {
        email: email.to_owned(),
        password: secret(PASSWORD),
        display_name: "Someone".to_owned(),
        ..v1::RegisterRequest::default()
    }
}

pub fn login(email: &str, password: &str) -> v1::LoginRequest {
    v1::LoginRequest { email: email.to_owned(), password: secret(password), workspace_id: String::new() }
}

impl World {
    /// A client of nobody in particular.
    pub fn visitor(&self) -> AuthServiceClient<Transport> {
        AuthServiceClient::new(self.transport_of(&[]))
    }

    /// Registers a person with a workspace of their own.
    pub async fn someone(&self, name: &str) -> Someone {
        self.registered(registration(&format!("{name}@example.com"))).await.unwrap()
    }

    pub async fn registered(&self, request: v1::RegisterRequest) -> Result<Someone, Status> {
        let answer = self.visitor().register(request).await?.into_inner();
        let user = answer.user.expect("an account");
        let (access, refresh, workspace) = tokens(answer.grant);
        Ok(Someone { id: user.id, email: user.email, access, refresh, workspace })
    }

    /// A person whom somebody has invited to their workspace, with this role.
    pub async fn invited_by(&self, inviter: &Someone, name: &str, role: v1::Role) -> Someone {
        let token = self.invitation(inviter, role).await;
        let request = v1::RegisterRequest {
            invitation_token: secret(&token),
            ..registration(&format!("{name}@example.com"))
        };
        self.registered(request).await.unwrap()
    }

    /// The token of a new invitation for whoever has it.
    pub async fn invitation(&self, inviter: &Someone, role: v1::Role) -> String {
        let request =
            v1::InviteMemberRequest { email: String::new(), role: role.into(), ..Default::default() };
        let answer = self.members(inviter).invite_member(request).await.unwrap().into_inner();
        answer.token.expect("a token").value
    }

    pub fn auth(&self, person: &Someone) -> AuthServiceClient<Transport> {
        AuthServiceClient::new(self.transport_with(&person.access))
    }

    pub fn members(&self, person: &Someone) -> MemberServiceClient<Transport> {
        MemberServiceClient::new(self.transport_with(&person.access))
    }

    pub fn workspaces(&self, person: &Someone) -> WorkspaceServiceClient<Transport> {
        WorkspaceServiceClient::new(self.transport_with(&person.access))
    }

    /// Uses a refresh token as a program does.
    pub async fn refreshed(&self, token: &str) -> Result<(String, String, String), Status> {
        let request = v1::RefreshTokenRequest { refresh_token: secret(token) };
        Ok(tokens(self.visitor().refresh_token(request).await?.into_inner().grant))
    }

    /// Who an access token is, and what it may do.
    pub async fn me(&self, access: &str) -> Result<v1::GetMeResponse, Status> {
        let mut client = AuthServiceClient::new(self.transport_with(access));
        Ok(client.get_me(v1::GetMeRequest {}).await?.into_inner())
    }
}
