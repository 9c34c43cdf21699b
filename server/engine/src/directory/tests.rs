//! Tests of the configuration in memory: what a refresh takes in, and what it does while its store
//! is away.

use std::sync::atomic::Ordering;
use std::time::Duration;

use rateguard_core::ids::KeyId;

use super::*;
use crate::engine::CONFIG_STALE_MS_MAX;
use crate::error::Reason;
use crate::resources::PreviousSecret;
use crate::secrets::key_hash;
use crate::testing::{FakeConfig, Fault, World, deed, key, record, start, workspace};

/// A directory on a store that others change too.
struct Shared {
    config: Arc<FakeConfig>,
    directory: Directory,
}

impl Shared {
    async fn load() -> Self {
        let config = Arc::new(FakeConfig::default());
        let directory = Directory::load(config.clone(), Arc::new(PriceBook::default()), start()).await;
        Self { config, directory: directory.unwrap() }
    }

    /// Another process stores a key.
    async fn insert(&self, key: &Key) {
        let resource = Resource::Key(key.clone());
        self.config.insert(&workspace(), resource, usize::MAX, &deed()).await.unwrap();
    }

    fn knows(&self, secret: &str) -> bool {
        self.directory.key(&key_hash(secret)).is_some()
    }
}

#[tokio::test]
async fn a_refresh_takes_in_what_others_have_changed() {
    let shared = Shared::load().await;
    shared.insert(&key("first")).await;
    assert!(!shared.knows("first"));
    shared.directory.refresh(start()).await.unwrap();
    assert!(shared.knows("first"));

    // The same key with another secret: the old one opens nothing any more.
    let changed = Resource::Key(key("second"));
    shared.config.replace(&workspace(), changed, 1, &deed()).await.unwrap();
    shared.directory.refresh(start()).await.unwrap();
    assert_eq!((shared.knows("first"), shared.knows("second")), (false, true));

    let id = key("second").id;
    shared.config.remove(&workspace(), ResourceKind::Key, id.as_str(), None, &deed()).await.unwrap();
    shared.directory.refresh(start()).await.unwrap();
    assert!(!shared.knows("second"));
}

/// A key that was rotated from one secret to another.
fn rotated(from: &str, to: &str) -> Key {
    let previous = PreviousSecret {
        secret_sha256: key_hash(from),
        prefix: "rg_live_abcd".to_owned(),
        until: start().plus(1_000),
    };
    Key { previous: Some(previous), ..key(to) }
}

#[tokio::test]
async fn a_rotated_key_is_known_by_both_secrets_and_a_second_rotation_forgets_the_oldest() {
    let shared = Shared::load().await;
    shared.insert(&key("first")).await;
    for (version, changed) in [(1, rotated("first", "second")), (2, rotated("second", "third"))] {
        shared.config.replace(&workspace(), Resource::Key(changed), version, &deed()).await.unwrap();
        shared.directory.refresh(start()).await.unwrap();
        let known = ["first", "second", "third"].map(|secret| shared.knows(secret));
        assert_eq!(known, if version == 1 { [true, true, false] } else { [false, true, true] });
    }
    // A call that the oldest secret admitted is still settled.
    assert!(shared.directory.key_after_call(&key_hash("first"), start()).is_some());

    let id = key("third").id;
    shared.config.remove(&workspace(), ResourceKind::Key, id.as_str(), None, &deed()).await.unwrap();
    shared.directory.refresh(start()).await.unwrap();
    assert!(!shared.knows("second") && !shared.knows("third"));
}

#[tokio::test]
async fn a_directory_that_starts_later_knows_both_secrets_of_a_rotated_key() {
    let shared = Shared::load().await;
    shared.insert(&rotated("old", "new")).await;
    let catalogue = Arc::new(PriceBook::default());
    let directory = Directory::load(shared.config.clone(), catalogue, start()).await.unwrap();
    assert!(["old", "new"].iter().all(|secret| directory.key(&key_hash(secret)).is_some()));
}

#[tokio::test]
async fn a_refresh_takes_in_more_changes_than_it_reads_at_once() {
    let shared = Shared::load().await;
    let count = u64::try_from(CHANGES_PER_READ).unwrap() + 1;
    for number in 0..count {
        let id = KeyId::from_random(u128::from(number).to_be_bytes());
        shared.insert(&Key { id, ..key(&format!("secret-{number}")) }).await;
    }
    let mut revisions = shared.directory.watch();
    shared.directory.refresh(start()).await.unwrap();
    assert!((0..count).all(|number| shared.knows(&format!("secret-{number}"))));
    assert_eq!(*revisions.borrow_and_update(), count);
}

#[tokio::test]
async fn what_is_in_memory_stays_and_grows_old_while_the_store_is_away() {
    let shared = Shared::load().await;
    shared.insert(&key("known")).await;
    shared.directory.refresh(start()).await.unwrap();
    shared.config.away.store(true, Ordering::SeqCst);
    shared.directory.refresh(start().plus(1_000)).await.unwrap_err();
    assert!(shared.knows("known"));
    assert_eq!(shared.directory.age_ms(start().plus(1_000)), 1_000);

    shared.config.away.store(false, Ordering::SeqCst);
    shared.directory.refresh(start().plus(2_000)).await.unwrap();
    assert_eq!(shared.directory.age_ms(start().plus(2_000)), 0);
}

#[tokio::test]
async fn nothing_is_decided_by_a_configuration_that_is_too_old() {
    let world = World::start().await;
    world.config.away.store(true, Ordering::SeqCst);
    world.clock.advance_ms(CONFIG_STALE_MS_MAX);
    world.engine.report(&world.caller, vec![record("in-time", 1)]).await.unwrap();
    world.clock.advance_ms(1);
    let refused = world.engine.report(&world.caller, vec![record("too-late", 1)]).await.unwrap_err();
    assert_eq!(refused.reason, Reason::ConfigStale);
}

#[tokio::test]
async fn checks_go_on_while_the_store_is_away_and_again_once_it_is_back() {
    let world = World::start().await;
    let standing = || world.engine.standing();
    assert!(standing().checks && standing().reports);
    world.config.away.store(true, Ordering::SeqCst);
    world.clock.advance_ms(CONFIG_STALE_MS_MAX);
    world.engine.directory().refresh(world.engine.now()).await.unwrap_err();
    let away = standing();
    assert!(away.checks && away.stores[0].failure.is_some(), "{away:?}");
    assert_eq!(away.stores[0].age_ms, CONFIG_STALE_MS_MAX);
    world.clock.advance_ms(1);
    assert!(!standing().checks && !standing().reports);

    world.config.away.store(false, Ordering::SeqCst);
    world.engine.directory().refresh(world.engine.now()).await.unwrap();
    let back = standing();
    assert!(back.checks && back.stores[0].failure.is_none(), "{back:?}");
    world.engine.report(&world.caller, vec![record("again", 1)]).await.unwrap();
}

#[tokio::test]
async fn a_report_that_the_log_refuses_is_unavailable_and_counts_when_it_is_sent_again() {
    let world = World::start().await;
    world.log.fail_next(Fault::Unavailable);
    let refused = world.engine.report(&world.caller, vec![record("one", 1)]).await.unwrap_err();
    assert_eq!(refused.reason, Reason::StoreUnavailable);
    assert!(!world.engine.standing().reports);
    world.engine.report(&world.caller, vec![record("one", 1)]).await.unwrap();
    assert!(world.engine.standing().reports);
    assert_eq!(world.log.ids(), ["one"]);
}

#[tokio::test(start_paused = true)]
async fn a_notification_makes_a_change_known_before_the_next_look() {
    let config = Arc::new(FakeConfig::default());
    config.notifies.store(true, Ordering::SeqCst);
    let world = World::on(Arc::default(), config, false).await;
    // The first turn of every task is over.
    tokio::time::sleep(Duration::from_millis(1)).await;
    world.config.insert(&workspace(), Resource::Key(key("new")), 10, &deed()).await.unwrap();
    let begun = tokio::time::Instant::now();
    while world.engine.directory().key(&key_hash("new")).is_none() {
        assert!(begun.elapsed() < Duration::from_millis(100), "it waits for the interval");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
