//! Sessions: beginning, refreshing, moving to another workspace, ending.

use rateguard_core::ids::{SessionId, UserId, WorkspaceId};
use rateguard_core::time::Millis;

use super::access_tokens::Claims;
use super::accounts::login_refused;
use super::attempts::Attempt;
use super::secret_tokens::RefreshToken;
use super::{
    Grant, LoggedIn, People, Person, Role, SESSIONS_PER_USER_MAX, internal, role_missing, session_ended,
};
use crate::audit::{Actor, Deed, Origin};
use crate::error::{EngineError, Reason};
use crate::ports::{Refreshed, Refreshing, Session, StoreError, User};
use crate::secrets::{SecretText, random};

/// A place to work: a workspace, and what the person is there.
type Place = Option<(WorkspaceId, Role)>;

impl People {
    /// Begins a session of a person who has shown who they are: by an account that has not changed its
    /// password since it was read.
    pub(super) async fn come_in(
        &self,
        user: User,
        place: Place,
        origin: &Origin,
    ) -> Result<LoggedIn, EngineError> {
        let (token, now) = (RefreshToken::draw()?, self.now());
        let session = Session {
            id: SessionId::from_random(random().map_err(internal)?),
            user: user.id.clone(),
            workspace: place.as_ref().map(|(workspace, _)| workspace.clone()),
            user_agent: origin.user_agent.clone().unwrap_or_default(),
            ip: origin.ip,
            created_at: now,
            refreshed_at: now,
            expires_at: now.plus(self.policy.refresh_token_ms),
        };
        let deed = self.deed(&user.id, origin);
        let (expected, max) = (&user.password, SESSIONS_PER_USER_MAX);
        let begun = self.store.begin_session(session.clone(), expected, token.hashes(), max, &deed).await;
        begun.map_err(|error| match error {
            // The password that let them in has been replaced since.
            StoreError::VersionMismatch => login_refused(),
            error => error.into(),
        })?;
        self.attempts.came_in(origin.ip, &user.email);
        // One that had to make room has ended.
        self.refresh_now().await;
        let refresh = Some((token.text(), session.expires_at));
        let grant = self.grant((&session.id, &user.id), place, refresh)?;
        Ok(LoggedIn { user, grant })
    }

    /// Gives new tokens for a refresh token, which is spent. One that was spent before ends its session:
    /// there is no grace, since a thief and an owner at the same time look alike.
    ///
    /// # Errors
    /// [`crate::error::Reason::SessionEnded`], [`crate::error::Reason::TooManyAttempts`].
    pub async fn refresh_session(
        &self,
        presented: &SecretText,
        origin: &Origin,
    ) -> Result<Grant, EngineError> {
        let now = self.now();
        self.attempts.take(Attempt::Refresh, origin.ip, None, now)?;
        let presented = RefreshToken::read(presented).ok_or_else(session_ended)?;
        let next = presented.next()?;
        let refreshing = Refreshing {
            presented: presented.hashes(),
            next_secret_sha256: next.hashes().secret_sha256,
            expires_at: now.plus(self.policy.refresh_token_ms),
        };
        // Whoever uses an old token is nobody: the server ends its session.
        let deed = Deed { actor: Actor::Server, origin: origin.clone(), at: now };
        match self.store.refresh_session(refreshing, &deed).await? {
            Refreshed::Goes(session) => {
                let place = self.place_of(&session).await?;
                let refresh = Some((next.text(), session.expires_at));
                self.grant((&session.id, &session.user), place, refresh)
            }
            Refreshed::Unknown => Err(session_ended()),
            Refreshed::Reused(session) => {
                tracing::warn!(%session, "an old refresh token was used again; its session has ended");
                self.refresh_now().await;
                Err(session_ended())
            }
        }
    }

    /// Lets the person's session work in another workspace of theirs.
    ///
    /// # Errors
    /// [`crate::error::Reason::RoleMissing`], [`crate::error::Reason::SessionEnded`].
    pub async fn switch_workspace(
        &self,
        person: &Person,
        workspace: &WorkspaceId,
        origin: &Origin,
    ) -> Result<Grant, EngineError> {
        let membership = self.store.membership(workspace, &person.user).await?.ok_or_else(role_missing)?;
        let deed = self.deed(&person.user, origin);
        let moved = self.store.move_session(&person.session, workspace, &deed).await;
        moved.map_err(|error| match error {
            StoreError::NotFound => session_ended(),
            error => error.into(),
        })?;
        self.grant((&person.session, &person.user), Some((membership.workspace, membership.role)), None)
    }

    /// Ends a session of the person's.
    ///
    /// # Errors
    /// [`crate::error::Reason::ResourceNotFound`].
    pub async fn end_session(
        &self,
        person: &Person,
        id: &SessionId,
        origin: &Origin,
    ) -> Result<(), EngineError> {
        let ended = self.store.end_session(&person.user, id, &self.deed(&person.user, origin)).await;
        ended.map_err(|error| match error {
            StoreError::NotFound => {
                EngineError::new(Reason::ResourceNotFound, format!("you have no session {:?}", id.as_str()))
            }
            error => error.into(),
        })?;
        self.refresh_now().await;
        Ok(())
    }

    async fn place_of(&self, session: &Session) -> Result<Place, EngineError> {
        let Some(workspace) = &session.workspace else { return Ok(None) };
        let membership = self.store.membership(workspace, &session.user).await?;
        Ok(membership.map(|membership| (membership.workspace, membership.role)))
    }

    /// Tokens of a session: its id and whose it is. A refresh token comes with its end.
    fn grant(
        &self,
        (session, user): (&SessionId, &UserId),
        place: Place,
        refresh: Option<(SecretText, Millis)>,
    ) -> Result<Grant, EngineError> {
        let granted_at = self.now();
        let access_expires_at = granted_at.plus(self.policy.access_token_ms);
        let claims = Claims {
            session: session.clone(),
            user: user.clone(),
            place: place.clone(),
            expires_at: access_expires_at,
        };
        let access = self.keyring.sign(&claims, granted_at)?;
        let (refresh, refresh_expires_at) = refresh.unzip();
        Ok(Grant { granted_at, access, access_expires_at, refresh, refresh_expires_at, place })
    }
}
