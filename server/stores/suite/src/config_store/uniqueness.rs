//! What two resources cannot both have.

use futures::future::join_all;
use rateguard_engine::ports::{ConfigStore, Resource, ResourceKind, StoreError};

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

/// A workspace has one price of its own for a model; others may have theirs, and another provider's
/// model of the same name is another model.
pub async fn a_model_has_one_price_in_its_workspace<B: Backend<Store: ConfigStore>>(backend: &B) -> Outcome {
    let store = opened(backend, &["ws_1", "ws_2"]).await?;
    let taken = Err(StoreError::AlreadyExists { field: "model" });
    let of = |id: &str, provider: &str, model: &str| {
        let mut price = price(id);
        (price.sheet.provider, price.sheet.model) = (provider.to_owned(), model.to_owned());
        Resource::PriceOverride(price)
    };
    insert_all(&store, "ws_1", [of("price_1", "a", "m"), of("price_2", "b", "m"), of("price_3", "a", "n")])
        .await?;
    insert_all(&store, "ws_2", [of("price_1", "a", "m")]).await?;
    assert_eq!(store.insert(&ws("ws_1"), of("price_4", "a", "m"), LIMIT, &by(2)).await.map(drop), taken);
    assert_eq!(store.replace(&ws("ws_1"), of("price_2", "a", "m"), 1, &by(2)).await.map(drop), taken);
    store.replace(&ws("ws_1"), of("price_1", "a", "m"), 1, &by(2)).await?;
    store.remove(&ws("ws_1"), ResourceKind::PriceOverride, "price_1", None, &by(3)).await?;
    insert_all(&store, "ws_1", [of("price_4", "a", "m")]).await
}

/// Of prices of one model that are made at once, one is made, and the others learn of it.
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
    let taken = StoreError::AlreadyExists { field: "model" };
    assert!(refused.iter().all(|refused| *refused == Err(taken.clone())), "{refused:?}");
    Ok(())
}
