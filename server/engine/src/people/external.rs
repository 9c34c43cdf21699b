//! Logging in through an identity provider, and linking what it knows to an account.
//!
//! An account is found by issuer and subject, never by its address: an address may come to another
//! person, and a provider that is talked into a wrong one must open nobody's account here.

use std::sync::Arc;

use rateguard_core::ids::{DisplayName, UserId, WorkspaceId};
use rateguard_core::money::Currency;
use rateguard_core::time::{Millis, Zone};

use super::accounts::{invitation_unknown, login_refused, members_full};
use super::attempts::{Attempt, place};
use super::password::Verdict;
use super::pending::{PENDING_LIFE_MS, Pending, PendingLogins};
use super::provider::{AuthorizationAnswer, AuthorizationRequest, IdentityProvider, ProviderError, Vouched};
use super::secret_tokens::{challenge, draw_value, invitation_sha256};
use super::{EmailAddress, LoggedIn, MEMBERS_PER_WORKSPACE_MAX, People, Person, internal, session_ended};
use crate::audit::Origin;
use crate::error::{EngineError, Reason};
use crate::ports::{IDENTITIES_FULL, Joining, StoreError, User};
use crate::resources::Workspace;
use crate::secrets::{SecretText, random};
use crate::telling::Seldom;

/// Identities that one account may be linked to.
const IDENTITIES_PER_USER_MAX: usize = 20;
/// The name of a person whom the provider gives none that fits.
const NAMELESS: &str = "New person";
/// While the provider is away every log-in meets it: one in a while tells of it.
static UNAVAILABLE_TOLD: Seldom = Seldom::new();

/// How people come in through a provider.
#[derive(Clone)]
pub struct ExternalLogin {
    /// The provider.
    pub provider: Arc<dyn IdentityProvider>,
    /// Its name for people.
    pub display_name: String,
    /// The domains that addresses may have, in lower case; empty for all.
    pub allowed_email_domains: Vec<String>,
    /// Whether somebody who is not known yet gets an account.
    pub create_accounts: bool,
}

/// A log-in at the provider that was begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BegunLogin {
    /// Where the person goes.
    pub authorization_url: String,
    /// What whoever began it shows in the end.
    pub login_id: SecretText,
    /// When it stops.
    pub expires_at: Millis,
}

/// What somebody comes back from the provider with.
#[derive(Clone, Debug)]
pub struct ReturnedLogin {
    /// What it was begun with.
    pub login_id: SecretText,
    /// The provider's code.
    pub code: SecretText,
    /// The state that came with it.
    pub state: SecretText,
}

/// Where somebody wants to go who logs in through the provider.
#[derive(Clone, Debug, Default)]
pub struct Destination {
    /// The workspace of somebody who has an account; `None` for the one joined first.
    pub workspace: Option<WorkspaceId>,
    /// What somebody without one accepts; `None` for a workspace of their own.
    pub invitation: Option<SecretText>,
}

/// The provider and the log-ins that are under way there.
pub(super) struct External {
    pub(super) login: ExternalLogin,
    pending: PendingLogins,
}

impl External {
    pub(super) fn new(login: ExternalLogin) -> Self {
        Self { login, pending: PendingLogins::default() }
    }
}

impl People {
    /// The name of the provider that people can log in through; `None` where there is none.
    pub fn provider_name(&self) -> Option<&str> {
        self.external.as_ref().map(|external| external.login.display_name.as_str())
    }

    /// Begins a log-in at the provider.
    ///
    /// # Errors
    /// [`Reason::OidcNotConfigured`], [`Reason::ProviderUnavailable`], [`Reason::TooManyAttempts`].
    pub async fn begin_external(&self, origin: &Origin) -> Result<BegunLogin, EngineError> {
        let (external, now) = (self.external()?, self.now());
        self.attempts.take(Attempt::ComeIn, origin.ip, None, now)?;
        let (state, nonce, verifier) = (draw_value()?, draw_value()?, draw_value()?);
        let request = AuthorizationRequest {
            state: state.clone(),
            nonce: nonce.clone(),
            challenge: challenge(&verifier),
        };
        let asked = external.login.provider.authorization_url(request, now).await;
        let authorization_url = asked.map_err(not_vouched)?;
        let expires_at = now.plus(PENDING_LIFE_MS);
        let pending = Pending { state, nonce, verifier, expires_at };
        let login_id = external.pending.keep(place(origin.ip), pending, now)?;
        Ok(BegunLogin { authorization_url, login_id, expires_at })
    }

    /// Logs in whom the provider vouches for.
    ///
    /// # Errors
    /// [`Reason::LoginRefused`], [`Reason::AccountNotLinked`], [`Reason::InvitationUnknown`],
    /// [`Reason::WorkspaceFull`], [`Reason::RoleMissing`], and those of [`People::begin_external`].
    pub async fn complete_external(
        &self,
        returned: ReturnedLogin,
        destination: Destination,
        origin: &Origin,
    ) -> Result<LoggedIn, EngineError> {
        let external = self.external()?;
        let vouched = self.vouched(external, returned, origin).await?;
        let email = allowed_email(&external.login, &vouched)?;
        if let Some(user) = self.store.user_by_identity(&vouched.identity).await? {
            let place = self.place(&user.id, destination.workspace.as_ref()).await?;
            return self.come_in(user, place, origin).await;
        }
        if !external.login.create_accounts {
            return Err(not_linked());
        }
        self.welcome(vouched, email, destination.invitation, origin).await
    }

    /// Links whom the provider vouches for to the account of a person, who shows their password.
    ///
    /// # Errors
    /// [`Reason::LoginRefused`], [`Reason::IdentityTaken`], [`Reason::PersonFull`],
    /// [`Reason::SessionEnded`], and those of [`People::begin_external`].
    pub async fn link_external(
        &self,
        person: &Person,
        returned: ReturnedLogin,
        password: &SecretText,
        origin: &Origin,
    ) -> Result<(), EngineError> {
        let external = self.external()?;
        let user = self.account(person).await?;
        self.attempts.take(Attempt::ComeIn, origin.ip, Some(&user.email), self.now())?;
        // A stolen access token must not open the account for good.
        if self.passwords.verify(password, Some(&user.password)).await? == Verdict::Wrong {
            return Err(login_refused());
        }
        let vouched = self.vouched(external, returned, origin).await?;
        allowed_email(&external.login, &vouched)?;
        let (identity, deed) = (vouched.identity, self.deed(&user.id, origin));
        let linked = self
            .store
            .link_identity(&user.id, &person.session, identity, IDENTITIES_PER_USER_MAX, &deed)
            .await;
        linked.map_err(not_linked_because)
    }

    /// Makes an account for somebody whom nobody here knows.
    async fn welcome(
        &self,
        vouched: Vouched,
        email: EmailAddress,
        invitation: Option<SecretText>,
        origin: &Origin,
    ) -> Result<LoggedIn, EngineError> {
        let display_name = name_of(&vouched, &email)?;
        let joining = joining(invitation, &display_name)?;
        let user = User {
            id: UserId::from_random(random().map_err(internal)?),
            email,
            display_name,
            // Drawn and forgotten: the account has no password that anybody knows.
            password: self.passwords.hash(&draw_value()?).await?,
            created_at: self.now(),
        };
        let (identity, deed) = (vouched.identity, self.deed(&user.id, origin));
        let made = self
            .store
            .create_linked_user(user.clone(), identity, joining, MEMBERS_PER_WORKSPACE_MAX, &deed)
            .await;
        let membership = made.map_err(not_welcomed)?;
        self.refresh_now().await;
        self.come_in(user, Some((membership.workspace, membership.role)), origin).await
    }

    /// Whom the provider vouches for, for a log-in that was begun here and is spent by this.
    async fn vouched(
        &self,
        external: &External,
        returned: ReturnedLogin,
        origin: &Origin,
    ) -> Result<Vouched, EngineError> {
        let now = self.now();
        self.attempts.take(Attempt::ComeIn, origin.ip, None, now)?;
        let pending = external.pending.take(&returned.login_id, &returned.state, now);
        let Pending { nonce, verifier, .. } = pending.ok_or_else(word_refused)?;
        let answer = AuthorizationAnswer { code: returned.code, verifier, nonce };
        external.login.provider.vouch(answer, now).await.map_err(not_vouched)
    }

    fn external(&self) -> Result<&External, EngineError> {
        self.external.as_ref().ok_or_else(|| {
            EngineError::new(Reason::OidcNotConfigured, "nobody logs in through an identity provider here")
        })
    }
}

/// The address of somebody, when the provider has verified it and its domain is let in.
fn allowed_email(login: &ExternalLogin, vouched: &Vouched) -> Result<EmailAddress, EngineError> {
    let refused = |message: &str| EngineError::new(Reason::LoginRefused, message);
    let text = vouched.email.as_deref().filter(|_| vouched.email_is_verified);
    let email = text.and_then(|text| EmailAddress::parse("email", text).ok());
    let email = email.ok_or_else(|| refused("the identity provider has not verified your e-mail address"))?;
    let domain = email.as_str().rsplit_once('@').map_or("", |(_, domain)| domain);
    let allowed = &login.allowed_email_domains;
    if allowed.is_empty() || allowed.iter().any(|known| known == domain) {
        return Ok(email);
    }
    Err(refused("addresses of your e-mail domain are not let in"))
}

/// What the provider calls somebody, or their address, or the name of nobody in particular.
fn name_of(vouched: &Vouched, email: &EmailAddress) -> Result<DisplayName, EngineError> {
    let names = [vouched.name.as_deref().unwrap_or_default(), email.as_str()];
    let fitting = names.into_iter().find_map(|name| DisplayName::parse("display_name", name).ok());
    fitting.map_or_else(|| Ok(DisplayName::parse("display_name", NAMELESS)?), Ok)
}

fn joining(invitation: Option<SecretText>, name: &DisplayName) -> Result<Joining, EngineError> {
    if let Some(token) = invitation {
        return invitation_sha256(&token).map(Joining::Invited).ok_or_else(invitation_unknown);
    }
    Ok(Joining::Own(Workspace {
        id: WorkspaceId::from_random(random().map_err(internal)?),
        name: name.clone(),
        zone: Zone::parse("time_zone", "UTC")?,
        currency: Currency::USD,
    }))
}

fn not_vouched(error: ProviderError) -> EngineError {
    match &error {
        ProviderError::Unavailable(detail) => {
            if let Some(untold) = UNAVAILABLE_TOLD.due() {
                tracing::warn!(detail, untold, "the identity provider is unavailable");
            }
            EngineError::new(Reason::ProviderUnavailable, "the identity provider is unavailable")
        }
        ProviderError::Refused(detail) => {
            tracing::info!(detail, "a log-in through the identity provider is refused");
            word_refused()
        }
    }
}

fn not_welcomed(error: StoreError) -> EngineError {
    match error {
        // The same as for whom no account is made: whoever has the address has to link it.
        StoreError::AlreadyExists { field: "email" } => not_linked(),
        // Somebody has come in by it a moment ago.
        StoreError::AlreadyExists { field: "identity" } => word_refused(),
        StoreError::NotFound => invitation_unknown(),
        StoreError::Full { .. } => members_full(),
        error => error.into(),
    }
}

fn not_linked_because(error: StoreError) -> EngineError {
    match error {
        StoreError::AlreadyExists { field: "identity" } => {
            EngineError::new(Reason::IdentityTaken, "another account is linked to this identity")
        }
        StoreError::Full { what: IDENTITIES_FULL } => {
            let message = format!("your account is linked to {IDENTITIES_PER_USER_MAX} identities already");
            EngineError::new(Reason::PersonFull, message)
        }
        StoreError::NotFound => session_ended(),
        error => error.into(),
    }
}

fn not_linked() -> EngineError {
    let message = "no account is linked to this identity; log in with your password and link it, or ask for \
                   an account";
    EngineError::new(Reason::AccountNotLinked, message)
}

fn word_refused() -> EngineError {
    EngineError::new(
        Reason::LoginRefused,
        "the log-in through the identity provider does not stand; begin again",
    )
}
