//! When keys were used last.

use futures::future::try_join_all;
use rateguard_core::ids::KeyId;
use rateguard_core::time::Millis;
use rateguard_engine::listing::PageQuery;
use rateguard_engine::ports::{ConfigStore, KeyUse, Resource, ResourceKind};

use super::samples::key;
use super::{ALL_CHANGES, LIMIT, Outcome, at, by, insert_all, opened, ws};
use crate::Backend;

fn id(number: u8) -> KeyId {
    KeyId::parse("id", &format!("key_{number}")).expect("the id is well-formed")
}

fn used(workspace: &str, number: u8, at: Millis) -> KeyUse {
    KeyUse { workspace: ws(workspace), key: id(number), at }
}

fn keys<const N: usize>(numbers: [u8; N]) -> [Resource; N] {
    numbers.map(|number| Resource::Key(key(id(number).as_str(), number)))
}

/// Whoever notes uses and in whatever order: the latest one is kept. A key that was never used is not
/// told of, and neither is one of another workspace.
pub async fn the_latest_use_of_a_key_stays<B: Backend<Store: ConfigStore>>(backend: &B) -> Outcome {
    let store = opened(backend, &["ws_1", "ws_2"]).await?;
    insert_all(&store, "ws_1", keys([1, 2, 3])).await?;
    let noted = [
        [used("ws_1", 1, at(50)), used("ws_1", 2, at(9))],
        [used("ws_1", 1, at(40)), used("ws_1", 2, at(10))],
    ];
    try_join_all(noted.iter().map(|uses| store.touch_keys(uses))).await?;
    store.touch_keys(&[]).await?;
    let all = [id(1), id(2), id(3)];
    assert_eq!(store.key_uses(&ws("ws_1"), &all).await?, [(id(1), at(50)), (id(2), at(10))]);
    assert_eq!(store.key_uses(&ws("ws_1"), &[id(2)]).await?, [(id(2), at(10))]);
    assert_eq!(store.key_uses(&ws("ws_1"), &[]).await?, []);
    assert_eq!(store.key_uses(&ws("ws_2"), &all).await?, []);
    Ok(())
}

/// Neither the key's version nor the feed moves.
pub async fn a_use_is_no_change_of_its_key<B: Backend<Store: ConfigStore>>(backend: &B) -> Outcome {
    let store = opened(backend, &["ws_1"]).await?;
    insert_all(&store, "ws_1", keys([1])).await?;
    let before = (store.snapshot().await?, store.changes_after(0, ALL_CHANGES).await?);
    store.touch_keys(&[used("ws_1", 1, at(50))]).await?;
    assert_eq!((store.snapshot().await?, store.changes_after(0, ALL_CHANGES).await?), before);
    assert_eq!(store.list(&ws("ws_1"), ResourceKind::Key, &PageQuery::first(LIMIT)).await?[0].version, 1);
    Ok(())
}

/// A key that was deleted is passed over, and the uses of the others are noted; what was known of it
/// goes with it.
pub async fn a_key_that_is_gone_has_no_uses<B: Backend<Store: ConfigStore>>(backend: &B) -> Outcome {
    let store = opened(backend, &["ws_1"]).await?;
    insert_all(&store, "ws_1", keys([1, 2])).await?;
    store.touch_keys(&[used("ws_1", 1, at(10))]).await?;
    store.remove(&ws("ws_1"), ResourceKind::Key, id(1).as_str(), None, &by(11)).await?;
    let late = [used("ws_1", 1, at(12)), used("ws_1", 2, at(12)), used("ws_gone", 2, at(13))];
    store.touch_keys(&late).await?;
    assert_eq!(store.key_uses(&ws("ws_1"), &[id(1), id(2)]).await?, [(id(2), at(12))]);
    Ok(())
}
