//! Sessions: beginning, refreshing, moving to another workspace, ending.

use rateguard_core::ids::{SessionId, WorkspaceId};
use rateguard_core::time::Millis;

use super::access_tokens::Claims;
use super::attempts::Attempt;
use super::secret_tokens::RefreshToken;
use super::{
    Grant, LoggedIn, People, Person, Role, SESSIONS_PER_USER_MAX, USER_AGENT_BYTES_MAX, Visitor, internal,
    role_missing, session_ended,
};
use crate::error::EngineError;
use crate::ports::{Refreshed, Refreshing, Session, StoreError, User};
use crate::secrets::{SecretText, random};

/// A place to work: a workspace, and what the person is there.
type Place = Option<(WorkspaceId, Role)>;

impl People {
    /// Begins a session of a person who has shown who they are.
    pub(super) async fn come_in(
        &self,
        user: User,
        place: Place,
        visitor: &Visitor,
    ) -> Result<LoggedIn, EngineError> {
        let (token, now) = (RefreshToken::draw()?, self.now());
        let session = Session {
            id: SessionId::from_random(random().map_err(internal)?),
            user: user.id.clone(),
            workspace: place.as_ref().map(|(workspace, _)| workspace.clone()),
            user_agent: cut(&visitor.user_agent),
            ip: visitor.ip,
            created_at: now,
            refreshed_at: now,
            expires_at: now.plus(self.policy.refresh_token_ms),
        };
        self.store.begin_session(session.clone(), token.hashes(), SESSIONS_PER_USER_MAX).await?;
        // One that had to make room has ended.
        self.refresh_now().await;
        let grant = self.grant(&session, place, Some(token.text()))?;
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
        visitor: &Visitor,
    ) -> Result<Grant, EngineError> {
        let now = self.now();
        self.attempts.take(Attempt::ComeIn, visitor.ip, None, now)?;
        let presented = RefreshToken::read(presented).ok_or_else(session_ended)?;
        let next = presented.next()?;
        let refreshing = Refreshing {
            presented: presented.hashes(),
            next_secret_sha256: next.hashes().secret_sha256,
            expires_at: now.plus(self.policy.refresh_token_ms),
        };
        match self.store.refresh_session(refreshing, now).await? {
            Refreshed::Goes(session) => {
                let place = self.place_of(&session).await?;
                self.grant(&session, place, Some(next.text()))
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
    ) -> Result<Grant, EngineError> {
        let membership = self.store.membership(workspace, &person.user).await?.ok_or_else(role_missing)?;
        let moved = self.store.move_session(&person.session, workspace, self.now()).await;
        moved.map_err(|error| match error {
            StoreError::NotFound => session_ended(),
            error => error.into(),
        })?;
        self.access_grant(person.session.clone(), person, Some((membership.workspace, membership.role)))
    }

    /// The person's live sessions, the newest first.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn sessions(&self, person: &Person) -> Result<Vec<Session>, EngineError> {
        Ok(self.store.sessions(&person.user, self.now()).await?)
    }

    /// Ends a session of the person's.
    ///
    /// # Errors
    /// [`crate::error::Reason::ResourceNotFound`].
    pub async fn end_session(&self, person: &Person, id: &SessionId) -> Result<(), EngineError> {
        let ended = self.store.end_session(&person.user, id, self.now()).await;
        ended.map_err(|error| match error {
            StoreError::NotFound => EngineError::not_found("session", id.as_str()),
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

    fn grant(
        &self,
        session: &Session,
        place: Place,
        refresh: Option<SecretText>,
    ) -> Result<Grant, EngineError> {
        let (access, access_expires_at) = self.sign(session.id.clone(), session.user.clone(), &place)?;
        let refresh_expires_at = refresh.as_ref().map(|_| session.expires_at);
        Ok(Grant { access, access_expires_at, refresh, refresh_expires_at, place })
    }

    fn access_grant(&self, session: SessionId, person: &Person, place: Place) -> Result<Grant, EngineError> {
        let (access, access_expires_at) = self.sign(session, person.user.clone(), &place)?;
        Ok(Grant { access, access_expires_at, refresh: None, refresh_expires_at: None, place })
    }

    fn sign(
        &self,
        session: SessionId,
        user: rateguard_core::ids::UserId,
        place: &Place,
    ) -> Result<(SecretText, Millis), EngineError> {
        let now = self.now();
        let expires_at = now.plus(self.policy.access_token_ms);
        let claims = Claims { session, user, place: place.clone(), expires_at };
        Ok((self.keyring.sign(&claims, now)?, expires_at))
    }
}

/// What a client calls itself, cut to its bound and without control characters.
fn cut(user_agent: &str) -> String {
    let plain = user_agent.chars().filter(|c| !c.is_control());
    let mut text = String::new();
    for character in plain {
        if text.len() + character.len_utf8() > USER_AGENT_BYTES_MAX {
            break;
        }
        text.push(character);
    }
    text
}
