//! What is named cannot go, and what has gone cannot be named.

use futures::future::join;
use rateguard_core::ids::ApiId;
use rateguard_core::matching::Match;
use rateguard_core::rule::Rule;
use rateguard_engine::ports::{
    ConfigStore, Resource, ResourceChange, ResourceKind, StoreError, USERS_TOLD_MAX,
};

use super::samples::{api, naming, one_of_each, rule};
use super::{LIMIT, Outcome, by, insert_all, opened, ws};
use crate::Backend;

/// Rules that name one API: more than a refusal tells.
const RULES: usize = USERS_TOLD_MAX + 3;
/// Times that a rule and the removal of its API meet.
const MEETINGS: usize = 20;

fn of_api(id: &str, api: &str) -> Resource {
    let apis = vec![ApiId::parse("apis", api).expect("a sample is valid")];
    Resource::Rule(Rule { matches: Match { apis, ..Match::default() }, ..rule(id) })
}

fn in_use(kind: ResourceKind, id: &str, by: &[(ResourceKind, &str)], more: u64) -> StoreError {
    let by = by.iter().map(|(kind, id)| (*kind, (*id).to_owned())).collect();
    StoreError::InUse { kind, id: id.to_owned(), by, more }
}

/// A removal tells what uses the resource, and is free once nothing does.
pub async fn what_is_named_cannot_be_removed<B: Backend<Store: ConfigStore>>(backend: &B) -> Outcome {
    use ResourceKind::{Api, Budget, Key, Rule};
    let store = opened(backend, &["ws_1", "ws_2"]).await?;
    let owner = ws("ws_1");
    insert_all(&store, "ws_1", one_of_each(1)).await?;
    insert_all(&store, "ws_2", [Resource::Api(api("api_1", "slug-1"))]).await?;
    insert_all(&store, "ws_1", naming("named")).await?;
    let before = store.snapshot().await?;
    let users = [(Budget, "bud_named"), (Key, "key_named"), (Rule, "rule_named")];
    let refused = store.remove(&owner, Api, "api_1", None, &by(9)).await;
    assert_eq!(refused, Err(in_use(Api, "api_1", &users, 0)));
    let refused = store.remove(&owner, Key, "key_1", None, &by(9)).await;
    assert_eq!(refused, Err(in_use(Key, "key_1", &[users[0], users[2]], 0)));
    assert_eq!(store.snapshot().await?, before);
    // Another workspace's API of the same id is its own.
    store.remove(&ws("ws_2"), Api, "api_1", None, &by(9)).await?;

    store.remove(&owner, Budget, "bud_named", None, &by(10)).await?;
    store.remove(&owner, Key, "key_named", None, &by(10)).await?;
    store.replace(&owner, Resource::Rule(rule("rule_named")), 1, &by(10)).await?;
    store.remove(&owner, Api, "api_1", None, &by(11)).await?;
    store.remove(&owner, Key, "key_1", None, &by(11)).await
}

/// Of many users the refusal tells some, and how many more there are.
pub async fn of_many_users_some_are_told<B: Backend<Store: ConfigStore>>(backend: &B) -> Outcome {
    let store = opened(backend, &["ws_1"]).await?;
    insert_all(&store, "ws_1", one_of_each(1)).await?;
    let ids: Vec<String> = (10..10 + RULES).map(|number| format!("rule_{number}")).collect();
    insert_all(&store, "ws_1", ids.iter().map(|id| of_api(id, "api_1"))).await?;
    let told: Vec<_> = ids.iter().take(USERS_TOLD_MAX).map(|id| (ResourceKind::Rule, id.as_str())).collect();
    let refused = store.remove(&ws("ws_1"), ResourceKind::Api, "api_1", None, &by(9)).await;
    assert_eq!(refused, Err(in_use(ResourceKind::Api, "api_1", &told, 3)));
    Ok(())
}

/// What is not there cannot be named, by something new or anew.
pub async fn what_is_not_there_cannot_be_named<B: Backend<Store: ConfigStore>>(backend: &B) -> Outcome {
    let store = opened(backend, &["ws_1"]).await?;
    let owner = ws("ws_1");
    insert_all(&store, "ws_1", one_of_each(1)).await?;
    let before = store.snapshot().await?;
    let dangling = StoreError::Dangling { kind: ResourceKind::Api, id: "api_9".to_owned() };
    let made = store.insert(&owner, of_api("rule_2", "api_9"), LIMIT, &by(9)).await;
    assert_eq!(made, Err(dangling.clone()));
    assert_eq!(store.replace(&owner, of_api("rule_1", "api_9"), 1, &by(9)).await, Err(dangling));
    assert_eq!(store.snapshot().await?, before);
    Ok(())
}

/// Of changes that are made together only the end counts: a resource may go before what names it lets go.
pub async fn of_changes_made_together_the_end_counts<B: Backend<Store: ConfigStore>>(backend: &B) -> Outcome {
    let store = opened(backend, &["ws_1"]).await?;
    let owner = ws("ws_1");
    insert_all(&store, "ws_1", one_of_each(1)).await?;
    store.replace(&owner, of_api("rule_1", "api_1"), 1, &by(2)).await?;
    let seen = store.snapshot().await?.revision;
    let remove =
        || ResourceChange::Remove { kind: ResourceKind::Api, id: "api_1".to_owned(), expected: Some(1) };
    let refused = store.apply_all(&owner, vec![remove()], seen, &by(3)).await;
    let users = [(ResourceKind::Rule, "rule_1")];
    assert_eq!(refused, Err(in_use(ResourceKind::Api, "api_1", &users, 0)));
    let let_go = ResourceChange::Replace { resource: Resource::Rule(rule("rule_1")), expected: 2 };
    store.apply_all(&owner, vec![remove(), let_go], seen, &by(3)).await?;
    assert_eq!(store.get(&owner, ResourceKind::Api, "api_1").await?, None);
    Ok(())
}

/// When an API is removed in the instant in which a rule comes to name it, one of the two is refused.
pub async fn of_a_removal_and_a_reference_at_once_one_is_refused<B: Backend<Store: ConfigStore>>(
    backend: &B,
) -> Outcome {
    let store = opened(backend, &["ws_1"]).await?;
    let (owner, deed) = (ws("ws_1"), by(2));
    for meeting in 0..MEETINGS {
        let (api_id, id) = (format!("api_1{meeting}"), format!("rule_1{meeting}"));
        let made = api(&api_id, &format!("slug-1{meeting}"));
        store.insert(&owner, Resource::Api(made), LIMIT, &deed).await?;
        let naming = store.insert(&owner, of_api(&id, &api_id), LIMIT, &deed);
        let removal = store.remove(&owner, ResourceKind::Api, &api_id, None, &deed);
        let (named, removed) = if meeting % 2 == 0 {
            join(naming, removal).await
        } else {
            let (removed, named) = join(removal, naming).await;
            (named, removed)
        };
        assert_ne!(named.is_ok(), removed.is_ok(), "{named:?} {removed:?}");
    }
    Ok(())
}
