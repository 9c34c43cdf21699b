//! Tests of the configuration in memory: what a refresh takes in, and what it does while its store
//! is away.

use std::sync::atomic::Ordering;
use std::time::Duration;

use rateguard_core::ids::{DisplayName, KeyId, RuleId};
use rateguard_core::matching::{Match, Scope};
use rateguard_core::rule::{Algorithm, Enforcement, RulePolicies};
use rateguard_core::unit::Unit;

use super::feed::CHANGES_PER_READ;
use super::*;
use crate::engine::CONFIG_STALE_MS_MAX;
use crate::error::Reason;
use crate::ports::Change;
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

    /// Another process stores a rule, of this priority.
    async fn put_rule(&self, id: &str, priority: i32) -> Stored<Resource> {
        let id = RuleId::parse("id", id).unwrap();
        let resource = Resource::Rule(Rule { id, priority, ..rule() });
        self.config.insert(&workspace(), resource, usize::MAX, &deed()).await.unwrap()
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

fn rule() -> Rule {
    Rule {
        id: RuleId::from_random([5; 16]),
        name: DisplayName::parse("name", "plain").unwrap(),
        matches: Match::default(),
        scope: Scope::default(),
        unit: Unit::Requests,
        algorithm: Algorithm::FixedWindow { limit: 1, window_ms: 1_000 },
        enforcement: Enforcement::Enforced,
        priority: 0,
        override_group: None,
        policies: RulePolicies::default(),
        overrides: Vec::new(),
        last_reset_at: None,
        active: true,
    }
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
async fn each_changed_resource_is_read_once_and_keys_come_first() {
    let shared = Shared::load().await;
    for version in 0..5 {
        shared.put_rule("rule_1", version).await;
    }
    shared.insert(&key("revoked")).await;
    let id = key("revoked").id;
    shared.config.remove(&workspace(), ResourceKind::Key, id.as_str(), None, &deed()).await.unwrap();
    shared.directory.refresh(start()).await.unwrap();
    assert_eq!(*shared.config.reads.lock(), [[id.to_string()], ["rule_1".to_owned()]]);
}

#[tokio::test]
async fn a_change_of_a_kind_that_only_a_later_version_knows_is_passed() {
    let shared = Shared::load().await;
    shared.insert(&key("before")).await;
    shared.config.changes.lock().push(Change {
        revision: 2,
        workspace: workspace(),
        kind: None,
        id: "lease_1".to_owned(),
    });
    shared.insert(&key("after")).await;
    shared.directory.refresh(start()).await.unwrap();
    assert!(shared.knows("after"));
    assert_eq!(*shared.directory.watch().borrow(), 3);
}

#[tokio::test]
async fn where_the_feed_has_forgotten_changes_everything_is_read_anew() {
    let shared = Shared::load().await;
    let (stays, goes) = (key("stays"), key("goes"));
    let id = KeyId::from_random([7; 16]);
    shared.insert(&stays).await;
    shared.insert(&Key { id: id.clone(), ..goes }).await;
    shared.directory.refresh(start()).await.unwrap();
    shared.config.remove(&workspace(), ResourceKind::Key, id.as_str(), None, &deed()).await.unwrap();
    shared.insert(&Key { id: KeyId::from_random([8; 16]), ..key("new") }).await;
    // The removal can no longer be learnt from the feed.
    shared.config.changes.lock().retain(|change| change.revision != 3);
    shared.directory.refresh(start()).await.unwrap();
    assert_eq!(["stays", "goes", "new"].map(|secret| shared.knows(secret)), [true, false, true]);
    assert_eq!(*shared.directory.watch().borrow(), 4);
}

#[tokio::test]
async fn a_workspace_that_is_not_known_yet_comes_with_what_belongs_to_it() {
    let shared = Shared::load().await;
    let new = WorkspaceId::parse("id", "ws_new").unwrap();
    shared.config.insert_into(&new, Resource::Key(key("first")), &deed());
    assert!(shared.directory.view(&new).is_none());
    shared.directory.refresh(start()).await.unwrap();
    let known = shared.directory.key(&key_hash("first")).unwrap();
    assert_eq!(known.workspace, new);
    assert!(shared.directory.view(&new).is_some());
}

#[tokio::test]
async fn what_was_put_in_force_is_not_put_back_by_what_was_read_before() {
    let shared = Shared::load().await;
    let stored = shared.put_rule("rule_1", 1).await;
    let read = shared.config.snapshot().await.unwrap();
    let Resource::Rule(rule) = stored.value.clone() else { panic!("{stored:?}") };
    let newer = Stored { version: 2, ..stored.with(Resource::Rule(Rule { priority: 9, ..rule })) };
    shared.directory.put_in_force(newer, start()).await;
    shared.directory.take_in_all(read, start()).await;
    let loaded = shared.directory.loaded.lock().await;
    assert_eq!(loaded.resources[&workspace()].rules["rule_1"].priority, 9);
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
