//! The store of people: accounts, memberships, sessions, invitations and signing keys.

mod feed;
mod sessions;

use async_trait::async_trait;
use rateguard_core::ids::{DisplayName, InvitationId, SessionId, SigningKeyId, UserId, WorkspaceId};
use rateguard_core::time::Millis;
use tokio::sync::watch;

use super::{ClientRequest, IdentityStore, StoreError};
use crate::audit::Deed;
use crate::people::{EmailAddress, PasswordHash, Role};
use crate::resources::Workspace;

pub use feed::{PeopleChange, PeopleFeed};
pub use sessions::{RefreshHashes, Refreshed, Refreshing, Session};

/// An account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Its id.
    pub id: UserId,
    /// Its address, unique in the installation.
    pub email: EmailAddress,
    /// Its name for people.
    pub display_name: DisplayName,
    /// What its password is held against.
    pub password: PasswordHash,
    /// When it was made.
    pub created_at: Millis,
}

/// That a person belongs to a workspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The workspace.
    pub workspace: WorkspaceId,
    /// The person.
    pub user: UserId,
    /// What they may do there.
    pub role: Role,
    /// From 1, one more with each change of the role.
    pub version: u64,
    /// When they joined.
    pub joined_at: Millis,
}

/// A workspace as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredWorkspace {
    /// The workspace.
    pub workspace: Workspace,
    /// From 1; the etag is made of it.
    pub version: u64,
    /// When it was made.
    pub created_at: Millis,
    /// When it was changed last.
    pub updated_at: Millis,
}

/// How a new person comes to a first workspace.
#[derive(Clone, Debug, PartialEq)]
pub enum Joining {
    /// A workspace of their own.
    Own(Workspace),
    /// By an invitation with this token.
    Invited([u8; 32]),
}

/// What became of an invitation that is to be made once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvitedOnce {
    /// It was made now.
    Made,
    /// It was made before: as it is, or `None` where it is accepted, taken back or expired since.
    Before(Option<Box<Invitation>>),
}

/// An open invitation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invitation {
    /// Its id.
    pub id: InvitationId,
    /// To which workspace.
    pub workspace: WorkspaceId,
    /// The only address that may accept it; `None` for anybody's.
    pub email: Option<EmailAddress>,
    /// What the new member may do.
    pub role: Role,
    /// Who invited.
    pub inviter: UserId,
    /// When it was made.
    pub created_at: Millis,
    /// When it stops.
    pub expires_at: Millis,
}

impl Invitation {
    /// Whether whoever has this address may accept it.
    pub fn is_for(&self, email: &EmailAddress) -> bool {
        self.email.as_ref().is_none_or(|only| only == email)
    }
}

/// A change of one member by another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberChange {
    /// In which workspace.
    pub workspace: WorkspaceId,
    /// Who changes.
    pub actor: UserId,
    /// Whom.
    pub member: UserId,
    /// The new role; `None` takes the member out.
    pub role: Option<Role>,
    /// The version that the member must be at; `None` for any.
    pub expected: Option<u64>,
}

/// Why a change of a member was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberRefusal {
    /// The actor's role does not allow it.
    RoleMissing,
    /// The workspace would be left without an owner.
    LastOwner,
}

/// A member with their account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The account.
    pub user: User,
    /// The membership.
    pub membership: Membership,
}

/// A key that signs access tokens, its secret half sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedSigningKey {
    /// Its id, which tokens name.
    pub id: SigningKeyId,
    /// The secret half, sealed by the installation's cipher.
    pub sealed: Vec<u8>,
    /// When it was made.
    pub created_at: Millis,
    /// From when on it signs.
    pub signs_from: Millis,
}

/// People and what they hold. Each change is one transaction with its entries in the feed, and those of
/// the [`Deed`] in the audit trail: in the workspace's chain, or the installation's for what belongs to
/// none. What is over by its time, and a refresh token that is rotated, leave none.
#[async_trait]
pub trait PeopleStore: IdentityStore {
    /// Makes an account and its first membership: owner of a workspace of its own, or member by an
    /// invitation, which is spent. Gives the membership.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for the invitation, which is looked at first: also where it is not for the
    /// address; [`StoreError::AlreadyExists`] for the address (`email`) or an id, [`StoreError::Full`]
    /// beyond `members_max` members.
    async fn create_user(
        &self,
        user: User,
        joining: Joining,
        members_max: usize,
        by: &Deed,
    ) -> Result<Membership, StoreError>;

    /// The account with an address.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::Corrupt`].
    async fn user_by_email(&self, email: &EmailAddress) -> Result<Option<User>, StoreError>;

    /// An account.
    ///
    /// # Errors
    /// As [`PeopleStore::user_by_email`].
    async fn user(&self, id: &UserId) -> Result<Option<User>, StoreError>;

    /// Sets a password in the place of `expected`. With `keep`, every other session of the account ends.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::VersionMismatch`] when `expected` is no longer there.
    async fn set_password(
        &self,
        user: &UserId,
        expected: &PasswordHash,
        password: PasswordHash,
        keep: Option<&SessionId>,
        by: &Deed,
    ) -> Result<(), StoreError>;

    /// Makes a workspace that the person owns.
    ///
    /// # Errors
    /// [`StoreError::AlreadyExists`], [`StoreError::Full`] beyond `workspaces_max` of the person.
    async fn create_workspace(
        &self,
        workspace: Workspace,
        owner: &UserId,
        workspaces_max: usize,
        by: &Deed,
    ) -> Result<StoredWorkspace, StoreError>;

    /// The same, unless the person has made one under the same request before; then that one, as it is now.
    /// Requests are forgotten after [`super::CLIENT_REQUEST_LIFE_MS`].
    ///
    /// # Errors
    /// As [`PeopleStore::create_workspace`]; [`StoreError::AlreadyExists`] naming `request_id` for a request
    /// that was used for other content, [`StoreError::NotFound`] where the person has left what it made.
    async fn create_workspace_once(
        &self,
        workspace: Workspace,
        owner: &UserId,
        workspaces_max: usize,
        request: &ClientRequest,
        by: &Deed,
    ) -> Result<(Membership, StoredWorkspace), StoreError>;

    /// Renames a workspace that is at `expected`, or at any version.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::VersionMismatch`].
    async fn rename_workspace(
        &self,
        workspace: &WorkspaceId,
        name: &DisplayName,
        expected: Option<u64>,
        by: &Deed,
    ) -> Result<StoredWorkspace, StoreError>;

    /// A person's memberships with their workspaces, in the order of joining.
    ///
    /// # Errors
    /// As [`PeopleStore::user_by_email`].
    async fn memberships(&self, user: &UserId) -> Result<Vec<(Membership, StoredWorkspace)>, StoreError>;

    /// One membership.
    ///
    /// # Errors
    /// As [`PeopleStore::user_by_email`].
    async fn membership(
        &self,
        workspace: &WorkspaceId,
        user: &UserId,
    ) -> Result<Option<Membership>, StoreError>;

    /// At most `limit` members after an id, in the order of ids.
    ///
    /// # Errors
    /// As [`PeopleStore::user_by_email`].
    async fn members(
        &self,
        workspace: &WorkspaceId,
        after: Option<&UserId>,
        limit: usize,
    ) -> Result<Vec<Member>, StoreError>;

    /// Changes or removes a member where [`crate::people::judge`] allows it, by the roles of the very
    /// transaction. Gives what the membership was or is. The open invitations of whoever may invite no
    /// longer go, so that nobody comes back by one of their own.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for the member, [`StoreError::VersionMismatch`].
    async fn change_member(
        &self,
        change: MemberChange,
        by: &Deed,
    ) -> Result<Result<Membership, MemberRefusal>, StoreError>;

    /// Makes `to` an owner and `from`, who must be one, an admin.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for `to`.
    async fn transfer(
        &self,
        workspace: &WorkspaceId,
        from: &UserId,
        to: &UserId,
        by: &Deed,
    ) -> Result<Result<Membership, MemberRefusal>, StoreError>;

    /// Keeps an invitation open.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] where the inviter may not invite to the workspace, by their role of the very
    /// transaction, [`StoreError::AlreadyExists`] for a member's address (`email`), [`StoreError::Full`]
    /// beyond `limit` open ones of the workspace.
    async fn insert_invitation(
        &self,
        invitation: Invitation,
        token_sha256: [u8; 32],
        limit: usize,
        by: &Deed,
    ) -> Result<(), StoreError>;

    /// The same, unless the inviter has made one under the same request before. Requests are forgotten
    /// after [`super::CLIENT_REQUEST_LIFE_MS`].
    ///
    /// # Errors
    /// As [`PeopleStore::insert_invitation`]; [`StoreError::AlreadyExists`] naming `request_id` for a
    /// request that was used for other content.
    async fn insert_invitation_once(
        &self,
        invitation: Invitation,
        token_sha256: [u8; 32],
        limit: usize,
        request: &ClientRequest,
        by: &Deed,
    ) -> Result<InvitedOnce, StoreError>;

    /// The open invitations of a workspace, in the order of ids.
    ///
    /// # Errors
    /// As [`PeopleStore::user_by_email`].
    async fn invitations(&self, workspace: &WorkspaceId, now: Millis) -> Result<Vec<Invitation>, StoreError>;

    /// The invitation with a token, while it is open.
    ///
    /// # Errors
    /// As [`PeopleStore::user_by_email`].
    async fn open_invitation(
        &self,
        token_sha256: &[u8; 32],
        now: Millis,
    ) -> Result<Option<Invitation>, StoreError>;

    /// Takes an invitation back.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    async fn remove_invitation(
        &self,
        workspace: &WorkspaceId,
        id: &InvitationId,
        by: &Deed,
    ) -> Result<(), StoreError>;

    /// Takes back an invitation that never went out, and forgets the request that made it.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    async fn withdraw_invitation(&self, invitation: &Invitation, by: &Deed) -> Result<(), StoreError>;

    /// Makes a person a member by an invitation, which is spent.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for an invitation that is not open to them,
    /// [`StoreError::AlreadyExists`] for a member (`user_id`), [`StoreError::Full`] naming
    /// [`WORKSPACES_FULL`] or [`MEMBERS_FULL`].
    async fn accept_invitation(
        &self,
        token_sha256: &[u8; 32],
        user: &UserId,
        bounds: JoinBounds,
        by: &Deed,
    ) -> Result<Membership, StoreError>;

    /// Begins a session of a person whose account is still as it was when they were let in: with the
    /// password `expected`. Beyond `sessions_max` of the person, those refreshed longest ago end.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for the person, [`StoreError::VersionMismatch`] when `expected` is no longer
    /// there.
    async fn begin_session(
        &self,
        session: Session,
        expected: &PasswordHash,
        hashes: RefreshHashes,
        sessions_max: usize,
        by: &Deed,
    ) -> Result<(), StoreError>;

    /// Puts the next refresh token in the place of the present one, or ends the session of an old one.
    /// Of two that present the same token, the second meets an old one.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::OutcomeUnknown`], [`StoreError::Corrupt`].
    async fn refresh_session(&self, refreshing: Refreshing, by: &Deed) -> Result<Refreshed, StoreError>;

    /// Lets a live session work in another workspace.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when it has ended.
    async fn move_session(
        &self,
        id: &SessionId,
        workspace: &WorkspaceId,
        by: &Deed,
    ) -> Result<(), StoreError>;

    /// The live sessions of a person, the newest first.
    ///
    /// # Errors
    /// As [`PeopleStore::user_by_email`].
    async fn sessions(&self, user: &UserId, now: Millis) -> Result<Vec<Session>, StoreError>;

    /// Ends a person's session.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    async fn end_session(&self, user: &UserId, id: &SessionId, by: &Deed) -> Result<(), StoreError>;

    /// Every signing key, the oldest first.
    ///
    /// # Errors
    /// As [`PeopleStore::user_by_email`].
    async fn signing_keys(&self) -> Result<Vec<SealedSigningKey>, StoreError>;

    /// Adds a signing key, if the newest one is still `newest`; `false` when another process was
    /// faster. Those older than `newest` go.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::OutcomeUnknown`].
    async fn add_signing_key(
        &self,
        key: SealedSigningKey,
        newest: Option<&SigningKeyId>,
        by: &Deed,
    ) -> Result<bool, StoreError>;

    /// Where to read the feed from to see everything since an instant: the last revision from before it, as
    /// far as the feed is kept.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    async fn revision_before(&self, at: Millis) -> Result<u64, StoreError>;

    /// At most `limit` changes after a revision, in order, each with its revision.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::Corrupt`].
    async fn people_changes_after(&self, revision: u64, limit: usize) -> Result<PeopleFeed, StoreError>;

    /// At most `limit` workspaces after an id, in the order of ids.
    ///
    /// # Errors
    /// As [`PeopleStore::user_by_email`].
    async fn workspaces(
        &self,
        after: Option<&WorkspaceId>,
        limit: usize,
    ) -> Result<Vec<Workspace>, StoreError>;

    /// Drops sessions and invitations that are over, and the feed's entries from before
    /// `changes_before`.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::OutcomeUnknown`].
    async fn sweep_people(&self, now: Millis, changes_before: Millis) -> Result<(), StoreError>;

    /// Changes its value when the feed has grown: see
    /// [`ConfigStore::wake`](super::ConfigStore::wake). `None` where nobody notifies.
    fn wake(&self) -> Option<watch::Receiver<u64>> {
        None
    }
}

/// How many may join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JoinBounds {
    /// Members of a workspace.
    pub members_max: usize,
    /// Workspaces of a person.
    pub workspaces_max: usize,
}

/// What is full when a person belongs to as many workspaces as one may.
pub const WORKSPACES_FULL: &str = "the list of the person's workspaces";
/// What is full when a workspace has as many members as it may.
pub const MEMBERS_FULL: &str = "the list of the workspace's members";
/// What is full when a workspace has as many open invitations as it may.
pub const INVITATIONS_FULL: &str = "the list of the workspace's invitations";
