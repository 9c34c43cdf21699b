//! Changes that are made together, and the state that they are made against.

use futures::future::join_all;
use rateguard_engine::ports::{ConfigStore, Resource, ResourceChange, ResourceKind, StoreError, Stored};

use super::samples::{api, key, one_of_each, rule};
use super::{ALL_CHANGES, LIMIT, Outcome, WRITERS, at, by, first_version, insert_all, opened, ws};
use crate::Backend;

fn insert(resource: Resource) -> ResourceChange {
    ResourceChange::Insert { resource, limit: LIMIT }
}

fn replace(resource: Resource, expected: u64) -> ResourceChange {
    ResourceChange::Replace { resource, expected }
}

fn remove(kind: ResourceKind, id: &str, expected: u64) -> ResourceChange {
    ResourceChange::Remove { kind, id: id.to_owned(), expected: Some(expected) }
}

fn prioritised(id: &str, priority: i32) -> Resource {
    Resource::Rule(rateguard_core::rule::Rule { priority, ..rule(id) })
}

/// Each change of a batch has its revision, and what it leaves is as if it had been made alone.
pub async fn changes_made_together_are_made_in_their_order<B: Backend<Store: ConfigStore>>(
    backend: &B,
) -> Outcome {
    let store = opened(backend, &["ws_1"]).await?;
    insert_all(&store, "ws_1", one_of_each(1)).await?;
    let seen = store.snapshot().await?.revision;
    let changes = vec![
        remove(ResourceKind::Api, "api_1", 1),
        // The slug is free again by now.
        insert(Resource::Api(api("api_2", "slug-1"))),
        replace(prioritised("rule_1", 5), 1),
        replace(prioritised("rule_1", 6), 2),
        insert(Resource::Key(key("key_2", 2))),
    ];
    let stored = store.apply_all(&ws("ws_1"), changes, seen, &by(7)).await?;

    let rule_at = |version, priority| Stored {
        version,
        updated_at: at(7),
        ..first_version("ws_1", prioritised("rule_1", priority), at(1))
    };
    let expected = [
        first_version("ws_1", Resource::Api(api("api_2", "slug-1")), at(7)),
        rule_at(2, 5),
        rule_at(3, 6),
        first_version("ws_1", Resource::Key(key("key_2", 2)), at(7)),
    ];
    assert_eq!(stored, expected);
    let owner = ws("ws_1");
    assert_eq!(store.get(&owner, ResourceKind::Rule, "rule_1").await?, Some(rule_at(3, 6)));
    assert_eq!(store.get(&owner, ResourceKind::Api, "api_1").await?, None);
    let feed = store.changes_after(seen, ALL_CHANGES).await?;
    let told: Vec<(u64, &str)> = feed.iter().map(|change| (change.revision, change.id.as_str())).collect();
    let ids = ["api_1", "api_2", "rule_1", "rule_1", "key_2"];
    assert_eq!(told, (seen + 1..).zip(ids).collect::<Vec<_>>());
    Ok(())
}

/// Whatever is wrong with one change of a batch, none of the others is made.
pub async fn of_changes_made_together_a_conflict_in_the_middle_undoes_all<B: Backend<Store: ConfigStore>>(
    backend: &B,
) -> Outcome {
    let store = opened(backend, &["ws_1"]).await?;
    insert_all(&store, "ws_1", one_of_each(1)).await?;
    let before = store.snapshot().await?;
    let full = ResourceChange::Insert { resource: Resource::Rule(rule("rule_9")), limit: 1 };
    let conflicts = [
        (replace(prioritised("rule_1", 9), 7), Err(StoreError::VersionMismatch)),
        (remove(ResourceKind::Budget, "bud_1", 2), Err(StoreError::VersionMismatch)),
        (remove(ResourceKind::Budget, "bud_9", 1), Err(StoreError::NotFound)),
        (insert(Resource::Rule(rule("rule_1"))), Err(StoreError::AlreadyExists { field: "id" })),
        (insert(Resource::Api(api("api_9", "slug-1"))), Err(StoreError::AlreadyExists { field: "slug" })),
    ];
    let around = |conflict: ResourceChange| {
        vec![
            insert(Resource::Rule(rule("rule_2"))),
            replace(Resource::Key(key("key_1", 77)), 1),
            conflict,
            remove(ResourceKind::PriceOverride, "price_1", 1),
        ]
    };
    for (conflict, expected) in conflicts {
        let refused = store.apply_all(&ws("ws_1"), around(conflict), before.revision, &by(2)).await;
        assert_eq!(refused.map(drop), expected);
        assert_eq!(store.snapshot().await?, before);
    }
    let refused = store.apply_all(&ws("ws_1"), around(full), before.revision, &by(2)).await;
    assert!(matches!(refused, Err(StoreError::Full { .. })), "{refused:?}");
    assert_eq!(store.snapshot().await?, before);
    assert_eq!(store.changes_after(before.revision, ALL_CHANGES).await?, []);
    Ok(())
}

/// A change of the workspace after the state that was seen refuses the batch, whatever it touches;
/// a change of another workspace does not.
pub async fn changes_made_together_need_the_state_that_was_seen<B: Backend<Store: ConfigStore>>(
    backend: &B,
) -> Outcome {
    let store = opened(backend, &["ws_1", "ws_2"]).await?;
    insert_all(&store, "ws_1", one_of_each(1)).await?;
    let seen = store.workspace_state(&ws("ws_1"), LIMIT).await?.revision;
    insert_all(&store, "ws_2", one_of_each(2)).await?;
    let batch = || vec![insert(Resource::Rule(rule("rule_2")))];
    store.apply_all(&ws("ws_1"), batch(), seen, &by(2)).await?;

    let unrelated = vec![remove(ResourceKind::Budget, "bud_1", 1)];
    let refused = store.apply_all(&ws("ws_1"), unrelated, seen, &by(3)).await;
    assert_eq!(refused, Err(StoreError::VersionMismatch));
    // Not as a conflict of names: whoever looks again finds out.
    assert_eq!(store.apply_all(&ws("ws_1"), batch(), seen, &by(3)).await, Err(StoreError::VersionMismatch));
    Ok(())
}

/// Batches that were made against the same state do not mix.
pub async fn of_many_batches_at_once_one_wins<B: Backend<Store: ConfigStore>>(backend: &B) -> Outcome {
    let store = opened(backend, &["ws_1"]).await?;
    let seen = store.workspace_state(&ws("ws_1"), LIMIT).await?.revision;
    let (owner, by) = (ws("ws_1"), by(2));
    let batch = |number: u8| {
        let rules = (0..3).map(|place| insert(Resource::Rule(rule(&format!("rule_{number}x{place}")))));
        store.apply_all(&owner, rules.collect(), seen, &by)
    };
    let results = join_all((0..WRITERS).map(batch)).await;
    let (won, lost): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    assert_eq!(won.len(), 1);
    assert!(lost.iter().all(|refused| *refused == Err(StoreError::VersionMismatch)), "{lost:?}");
    assert_eq!(store.snapshot().await?.resources.len(), 3);
    Ok(())
}

/// The state is what the snapshot says of one workspace, and keeps to its limit.
pub async fn the_state_of_a_workspace_is_its_own_resources_at_one_revision<B: Backend<Store: ConfigStore>>(
    backend: &B,
) -> Outcome {
    let store = opened(backend, &["ws_1", "ws_2"]).await?;
    for number in 1..=3 {
        insert_all(&store, "ws_1", one_of_each(number)).await?;
    }
    let last_change = store.snapshot().await?.revision;
    insert_all(&store, "ws_2", one_of_each(4)).await?;
    let state = store.workspace_state(&ws("ws_1"), LIMIT).await?;
    let snapshot = store.snapshot().await?;
    // Nothing tells how much others change.
    assert!(last_change < snapshot.revision);
    assert_eq!(state.revision, last_change);
    let own: Vec<_> =
        snapshot.resources.into_iter().filter(|stored| stored.workspace == ws("ws_1")).collect();
    assert_eq!(state.resources, own);
    let cut = store.workspace_state(&ws("ws_1"), 2).await?;
    assert_eq!(cut.resources.len(), 2 * ResourceKind::ALL.len());
    assert_eq!(store.workspace_state(&ws("ws_9"), LIMIT).await?.resources, []);
    Ok(())
}
