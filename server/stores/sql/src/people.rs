//! [`PeopleStore`] in SQL, in the file of the configuration: a membership and its workspace change in
//! one transaction.
//!
//! Whoever writes has the one place for writers of the configuration's database from the beginning of
//! the transaction on. So the feed becomes visible in its order, and what a writer has read stays true
//! until it commits.

mod feed;
mod identities;
mod invitations;
mod keys;
mod members;
mod requests;
mod row;
mod sessions;
mod shown;
mod users;

use async_trait::async_trait;
use rateguard_core::ids::{DisplayName, InvitationId, SessionId, SigningKeyId, UserId, WorkspaceId};
use rateguard_core::time::Millis;
use rateguard_engine::audit::Deed;
use rateguard_engine::people::{EmailAddress, PasswordHash};
use rateguard_engine::ports::{
    ClientRequest, ExternalIdentity, IdentityStore, Invitation, InvitedOnce, JoinBounds, Joining, Member,
    MemberChange, MemberRefusal, Membership, PeopleFeed, PeopleStore, RefreshHashes, Refreshed, Refreshing,
    SealedSigningKey, Session, StoreError, StoredWorkspace, User,
};
use rateguard_engine::resources::Workspace;

use tokio::sync::watch;

use crate::audit::Witness;
use crate::database::{Database, Feed, Scope};

/// The name by which errors know the store.
const STORE: &str = "people";

/// People in `config.db`.
#[derive(Clone, Debug)]
pub struct SqlPeopleStore {
    database: Database,
    witness: Witness,
}

impl SqlPeopleStore {
    pub(crate) fn over(database: Database, witness: Witness) -> Self {
        Self { database, witness }
    }

    /// Closes the file, for the configuration too, once the audit trail's hashes have their second copy;
    /// calls afterwards are unavailable.
    pub async fn close(&self) {
        self.witness.finish().await;
        self.database.close().await;
    }
}

/// Runs one function over a transaction, commits it unless it fails, and has its audit entries witnessed.
macro_rules! in_transaction {
    ($store:expr, $scope:expr, $function:path $(, $argument:expr)*) => {{
        let work = async {
            let mut transaction = $store.database.begin($scope).await?;
            let value = $function(&mut transaction $(, $argument)*).await?;
            Ok((transaction, value))
        };
        let changed = $store.database.write(work).await;
        // What was refused, or could not be asked, has left nothing to take over.
        if matches!(changed, Ok(_) | Err(StoreError::OutcomeUnknown { .. })) {
            $store.witness.wake();
        }
        changed
    }};
}

/// Runs one function over a connection that only reads.
macro_rules! with_reader {
    ($store:expr, $scope:expr, $function:path $(, $argument:expr)*) => {{
        let work = async {
            let mut reader = $store.database.reader($scope).await?;
            $function(&mut reader $(, $argument)*).await
        };
        $store.database.within_deadline(work).await
    }};
}

#[async_trait]
impl IdentityStore for SqlPeopleStore {
    async fn create_linked_user(
        &self,
        user: User,
        identity: ExternalIdentity,
        joining: Joining,
        members_max: usize,
        by: &Deed,
    ) -> Result<Membership, StoreError> {
        in_transaction!(
            self,
            Scope::Installation,
            identities::create_user,
            &user,
            &identity,
            &joining,
            members_max,
            by
        )
    }

    async fn link_identity(
        &self,
        user: &UserId,
        session: &SessionId,
        identity: ExternalIdentity,
        identities_max: usize,
        by: &Deed,
    ) -> Result<(), StoreError> {
        let whose = (user, session);
        in_transaction!(self, Scope::Installation, identities::link, whose, &identity, identities_max, by)
    }

    async fn user_by_identity(&self, identity: &ExternalIdentity) -> Result<Option<User>, StoreError> {
        with_reader!(self, Scope::Installation, identities::user_of, identity)
    }
}

#[async_trait]
impl PeopleStore for SqlPeopleStore {
    async fn create_user(
        &self,
        user: User,
        joining: Joining,
        members_max: usize,
        by: &Deed,
    ) -> Result<Membership, StoreError> {
        in_transaction!(self, Scope::Installation, users::create, &user, &joining, members_max, by)
    }

    async fn user_by_email(&self, email: &EmailAddress) -> Result<Option<User>, StoreError> {
        with_reader!(self, Scope::Installation, users::by_email, email)
    }

    async fn user(&self, id: &UserId) -> Result<Option<User>, StoreError> {
        with_reader!(self, Scope::Installation, users::by_id, id)
    }

    async fn set_password(
        &self,
        user: &UserId,
        expected: &PasswordHash,
        password: PasswordHash,
        keep: Option<&SessionId>,
        by: &Deed,
    ) -> Result<(), StoreError> {
        in_transaction!(self, Scope::Installation, users::set_password, user, (expected, &password), keep, by)
    }

    async fn create_workspace(
        &self,
        workspace: Workspace,
        owner: &UserId,
        workspaces_max: usize,
        by: &Deed,
    ) -> Result<StoredWorkspace, StoreError> {
        in_transaction!(
            self,
            Scope::Installation,
            members::create_workspace,
            &workspace,
            owner,
            workspaces_max,
            by
        )
    }

    async fn create_workspace_once(
        &self,
        workspace: Workspace,
        owner: &UserId,
        workspaces_max: usize,
        request: &ClientRequest,
        by: &Deed,
    ) -> Result<(Membership, StoredWorkspace), StoreError> {
        in_transaction!(
            self,
            Scope::Installation,
            requests::create_workspace,
            &workspace,
            owner,
            workspaces_max,
            request,
            by
        )
    }

    async fn rename_workspace(
        &self,
        workspace: &WorkspaceId,
        name: &DisplayName,
        expected: Option<u64>,
        by: &Deed,
    ) -> Result<StoredWorkspace, StoreError> {
        in_transaction!(
            self,
            Scope::Workspace(workspace),
            members::rename_workspace,
            workspace,
            name,
            expected,
            by
        )
    }

    async fn memberships(&self, user: &UserId) -> Result<Vec<(Membership, StoredWorkspace)>, StoreError> {
        with_reader!(self, Scope::Installation, members::of_user, user)
    }

    async fn membership(
        &self,
        workspace: &WorkspaceId,
        user: &UserId,
    ) -> Result<Option<Membership>, StoreError> {
        with_reader!(self, Scope::Workspace(workspace), members::find, workspace, user)
    }

    async fn members(
        &self,
        workspace: &WorkspaceId,
        after: Option<&UserId>,
        limit: usize,
    ) -> Result<Vec<Member>, StoreError> {
        with_reader!(self, Scope::Workspace(workspace), members::list, workspace, after, limit)
    }

    async fn change_member(
        &self,
        change: MemberChange,
        by: &Deed,
    ) -> Result<Result<Membership, MemberRefusal>, StoreError> {
        in_transaction!(self, Scope::Workspace(&change.workspace), members::change, &change, by)
    }

    async fn transfer(
        &self,
        workspace: &WorkspaceId,
        from: &UserId,
        to: &UserId,
        by: &Deed,
    ) -> Result<Result<Membership, MemberRefusal>, StoreError> {
        in_transaction!(self, Scope::Workspace(workspace), members::transfer, workspace, from, to, by)
    }

    async fn insert_invitation(
        &self,
        invitation: Invitation,
        token_sha256: [u8; 32],
        limit: usize,
        by: &Deed,
    ) -> Result<(), StoreError> {
        in_transaction!(
            self,
            Scope::Workspace(&invitation.workspace),
            invitations::insert,
            &invitation,
            &token_sha256,
            limit,
            by
        )
    }

    async fn insert_invitation_once(
        &self,
        invitation: Invitation,
        token_sha256: [u8; 32],
        limit: usize,
        request: &ClientRequest,
        by: &Deed,
    ) -> Result<InvitedOnce, StoreError> {
        // A person's requests are known in all of their workspaces.
        in_transaction!(
            self,
            Scope::Installation,
            requests::insert_invitation,
            &invitation,
            &token_sha256,
            limit,
            request,
            by
        )
    }

    async fn invitations(&self, workspace: &WorkspaceId, now: Millis) -> Result<Vec<Invitation>, StoreError> {
        with_reader!(self, Scope::Workspace(workspace), invitations::list, workspace, now)
    }

    async fn open_invitation(
        &self,
        token_sha256: &[u8; 32],
        now: Millis,
    ) -> Result<Option<Invitation>, StoreError> {
        with_reader!(self, Scope::Installation, invitations::open, token_sha256, now)
    }

    async fn remove_invitation(
        &self,
        workspace: &WorkspaceId,
        id: &InvitationId,
        by: &Deed,
    ) -> Result<(), StoreError> {
        in_transaction!(self, Scope::Workspace(workspace), invitations::remove, workspace, id, by)
    }

    async fn withdraw_invitation(&self, invitation: &Invitation, by: &Deed) -> Result<(), StoreError> {
        in_transaction!(self, Scope::Installation, requests::withdraw_invitation, invitation, by)
    }

    async fn accept_invitation(
        &self,
        token_sha256: &[u8; 32],
        user: &UserId,
        bounds: JoinBounds,
        by: &Deed,
    ) -> Result<Membership, StoreError> {
        in_transaction!(self, Scope::Installation, invitations::accept, token_sha256, user, bounds, by)
    }

    async fn begin_session(
        &self,
        session: Session,
        expected: &PasswordHash,
        hashes: RefreshHashes,
        sessions_max: usize,
        by: &Deed,
    ) -> Result<(), StoreError> {
        in_transaction!(
            self,
            Scope::Installation,
            sessions::begin,
            &session,
            expected,
            &hashes,
            sessions_max,
            by
        )
    }

    async fn refresh_session(&self, refreshing: Refreshing, by: &Deed) -> Result<Refreshed, StoreError> {
        in_transaction!(self, Scope::Installation, sessions::refresh, &refreshing, by)
    }

    async fn move_session(
        &self,
        id: &SessionId,
        workspace: &WorkspaceId,
        by: &Deed,
    ) -> Result<(), StoreError> {
        in_transaction!(self, Scope::Installation, sessions::relocate, id, workspace, by)
    }

    async fn sessions(&self, user: &UserId, now: Millis) -> Result<Vec<Session>, StoreError> {
        with_reader!(self, Scope::Installation, sessions::list, user, now)
    }

    async fn end_session(&self, user: &UserId, id: &SessionId, by: &Deed) -> Result<(), StoreError> {
        in_transaction!(self, Scope::Installation, sessions::end, user, id, by)
    }

    async fn signing_keys(&self) -> Result<Vec<SealedSigningKey>, StoreError> {
        with_reader!(self, Scope::Installation, keys::list)
    }

    async fn add_signing_key(
        &self,
        key: SealedSigningKey,
        newest: Option<&SigningKeyId>,
        by: &Deed,
    ) -> Result<bool, StoreError> {
        in_transaction!(self, Scope::Installation, keys::add, &key, newest, by)
    }

    async fn revision_before(&self, at: Millis) -> Result<u64, StoreError> {
        with_reader!(self, Scope::Installation, feed::revision_before, at)
    }

    async fn people_changes_after(&self, revision: u64, limit: usize) -> Result<PeopleFeed, StoreError> {
        with_reader!(self, Scope::Installation, feed::after, revision, limit)
    }

    async fn workspaces(
        &self,
        after: Option<&WorkspaceId>,
        limit: usize,
    ) -> Result<Vec<Workspace>, StoreError> {
        with_reader!(self, Scope::Installation, members::workspaces, after, limit)
    }

    async fn sweep_people(&self, now: Millis, changes_before: Millis) -> Result<(), StoreError> {
        in_transaction!(self, Scope::Installation, feed::sweep, now, changes_before)
    }

    fn wake(&self) -> Option<watch::Receiver<u64>> {
        self.database.wake(Feed::People)
    }
}

fn corrupt(detail: String) -> StoreError {
    StoreError::Corrupt { store: STORE, detail }
}

fn row_limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
