//! Sessions, signing keys, and the feed that tells of them.

use futures::future::join_all;
use rateguard_engine::people::{PasswordHash, Role};
use rateguard_engine::ports::{MemberChange, PeopleChange, PeopleStore, Refreshed, StoreError};

use super::samples::{
    at, by, hashes, invitation, own, refreshing, session, session_id, signing_key, user, user_id, workspace,
    ws,
};
use super::{LIMIT, Outcome, last_change, sessions, with_ada, with_members};
use crate::Backend;

/// Clients that use one token at once.
const CLIENTS: u8 = 10;

/// Each use gives the next token; an old one ends the session, and then nothing of it is known.
pub async fn a_refresh_token_is_good_once<B: Backend<Store: PeopleStore>>(backend: &B) -> Outcome {
    let store = with_ada(backend).await?;
    store.begin_session(session(1, "ada"), &user("ada").password, hashes(1, 1), LIMIT, &by(10)).await?;
    let Refreshed::Goes(gone_on) = store.refresh_session(refreshing(1, 1, 2), &by(20)).await? else {
        panic!("the present token goes on")
    };
    assert_eq!((gone_on.id, gone_on.refreshed_at, gone_on.expires_at), (session_id(1), at(20), at(2_000)));
    assert!(matches!(store.refresh_session(refreshing(1, 2, 3), &by(21)).await?, Refreshed::Goes(_)));
    let reused = store.refresh_session(refreshing(1, 1, 4), &by(22)).await?;
    assert_eq!(reused, Refreshed::Reused(session_id(1)));
    assert_eq!(store.refresh_session(refreshing(1, 3, 4), &by(23)).await?, Refreshed::Unknown);
    assert_eq!(sessions(&store, "ada").await?, []);
    assert_eq!(last_change(&store).await?, Some(PeopleChange::SessionEnded(session_id(1))));
    assert_eq!(store.refresh_session(refreshing(9, 9, 9), &by(23)).await?, Refreshed::Unknown);
    Ok(())
}

/// There is no grace for two at once.
pub async fn of_many_that_use_one_token_one_goes_on_and_the_session_ends<B: Backend<Store: PeopleStore>>(
    backend: &B,
) -> Outcome {
    let store = with_ada(backend).await?;
    store.begin_session(session(1, "ada"), &user("ada").password, hashes(1, 1), LIMIT, &by(10)).await?;
    let deed = by(20);
    let uses = (0..CLIENTS).map(|client| store.refresh_session(refreshing(1, 1, 100 + client), &deed));
    let mut outcomes = Vec::new();
    for outcome in join_all(uses).await {
        outcomes.push(outcome?);
    }
    let went_on = outcomes.iter().filter(|outcome| matches!(outcome, Refreshed::Goes(_))).count();
    let reused = outcomes.iter().filter(|outcome| matches!(outcome, Refreshed::Reused(_))).count();
    assert_eq!((went_on, reused), (1, 1), "{outcomes:?}");
    assert_eq!(sessions(&store, "ada").await?, []);
    Ok(())
}

/// From its end on a session is not listed, not refreshed, not moved.
pub async fn a_session_ends_in_time_and_when_it_is_told<B: Backend<Store: PeopleStore>>(
    backend: &B,
) -> Outcome {
    let store = with_ada(backend).await?;
    let begun = session(1, "ada");
    store.begin_session(begun.clone(), &user("ada").password, hashes(1, 1), LIMIT, &by(10)).await?;
    assert_eq!(store.sessions(&user_id("ada"), at(1_009)).await?, std::slice::from_ref(&begun));
    store.move_session(&begun.id, &ws("ws_1"), &by(11)).await?;
    let moved = store.sessions(&user_id("ada"), at(11)).await?;
    assert_eq!(moved[0].workspace, Some(ws("ws_1")));
    assert_eq!(store.sessions(&user_id("ada"), at(1_010)).await?, []);
    assert_eq!(store.refresh_session(refreshing(1, 1, 2), &by(1_010)).await?, Refreshed::Unknown);
    assert_eq!(store.move_session(&begun.id, &ws("ws_1"), &by(1_010)).await, Err(StoreError::NotFound));
    store.end_session(&user_id("ada"), &begun.id, &by(12)).await?;
    assert_eq!(store.end_session(&user_id("ada"), &begun.id, &by(12)).await, Err(StoreError::NotFound));
    let nobody = store
        .begin_session(session(2, "nobody"), &user("nobody").password, hashes(2, 2), LIMIT, &by(10))
        .await;
    assert_eq!(nobody, Err(StoreError::NotFound));
    Ok(())
}

/// A log-in that was let in by the password before has come too late.
pub async fn a_new_password_ends_a_log_in_that_is_under_way<B: Backend<Store: PeopleStore>>(
    backend: &B,
) -> Outcome {
    let store = with_ada(backend).await?;
    let (ada, new) = (user("ada"), PasswordHash::stored("new"));
    store.set_password(&ada.id, &ada.password, new.clone(), Some(&session_id(9)), &by(2)).await?;
    let late = store.begin_session(session(1, "ada"), &ada.password, hashes(1, 1), LIMIT, &by(10)).await;
    assert_eq!(late, Err(StoreError::VersionMismatch));
    assert_eq!(sessions(&store, "ada").await?, []);
    store.begin_session(session(1, "ada"), &new, hashes(1, 1), LIMIT, &by(10)).await
}

/// Another person's session is not found.
pub async fn a_person_ends_only_their_own_sessions<B: Backend<Store: PeopleStore>>(backend: &B) -> Outcome {
    let store = with_ada(backend).await?;
    store.create_user(user("bob"), own("ws_2"), LIMIT, &by(1)).await?;
    store.begin_session(session(1, "ada"), &user("ada").password, hashes(1, 1), LIMIT, &by(10)).await?;
    let refused = store.end_session(&user_id("bob"), &session_id(1), &by(20)).await;
    assert_eq!(refused, Err(StoreError::NotFound));
    assert_eq!(sessions(&store, "ada").await?, [session_id(1)]);
    Ok(())
}

/// Beyond the bound the session refreshed longest ago ends, with its entry in the feed.
pub async fn sessions_make_room<B: Backend<Store: PeopleStore>>(backend: &B) -> Outcome {
    let store = with_ada(backend).await?;
    store.begin_session(session(1, "ada"), &user("ada").password, hashes(1, 1), 2, &by(10)).await?;
    store.begin_session(session(2, "ada"), &user("ada").password, hashes(2, 2), 2, &by(10)).await?;
    store.refresh_session(refreshing(1, 1, 11), &by(20)).await?;
    let mut third = session(3, "ada");
    (third.created_at, third.refreshed_at) = (at(21), at(21));
    store.begin_session(third, &user("ada").password, hashes(3, 3), 2, &by(10)).await?;
    assert_eq!(sessions(&store, "ada").await?, [session_id(3), session_id(1)]);
    assert_eq!(last_change(&store).await?, Some(PeopleChange::SessionEnded(session_id(2))));
    Ok(())
}

/// A key is added where the newest is the one seen; those older than that one go.
pub async fn signing_keys_follow_each_other<B: Backend<Store: PeopleStore>>(backend: &B) -> Outcome {
    let store = backend.open().await;
    let [one, two, three] = [1, 2, 3].map(signing_key);
    assert!(store.add_signing_key(one.clone(), None, &by(10)).await?);
    assert!(!store.add_signing_key(two.clone(), None, &by(10)).await?);
    assert!(store.add_signing_key(two.clone(), Some(&one.id), &by(10)).await?);
    assert_eq!(store.signing_keys().await?, [one.clone(), two.clone()]);
    assert!(!store.add_signing_key(three.clone(), Some(&one.id), &by(10)).await?);
    assert!(store.add_signing_key(three.clone(), Some(&two.id), &by(10)).await?);
    assert_eq!(store.signing_keys().await?, [two, three]);
    assert_eq!(last_change(&store).await?, Some(PeopleChange::SigningKeys));
    Ok(())
}

/// An entry tells the role of now, whatever it was when it was recorded; the feed is read in pages.
pub async fn the_feed_tells_what_is_true_now<B: Backend<Store: PeopleStore>>(backend: &B) -> Outcome {
    let store = with_members(backend).await?;
    let leave = MemberChange {
        workspace: ws("ws_1"),
        actor: user_id("cyd"),
        member: user_id("cyd"),
        role: None,
        expected: None,
    };
    store.change_member(leave, &by(50)).await?.expect("anybody may leave");
    let changes = store.people_changes_after(0, LIMIT).await?.changes;
    let roles: Vec<_> = changes
        .iter()
        .filter_map(|(_, change)| match change {
            PeopleChange::Role { user, role, .. } if *user == user_id("cyd") => Some(*role),
            _ => None,
        })
        .collect();
    assert_eq!(roles, [None, None]);
    assert!(changes.contains(&(1, PeopleChange::Workspace(workspace("ws_1")))), "{changes:?}");
    assert_eq!(store.people_changes_after(1, 2).await?.changes, changes[1..3]);
    let revisions: Vec<u64> = changes.iter().map(|(revision, _)| *revision).collect();
    let last = revisions.last().copied().unwrap_or_default();
    assert!(revisions.iter().copied().eq(1..=last), "{revisions:?}");
    assert_eq!(store.revision_before(at(50)).await?, last - 1);
    assert_eq!(store.revision_before(at(51)).await?, last);
    assert_eq!(store.revision_before(at(0)).await?, 0);
    Ok(())
}

/// What is over goes, what lives stays, and revisions go on.
pub async fn a_sweep_drops_what_is_over<B: Backend<Store: PeopleStore>>(backend: &B) -> Outcome {
    let store = with_ada(backend).await?;
    store.begin_session(session(1, "ada"), &user("ada").password, hashes(1, 1), LIMIT, &by(10)).await?;
    store.refresh_session(refreshing(1, 1, 2), &by(20)).await?;
    store.begin_session(session(2, "ada"), &user("ada").password, hashes(2, 2), LIMIT, &by(10)).await?;
    store.insert_invitation(invitation(1, "ws_1", None, Role::Viewer), [1; 32], LIMIT, &by(10)).await?;
    let before = store.people_changes_after(0, LIMIT).await?.changes;
    store.sweep_people(at(1_010), at(2)).await?;
    assert_eq!(store.sessions(&user_id("ada"), at(20)).await?.len(), 1);
    assert_eq!(store.invitations(&ws("ws_1"), at(20)).await?, []);
    let swept = store.people_changes_after(0, LIMIT).await?;
    let last = before[before.len() - 1].0;
    assert_eq!((swept.changes.len(), swept.last_recorded), (0, last));
    assert!(swept.has_gap_after(0) && !swept.has_gap_after(last));
    assert_eq!(store.revision_before(at(0)).await?, last);
    store.end_session(&user_id("ada"), &session_id(1), &by(1_500)).await?;
    let grown = store.people_changes_after(0, LIMIT).await?;
    assert!(grown.has_gap_after(0) && !grown.has_gap_after(last));
    assert_eq!(grown.changes[0].0, last + 1, "{grown:?}");
    Ok(())
}
