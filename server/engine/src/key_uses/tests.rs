//! Tests of the last uses of keys: what is noted, when it is written, and what a store that is away
//! does to it.

use std::sync::atomic::Ordering;

use super::*;
use crate::ports::{ConfigStore as _, Resource};
use crate::testing::{World, caller, deed, key, start, workspace};

/// An engine that knows the key with the secret `secret`.
async fn world() -> World {
    let world = World::start().await;
    world.config.insert(&workspace(), Resource::Key(key("secret")), 10, &deed()).await.unwrap();
    world.engine.directory().refresh(start()).await.unwrap();
    world
}

fn call(world: &World) {
    let (authenticator, now) = (world.engine.authenticator(), world.engine.now());
    authenticator.note_use(&authenticator.by_key("secret", now).unwrap(), now);
}

async fn told(world: &World) -> Option<Millis> {
    let id = key("secret").id;
    world.engine.key_uses(&caller().into(), std::slice::from_ref(&id)).await.unwrap().get(&id).copied()
}

async fn written(world: &World) -> Option<Millis> {
    let id = key("secret").id;
    let uses = world.config.key_uses(&workspace(), std::slice::from_ref(&id)).await.unwrap();
    uses.first().map(|(_, at)| *at)
}

#[tokio::test]
async fn a_key_that_was_never_used_says_so() {
    assert_eq!(told(&world().await).await, None);
}

#[tokio::test]
async fn a_use_is_told_at_once_and_written_later() {
    let world = world().await;
    call(&world);
    assert_eq!((told(&world).await, written(&world).await), (Some(start()), None));
    world.engine.write_key_uses().await.unwrap();
    assert_eq!((told(&world).await, written(&world).await), (Some(start()), Some(start())));
    world.clock.advance_ms(USE_APART_MS);
    call(&world);
    assert_eq!(told(&world).await, Some(start().plus(USE_APART_MS)));
    assert_eq!(written(&world).await, Some(start()));
}

#[tokio::test]
async fn a_later_use_of_another_process_stands() {
    let world = world().await;
    call(&world);
    let later = start().plus(5_000);
    let used = KeyUse { workspace: workspace(), key: key("secret").id, at: later };
    world.config.touch_keys(&[used]).await.unwrap();
    world.engine.write_key_uses().await.unwrap();
    assert_eq!(told(&world).await, Some(later));
}

#[tokio::test]
async fn uses_within_a_second_are_one() {
    let world = world().await;
    call(&world);
    world.engine.write_key_uses().await.unwrap();
    world.clock.advance_ms(USE_APART_MS - 1);
    call(&world);
    assert_eq!(world.engine.key_uses.take(), []);
}

#[tokio::test]
async fn a_key_that_is_refused_is_not_used() {
    let world = world().await;
    let disabled = Resource::Key(crate::resources::Key { active: false, ..key("secret") });
    world.config.replace(&workspace(), disabled, 1, &deed()).await.unwrap();
    world.engine.directory().refresh(start()).await.unwrap();
    world.engine.authenticator().by_key("secret", start()).unwrap_err();
    assert_eq!(told(&world).await, None);
}

#[tokio::test]
async fn a_key_that_is_known_is_not_used_before_the_call_is_let_in() {
    let world = world().await;
    world.engine.authenticator().by_key("secret", start()).unwrap();
    world.engine.authenticator().by_gateway("secret", start()).unwrap();
    assert_eq!(told(&world).await, None);
}

#[tokio::test]
async fn what_could_not_be_written_is_written_once_the_store_is_back() {
    let world = world().await;
    for number in 0..BATCH_USES_MAX + 1 {
        let key = KeyId::from_random((number as u128).to_be_bytes());
        world.engine.key_uses.put(KeyUse { workspace: workspace(), key, at: start() });
    }
    world.config.away.store(true, Ordering::SeqCst);
    world.engine.write_key_uses().await.unwrap_err();
    assert_eq!(world.engine.key_uses.0.lock().len(), BATCH_USES_MAX + 1);
    world.config.away.store(false, Ordering::SeqCst);
    world.engine.write_key_uses().await.unwrap();
    assert_eq!(world.engine.key_uses.take(), []);
}

#[tokio::test]
async fn a_stop_writes_what_is_left() {
    let world = world().await;
    call(&world);
    let config = world.config.clone();
    world.background.stop().await.unwrap();
    let id = key("secret").id;
    assert_eq!(config.key_uses(&workspace(), std::slice::from_ref(&id)).await, Ok(vec![(id, start())]));
}
