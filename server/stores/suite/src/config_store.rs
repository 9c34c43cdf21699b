//! What every [`ConfigStore`] promises.

mod client_requests;
mod in_use;
mod lists;
mod together;
mod top_ups;

pub mod samples;
mod uniqueness;
mod uses;

use futures::future::{join_all, try_join_all};
use rateguard_core::ids::{Slug, WorkspaceId};
use rateguard_core::time::Millis;
use rateguard_engine::audit::{Actor, Deed, Origin};
use rateguard_engine::listing::PageQuery;
use rateguard_engine::ports::{Change, ConfigStore, Resource, ResourceKind, StoreError, Stored};

pub use in_use::{
    of_a_removal_and_a_reference_at_once_one_is_refused, of_changes_made_together_the_end_counts,
    of_many_users_some_are_told, what_is_named_cannot_be_removed, what_is_not_there_cannot_be_named,
};
pub use together::{
    changes_made_together_are_made_in_their_order, changes_made_together_need_the_state_that_was_seen,
    of_changes_made_together_a_conflict_in_the_middle_undoes_all, of_many_batches_at_once_one_wins,
    the_state_of_a_workspace_is_its_own_resources_at_one_revision,
};

pub use lists::{
    every_kind_has_every_order, every_order_pages_through_everything, pages_are_stable_while_the_list_changes,
};

pub use client_requests::{
    a_refused_request_is_forgotten_and_a_removed_resource_is_told, a_request_is_forgotten_after_a_day,
    a_request_makes_its_resource_once, a_request_replaces_its_resource_once,
    of_many_equal_requests_at_once_one_makes_its_resource,
};
pub use top_ups::{
    a_ledger_stays_when_its_budget_goes, a_refused_top_up_leaves_no_trace, a_repeated_top_up_is_made_once,
    a_top_up_raises_the_sum_and_is_listed_the_newest_first, of_many_top_ups_at_once_each_request_counts_once,
};

use crate::Backend;
use samples::{api, key, one_of_each, rule, varied, workspace};
pub use uniqueness::{
    a_model_has_one_price_from_an_instant_on, a_model_has_only_so_many_prices,
    a_secret_is_unique_in_the_installation, a_slug_is_unique_in_its_workspace,
    of_many_prices_of_a_model_at_once_one_is_made,
};
pub use uses::{
    a_key_that_is_gone_has_no_uses, a_use_is_no_change_of_its_key, the_latest_use_of_a_key_stays,
};

/// A promise is kept unless it panics or meets an error that it does not expect.
type Outcome = Result<(), StoreError>;

/// More resources than any case makes.
const LIMIT: usize = 1_000;
/// More changes than any case makes.
const ALL_CHANGES: usize = 10_000;
/// Reads that a writer is held open for: time enough for another to commit, if it could.
const READS_WHILE_HELD: usize = 50;
/// Writers at once.
const WRITERS: u8 = 20;

/// Runs every case as a test of its own. `$backend` makes a fresh [`Backend`].
#[macro_export]
macro_rules! config_store_suite {
    ($backend:expr) => {
        $crate::config_store_suite!(@cases $backend;
            a_new_store_is_empty
            a_workspace_is_made_once
            a_resource_comes_back_as_it_was_stored
            a_resource_needs_its_workspace
            an_id_is_taken_once_for_each_kind
            a_slug_is_unique_in_its_workspace
            a_secret_is_unique_in_the_installation
            a_model_has_one_price_from_an_instant_on
            a_model_has_only_so_many_prices
            of_many_prices_of_a_model_at_once_one_is_made
            a_workspace_holds_no_more_than_its_limit
            a_replacement_raises_the_version_by_one
            a_replacement_needs_the_version_seen
            a_removal_needs_the_version_seen_if_one_is_named
            every_order_pages_through_everything
            pages_are_stable_while_the_list_changes
            every_kind_has_every_order
            workspaces_do_not_see_each_other
            each_change_has_one_revision
            a_refused_change_leaves_no_trace
            changes_made_together_are_made_in_their_order
            of_changes_made_together_a_conflict_in_the_middle_undoes_all
            changes_made_together_need_the_state_that_was_seen
            of_many_batches_at_once_one_wins
            the_state_of_a_workspace_is_its_own_resources_at_one_revision
            what_is_named_cannot_be_removed
            of_many_users_some_are_told
            what_is_not_there_cannot_be_named
            of_changes_made_together_the_end_counts
            of_a_removal_and_a_reference_at_once_one_is_refused
            a_request_makes_its_resource_once
            a_request_replaces_its_resource_once
            a_refused_request_is_forgotten_and_a_removed_resource_is_told
            a_request_is_forgotten_after_a_day
            of_many_equal_requests_at_once_one_makes_its_resource
            a_top_up_raises_the_sum_and_is_listed_the_newest_first
            a_repeated_top_up_is_made_once
            a_refused_top_up_leaves_no_trace
            a_ledger_stays_when_its_budget_goes
            of_many_top_ups_at_once_each_request_counts_once
            of_many_replacements_at_once_one_wins
            many_writers_at_once_lose_nothing
            a_snapshot_is_of_one_revision
            a_writer_that_is_held_up_hides_nothing
            the_latest_use_of_a_key_stays
            a_use_is_no_change_of_its_key
            a_key_that_is_gone_has_no_uses
            a_restart_keeps_everything
        );
    };
    (@cases $backend:expr; $($case:ident)*) => {
        $(
            #[::tokio::test]
            async fn $case() -> Result<(), ::rateguard_engine::ports::StoreError> {
                $crate::config_store::$case(&$backend).await
            }
        )*
    };
}

/// A new store has no workspaces, no resources, no changes, and revision zero.
pub async fn a_new_store_is_empty<B: Backend<Store: ConfigStore>>(backend: &B) -> Outcome {
    let store = backend.open().await;
    let snapshot = store.snapshot().await?;
    assert_eq!((snapshot.revision, snapshot.workspaces.len(), snapshot.resources.len()), (0, 0, 0));
    assert_eq!(store.changes_after(0, ALL_CHANGES).await?, []);
    Ok(())
}

/// A second workspace of the same id is refused; the first stays.
pub async fn a_workspace_is_made_once<B: Backend<Store: ConfigStore>>(backend: &B) -> Outcome {
    let store = backend.open().await;
    store.create_workspace(workspace("ws_1"), &by(1)).await?;
    let again = store.create_workspace(workspace("ws_1"), &by(2)).await;
    assert_eq!(again, Err(StoreError::AlreadyExists { field: "id" }));
    assert_eq!(store.snapshot().await?.workspaces, [workspace("ws_1")]);
    Ok(())
}

/// Every field of every kind survives, as [`ConfigStore::get`], `list` and `snapshot` show.
pub async fn a_resource_comes_back_as_it_was_stored<B: Backend<Store: ConfigStore>>(backend: &B) -> Outcome {
    let store = opened(backend, &["ws_1"]).await?;
    for resource in varied() {
        let stored = store.insert(&ws("ws_1"), resource.clone(), LIMIT, &by(5)).await?;
        assert_eq!(stored, first_version("ws_1", resource.clone(), at(5)));
        assert_eq!(store.get(&ws("ws_1"), resource.kind(), resource.id()).await?, Some(stored));
    }
    let mut expected: Vec<_> = varied().into_iter().map(|r| first_version("ws_1", r, at(5))).collect();
    expected.sort_by_key(place);
    for kind in ResourceKind::ALL {
        let of_kind: Vec<_> = expected.iter().filter(|s| s.value.kind() == kind).cloned().collect();
        assert_eq!(store.list(&ws("ws_1"), kind, &PageQuery::first(LIMIT)).await?, of_kind);
    }
    let mut resources = store.snapshot().await?.resources;
    resources.sort_by_key(place);
    assert_eq!(resources, expected);
    Ok(())
}

/// Without its workspace a resource is neither made nor found.
pub async fn a_resource_needs_its_workspace<B: Backend<Store: ConfigStore>>(backend: &B) -> Outcome {
    let store = opened(backend, &["ws_1"]).await?;
    for resource in one_of_each(1) {
        let refused = store.insert(&ws("ws_2"), resource.clone(), LIMIT, &by(1)).await;
        assert_eq!(refused, Err(StoreError::NotFound));
        assert_eq!(store.get(&ws("ws_2"), resource.kind(), resource.id()).await?, None);
        let replaced = store.replace(&ws("ws_1"), resource, 1, &by(1)).await;
        assert_eq!(replaced, Err(StoreError::NotFound));
    }
    Ok(())
}

/// An id is refused the second time, whatever else differs.
pub async fn an_id_is_taken_once_for_each_kind<B: Backend<Store: ConfigStore>>(backend: &B) -> Outcome {
    let store = opened(backend, &["ws_1"]).await?;
    insert_all(&store, "ws_1", one_of_each(1)).await?;
    let mut again = one_of_each(1);
    again[0] = Resource::Api(api("api_1", "another"));
    again[1] = Resource::Key(key("key_1", 200));
    for resource in again {
        let refused = store.insert(&ws("ws_1"), resource, LIMIT, &by(1)).await;
        assert_eq!(refused, Err(StoreError::AlreadyExists { field: "id" }));
    }
    Ok(())
}

/// Beyond the limit a kind is full, for its workspace alone.
pub async fn a_workspace_holds_no_more_than_its_limit<B: Backend<Store: ConfigStore>>(
    backend: &B,
) -> Outcome {
    let store = opened(backend, &["ws_1", "ws_2"]).await?;
    for number in 1..=2 {
        for resource in one_of_each(number) {
            store.insert(&ws("ws_1"), resource, 2, &by(1)).await?;
        }
    }
    for resource in one_of_each(3) {
        let refused = store.insert(&ws("ws_1"), resource.clone(), 2, &by(1)).await;
        assert!(matches!(refused, Err(StoreError::Full { .. })), "{refused:?}");
        store.insert(&ws("ws_2"), resource.clone(), 2, &by(1)).await?;
        assert_eq!(store.list(&ws("ws_1"), resource.kind(), &PageQuery::first(LIMIT)).await?.len(), 2);
    }
    store.remove(&ws("ws_1"), ResourceKind::Rule, "rule_1", None, &by(1)).await?;
    store.insert(&ws("ws_1"), Resource::Rule(rule("rule_4")), 2, &by(1)).await?;
    Ok(())
}

/// A replacement keeps when the resource was made and says when it was changed.
pub async fn a_replacement_raises_the_version_by_one<B: Backend<Store: ConfigStore>>(backend: &B) -> Outcome {
    let store = opened(backend, &["ws_1"]).await?;
    insert_all(&store, "ws_1", one_of_each(1)).await?;
    for resource in one_of_each(1) {
        let (kind, id) = (resource.kind(), resource.id().to_owned());
        for seen in 1..=3 {
            let replaced = store.replace(&ws("ws_1"), resource.clone(), seen, &by(100 + seen)).await?;
            let expected = Stored {
                version: seen + 1,
                updated_at: at(100 + seen),
                ..first_version("ws_1", resource.clone(), at(1))
            };
            assert_eq!(replaced, expected);
            assert_eq!(store.get(&ws("ws_1"), kind, &id).await?, Some(expected));
        }
    }
    Ok(())
}

/// A replacement of another version than the one seen is refused and changes nothing.
pub async fn a_replacement_needs_the_version_seen<B: Backend<Store: ConfigStore>>(backend: &B) -> Outcome {
    let store = opened(backend, &["ws_1"]).await?;
    insert_all(&store, "ws_1", [Resource::Rule(rule("rule_1"))]).await?;
    let mut changed = rule("rule_1");
    changed.priority = 99;
    for expected in [0, 2, u64::MAX] {
        let refused = store.replace(&ws("ws_1"), Resource::Rule(changed.clone()), expected, &by(2)).await;
        assert_eq!(refused, Err(StoreError::VersionMismatch));
    }
    let found = store.get(&ws("ws_1"), ResourceKind::Rule, "rule_1").await?;
    assert_eq!(found, Some(first_version("ws_1", Resource::Rule(rule("rule_1")), at(1))));
    let unknown = store.replace(&ws("ws_1"), Resource::Rule(rule("rule_2")), 1, &by(2)).await;
    assert_eq!(unknown, Err(StoreError::NotFound));
    Ok(())
}

/// What is removed is gone, and its id may be used again from version 1.
pub async fn a_removal_needs_the_version_seen_if_one_is_named<B: Backend<Store: ConfigStore>>(
    backend: &B,
) -> Outcome {
    let store = opened(backend, &["ws_1"]).await?;
    insert_all(&store, "ws_1", one_of_each(1)).await?;
    for resource in one_of_each(1) {
        let (kind, id, owner) = (resource.kind(), resource.id(), ws("ws_1"));
        assert_eq!(store.remove(&owner, kind, id, Some(2), &by(2)).await, Err(StoreError::VersionMismatch));
        store.remove(&owner, kind, id, Some(1), &by(2)).await?;
        assert_eq!(store.get(&owner, kind, id).await?, None);
        assert_eq!(store.remove(&owner, kind, id, None, &by(2)).await, Err(StoreError::NotFound));
        let again = store.insert(&owner, resource.clone(), LIMIT, &by(3)).await?;
        assert_eq!(again, first_version("ws_1", resource.clone(), at(3)));
        store.remove(&owner, kind, id, None, &by(4)).await?;
    }
    assert_eq!(store.snapshot().await?.resources, []);
    Ok(())
}

/// The same ids in two workspaces are different resources, and neither reaches the other.
pub async fn workspaces_do_not_see_each_other<B: Backend<Store: ConfigStore>>(backend: &B) -> Outcome {
    let store = opened(backend, &["ws_1", "ws_2"]).await?;
    insert_all(&store, "ws_1", one_of_each(1)).await?;
    for resource in one_of_each(1) {
        let (kind, id, other) = (resource.kind(), resource.id(), ws("ws_2"));
        assert_eq!(store.get(&other, kind, id).await?, None);
        assert_eq!(store.list(&other, kind, &PageQuery::first(LIMIT)).await?, []);
        assert_eq!(store.replace(&other, resource.clone(), 1, &by(2)).await, Err(StoreError::NotFound));
        assert_eq!(store.remove(&other, kind, id, None, &by(2)).await, Err(StoreError::NotFound));
    }
    let twin = Resource::Rule(rule("rule_1"));
    store.insert(&ws("ws_2"), twin.clone(), LIMIT, &by(7)).await?;
    store.remove(&ws("ws_1"), ResourceKind::Rule, "rule_1", None, &by(8)).await?;
    let kept = store.get(&ws("ws_2"), ResourceKind::Rule, "rule_1").await?;
    assert_eq!(kept, Some(first_version("ws_2", twin, at(7))));
    Ok(())
}

/// The feed names what changed, in order, one revision each, and can be read in pages.
pub async fn each_change_has_one_revision<B: Backend<Store: ConfigStore>>(backend: &B) -> Outcome {
    let store = opened(backend, &["ws_1", "ws_2"]).await?;
    insert_all(&store, "ws_1", one_of_each(1)).await?;
    store.replace(&ws("ws_1"), Resource::Rule(rule("rule_1")), 1, &by(2)).await?;
    insert_all(&store, "ws_2", [Resource::Rule(rule("rule_1"))]).await?;
    store.remove(&ws("ws_1"), ResourceKind::Budget, "bud_1", None, &by(3)).await?;
    let expected: Vec<Change> = [
        ("ws_1", ResourceKind::Api, "api_1"),
        ("ws_1", ResourceKind::Key, "key_1"),
        ("ws_1", ResourceKind::Rule, "rule_1"),
        ("ws_1", ResourceKind::Budget, "bud_1"),
        ("ws_1", ResourceKind::PriceOverride, "price_1"),
        ("ws_1", ResourceKind::Rule, "rule_1"),
        ("ws_2", ResourceKind::Rule, "rule_1"),
        ("ws_1", ResourceKind::Budget, "bud_1"),
    ]
    .into_iter()
    .zip(1..)
    .map(|((owner, kind, id), revision)| {
        let (kind, id) = (Some(kind), id.to_owned());
        Change { revision, workspace: ws(owner), kind, id }
    })
    .collect();
    assert_eq!(store.changes_after(0, ALL_CHANGES).await?, expected);
    assert_eq!(store.changes_after(3, 2).await?, expected[3..5]);
    assert_eq!(store.changes_after(8, ALL_CHANGES).await?, []);
    assert_eq!(store.snapshot().await?.revision, 8);
    Ok(())
}

/// Whatever is refused takes no revision and leaves nothing behind.
pub async fn a_refused_change_leaves_no_trace<B: Backend<Store: ConfigStore>>(backend: &B) -> Outcome {
    let store = opened(backend, &["ws_1"]).await?;
    insert_all(&store, "ws_1", one_of_each(1)).await?;
    let before = store.snapshot().await?;
    let refusals = [
        store.insert(&ws("ws_9"), Resource::Rule(rule("rule_2")), LIMIT, &by(2)).await.map(drop),
        store.insert(&ws("ws_1"), Resource::Rule(rule("rule_1")), LIMIT, &by(2)).await.map(drop),
        store.insert(&ws("ws_1"), Resource::Rule(rule("rule_2")), 1, &by(2)).await.map(drop),
        store.insert(&ws("ws_1"), Resource::Api(api("api_2", "slug-1")), LIMIT, &by(2)).await.map(drop),
        store.replace(&ws("ws_1"), Resource::Rule(rule("rule_1")), 7, &by(2)).await.map(drop),
        store.remove(&ws("ws_1"), ResourceKind::Rule, "rule_1", Some(7), &by(2)).await,
        store.remove(&ws("ws_1"), ResourceKind::Rule, "rule_2", None, &by(2)).await,
    ];
    assert!(refusals.iter().all(Result::is_err), "{refusals:?}");
    assert_eq!(store.snapshot().await?, before);
    assert_eq!(store.changes_after(before.revision, ALL_CHANGES).await?, []);
    insert_all(&store, "ws_1", [Resource::Rule(rule("rule_2"))]).await?;
    assert_eq!(store.snapshot().await?.revision, before.revision + 1);
    Ok(())
}

/// Writers that saw the same version do not overwrite each other.
pub async fn of_many_replacements_at_once_one_wins<B: Backend<Store: ConfigStore>>(backend: &B) -> Outcome {
    let store = opened(backend, &["ws_1"]).await?;
    insert_all(&store, "ws_1", [Resource::Rule(rule("rule_1"))]).await?;
    let owner = ws("ws_1");
    let deed = by(2);
    let writers = (0..WRITERS).map(|number| {
        let mut changed = rule("rule_1");
        changed.priority = i32::from(number);
        store.replace(&owner, Resource::Rule(changed), 1, &deed)
    });
    let (won, lost): (Vec<_>, Vec<_>) = join_all(writers).await.into_iter().partition(Result::is_ok);
    assert_eq!(won.len(), 1);
    assert!(lost.iter().all(|refused| *refused == Err(StoreError::VersionMismatch)), "{lost:?}");
    let found = store.get(&owner, ResourceKind::Rule, "rule_1").await?;
    assert_eq!(found, won.into_iter().flatten().next());
    Ok(())
}

/// Of many insertions at once each has its own revision, and none is missing.
pub async fn many_writers_at_once_lose_nothing<B: Backend<Store: ConfigStore>>(backend: &B) -> Outcome {
    let store = opened(backend, &["ws_1"]).await?;
    let owner = ws("ws_1");
    let (numbers, deed) = (1..=WRITERS, by(1));
    let writers = numbers
        .map(|number| store.insert(&owner, Resource::Rule(rule(&format!("rule_{number}"))), LIMIT, &deed));
    try_join_all(writers).await?;
    let changes = store.changes_after(0, ALL_CHANGES).await?;
    let revisions: Vec<u64> = changes.iter().map(|change| change.revision).collect();
    assert_eq!(revisions, (1..=u64::from(WRITERS)).collect::<Vec<_>>());
    let mut ids: Vec<_> = changes.into_iter().map(|change| change.id).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), usize::from(WRITERS));
    Ok(())
}

/// While others write, a snapshot holds exactly what its revision has made.
pub async fn a_snapshot_is_of_one_revision<B: Backend<Store: ConfigStore>>(backend: &B) -> Outcome {
    let store = opened(backend, &["ws_1"]).await?;
    let owner = ws("ws_1");
    let writes = async {
        for number in 1..=WRITERS {
            for resource in one_of_each(number) {
                store.insert(&owner, resource, LIMIT, &by(1)).await?;
            }
        }
        Outcome::Ok(())
    };
    let reads = async {
        let revision_last = u64::from(WRITERS) * ResourceKind::ALL.len() as u64;
        loop {
            let snapshot = store.snapshot().await?;
            assert_eq!(snapshot.revision, snapshot.resources.len() as u64);
            if snapshot.revision == revision_last {
                return Outcome::Ok(());
            }
        }
    };
    futures::future::try_join(writes, reads).await.map(drop)
}

/// While one writer is held open, reading goes on; the next writer follows it, and the feed
/// shows both in order.
pub async fn a_writer_that_is_held_up_hides_nothing<B: Backend<Store: ConfigStore>>(backend: &B) -> Outcome {
    let store = opened(backend, &["ws_1"]).await?;
    insert_all(&store, "ws_1", [Resource::Rule(rule("rule_1"))]).await?;
    let Some(held) = backend.hold_writer().await else { return Ok(()) };
    let owner = ws("ws_1");
    let deed = by(2);
    let write = store.insert(&owner, Resource::Rule(rule("rule_2")), LIMIT, &deed);
    let watch = async {
        for _ in 0..READS_WHILE_HELD {
            let changes = store.changes_after(0, ALL_CHANGES).await?;
            assert_eq!(changes.len(), 1, "a change was seen before the writer in front of it was done");
            assert_eq!(store.snapshot().await?.resources.len(), 1);
        }
        held.release().await;
        Ok(())
    };
    let (written, ()) = futures::future::try_join(write, watch).await?;
    assert_eq!(written.version, 1);
    let revisions: Vec<u64> =
        store.changes_after(0, ALL_CHANGES).await?.iter().map(|change| change.revision).collect();
    assert_eq!(revisions, [1, 2]);
    Ok(())
}

/// What was stored is there after a restart, and revisions go on from there.
pub async fn a_restart_keeps_everything<B: Backend<Store: ConfigStore>>(backend: &B) -> Outcome {
    let store = opened(backend, &["ws_1", "ws_2"]).await?;
    insert_all(&store, "ws_1", varied()).await?;
    store.replace(&ws("ws_1"), Resource::Rule(rule("rule_1")), 1, &by(9)).await?;
    let (snapshot, changes) = (store.snapshot().await?, store.changes_after(0, ALL_CHANGES).await?);
    backend.close(store).await;

    let store = backend.open().await;
    assert_eq!(store.snapshot().await?, snapshot);
    assert_eq!(store.changes_after(0, ALL_CHANGES).await?, changes);
    insert_all(&store, "ws_2", [Resource::Rule(rule("rule_1"))]).await?;
    assert_eq!(store.snapshot().await?.revision, snapshot.revision + 1);
    Ok(())
}

async fn opened<B: Backend<Store: ConfigStore>>(
    backend: &B,
    workspaces: &[&str],
) -> Result<B::Store, StoreError> {
    let store = backend.open().await;
    for id in workspaces {
        store.create_workspace(workspace(id), &by(1)).await?;
    }
    Ok(store)
}

async fn insert_all(
    store: &impl ConfigStore,
    owner: &str,
    resources: impl IntoIterator<Item = Resource>,
) -> Outcome {
    for resource in resources {
        store.insert(&ws(owner), resource, LIMIT, &by(1)).await?;
    }
    Ok(())
}

fn first_version(owner: &str, value: Resource, now: Millis) -> Stored<Resource> {
    Stored { workspace: ws(owner), value, version: 1, created_at: now, updated_at: now }
}

fn place(stored: &Stored<Resource>) -> (ResourceKind, String) {
    (stored.value.kind(), stored.value.id().to_owned())
}

fn ws(id: &str) -> WorkspaceId {
    WorkspaceId::parse("workspace", id).expect("a sample is valid")
}

fn slug(text: &str) -> Slug {
    Slug::parse("slug", text).expect("a sample is valid")
}

fn by(ms: u64) -> Deed {
    Deed { actor: Actor::Server, origin: Origin::server("Suite"), at: at(ms) }
}

fn at(ms: u64) -> Millis {
    Millis::new(ms.cast_signed())
}
