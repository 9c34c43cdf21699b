//! What every [`PeopleStore`] promises.

mod identities;
mod invitations;
pub mod samples;
mod sessions;

use futures::future::join_all;
use rateguard_core::ids::{DisplayName, RequestId};
use rateguard_engine::people::{PasswordHash, Role};
use rateguard_engine::ports::{
    CLIENT_REQUEST_LIFE_MS, ClientRequest, JoinBounds, Joining, MemberChange, MemberRefusal, PeopleChange,
    PeopleStore, StoreError, WORKSPACES_FULL,
};

pub use identities::{
    an_account_is_made_for_an_identity, an_identity_is_one_accounts, identities_of_an_account_have_a_bound,
};
pub use invitations::{
    a_new_person_joins_by_invitation, a_person_invites_once_for_a_request,
    an_invitation_ends_with_its_time_and_when_it_is_taken_back, an_invitation_is_accepted_once,
    an_invitation_is_for_its_address_alone, invitations_and_members_have_bounds,
    invitations_go_with_the_right_to_invite, nobody_learns_of_an_account_without_an_invitation,
    only_who_may_invite_by_what_is_stored_invites,
};
pub use sessions::{
    a_new_password_ends_a_log_in_that_is_under_way, a_person_ends_only_their_own_sessions,
    a_refresh_token_is_good_once, a_session_ends_in_time_and_when_it_is_told, a_sweep_drops_what_is_over,
    of_many_that_use_one_token_one_goes_on_and_the_session_ends, sessions_make_room,
    signing_keys_follow_each_other, the_feed_tells_what_is_true_now,
};

use crate::Backend;
use samples::{at, by, hashes, invitation, own, session, session_id, user, user_id, workspace, ws};

/// A promise is kept unless it panics or meets an error that it does not expect.
type Outcome = Result<(), StoreError>;

/// More than any case makes.
const LIMIT: usize = 1_000;

/// Runs every case as a test of its own. `$backend` makes a fresh [`Backend`].
#[macro_export]
macro_rules! people_store_suite {
    ($backend:expr) => {
        $crate::people_store_suite!(@cases $backend;
            an_account_is_found_by_id_and_by_address
            an_address_is_one_account
            a_new_person_owns_their_workspace
            a_password_is_changed_in_the_place_of_the_one_seen
            a_new_password_ends_every_other_session
            a_new_password_ends_a_log_in_that_is_under_way
            a_person_belongs_to_no_more_workspaces_than_one_may
            a_person_invites_once_for_a_request
            a_person_makes_a_workspace_once_for_a_request
            a_workspace_is_renamed_at_the_version_seen
            members_are_listed_in_pages
            every_workspace_is_listed_in_pages
            roles_are_judged_by_what_is_stored
            the_last_owner_stays
            ownership_is_handed_over_in_one_step
            an_invitation_is_accepted_once
            an_invitation_is_for_its_address_alone
            an_invitation_ends_with_its_time_and_when_it_is_taken_back
            invitations_go_with_the_right_to_invite
            only_who_may_invite_by_what_is_stored_invites
            invitations_and_members_have_bounds
            a_new_person_joins_by_invitation
            nobody_learns_of_an_account_without_an_invitation
            a_refresh_token_is_good_once
            of_many_that_use_one_token_one_goes_on_and_the_session_ends
            a_session_ends_in_time_and_when_it_is_told
            a_person_ends_only_their_own_sessions
            sessions_make_room
            signing_keys_follow_each_other
            the_feed_tells_what_is_true_now
            a_sweep_drops_what_is_over
            a_refused_change_leaves_no_trace_of_people
            an_account_is_made_for_an_identity
            an_identity_is_one_accounts
            identities_of_an_account_have_a_bound
        );
    };
    (@cases $backend:expr; $($case:ident)*) => {
        $(
            #[::tokio::test]
            async fn $case() -> Result<(), ::rateguard_engine::ports::StoreError> {
                $crate::people_store::$case(&$backend).await
            }
        )*
    };
}

/// Every field of an account survives.
pub async fn an_account_is_found_by_id_and_by_address<B: Backend<Store: PeopleStore>>(
    backend: &B,
) -> Outcome {
    let store = with_ada(backend).await?;
    let ada = user("ada");
    assert_eq!(store.user(&ada.id).await?, Some(ada.clone()));
    assert_eq!(store.user_by_email(&ada.email).await?, Some(ada));
    assert_eq!(store.user(&user_id("bob")).await?, None);
    Ok(())
}

/// A second account with the same address is refused, and its workspace is not made.
pub async fn an_address_is_one_account<B: Backend<Store: PeopleStore>>(backend: &B) -> Outcome {
    let store = with_ada(backend).await?;
    let mut twin = user("bob");
    twin.email = user("ada").email;
    let refused = store.create_user(twin, own("ws_2"), LIMIT, &by(2)).await;
    assert_eq!(refused, Err(StoreError::AlreadyExists { field: "email" }));
    store.create_user(user("bob"), own("ws_2"), LIMIT, &by(2)).await?;
    Ok(())
}

/// The first membership is the owner's, and the workspace is as it was given.
pub async fn a_new_person_owns_their_workspace<B: Backend<Store: PeopleStore>>(backend: &B) -> Outcome {
    let store = with_ada(backend).await?;
    let found = store.memberships(&user_id("ada")).await?;
    let [(membership, stored)] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!((membership.role, membership.version, membership.joined_at), (Role::Owner, 1, at(1)));
    assert_eq!((&stored.workspace, stored.version), (&workspace("ws_1"), 1));
    assert_eq!(store.membership(&ws("ws_1"), &user_id("ada")).await?.as_ref(), Some(membership));
    assert_eq!(store.membership(&ws("ws_1"), &user_id("bob")).await?, None);
    Ok(())
}

/// Two who have seen the same password do not overwrite each other.
pub async fn a_password_is_changed_in_the_place_of_the_one_seen<B: Backend<Store: PeopleStore>>(
    backend: &B,
) -> Outcome {
    let store = with_ada(backend).await?;
    let (ada, new) = (user("ada"), PasswordHash::stored("new"));
    store.set_password(&ada.id, &ada.password, new.clone(), None, &by(2)).await?;
    let late = store.set_password(&ada.id, &ada.password, PasswordHash::stored("other"), None, &by(3)).await;
    assert_eq!(late, Err(StoreError::VersionMismatch));
    let nobody = store.set_password(&user_id("bob"), &new, new.clone(), None, &by(3)).await;
    assert_eq!(nobody, Err(StoreError::NotFound));
    assert_eq!(store.user(&ada.id).await?.map(|user| user.password), Some(new));
    Ok(())
}

/// The session that changes the password stays, the others of the same person go, each with its entry.
pub async fn a_new_password_ends_every_other_session<B: Backend<Store: PeopleStore>>(backend: &B) -> Outcome {
    let store = with_ada(backend).await?;
    store.create_user(user("bob"), own("ws_2"), LIMIT, &by(1)).await?;
    for (number, owner) in [(1, "ada"), (2, "ada"), (3, "bob")] {
        store
            .begin_session(
                session(number, owner),
                &user(owner).password,
                hashes(number, number),
                LIMIT,
                &by(10),
            )
            .await?;
    }
    let ada = user("ada");
    let new = PasswordHash::stored("new");
    store.set_password(&ada.id, &ada.password, new, Some(&session_id(1)), &by(20)).await?;
    assert_eq!(sessions(&store, "ada").await?, [session_id(1)]);
    assert_eq!(sessions(&store, "bob").await?, [session_id(3)]);
    assert_eq!(last_change(&store).await?, Some(PeopleChange::SessionEnded(session_id(2))));
    Ok(())
}

/// The same request again gives the workspace that it made, also many times at once; other content is
/// refused, and after a day the name is free.
pub async fn a_person_makes_a_workspace_once_for_a_request<B: Backend<Store: PeopleStore>>(
    backend: &B,
) -> Outcome {
    let store = with_ada(backend).await?;
    let ada = user_id("ada");
    let request = |content: &[u8]| named("CreateWorkspace", content);
    let (one, deed) = (request(b"a"), by(2));
    let ids: Vec<String> = (2..9).map(|number| format!("ws_{number}")).collect();
    let calls = ids.iter().map(|id| store.create_workspace_once(workspace(id), &ada, LIMIT, &one, &deed));
    let made = join_all(calls).await.into_iter().collect::<Result<Vec<_>, _>>()?;
    assert!(made.iter().all(|again| *again == made[0]), "{made:?}");
    assert_eq!(store.memberships(&ada).await?.len(), 2);
    let other = store.create_workspace_once(workspace("ws_9"), &ada, LIMIT, &request(b"b"), &by(3)).await;
    assert_eq!(other, Err(StoreError::AlreadyExists { field: "request_id" }));
    let later = by(2 + CLIENT_REQUEST_LIFE_MS);
    store.create_workspace_once(workspace("ws_9"), &ada, LIMIT, &request(b"b"), &later).await?;
    assert_eq!(store.memberships(&ada).await?.len(), 3);
    Ok(())
}

/// A request of a method under the one name that these samples know.
fn named(method: &str, content: &[u8]) -> ClientRequest {
    let id = RequestId::parse("request_id", "one").expect("a sample is valid");
    ClientRequest::new(id, method, content)
}

/// Beyond the bound nothing is made.
pub async fn a_person_belongs_to_no_more_workspaces_than_one_may<B: Backend<Store: PeopleStore>>(
    backend: &B,
) -> Outcome {
    let store = with_ada(backend).await?;
    let ada = user_id("ada");
    let made = store.create_workspace(workspace("ws_2"), &ada, 2, &by(2)).await?;
    assert_eq!((made.workspace, made.version, made.created_at), (workspace("ws_2"), 1, at(2)));
    let refused = store.create_workspace(workspace("ws_3"), &ada, 2, &by(3)).await;
    assert_eq!(refused, Err(StoreError::Full { what: WORKSPACES_FULL }));
    let twice = store.create_workspace(workspace("ws_2"), &ada, LIMIT, &by(3)).await;
    assert_eq!(twice, Err(StoreError::AlreadyExists { field: "id" }));
    let names: Vec<_> = store.memberships(&ada).await?.into_iter().map(|(m, _)| m.workspace).collect();
    assert_eq!(names, [ws("ws_1"), ws("ws_2")]);
    Ok(())
}

/// A rename raises the version; one that has seen an older one is refused.
pub async fn a_workspace_is_renamed_at_the_version_seen<B: Backend<Store: PeopleStore>>(
    backend: &B,
) -> Outcome {
    let store = with_ada(backend).await?;
    let name = |text: &str| DisplayName::parse("name", text).expect("a sample is valid");
    let renamed = store.rename_workspace(&ws("ws_1"), &name("new"), Some(1), &by(5)).await?;
    assert_eq!((renamed.version, renamed.updated_at, renamed.created_at), (2, at(5), at(1)));
    let late = store.rename_workspace(&ws("ws_1"), &name("other"), Some(1), &by(6)).await;
    assert_eq!(late, Err(StoreError::VersionMismatch));
    assert_eq!(store.rename_workspace(&ws("ws_1"), &name("any"), None, &by(7)).await?.version, 3);
    assert_eq!(
        store.rename_workspace(&ws("ws_9"), &name("x"), None, &by(7)).await,
        Err(StoreError::NotFound)
    );
    Ok(())
}

/// Pages follow each other in the order of ids and show members of the one workspace alone.
pub async fn members_are_listed_in_pages<B: Backend<Store: PeopleStore>>(backend: &B) -> Outcome {
    let store = with_members(backend).await?;
    store.create_user(user("zoe"), own("ws_2"), LIMIT, &by(1)).await?;
    let first = store.members(&ws("ws_1"), None, 2).await?;
    let names = |members: &[rateguard_engine::ports::Member]| {
        members.iter().map(|member| member.user.id.clone()).collect::<Vec<_>>()
    };
    assert_eq!(names(&first), [user_id("ada"), user_id("bob")]);
    let rest = store.members(&ws("ws_1"), Some(&user_id("bob")), 5).await?;
    assert_eq!(names(&rest), [user_id("cyd")]);
    assert_eq!((rest[0].user.clone(), rest[0].membership.role), (user("cyd"), Role::Viewer));
    Ok(())
}

/// Whoever belongs to them.
pub async fn every_workspace_is_listed_in_pages<B: Backend<Store: PeopleStore>>(backend: &B) -> Outcome {
    let store = with_members(backend).await?;
    store.create_user(user("zoe"), own("ws_2"), LIMIT, &by(1)).await?;
    assert_eq!(store.workspaces(None, 1).await?, [workspace("ws_1")]);
    assert_eq!(store.workspaces(Some(&ws("ws_1")), LIMIT).await?, [workspace("ws_2")]);
    Ok(())
}

/// What a person may change goes by the stored roles of both.
pub async fn roles_are_judged_by_what_is_stored<B: Backend<Store: PeopleStore>>(backend: &B) -> Outcome {
    let store = with_members(backend).await?;
    let change = |actor: &str, member: &str, role, expected| MemberChange {
        workspace: ws("ws_1"),
        actor: user_id(actor),
        member: user_id(member),
        role,
        expected,
    };
    let refused = Ok(Err(MemberRefusal::RoleMissing));
    assert_eq!(store.change_member(change("cyd", "bob", Some(Role::Viewer), None), &by(5)).await, refused);
    assert_eq!(store.change_member(change("bob", "ada", None, None), &by(5)).await, refused);
    assert_eq!(store.change_member(change("zoe", "cyd", None, None), &by(5)).await, refused);
    let raised = store.change_member(change("bob", "cyd", Some(Role::Member), Some(1)), &by(5)).await?;
    assert_eq!(raised.map(|membership| (membership.role, membership.version)), Ok((Role::Member, 2)));
    let late = store.change_member(change("bob", "cyd", Some(Role::Viewer), Some(1)), &by(6)).await;
    assert_eq!(late, Err(StoreError::VersionMismatch));
    let nobody = store.change_member(change("ada", "zoe", None, None), &by(6)).await;
    assert_eq!(nobody, Err(StoreError::NotFound));
    store.change_member(change("cyd", "cyd", None, None), &by(7)).await?.expect("anybody may leave");
    assert_eq!(store.membership(&ws("ws_1"), &user_id("cyd")).await?, None);
    Ok(())
}

/// The only owner can neither leave nor step down; of two, one can, and then the other cannot.
pub async fn the_last_owner_stays<B: Backend<Store: PeopleStore>>(backend: &B) -> Outcome {
    let store = with_members(backend).await?;
    let change = |actor: &str, member: &str, role| MemberChange {
        workspace: ws("ws_1"),
        actor: user_id(actor),
        member: user_id(member),
        role,
        expected: None,
    };
    for role in [None, Some(Role::Admin)] {
        let refused = store.change_member(change("ada", "ada", role), &by(5)).await?;
        assert_eq!(refused, Err(MemberRefusal::LastOwner));
    }
    store.change_member(change("ada", "bob", Some(Role::Owner)), &by(6)).await?.expect("an owner may");
    let (one, two) = futures::future::join(
        store.change_member(change("ada", "ada", None), &by(7)),
        store.change_member(change("bob", "bob", None), &by(7)),
    )
    .await;
    let outcomes = [one?.is_ok(), two?.is_ok()];
    assert_eq!(outcomes.iter().filter(|left| **left).count(), 1, "{outcomes:?}");
    Ok(())
}

/// The giver becomes an admin, the taker an owner; whoever is none cannot give.
pub async fn ownership_is_handed_over_in_one_step<B: Backend<Store: PeopleStore>>(backend: &B) -> Outcome {
    let store = with_members(backend).await?;
    let (place, ada, bob) = (ws("ws_1"), user_id("ada"), user_id("bob"));
    let refused = store.transfer(&place, &bob, &ada, &by(5)).await?;
    assert_eq!(refused, Err(MemberRefusal::RoleMissing));
    assert_eq!(store.transfer(&place, &ada, &user_id("zoe"), &by(5)).await, Err(StoreError::NotFound));
    let taken = store.transfer(&place, &ada, &bob, &by(6)).await?.expect("an owner may");
    assert_eq!((taken.user, taken.role), (bob, Role::Owner));
    assert_eq!(store.membership(&place, &ada).await?.map(|m| m.role), Some(Role::Admin));
    Ok(())
}

/// Whatever is refused leaves the feed as it was.
pub async fn a_refused_change_leaves_no_trace_of_people<B: Backend<Store: PeopleStore>>(
    backend: &B,
) -> Outcome {
    let store = with_members(backend).await?;
    let before = store.people_changes_after(0, LIMIT).await?.changes;
    let refusals = [
        store.create_user(user("ada"), own("ws_9"), LIMIT, &by(9)).await.map(drop),
        store.create_workspace(workspace("ws_9"), &user_id("ada"), 1, &by(9)).await.map(drop),
        store.accept_invitation(&[9; 32], &user_id("ada"), BOUNDS, &by(9)).await.map(drop),
        store.end_session(&user_id("ada"), &session_id(9), &by(9)).await,
    ];
    assert!(refusals.iter().all(Result::is_err), "{refusals:?}");
    assert_eq!(store.people_changes_after(0, LIMIT).await?.changes, before);
    store.create_user(user("zoe"), own("ws_9"), LIMIT, &by(9)).await?;
    Ok(())
}

/// Wide bounds.
const BOUNDS: JoinBounds = JoinBounds { members_max: LIMIT, workspaces_max: LIMIT };

/// A store in which Ada owns `ws_1`.
async fn with_ada<B: Backend<Store: PeopleStore>>(backend: &B) -> Result<B::Store, StoreError> {
    let store = backend.open().await;
    store.create_user(user("ada"), own("ws_1"), LIMIT, &by(1)).await?;
    Ok(store)
}

/// The same with Bob, an admin, and Cyd, a viewer.
async fn with_members<B: Backend<Store: PeopleStore>>(backend: &B) -> Result<B::Store, StoreError> {
    let store = with_ada(backend).await?;
    for (number, name, role) in [(1, "bob", Role::Admin), (2, "cyd", Role::Viewer)] {
        store.insert_invitation(invitation(number, "ws_1", None, role), [number; 32], LIMIT, &by(10)).await?;
        store.create_user(user(name), Joining::Invited([number; 32]), LIMIT, &by(20)).await?;
    }
    Ok(store)
}

async fn sessions(
    store: &impl PeopleStore,
    owner: &str,
) -> Result<Vec<rateguard_core::ids::SessionId>, StoreError> {
    Ok(store.sessions(&user_id(owner), at(25)).await?.into_iter().map(|session| session.id).collect())
}

async fn last_change(store: &impl PeopleStore) -> Result<Option<PeopleChange>, StoreError> {
    Ok(store.people_changes_after(0, LIMIT).await?.changes.pop().map(|(_, change)| change))
}
