//! Identities of providers and their accounts.

use rateguard_engine::ports::{ExternalIdentity, IDENTITIES_FULL, IdentityStore, PeopleStore, StoreError};

use super::samples::{by, own, session_id, user, user_id};
use super::{LIMIT, Outcome, with_ada};
use crate::Backend;

fn identity(subject: &str) -> ExternalIdentity {
    ExternalIdentity { issuer: "https://id.example.com".to_owned(), subject: subject.to_owned() }
}

/// An account that is made for an identity is found by it, and by no other.
pub async fn an_account_is_made_for_an_identity<B: Backend<Store: PeopleStore>>(backend: &B) -> Outcome {
    let store = backend.open().await;
    let made = store.create_linked_user(user("ada"), identity("1"), own("ws_1"), LIMIT, &by(1)).await?;
    assert_eq!(made.user, user_id("ada"));
    assert_eq!(store.user_by_identity(&identity("1")).await?, Some(user("ada")));
    assert_eq!(store.user_by_identity(&identity("2")).await?, None);
    let elsewhere = ExternalIdentity { issuer: "https://id.example.org".to_owned(), ..identity("1") };
    assert_eq!(store.user_by_identity(&elsewhere).await?, None);
    Ok(())
}

/// What is refused makes neither an account nor a link.
pub async fn an_identity_is_one_accounts<B: Backend<Store: PeopleStore>>(backend: &B) -> Outcome {
    let store = with_ada(backend).await?;
    let refused = |field| Err(StoreError::AlreadyExists { field });
    let mut twin = user("bob");
    twin.email = user("ada").email;
    let taken = store.create_linked_user(twin, identity("1"), own("ws_2"), LIMIT, &by(2)).await;
    assert_eq!(taken.map(drop), refused("email"));
    assert_eq!(store.user_by_identity(&identity("1")).await?, None);
    store.link_identity(&user_id("ada"), &session_id(1), identity("1"), LIMIT, &by(3)).await?;
    store.link_identity(&user_id("ada"), &session_id(1), identity("1"), LIMIT, &by(4)).await?;
    let taken = store.create_linked_user(user("bob"), identity("1"), own("ws_2"), LIMIT, &by(5)).await;
    assert_eq!(taken.map(drop), refused("identity"));
    assert_eq!(store.user(&user_id("bob")).await?, None);
    store.create_user(user("bob"), own("ws_2"), LIMIT, &by(6)).await?;
    let taken = store.link_identity(&user_id("bob"), &session_id(1), identity("1"), LIMIT, &by(7)).await;
    assert_eq!(taken, refused("identity"));
    assert_eq!(store.user_by_identity(&identity("1")).await?, Some(user("ada")));
    Ok(())
}

/// Beyond the bound, and for nobody, no link is made.
pub async fn identities_of_an_account_have_a_bound<B: Backend<Store: PeopleStore>>(backend: &B) -> Outcome {
    let store = with_ada(backend).await?;
    store.link_identity(&user_id("ada"), &session_id(1), identity("1"), 1, &by(2)).await?;
    let full = store.link_identity(&user_id("ada"), &session_id(1), identity("2"), 1, &by(3)).await;
    assert_eq!(full, Err(StoreError::Full { what: IDENTITIES_FULL }));
    assert_eq!(store.user_by_identity(&identity("2")).await?, None);
    let nobody = store.link_identity(&user_id("bob"), &session_id(1), identity("2"), 1, &by(4)).await;
    assert_eq!(nobody, Err(StoreError::NotFound));
    Ok(())
}
