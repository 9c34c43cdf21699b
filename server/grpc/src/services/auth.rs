//! `AuthService`.

use std::sync::Arc;

use rateguard_core::ids::WorkspaceId;
use rateguard_engine::error::EngineError;
use rateguard_engine::listing::{Order, OrderBy};
use rateguard_engine::people::{BegunLogin, Destination, Grant, LoggedIn, People, ReturnedLogin};
use rateguard_proto::v1;
use rateguard_proto::v1::auth_service_server::AuthService;
use tonic::metadata::{AsciiMetadataValue, MetadataMap};
use tonic::{Request, Response, Status};

use super::answer;
use super::people::{FromPerson, FromVisitor, from_person, from_visitor};
use crate::auth::browser::{clear_cookie, set_cookie};
use crate::convert::lists::session_filter;
use crate::convert::people::{
    email, grant_message, membership_message, new_account, optional_secret, role_message, secret,
    secret_message, session_id, session_message, user_message, workspace_id,
};
use crate::convert::timestamp;
use crate::listing::{ListMethod, page_fields};
use crate::status::status;

/// The header that sets a cookie.
const SET_COOKIE: &str = "set-cookie";

/// The list of sessions.
const SESSIONS: ListMethod = ListMethod {
    what: "sessions",
    orders: &[
        ("id", OrderBy::Id),
        ("create_time", OrderBy::CreateTime),
        ("refresh_time", OrderBy::UpdateTime),
    ],
    default: Order::descending(OrderBy::CreateTime),
};

/// The service over people.
pub struct Auth(pub Arc<People>);

#[tonic::async_trait]
impl AuthService for Auth {
    async fn register(
        &self,
        request: Request<v1::RegisterRequest>,
    ) -> Result<Response<v1::RegisterResponse>, Status> {
        let FromVisitor { origin, browser, message } = from_visitor(request)?;
        let (LoggedIn { user, grant }, cookie) = told(async {
            let wants_cookie = browser.wants_cookie()?;
            let logged_in = self.0.register(new_account(message)?, &origin).await?;
            Ok((logged_in, wants_cookie))
        })
        .await?;
        let user = Some(user_message(&user));
        granted(grant, cookie, |grant| v1::RegisterResponse { user, grant: Some(grant) })
    }

    async fn login(&self, request: Request<v1::LoginRequest>) -> Result<Response<v1::LoginResponse>, Status> {
        let FromVisitor { origin, browser, message } = from_visitor(request)?;
        let (LoggedIn { user, grant }, cookie) = told(async {
            let wants_cookie = browser.wants_cookie()?;
            let (email, password) = (email("email", &message.email)?, secret("password", message.password)?);
            let workspace = optional_workspace(&message.workspace_id)?;
            Ok((self.0.log_in(&email, &password, workspace.as_ref(), &origin).await?, wants_cookie))
        })
        .await?;
        let user = Some(user_message(&user));
        granted(grant, cookie, |grant| v1::LoginResponse { user, grant: Some(grant) })
    }

    async fn get_auth_methods(
        &self,
        _request: Request<v1::GetAuthMethodsRequest>,
    ) -> Result<Response<v1::GetAuthMethodsResponse>, Status> {
        let provider = self.0.provider_name();
        Ok(Response::new(v1::GetAuthMethodsResponse {
            password: true,
            oidc: provider.is_some(),
            oidc_display_name: provider.unwrap_or_default().to_owned(),
        }))
    }

    async fn begin_oidc_login(
        &self,
        request: Request<v1::BeginOidcLoginRequest>,
    ) -> Result<Response<v1::BeginOidcLoginResponse>, Status> {
        let FromVisitor { origin, .. } = from_visitor(request)?;
        answer(async {
            let BegunLogin { authorization_url, login_id, expires_at } =
                self.0.begin_external(&origin).await?;
            Ok(v1::BeginOidcLoginResponse {
                authorization_url,
                login_id: Some(secret_message(&login_id)),
                expire_time: Some(timestamp(expires_at)),
            })
        })
        .await
    }

    async fn complete_oidc_login(
        &self,
        request: Request<v1::CompleteOidcLoginRequest>,
    ) -> Result<Response<v1::CompleteOidcLoginResponse>, Status> {
        let FromVisitor { origin, browser, message } = from_visitor(request)?;
        let (LoggedIn { user, grant }, cookie) = told(async {
            // Before the log-in is spent.
            let wants_cookie = browser.wants_cookie()?;
            let returned = returned_login(message.login_id, message.code, message.state)?;
            let destination = Destination {
                workspace: optional_workspace(&message.workspace_id)?,
                invitation: optional_secret("invitation_token", message.invitation_token)?,
            };
            Ok((self.0.complete_external(returned, destination, &origin).await?, wants_cookie))
        })
        .await?;
        let user = Some(user_message(&user));
        granted(grant, cookie, |grant| v1::CompleteOidcLoginResponse { user, grant: Some(grant) })
    }

    async fn link_oidc(
        &self,
        request: Request<v1::LinkOidcRequest>,
    ) -> Result<Response<v1::LinkOidcResponse>, Status> {
        let FromPerson { person, origin, message } = from_person(request)?;
        answer(async {
            let returned = returned_login(message.login_id, message.code, message.state)?;
            let password = secret("current_password", message.current_password)?;
            self.0.link_external(&person, returned, &password, &origin).await?;
            Ok(v1::LinkOidcResponse {})
        })
        .await
    }

    async fn refresh_token(
        &self,
        request: Request<v1::RefreshTokenRequest>,
    ) -> Result<Response<v1::RefreshTokenResponse>, Status> {
        let FromVisitor { origin, browser, message } = from_visitor(request)?;
        let (grant, cookie) = told(async {
            if let Some(token) = optional_secret("refresh_token", message.refresh_token)? {
                // Before the token is spent.
                let wants_cookie = browser.wants_cookie()?;
                return Ok((self.0.refresh_session(&token, &origin).await?, wants_cookie));
            }
            let token = browser.cookie()?.ok_or_else(|| crate::convert::missing("refresh_token"))?;
            Ok((self.0.refresh_session(token, &origin).await?, true))
        })
        .await?;
        granted(grant, cookie, |grant| v1::RefreshTokenResponse { grant: Some(grant) })
    }

    async fn logout(
        &self,
        request: Request<v1::LogoutRequest>,
    ) -> Result<Response<v1::LogoutResponse>, Status> {
        let FromPerson { person, origin, .. } = from_person(request)?;
        let mut response = answer(async {
            self.0.end_session(&person, &person.session, &origin).await?;
            Ok(v1::LogoutResponse {})
        })
        .await?;
        set(response.metadata_mut(), &clear_cookie())?;
        Ok(response)
    }

    async fn get_me(
        &self,
        request: Request<v1::GetMeRequest>,
    ) -> Result<Response<v1::GetMeResponse>, Status> {
        let FromPerson { person, .. } = from_person(request)?;
        answer(async {
            let user = self.0.account(&person).await?;
            let memberships = self.0.workspaces(&person).await?;
            Ok(v1::GetMeResponse {
                user: Some(user_message(&user)),
                memberships: memberships.iter().map(membership_message).collect(),
                workspace_id: person.workspace.as_ref().map(ToString::to_string).unwrap_or_default(),
                role: role_message(person.role),
                session_id: person.session.to_string(),
            })
        })
        .await
    }

    async fn change_password(
        &self,
        request: Request<v1::ChangePasswordRequest>,
    ) -> Result<Response<v1::ChangePasswordResponse>, Status> {
        let FromPerson { person, origin, message } = from_person(request)?;
        answer(async {
            let current = secret("current_password", message.current_password)?;
            let new = secret("new_password", message.new_password)?;
            self.0.change_password(&person, &current, &new, &origin).await?;
            Ok(v1::ChangePasswordResponse {})
        })
        .await
    }

    async fn switch_workspace(
        &self,
        request: Request<v1::SwitchWorkspaceRequest>,
    ) -> Result<Response<v1::SwitchWorkspaceResponse>, Status> {
        let FromPerson { person, origin, message } = from_person(request)?;
        answer(async {
            let workspace = workspace_id("workspace_id", &message.workspace_id)?;
            let grant = self.0.switch_workspace(&person, &workspace, &origin).await?;
            Ok(v1::SwitchWorkspaceResponse { grant: Some(grant_message(&grant)) })
        })
        .await
    }

    async fn list_sessions(
        &self,
        request: Request<v1::ListSessionsRequest>,
    ) -> Result<Response<v1::ListSessionsResponse>, Status> {
        let FromPerson { person, message, .. } = from_person(request)?;
        answer(async {
            let fields = page_fields(message.page_size, &message.page_token, &message.order_by);
            let filter = session_filter(&message)?;
            let turn = SESSIONS.turn(person.user.as_str(), &filter, fields)?;
            let page = self.0.sessions(&person, &filter, &turn.page()?).await?;
            let next_page_token = turn.token_after(page.next_after.as_ref());
            let messages = page.items.iter().map(|session| session_message(session, &person.session));
            Ok(v1::ListSessionsResponse { sessions: messages.collect(), next_page_token })
        })
        .await
    }

    async fn revoke_session(
        &self,
        request: Request<v1::RevokeSessionRequest>,
    ) -> Result<Response<v1::RevokeSessionResponse>, Status> {
        let FromPerson { person, origin, message } = from_person(request)?;
        answer(async {
            self.0.end_session(&person, &session_id("id", &message.id)?, &origin).await?;
            Ok(v1::RevokeSessionResponse {})
        })
        .await
    }
}

fn optional_workspace(id: &str) -> Result<Option<WorkspaceId>, EngineError> {
    if id.is_empty() { Ok(None) } else { workspace_id("workspace_id", id).map(Some) }
}

/// What somebody comes back from the provider with.
fn returned_login(
    login_id: Option<v1::SecretText>,
    code: Option<v1::SecretText>,
    state: Option<v1::SecretText>,
) -> Result<ReturnedLogin, EngineError> {
    Ok(ReturnedLogin {
        login_id: secret("login_id", login_id)?,
        code: secret("code", code)?,
        state: secret("state", state)?,
    })
}

/// The same as [`answer`] for what is not the answer yet.
async fn told<T>(work: impl Future<Output = Result<T, EngineError>>) -> Result<T, Status> {
    work.await.map_err(|error| status(&error))
}

/// An answer with tokens. In a browser the refresh token goes into its cookie, and not into the body.
fn granted<T>(
    grant: Grant,
    cookie: bool,
    build: impl FnOnce(v1::AccessGrant) -> T,
) -> Result<Response<T>, Status> {
    let mut message = grant_message(&grant);
    let token = grant.refresh.as_ref().filter(|_| cookie);
    if token.is_some() {
        message.refresh_token = None;
    }
    let mut response = Response::new(build(message));
    if let (Some(token), Some(expires_at)) = (token, grant.refresh_expires_at) {
        let life_ms = expires_at.since(grant.granted_at);
        set(response.metadata_mut(), &set_cookie(token, life_ms))?;
    }
    Ok(response)
}

fn set(metadata: &mut MetadataMap, cookie: &str) -> Result<(), Status> {
    let value = AsciiMetadataValue::try_from(cookie)
        .map_err(|_| status(&EngineError::internal("a cookie is no header's value")))?;
    metadata.insert(SET_COOKIE, value);
    Ok(())
}
