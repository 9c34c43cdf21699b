//! Accounts: registering, logging in, changing the password.

use std::fmt::Display;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rateguard_core::ids::{DisplayName, UserId, WorkspaceId};
use rateguard_core::money::Currency;
use rateguard_core::time::{Millis, Zone};

use super::attempts::Attempt;
use super::password::{Passwords, Verdict};
use super::secret_tokens::invitation_sha256;
use super::{
    EmailAddress, LoggedIn, MEMBERS_PER_WORKSPACE_MAX, PasswordHash, People, Person, Registration, Role,
    check_password, internal, role_missing, session_ended,
};
use crate::audit::{Deed, Origin};
use crate::error::{EngineError, Reason};
use crate::ports::{Joining, StoreError, User};
use crate::resources::Workspace;
use crate::secrets::{SecretText, random};

/// Bytes of a password that is drawn: 24 characters.
const DRAWN_PASSWORD_BYTES: usize = 18;

/// What the audit trail calls a hash of today in the place of a weak one.
const REHASHING: &str = "RehashPassword";

/// Who wants an account.
#[derive(Clone, Debug)]
pub struct NewAccount {
    /// The address.
    pub email: EmailAddress,
    /// The password.
    pub password: SecretText,
    /// The name for people.
    pub display_name: DisplayName,
    /// The token of an invitation; without one a workspace of their own is made.
    pub invitation: Option<SecretText>,
    /// The name of that workspace.
    pub workspace_name: DisplayName,
    /// Its time zone.
    pub zone: Zone,
    /// Its currency.
    pub currency: Currency,
}

/// The first person of an installation, with the only copy of the password.
#[derive(Clone, Debug)]
pub struct FirstOwner {
    /// The account, not stored yet.
    pub user: User,
    /// Its password.
    pub password: SecretText,
}

/// Draws a password for the first person of an installation. For set-up, before anybody can log in.
///
/// # Errors
/// INTERNAL without randomness.
pub async fn first_owner(
    email: EmailAddress,
    display_name: DisplayName,
    now: Millis,
) -> Result<FirstOwner, EngineError> {
    let drawn = random::<DRAWN_PASSWORD_BYTES>().map_err(internal)?;
    let password = SecretText::new(URL_SAFE_NO_PAD.encode(drawn));
    let hash = Passwords::new()?.hash(&password).await?;
    let id = UserId::from_random(random().map_err(internal)?);
    Ok(FirstOwner { user: User { id, email, display_name, password: hash, created_at: now }, password })
}

impl People {
    /// Makes an account and logs it in.
    ///
    /// # Errors
    /// [`Reason::RegistrationClosed`], [`Reason::FieldOutOfBounds`] for the password,
    /// [`Reason::TooManyAttempts`], [`Reason::EmailTaken`], [`Reason::InvitationUnknown`],
    /// [`Reason::WorkspaceFull`].
    pub async fn register(&self, account: NewAccount, origin: &Origin) -> Result<LoggedIn, EngineError> {
        self.check_registration(account.invitation.is_some())?;
        check_password("password", &account.password)?;
        self.attempts.take(Attempt::ComeIn, origin.ip, Some(&account.email), self.now())?;
        let joining = joining(&account)?;
        self.check_joining(&joining, &account.email).await?;
        let hash = self.passwords.hash(&account.password).await?;
        let now = self.now();
        let user = User {
            id: UserId::from_random(random().map_err(internal)?),
            email: account.email,
            display_name: account.display_name,
            password: hash,
            created_at: now,
        };
        let membership = self
            .store
            .create_user(user.clone(), joining, MEMBERS_PER_WORKSPACE_MAX, &self.deed(&user.id, origin))
            .await
            .map_err(not_registered)?;
        self.refresh_now().await;
        self.come_in(user, Some((membership.workspace, membership.role)), origin).await
    }

    /// Logs a person in, to work in `workspace` or where they have joined first.
    ///
    /// # Errors
    /// [`Reason::LoginRefused`], [`Reason::TooManyAttempts`], [`Reason::RoleMissing`] for a workspace
    /// that they do not belong to.
    pub async fn log_in(
        &self,
        email: &EmailAddress,
        password: &SecretText,
        workspace: Option<&WorkspaceId>,
        origin: &Origin,
    ) -> Result<LoggedIn, EngineError> {
        self.attempts.take(Attempt::ComeIn, origin.ip, Some(email), self.now())?;
        let user = self.store.user_by_email(email).await?;
        let verdict = self.passwords.verify(password, user.as_ref().map(|user| &user.password)).await?;
        let mut user = user.filter(|_| verdict != Verdict::Wrong).ok_or_else(login_refused)?;
        if verdict == Verdict::RightButWeaklyHashed {
            user = self.hash_anew(user, password).await?;
        }
        let place = self.place(&user.id, workspace).await?;
        self.come_in(user, place, origin).await
    }

    /// The person's account.
    ///
    /// # Errors
    /// [`Reason::SessionEnded`] when there is none any more.
    pub async fn account(&self, person: &Person) -> Result<User, EngineError> {
        self.store.user(&person.user).await?.ok_or_else(session_ended)
    }

    /// Changes a password; every other session of the person ends.
    ///
    /// # Errors
    /// [`Reason::LoginRefused`] for a wrong present password, [`Reason::FieldOutOfBounds`] for the new
    /// one, [`Reason::TooManyAttempts`].
    pub async fn change_password(
        &self,
        person: &Person,
        current: &SecretText,
        new: &SecretText,
        origin: &Origin,
    ) -> Result<(), EngineError> {
        check_password("new_password", new)?;
        let user = self.account(person).await?;
        self.attempts.take(Attempt::ComeIn, origin.ip, Some(&user.email), self.now())?;
        if self.passwords.verify(current, Some(&user.password)).await? == Verdict::Wrong {
            return Err(login_refused());
        }
        let hash = self.passwords.hash(new).await?;
        self.replace_password(&user, hash, person, origin).await?;
        self.refresh_now().await;
        Ok(())
    }

    async fn replace_password(
        &self,
        user: &User,
        hash: PasswordHash,
        person: &Person,
        origin: &Origin,
    ) -> Result<(), EngineError> {
        let (keep, deed) = (Some(&person.session), self.deed(&user.id, origin));
        let replaced = self.store.set_password(&user.id, &user.password, hash, keep, &deed).await;
        replaced.map_err(|error| match error {
            // Somebody else has changed it since: the present one is no longer right.
            StoreError::VersionMismatch => login_refused(),
            StoreError::NotFound => session_ended(),
            error => error.into(),
        })
    }

    /// Puts a hash of today in the place of a weak one, and gives the account as it is then. The log-in goes
    /// on with the weak one where that cannot be done now.
    ///
    /// # Errors
    /// [`Reason::LoginRefused`] when the password has changed meanwhile.
    async fn hash_anew(&self, user: User, password: &SecretText) -> Result<User, EngineError> {
        let stays = |error: &dyn Display| {
            tracing::warn!(%error, user = %user.id, "a weak hash of a password stays until the next log-in");
        };
        let hash = match self.passwords.hash(password).await {
            Ok(hash) => hash,
            Err(error) => {
                stays(&error);
                return Ok(user);
            }
        };
        let deed = Deed::of_server(REHASHING, self.now());
        match self.store.set_password(&user.id, &user.password, hash.clone(), None, &deed).await {
            Ok(()) => Ok(User { password: hash, ..user }),
            Err(StoreError::VersionMismatch) => self.verified_again(&user.id, password).await,
            Err(error) => {
                stays(&error);
                Ok(user)
            }
        }
    }

    /// The account, by its hash of now: of two log-ins at once with a weak one, the second finds it replaced.
    async fn verified_again(&self, id: &UserId, password: &SecretText) -> Result<User, EngineError> {
        let user = self.store.user(id).await?;
        let verdict = self.passwords.verify(password, user.as_ref().map(|user| &user.password)).await?;
        user.filter(|_| verdict != Verdict::Wrong).ok_or_else(login_refused)
    }

    /// Where a person goes: the workspace named, or the one that they joined first.
    pub(super) async fn place(
        &self,
        user: &UserId,
        named: Option<&WorkspaceId>,
    ) -> Result<Option<(WorkspaceId, Role)>, EngineError> {
        if let Some(workspace) = named {
            let membership = self.store.membership(workspace, user).await?.ok_or_else(role_missing)?;
            return Ok(Some((membership.workspace, membership.role)));
        }
        let first = self.store.memberships(user).await?.into_iter().next();
        Ok(first.map(|(membership, _)| (membership.workspace, membership.role)))
    }

    /// Whether an invitation is open to the address. A made-up one buys no hash; the store decides.
    async fn check_joining(&self, joining: &Joining, email: &EmailAddress) -> Result<(), EngineError> {
        let Joining::Invited(token_sha256) = joining else { return Ok(()) };
        let open = self.store.open_invitation(token_sha256, self.now()).await?;
        open.filter(|open| open.is_for(email)).map(drop).ok_or_else(invitation_unknown)
    }

    fn check_registration(&self, is_invited: bool) -> Result<(), EngineError> {
        match self.policy.registration {
            Registration::Open => Ok(()),
            Registration::InviteOnly if is_invited => Ok(()),
            Registration::InviteOnly => {
                Err(EngineError::new(Reason::RegistrationClosed, "only those who are invited may register"))
            }
            Registration::Closed => Err(EngineError::new(Reason::RegistrationClosed, "nobody may register")),
        }
    }
}

fn joining(account: &NewAccount) -> Result<Joining, EngineError> {
    if let Some(token) = &account.invitation {
        return invitation_sha256(token).map(Joining::Invited).ok_or_else(invitation_unknown);
    }
    Ok(Joining::Own(Workspace {
        id: WorkspaceId::from_random(random().map_err(internal)?),
        name: account.workspace_name.clone(),
        zone: account.zone.clone(),
        currency: account.currency,
    }))
}

fn not_registered(error: StoreError) -> EngineError {
    match error {
        StoreError::AlreadyExists { field: "email" } => {
            EngineError::field(Reason::EmailTaken, "email", "another account has this address")
        }
        StoreError::NotFound => invitation_unknown(),
        StoreError::Full { .. } => members_full(),
        error => error.into(),
    }
}

pub(super) fn invitation_unknown() -> EngineError {
    EngineError::new(Reason::InvitationUnknown, "there is no open invitation with this token for you")
}

pub(super) fn members_full() -> EngineError {
    let message = format!("the workspace has {MEMBERS_PER_WORKSPACE_MAX} members already");
    EngineError::new(Reason::WorkspaceFull, message)
}

pub(super) fn login_refused() -> EngineError {
    EngineError::new(Reason::LoginRefused, "the e-mail address or the password is wrong")
}
