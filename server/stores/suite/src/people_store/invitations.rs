//! Invitations: who makes them, how long they are open, what they bring.

use rateguard_engine::audit::Deed;
use rateguard_engine::people::Role;
use rateguard_engine::ports::{
    ClientRequest, INVITATIONS_FULL, InvitedOnce, JoinBounds, Joining, MEMBERS_FULL, MemberChange,
    PeopleStore, StoreError, WORKSPACES_FULL,
};

use super::samples::{at, by, invitation, own, user, user_id, ws};
use super::{BOUNDS, LIMIT, Outcome, named, with_ada, with_members};
use crate::Backend;

/// A spent invitation is gone.
pub async fn an_invitation_is_accepted_once<B: Backend<Store: PeopleStore>>(backend: &B) -> Outcome {
    let store = with_ada(backend).await?;
    for name in ["bob", "cyd"] {
        store.create_user(user(name), own(&format!("ws_{name}")), LIMIT, &by(1)).await?;
    }
    let open = invitation(1, "ws_1", None, Role::Member);
    store.insert_invitation(open.clone(), [1; 32], LIMIT, &by(10)).await?;
    assert_eq!(store.invitations(&ws("ws_1"), at(20)).await?, [open]);
    let joined = store.accept_invitation(&[1; 32], &user_id("bob"), BOUNDS, &by(20)).await?;
    assert_eq!((joined.workspace, joined.role), (ws("ws_1"), Role::Member));
    let again = store.accept_invitation(&[1; 32], &user_id("cyd"), BOUNDS, &by(20)).await;
    assert_eq!(again, Err(StoreError::NotFound));
    assert_eq!(store.invitations(&ws("ws_1"), at(20)).await?, []);
    store.insert_invitation(invitation(2, "ws_1", None, Role::Member), [2; 32], LIMIT, &by(10)).await?;
    let member = store.accept_invitation(&[2; 32], &user_id("bob"), BOUNDS, &by(20)).await;
    assert_eq!(member, Err(StoreError::AlreadyExists { field: "user_id" }));
    Ok(())
}

/// Nobody else accepts it, and a member's address is not invited again.
pub async fn an_invitation_is_for_its_address_alone<B: Backend<Store: PeopleStore>>(backend: &B) -> Outcome {
    let store = with_ada(backend).await?;
    for name in ["bob", "cyd"] {
        store.create_user(user(name), own(&format!("ws_{name}")), LIMIT, &by(1)).await?;
    }
    let open = || invitation(1, "ws_1", Some("bob@example.com"), Role::Admin);
    store.insert_invitation(open(), [1; 32], LIMIT, &by(10)).await?;
    let other = store.accept_invitation(&[1; 32], &user_id("cyd"), BOUNDS, &by(20)).await;
    assert_eq!(other, Err(StoreError::NotFound));
    store.accept_invitation(&[1; 32], &user_id("bob"), BOUNDS, &by(20)).await?;
    let again = store.insert_invitation(open(), [2; 32], LIMIT, &by(10)).await;
    assert_eq!(again, Err(StoreError::AlreadyExists { field: "email" }));
    Ok(())
}

/// It opens nothing from its end on, nor once it is taken back; nor is it another workspace's to take.
pub async fn an_invitation_ends_with_its_time_and_when_it_is_taken_back<B: Backend<Store: PeopleStore>>(
    backend: &B,
) -> Outcome {
    let store = with_ada(backend).await?;
    store.create_user(user("bob"), own("ws_2"), LIMIT, &by(1)).await?;
    let open = invitation(1, "ws_1", None, Role::Viewer);
    store.insert_invitation(open.clone(), [1; 32], LIMIT, &by(10)).await?;
    let late = store.accept_invitation(&[1; 32], &user_id("bob"), BOUNDS, &by(1_010)).await;
    assert_eq!(late, Err(StoreError::NotFound));
    assert_eq!(store.invitations(&ws("ws_1"), at(1_010)).await?, []);
    assert_eq!(store.remove_invitation(&ws("ws_2"), &open.id, &by(10)).await, Err(StoreError::NotFound));
    store.remove_invitation(&ws("ws_1"), &open.id, &by(10)).await?;
    assert_eq!(store.remove_invitation(&ws("ws_1"), &open.id, &by(10)).await, Err(StoreError::NotFound));
    let gone = store.accept_invitation(&[1; 32], &user_id("bob"), BOUNDS, &by(20)).await;
    assert_eq!(gone, Err(StoreError::NotFound));
    Ok(())
}

/// Whoever leaves, or becomes less than an admin, leaves no way back open; others' invitations stay.
pub async fn invitations_go_with_the_right_to_invite<B: Backend<Store: PeopleStore>>(backend: &B) -> Outcome {
    let store = with_members(backend).await?;
    let of_bob = |number| {
        let mut open = invitation(number, "ws_1", None, Role::Admin);
        open.inviter = user_id("bob");
        open
    };
    let of_ada = invitation(9, "ws_1", None, Role::Admin);
    store.insert_invitation(of_ada.clone(), [9; 32], LIMIT, &by(10)).await?;
    let change = |role| MemberChange {
        workspace: ws("ws_1"),
        actor: user_id("ada"),
        member: user_id("bob"),
        role,
        expected: None,
    };
    for (number, role) in [(3, Some(Role::Owner)), (4, Some(Role::Member)), (5, None)] {
        store.change_member(change(Some(Role::Admin)), &by(9)).await?.expect("an owner may");
        store.insert_invitation(of_bob(number), [number; 32], LIMIT, &by(10)).await?;
        store.change_member(change(role), &by(20)).await?.expect("an owner may");
        let stay = role == Some(Role::Owner);
        assert_eq!(store.invitations(&ws("ws_1"), at(20)).await?.len(), if stay { 2 } else { 1 }, "{role:?}");
    }
    assert_eq!(store.invitations(&ws("ws_1"), at(20)).await?, [of_ada]);
    Ok(())
}

/// Whoever was an admin a moment ago invites nobody, nor does a member, a stranger, or anybody elsewhere; a
/// request named before tells them nothing either.
pub async fn only_who_may_invite_by_what_is_stored_invites<B: Backend<Store: PeopleStore>>(
    backend: &B,
) -> Outcome {
    let store = with_members(backend).await?;
    let of = |inviter: &str, number| {
        let mut open = invitation(number, "ws_1", None, Role::Admin);
        open.inviter = user_id(inviter);
        open
    };
    let one = named("InviteMember", b"a");
    store.insert_invitation_once(of("bob", 3), [3; 32], LIMIT, &one, &by(10)).await?;
    let leave = MemberChange {
        workspace: ws("ws_1"),
        actor: user_id("ada"),
        member: user_id("bob"),
        role: None,
        expected: None,
    };
    store.change_member(leave, &by(20)).await?.expect("an owner may");
    for inviter in ["bob", "cyd", "zoe"] {
        let plain = store.insert_invitation(of(inviter, 4), [4; 32], LIMIT, &by(30)).await;
        assert_eq!(plain, Err(StoreError::NotFound), "{inviter}");
        let once = store.insert_invitation_once(of(inviter, 4), [4; 32], LIMIT, &one, &by(30)).await;
        assert_eq!(once, Err(StoreError::NotFound), "{inviter}");
    }
    assert_eq!(store.invitations(&ws("ws_1"), at(30)).await?, []);
    Ok(())
}

/// Each bound names what is full, and nothing is left of the attempt.
pub async fn invitations_and_members_have_bounds<B: Backend<Store: PeopleStore>>(backend: &B) -> Outcome {
    let store = with_ada(backend).await?;
    store.create_user(user("bob"), own("ws_2"), LIMIT, &by(1)).await?;
    store.insert_invitation(invitation(1, "ws_1", None, Role::Viewer), [1; 32], 1, &by(10)).await?;
    let full = store.insert_invitation(invitation(2, "ws_1", None, Role::Viewer), [2; 32], 1, &by(10)).await;
    assert_eq!(full, Err(StoreError::Full { what: INVITATIONS_FULL }));
    let nowhere =
        store.insert_invitation(invitation(3, "ws_9", None, Role::Viewer), [3; 32], LIMIT, &by(10)).await;
    assert_eq!(nowhere, Err(StoreError::NotFound));
    let accept = async |members_max, workspaces_max| {
        let bounds = JoinBounds { members_max, workspaces_max };
        store.accept_invitation(&[1; 32], &user_id("bob"), bounds, &by(20)).await.map(|m| m.user)
    };
    assert_eq!(accept(1, LIMIT).await, Err(StoreError::Full { what: MEMBERS_FULL }));
    assert_eq!(accept(LIMIT, 1).await, Err(StoreError::Full { what: WORKSPACES_FULL }));
    assert_eq!(accept(2, 2).await, Ok(user_id("bob")));
    Ok(())
}

/// An account made by invitation has that membership alone; an unknown token makes no account.
pub async fn a_new_person_joins_by_invitation<B: Backend<Store: PeopleStore>>(backend: &B) -> Outcome {
    let store = with_ada(backend).await?;
    let unknown = store.create_user(user("bob"), Joining::Invited([1; 32]), LIMIT, &by(20)).await;
    assert_eq!(unknown, Err(StoreError::NotFound));
    assert_eq!(store.user(&user_id("bob")).await?, None);
    store
        .insert_invitation(
            invitation(1, "ws_1", Some("bob@example.com"), Role::Admin),
            [1; 32],
            LIMIT,
            &by(10),
        )
        .await?;
    let other = store.create_user(user("cyd"), Joining::Invited([1; 32]), LIMIT, &by(20)).await;
    assert_eq!(other, Err(StoreError::NotFound));
    let joined = store.create_user(user("bob"), Joining::Invited([1; 32]), LIMIT, &by(20)).await?;
    assert_eq!((joined.workspace, joined.role), (ws("ws_1"), Role::Admin));
    Ok(())
}

/// The same request again makes no other invitation, also when what it made is gone; one that never went out
/// is forgotten together with its request.
pub async fn a_person_invites_once_for_a_request<B: Backend<Store: PeopleStore>>(backend: &B) -> Outcome {
    let store = &with_ada(backend).await?;
    let one = named("InviteMember", b"a");
    let invited = |number: u8, request: ClientRequest, deed: Deed| async move {
        let new = invitation(number, "ws_1", None, Role::Member);
        store.insert_invitation_once(new, [number; 32], LIMIT, &request, &deed).await
    };
    let before =
        |number: u8| InvitedOnce::Before(Some(Box::new(invitation(number, "ws_1", None, Role::Member))));
    assert_eq!(invited(1, one.clone(), by(10)).await?, InvitedOnce::Made);
    assert_eq!(invited(2, one.clone(), by(10)).await?, before(1));
    let other = invited(2, named("InviteMember", b"b"), by(10)).await;
    assert_eq!(other, Err(StoreError::AlreadyExists { field: "request_id" }));
    store.withdraw_invitation(&invitation(1, "ws_1", None, Role::Member), &by(11)).await?;
    assert_eq!(invited(3, one.clone(), by(12)).await?, InvitedOnce::Made);
    store.remove_invitation(&ws("ws_1"), &invitation(3, "ws_1", None, Role::Member).id, &by(13)).await?;
    assert_eq!(invited(4, one, by(14)).await?, InvitedOnce::Before(None));
    assert_eq!(store.invitations(&ws("ws_1"), at(15)).await?, []);
    Ok(())
}

/// Without an invitation that is open to the address, the answer is the same whether it has an account or not;
/// whoever asks reads what an open one says before anything is made.
pub async fn nobody_learns_of_an_account_without_an_invitation<B: Backend<Store: PeopleStore>>(
    backend: &B,
) -> Outcome {
    let store = with_ada(backend).await?;
    let twin = || {
        let mut twin = user("twin");
        twin.email = user("ada").email;
        twin
    };
    let made_up = store.create_user(twin(), Joining::Invited([9; 32]), LIMIT, &by(20)).await;
    assert_eq!(made_up, Err(StoreError::NotFound));
    let open = invitation(1, "ws_1", Some("bob@example.com"), Role::Admin);
    store.insert_invitation(open.clone(), [1; 32], LIMIT, &by(10)).await?;
    let of_another = store.create_user(twin(), Joining::Invited([1; 32]), LIMIT, &by(20)).await;
    assert_eq!(of_another, Err(StoreError::NotFound));
    assert_eq!(store.open_invitation(&[1; 32], at(1_009)).await?, Some(open));
    assert_eq!(store.open_invitation(&[1; 32], at(1_010)).await?, None);
    assert_eq!(store.open_invitation(&[9; 32], at(20)).await?, None);
    Ok(())
}
