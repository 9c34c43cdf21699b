//! When keys were used last, as their owner sees it.

use rateguard_engine::resources::{Key, Scope};
use rateguard_proto::v1;
use rateguard_proto::v1::key_service_client::KeyServiceClient;

use super::managed::mask;
use super::world::{World, plain_key};

#[tokio::test]
async fn a_key_tells_when_it_was_used_last_wherever_it_is_read() {
    let world = World::new().await;
    let mut keys = KeyServiceClient::new(world.transport());
    let listed = keys.list_keys(v1::ListKeysRequest::default()).await.unwrap().into_inner().keys.remove(0);
    assert!(listed.last_use_time.is_some(), "this very call was one: {listed:?}");
    let get = v1::GetKeyRequest { id: listed.id.clone() };
    let found = keys.get_key(get).await.unwrap().into_inner().key.unwrap();
    assert_eq!(found, listed);

    // What an update sends back of it changes nothing.
    let sent = v1::Key { last_use_time: None, display_name: "renamed".to_owned(), ..found.clone() };
    let update = v1::UpdateKeyRequest { key: Some(sent), update_mask: mask(&["display_name"]) };
    // A key cannot change itself.
    let other = world.add_key(plain_key(&[Scope::Manage])).await;
    let mut keys = KeyServiceClient::new(world.transport_with(&other));
    let updated = keys.update_key(update).await.unwrap().into_inner().key.unwrap();
    assert_eq!((updated.display_name.as_str(), updated.last_use_time), ("renamed", found.last_use_time));
}

#[tokio::test]
async fn a_key_that_was_never_used_tells_nothing() {
    let world = World::new().await;
    let mut keys = KeyServiceClient::new(world.transport());
    let scopes = vec![v1::KeyScope::Quota.into()];
    let key = v1::Key { display_name: "new".to_owned(), scopes, ..v1::Key::default() };
    let made = keys
        .create_key(v1::CreateKeyRequest { key: Some(key), ..Default::default() })
        .await
        .unwrap()
        .into_inner()
        .key
        .unwrap();
    let found = keys.get_key(v1::GetKeyRequest { id: made.id.clone() }).await.unwrap().into_inner().key;
    assert_eq!(found, Some(made));
}

#[tokio::test]
async fn a_key_is_not_used_by_calls_that_it_may_not_make() {
    let world = World::new().await;
    let ip_ranges = vec!["192.0.2.0/24".parse().unwrap()];
    let without_scope = world.add_key(plain_key(&[Scope::Quota])).await;
    let elsewhere = world.add_key(Key { ip_ranges, ..plain_key(&[Scope::Manage]) }).await;
    let list = async |key: &str| {
        let mut keys = KeyServiceClient::new(world.transport_with(key));
        Ok::<_, tonic::Status>(keys.list_keys(v1::ListKeysRequest::default()).await?.into_inner().keys)
    };
    for refused in [&without_scope, &elsewhere] {
        list(refused).await.unwrap_err();
    }
    let used = list(&world.key).await.unwrap().into_iter().filter(|key| key.last_use_time.is_some());
    assert_eq!(used.count(), 1, "this very call's key alone");
}
