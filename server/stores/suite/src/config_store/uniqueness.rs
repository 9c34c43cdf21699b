//! What two resources cannot both have.

use futures::future::join_all;
use rateguard_core::limits::PRICES_PER_MODEL_MAX;
use rateguard_core::time::Millis;
use rateguard_engine::ports::{ConfigStore, MODEL_PRICES_FULL, Resource, ResourceKind, StoreError};

use super::samples::{api, key, price};
use super::{LIMIT, Outcome, WRITERS, by, insert_all, opened, slug, ws};
use crate::Backend;

/// Two APIs of one workspace never share a slug; two of two workspaces may.
pub async fn a_slug_is_unique_in_its_workspace<B: Backend<Store: ConfigStore>>(backend: &B) -> Outcome {
    let store = opened(backend, &["ws_1", "ws_2"]).await?;
    let taken = Err(StoreError::AlreadyExists { field: "slug" });
    let (first, second) = (api("api_1", "one"), api("api_2", "two"));
    insert_all(&store, "ws_1", [Resource::Api(first.clone()), Resource::Api(second.clone())]).await?;

    let third = Resource::Api(api("api_3", "one"));
    assert_eq!(store.insert(&ws("ws_1"), third.clone(), LIMIT, &by(1)).await, taken);
    let renamed = Resource::Api(rateguard_engine::resources::Api { slug: slug("one"), ..second });
    assert_eq!(store.replace(&ws("ws_1"), renamed.clone(), 1, &by(1)).await, taken);

    store.insert(&ws("ws_2"), third, LIMIT, &by(1)).await?;
    store.replace(&ws("ws_1"), Resource::Api(first), 1, &by(1)).await?;
    store.remove(&ws("ws_1"), ResourceKind::Api, "api_1", None, &by(1)).await?;
    store.replace(&ws("ws_1"), renamed, 1, &by(2)).await?;
    Ok(())
}

/// No two keys share a secret, in whatever workspaces.
pub async fn a_secret_is_unique_in_the_installation<B: Backend<Store: ConfigStore>>(backend: &B) -> Outcome {
    let store = opened(backend, &["ws_1", "ws_2"]).await?;
    let taken = Err(StoreError::AlreadyExists { field: "secret" });
    insert_all(&store, "ws_1", [Resource::Key(key("key_1", 1))]).await?;
    insert_all(&store, "ws_2", [Resource::Key(key("key_2", 2))]).await?;
    for owner in ["ws_1", "ws_2"] {
        let refused = store.insert(&ws(owner), Resource::Key(key("key_3", 1)), LIMIT, &by(1)).await;
        assert_eq!(refused, taken);
    }
    assert_eq!(store.replace(&ws("ws_2"), Resource::Key(key("key_2", 1)), 1, &by(1)).await, taken);
    // The same id in another workspace is another key.
    assert_eq!(store.insert(&ws("ws_2"), Resource::Key(key("key_1", 1)), LIMIT, &by(1)).await, taken);
    insert_all(&store, "ws_2", [Resource::Key(key("key_1", 3))]).await?;
    assert_eq!(store.replace(&ws("ws_2"), Resource::Key(key("key_1", 1)), 1, &by(1)).await, taken);
    store.replace(&ws("ws_1"), Resource::Key(key("key_1", 1)), 1, &by(1)).await?;
    Ok(())
}

fn priced(id: &str, provider: &str, model: &str, from_ms: i64) -> Resource {
    let mut price = price(id);
    (price.sheet.provider, price.sheet.model) = (provider.to_owned(), model.to_owned());
    price.sheet.effective_from = Millis::new(from_ms);
    Resource::PriceOverride(price)
}

/// A workspace has one price of its own for a model from any instant on; others may have theirs, and
/// another provider's model of the same name is another model.
pub async fn a_model_has_one_price_from_an_instant_on<B: Backend<Store: ConfigStore>>(
    backend: &B,
) -> Outcome {
    let store = opened(backend, &["ws_1", "ws_2"]).await?;
    let owner = ws("ws_1");
    let taken = Err(StoreError::AlreadyExists { field: "effective_from" });
    let of_model = |id: &str, from_ms| priced(id, "a", "m", from_ms);
    let others = [priced("price_2", "b", "m", 5), priced("price_3", "a", "n", 5), of_model("price_5", 6)];
    insert_all(&store, "ws_1", [of_model("price_1", 5)].into_iter().chain(others)).await?;
    insert_all(&store, "ws_2", [of_model("price_1", 5)]).await?;
    assert_eq!(store.insert(&owner, of_model("price_4", 5), LIMIT, &by(2)).await.map(drop), taken);
    for (id, from_ms) in [("price_2", 5), ("price_1", 6)] {
        assert_eq!(store.replace(&owner, of_model(id, from_ms), 1, &by(2)).await.map(drop), taken);
    }
    store.replace(&owner, of_model("price_1", 5), 1, &by(2)).await?;
    store.replace(&owner, of_model("price_5", 7), 1, &by(2)).await?;
    store.remove(&owner, ResourceKind::PriceOverride, "price_1", None, &by(3)).await?;
    insert_all(&store, "ws_1", [of_model("price_4", 5), of_model("price_6", 6)]).await
}

/// A model is full at its bound, in its workspace alone, and has room again when one goes.
pub async fn a_model_has_only_so_many_prices<B: Backend<Store: ConfigStore>>(backend: &B) -> Outcome {
    let store = opened(backend, &["ws_1", "ws_2"]).await?;
    let limit = PRICES_PER_MODEL_MAX + LIMIT;
    let of_model = |number: usize| {
        priced(&format!("price_{number}"), "a", "m", i64::try_from(number).unwrap_or(i64::MAX))
    };
    for number in 0..PRICES_PER_MODEL_MAX {
        store.insert(&ws("ws_1"), of_model(number), limit, &by(1)).await?;
    }
    let one_more = of_model(PRICES_PER_MODEL_MAX);
    let full = Err(StoreError::Full { what: MODEL_PRICES_FULL });
    assert_eq!(store.insert(&ws("ws_1"), one_more.clone(), limit, &by(2)).await.map(drop), full);
    store.insert(&ws("ws_1"), priced("price_other", "b", "m", 0), limit, &by(2)).await?;
    store.insert(&ws("ws_2"), one_more.clone(), limit, &by(2)).await?;
    store.remove(&ws("ws_1"), ResourceKind::PriceOverride, "price_0", None, &by(3)).await?;
    store.insert(&ws("ws_1"), one_more, limit, &by(4)).await?;
    Ok(())
}

/// Of prices of one model that are made at once from one instant on, one is made, and the others learn of it.
pub async fn of_many_prices_of_a_model_at_once_one_is_made<B: Backend<Store: ConfigStore>>(
    backend: &B,
) -> Outcome {
    let store = opened(backend, &["ws_1"]).await?;
    let (owner, deed) = (ws("ws_1"), by(2));
    let writers = (0..WRITERS).map(|number| {
        let mut price = price(&format!("price_{number}"));
        price.sheet.model = "m".to_owned();
        store.insert(&owner, Resource::PriceOverride(price), LIMIT, &deed)
    });
    let (made, refused): (Vec<_>, Vec<_>) = join_all(writers).await.into_iter().partition(Result::is_ok);
    assert_eq!(made.len(), 1);
    let taken = StoreError::AlreadyExists { field: "effective_from" };
    assert!(refused.iter().all(|refused| *refused == Err(taken.clone())), "{refused:?}");
    Ok(())
}
