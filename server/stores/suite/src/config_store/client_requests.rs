//! Requests that clients name, and what is made under each.

use futures::future::join_all;
use rateguard_core::ids::RequestId;
use rateguard_engine::listing::PageQuery;
use rateguard_engine::ports::{
    CLIENT_REQUEST_LIFE_MS, ClientRequest, ConfigStore, Once, Resource, ResourceChange, ResourceKind,
    StoreError,
};

use super::samples::{api, rule};
use super::{LIMIT, Outcome, WRITERS, at, by, opened, ws};
use crate::Backend;

/// When the first request of each case is made.
const START: u64 = 1_000;

fn request(id: &str, content: &str) -> ClientRequest {
    let id = RequestId::parse("request_id", id).expect("a sample is valid");
    ClientRequest::new(id, "CreateRule", content.as_bytes())
}

fn insert(resource: Resource) -> ResourceChange {
    ResourceChange::Insert { resource, limit: LIMIT }
}

fn new_rule(id: &str) -> ResourceChange {
    insert(Resource::Rule(rule(id)))
}

fn after_a_life() -> u64 {
    START + CLIENT_REQUEST_LIFE_MS.unsigned_abs()
}

/// The same request again makes nothing and gives what it made, as it is now; other content is refused,
/// and so are both in another workspace's name.
pub async fn a_request_makes_its_resource_once<B: Backend<Store: ConfigStore>>(backend: &B) -> Outcome {
    let store = opened(backend, &["ws_1", "ws_2"]).await?;
    let (owner, one) = (ws("ws_1"), request("one", "a"));
    assert_eq!(store.changed_before(&owner, &one, at(START)).await?, None);
    let made = store.change_once(&owner, new_rule("rule_1"), &one, &by(START)).await?;
    let Once::Made(made) = made else { panic!("it is the first: {made:?}") };
    assert_eq!(store.get(&owner, ResourceKind::Rule, "rule_1").await?, Some(*made));

    let changed = rateguard_core::rule::Rule { priority: 9, ..rule("rule_1") };
    let now = store.replace(&owner, Resource::Rule(changed), 1, &by(START + 1)).await?;
    let seen = store.snapshot().await?.revision;
    let before = Once::Before(Some(Box::new(now)));
    assert_eq!(store.changed_before(&owner, &one, at(START + 2)).await?, Some(before.clone()));
    assert_eq!(store.change_once(&owner, new_rule("rule_2"), &one, &by(START + 2)).await?, before);
    let reused = StoreError::AlreadyExists { field: "request_id" };
    let other = request("one", "b");
    assert_eq!(store.changed_before(&owner, &other, at(START + 2)).await, Err(reused.clone()));
    assert_eq!(store.change_once(&owner, new_rule("rule_2"), &other, &by(START + 2)).await, Err(reused));
    assert_eq!(store.snapshot().await?.revision, seen);
    let elsewhere = store.change_once(&ws("ws_2"), new_rule("rule_1"), &other, &by(START)).await?;
    assert!(matches!(elsewhere, Once::Made(_)), "{elsewhere:?}");
    Ok(())
}

/// A replacement under a request is made once too.
pub async fn a_request_replaces_its_resource_once<B: Backend<Store: ConfigStore>>(backend: &B) -> Outcome {
    let store = opened(backend, &["ws_1"]).await?;
    let (owner, one) = (ws("ws_1"), request("one", "a"));
    store.insert(&owner, Resource::Rule(rule("rule_1")), LIMIT, &by(1)).await?;
    let replace = || ResourceChange::Replace { resource: Resource::Rule(rule("rule_1")), expected: 1 };
    store.change_once(&owner, replace(), &one, &by(START)).await?;
    let again = store.change_once(&owner, replace(), &one, &by(START)).await?;
    assert!(matches!(again, Once::Before(Some(stored)) if stored.version == 2));
    Ok(())
}

/// A request whose change was refused is not remembered; one whose resource went is.
pub async fn a_refused_request_is_forgotten_and_a_removed_resource_is_told<B: Backend<Store: ConfigStore>>(
    backend: &B,
) -> Outcome {
    let store = opened(backend, &["ws_1"]).await?;
    let (owner, one) = (ws("ws_1"), request("one", "a"));
    store.insert(&owner, Resource::Api(api("api_1", "slug")), LIMIT, &by(1)).await?;
    let taken = insert(Resource::Api(api("api_2", "slug")));
    let refused = store.change_once(&owner, taken, &one, &by(START)).await;
    assert_eq!(refused, Err(StoreError::AlreadyExists { field: "slug" }));
    assert_eq!(store.changed_before(&owner, &one, at(START)).await?, None);
    store.change_once(&owner, new_rule("rule_1"), &one, &by(START)).await?;
    store.remove(&owner, ResourceKind::Rule, "rule_1", None, &by(START)).await?;
    let again = store.change_once(&owner, new_rule("rule_2"), &one, &by(START)).await?;
    assert_eq!(again, Once::Before(None));
    Ok(())
}

/// After a day the name is free again.
pub async fn a_request_is_forgotten_after_a_day<B: Backend<Store: ConfigStore>>(backend: &B) -> Outcome {
    let store = opened(backend, &["ws_1"]).await?;
    let (owner, one) = (ws("ws_1"), request("one", "a"));
    store.change_once(&owner, new_rule("rule_1"), &one, &by(START)).await?;
    let last = at(after_a_life() - 1);
    assert!(store.changed_before(&owner, &one, last).await?.is_some());
    assert_eq!(store.changed_before(&owner, &one, at(after_a_life())).await?, None);
    let other = request("one", "b");
    let made = store.change_once(&owner, new_rule("rule_2"), &other, &by(after_a_life())).await?;
    assert!(matches!(made, Once::Made(_)), "{made:?}");
    Ok(())
}

/// Of many at the same instant one makes its resource, and the others are given it.
pub async fn of_many_equal_requests_at_once_one_makes_its_resource<B: Backend<Store: ConfigStore>>(
    backend: &B,
) -> Outcome {
    let store = opened(backend, &["ws_1"]).await?;
    let (owner, one, deed) = (ws("ws_1"), request("one", "a"), by(START));
    let writers = (0..WRITERS)
        .map(|number| store.change_once(&owner, new_rule(&format!("rule_{number}")), &one, &deed));
    let answers = join_all(writers).await.into_iter().collect::<Result<Vec<_>, _>>()?;
    assert_eq!(answers.iter().filter(|once| matches!(once, Once::Made(_))).count(), 1);
    let rules = store.list(&owner, ResourceKind::Rule, &PageQuery::first(LIMIT)).await?;
    assert_eq!(rules.len(), 1);
    for once in answers {
        let (Once::Made(stored) | Once::Before(Some(stored))) = once else { panic!("{once:?}") };
        assert_eq!(*stored, rules[0]);
    }
    Ok(())
}
