//! What is sealed again, and by whose leave.

use rateguard_core::ids::{ApiId, SigningKeyId, WorkspaceId};
use rateguard_engine::audit::Deed;
use rateguard_engine::ports::{ConfigStore, PeopleStore, Resource, ResourceKind, SealedSigningKey, Stored};
use rateguard_engine::resources::{Api, SealedCredential};
use rateguard_engine::secrets::SealedPlace;
use rateguard_store_suite::config_store::samples::{api, workspace};
use tempfile::TempDir;

use super::*;
use crate::database::DataFolder;
use crate::events::SqlEventLog;

/// APIs with a credential, of each of two workspaces.
const APIS: u8 = 4;

fn owner(number: u8) -> WorkspaceId {
    WorkspaceId::parse("id", &format!("ws_{number}")).unwrap()
}

fn sealed(number: u8) -> Vec<u8> {
    vec![number; 40]
}

fn by(ms: i64) -> Deed {
    Deed::of_server("Test", Millis::new(ms))
}

async fn filled() -> (TempDir, SqlConfigStore) {
    let folder = tempfile::tempdir().unwrap();
    let home = DataFolder::open(folder.path()).unwrap();
    let log = SqlEventLog::open(&home).await.unwrap();
    let store = SqlConfigStore::open(&home, &log).await.unwrap();
    for of in 1..=2 {
        store.create_workspace(workspace(&format!("ws_{of}")), &by(0)).await.unwrap();
        for number in 0..APIS {
            let mut api = api(&format!("api_{of}{number}"), &format!("slug-{number}"));
            api.credential = Some(SealedCredential(sealed(number)));
            store.insert(&owner(of), Resource::Api(api), 100, &by(5)).await.unwrap();
        }
        let mut bare = api(&format!("api_{of}bare"), "bare");
        bare.credential = None;
        store.insert(&owner(of), Resource::Api(bare), 100, &by(5)).await.unwrap();
    }
    store.keep_encryption_check(sealed(50)).await.unwrap();
    let key = SealedSigningKey {
        id: SigningKeyId::from_random([1; 16]),
        sealed: sealed(60),
        created_at: Millis::ZERO,
        signs_from: Millis::ZERO,
    };
    assert!(store.people().add_signing_key(key, None, &by(0)).await.unwrap());
    (folder, store)
}

async fn all(store: &impl SealedValues, limit: usize) -> Vec<SealedValue> {
    let mut values = store.sealed_singly().await.unwrap();
    let mut after = None;
    loop {
        let page = store.credentials_after(after.as_ref(), limit).await.unwrap();
        assert!(page.values.len() <= limit);
        values.extend(page.values);
        after = page.next;
        if after.is_none() {
            return values;
        }
    }
}

async fn stored(store: &SqlConfigStore, place: &SealedPlace) -> Stored<Api> {
    let SealedPlace::Credential(workspace, id) = place else { panic!("{place} is no credential") };
    let found = store.get(workspace, ResourceKind::Api, id.as_str()).await.unwrap().unwrap();
    found.try_map(|resource| if let Resource::Api(api) = resource { Ok(api) } else { Err(()) }).unwrap()
}

#[tokio::test]
async fn everything_sealed_is_found_once_whatever_the_pages_and_from_beside_too() {
    let (folder, store) = filled().await;
    let reader = SqlSealedReader::open_to_read(folder.path()).await.unwrap();
    let expected = all(&store, 100).await;
    assert_eq!(expected.len(), 2 + 2 * usize::from(APIS));
    for limit in 1..=11 {
        assert_eq!(all(&store, limit).await, expected, "pages of {limit}");
        assert_eq!(all(&reader, limit).await, expected, "pages of {limit}");
    }
}

#[tokio::test]
async fn what_is_sealed_again_is_the_same_resource_at_its_next_version_and_in_the_feed() {
    let (_folder, store) = filled().await;
    for value in all(&store, 3).await {
        let revision = store.snapshot().await.unwrap().revision;
        let is_credential = matches!(value.place, SealedPlace::Credential(..));
        let before = if is_credential { Some(stored(&store, &value.place).await) } else { None };
        assert!(store.replace_sealed(&value, sealed(99), Millis::new(7)).await.unwrap(), "{value:?}");
        // The same once more finds that it has changed.
        assert!(!store.replace_sealed(&value, sealed(98), Millis::new(7)).await.unwrap(), "{value:?}");
        let Some(mut before) = before else { continue };
        before.version += 1;
        before.value.credential = Some(SealedCredential(sealed(99)));
        assert_eq!(stored(&store, &value.place).await, before);
        let changes = store.changes_after(revision, 10).await.unwrap();
        let ids: Vec<&str> = changes.iter().map(|change| change.id.as_str()).collect();
        assert_eq!(ids, [before.value.id.as_str()]);
    }
    assert!(all(&store, 3).await.iter().all(|value| value.sealed == sealed(99)));
    assert_eq!(store.encryption_check().await.unwrap(), Some(sealed(99)));
}

#[tokio::test]
async fn an_edit_and_a_new_seal_never_undo_each_other() {
    let (_folder, store) = filled().await;
    let read = all(&store, 100).await;
    let value = read.iter().find(|value| value.version > 0).unwrap();
    let before = stored(&store, &value.place).await;
    // Somebody edits the API between the read and the write.
    let edited = Api { timeout_ms: 1_234, ..before.value.clone() };
    let edit = store.replace(&before.workspace, Resource::Api(edited), before.version, &by(9)).await;
    assert!(!store.replace_sealed(value, sealed(99), Millis::new(9)).await.unwrap());
    let after = stored(&store, &value.place).await;
    assert_eq!((after.value.timeout_ms, after.version), (1_234, edit.unwrap().version));
    // And whoever has read before the seal does not write the old one back.
    let again = SealedValue { version: after.version, ..value.clone() };
    assert!(store.replace_sealed(&again, sealed(99), Millis::new(9)).await.unwrap());
    let late = store.replace(&before.workspace, Resource::Api(after.value), after.version, &by(9)).await;
    assert_eq!(late, Err(StoreError::VersionMismatch));
    assert_eq!(stored(&store, &value.place).await.value.credential, Some(SealedCredential(sealed(99))));
}

#[tokio::test]
async fn a_resource_that_is_gone_is_not_brought_back() {
    let (_folder, store) = filled().await;
    let place = SealedPlace::Credential(owner(1), ApiId::parse("id", "api_gone").unwrap());
    let value = SealedValue { place, sealed: sealed(1), version: 1 };
    assert!(!store.replace_sealed(&value, sealed(99), Millis::ZERO).await.unwrap());
}

#[tokio::test]
async fn a_folder_without_an_installation_is_read_by_nobody_and_not_made() {
    let parent = tempfile::tempdir().unwrap();
    let wrong = parent.path().join("wrong");
    let refused = SqlSealedReader::open_to_read(&wrong).await;
    assert!(matches!(refused, Err(OpenError::NoInstallation { .. })));
    assert!(!wrong.exists());
}
