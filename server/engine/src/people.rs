//! People: accounts, log-ins, sessions, workspaces and their members.
//!
//! Access tokens are verified in memory alone. What ends a session or changes a role reaches every
//! process through the store's feed, which is read several times a second.

mod access_tokens;
mod accounts;
mod attempts;
mod email;
mod external;
mod invitations;
mod lists;
mod live;
mod mail;
mod members;
mod password;
mod pending;
mod provider;
mod refresh;
mod role;
mod secret_tokens;
mod sessions;
mod workspaces;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use rateguard_core::ids::{SessionId, UserId, WorkspaceId};
use rateguard_core::time::Millis;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::audit::{Actor, Deed, Origin};
use crate::clock::Clock;
use crate::directory::Directory;
use crate::error::{EngineError, Reason};
use crate::ports::{PeopleStore, User};
use crate::pulse::{Pulse, StoreState};
use crate::secrets::{CredentialCipher, SecretText};

pub use access_tokens::ACCESS_TOKEN_PREFIX;
pub use accounts::{FirstOwner, NewAccount, first_owner};
pub use email::{EMAIL_BYTES_MAX, EmailAddress};
pub use external::{BegunLogin, Destination, ExternalLogin, ReturnedLogin};
pub use invitations::Invited;
pub use lists::{InvitationFilter, MemberFilter, SessionFilter, WorkspaceFilter};
pub use mail::{Mail, MailError, Mailer};
pub use password::{PASSWORD_CHARS_MAX, PASSWORD_CHARS_MIN, PasswordHash, check_password};
pub use provider::{AuthorizationAnswer, AuthorizationRequest, IdentityProvider, ProviderError, Vouched};
pub use role::{MemberCase, Role, judge};

use access_tokens::Keyring;
use attempts::Attempts;
use external::External;
use live::Live;
use password::Passwords;

/// Workspaces that one person may belong to.
pub const WORKSPACES_PER_USER_MAX: usize = 100;
/// Members of one workspace.
pub const MEMBERS_PER_WORKSPACE_MAX: usize = 1_000;
/// Open invitations of one workspace.
pub const INVITATIONS_PER_WORKSPACE_MAX: usize = 100;
/// Live sessions of one person: one more ends the one refreshed longest ago.
pub const SESSIONS_PER_USER_MAX: usize = 50;
/// How long an invitation is open: 7 days.
pub const INVITATION_LIFE_MS: i64 = 7 * 24 * 60 * 60 * 1_000;
/// Longest life of an access token: an hour. What happened longer ago, every token knows.
pub const ACCESS_TOKEN_MS_MAX: i64 = 60 * 60 * 1_000;

/// Who may make an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registration {
    /// Anybody, with a workspace of their own.
    Open,
    /// Whoever has an invitation.
    InviteOnly,
    /// Nobody.
    Closed,
}

/// How people are let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Who may make an account.
    pub registration: Registration,
    /// Life of an access token, at most [`ACCESS_TOKEN_MS_MAX`].
    pub access_token_ms: i64,
    /// Life of a refresh token.
    pub refresh_token_ms: i64,
    /// The page where invitations are accepted; empty for none.
    pub invitation_page: String,
}

/// What people need besides their store.
pub struct PeopleSetup {
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Where new workspaces are made known.
    pub directory: Arc<Directory>,
    /// Seals signing keys.
    pub cipher: CredentialCipher,
    /// How people are let in.
    pub policy: Policy,
    /// Sends invitations; `None` where nobody does.
    pub mailer: Option<Arc<dyn Mailer>>,
    /// How people come in through an identity provider; `None` where they do not.
    pub external: Option<ExternalLogin>,
}

/// A person who is logged in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// Who.
    pub user: UserId,
    /// By which session.
    pub session: SessionId,
    /// The workspace that the access token is good for.
    pub workspace: Option<WorkspaceId>,
    /// What the person is there now; `None` for nothing.
    pub role: Option<Role>,
}

impl Person {
    /// The workspace, if the person is at least `least` there.
    ///
    /// # Errors
    /// [`Reason::RoleMissing`].
    pub fn at_least(&self, least: Role) -> Result<&WorkspaceId, EngineError> {
        match (&self.workspace, self.role) {
            (Some(workspace), Some(role)) if role >= least => Ok(workspace),
            _ => Err(role_missing()),
        }
    }
}

/// What a person's client works with from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// When it was given.
    pub granted_at: Millis,
    /// The access token.
    pub access: SecretText,
    /// When it stops.
    pub access_expires_at: Millis,
    /// The new refresh token, where there is one.
    pub refresh: Option<SecretText>,
    /// When the refresh token stops, where there is a new one.
    pub refresh_expires_at: Option<Millis>,
    /// Where the access token is good, and what the person is there.
    pub place: Option<(WorkspaceId, Role)>,
}

/// A person who has just come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedIn {
    /// The account.
    pub user: User,
    /// Its tokens.
    pub grant: Grant,
}

/// The use cases of people. One for all callers of the process.
pub struct People {
    store: Arc<dyn PeopleStore>,
    clock: Arc<dyn Clock>,
    directory: Arc<Directory>,
    cipher: CredentialCipher,
    policy: Policy,
    mailer: Option<Arc<dyn Mailer>>,
    external: Option<External>,
    passwords: Passwords,
    keyring: Keyring,
    attempts: Attempts,
    live: Live,
    revision: AtomicU64,
    pulse: Pulse,
    /// The feed is read by one at a time.
    reading: tokio::sync::Mutex<()>,
}

/// The tasks beside the use cases.
pub struct PeopleBackground {
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl People {
    /// Loads keys and recent changes, and starts the background tasks.
    ///
    /// # Errors
    /// Those of the store; INTERNAL when a signing key does not open with the cipher.
    pub async fn start(
        store: Arc<dyn PeopleStore>,
        setup: PeopleSetup,
    ) -> Result<(Arc<Self>, PeopleBackground), EngineError> {
        let PeopleSetup { clock, directory, cipher, policy, mailer, external } = setup;
        let pulse = Pulse::new(clock.now());
        let people = Arc::new(Self {
            store,
            clock,
            directory,
            cipher,
            policy,
            mailer,
            external: external.map(External::new),
            passwords: Passwords::new()?,
            keyring: Keyring::default(),
            attempts: Attempts::default(),
            live: Live::default(),
            revision: AtomicU64::new(0),
            pulse,
            reading: tokio::sync::Mutex::default(),
        });
        people.load().await?;
        let stop = CancellationToken::new();
        let tasks = refresh::start(&people, &stop);
        Ok((people, PeopleBackground { stop, tasks }))
    }

    /// Who an access token is, and where.
    ///
    /// # Errors
    /// [`Reason::CredentialUnknown`], [`Reason::SessionEnded`].
    pub fn by_token(&self, token: &str) -> Result<Person, EngineError> {
        let claims = self.keyring.read(token, self.now())?;
        if self.live.has_ended(&claims.session) {
            return Err(session_ended());
        }
        let role = claims
            .place
            .as_ref()
            .and_then(|(workspace, signed)| self.live.role(workspace, &claims.user, *signed));
        let workspace = claims.place.map(|(workspace, _)| workspace);
        Ok(Person { user: claims.user, session: claims.session, workspace, role })
    }

    /// How the store stands.
    pub fn store_state(&self) -> StoreState {
        self.pulse.state("people", self.now())
    }

    fn now(&self) -> Millis {
        self.clock.now()
    }

    /// What a person does now.
    fn deed(&self, user: &UserId, origin: &Origin) -> Deed {
        Deed { actor: Actor::Person(user.clone()), origin: origin.clone(), at: self.now() }
    }
}

impl PeopleBackground {
    /// Completes when a task has ended by itself. None should.
    pub async fn failed(&mut self) {
        self.tasks.join_next().await;
    }

    /// Ends the tasks.
    pub async fn stop(mut self) {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}

/// The error of a role that does not allow what is asked.
pub fn role_missing() -> EngineError {
    EngineError::new(Reason::RoleMissing, "your role in this workspace does not allow it")
}

fn session_ended() -> EngineError {
    EngineError::new(Reason::SessionEnded, "the session has ended; log in")
}

fn internal(error: impl std::fmt::Display) -> EngineError {
    EngineError::internal(&error.to_string())
}
