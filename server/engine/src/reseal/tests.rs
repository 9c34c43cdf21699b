//! Everything is sealed again once, whatever happens between.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use parking_lot::Mutex;
use rateguard_core::ids::{ApiId, SigningKeyId, WorkspaceId};

use super::*;
use crate::ports::{CredentialPlace, SealedPage};
use crate::secrets::{EncryptionKey, KeyRing, KeySource, Purpose, SecretText};

/// Credentials, some more than are read at once.
const CREDENTIALS: usize = 2 * APIS_PER_READ + 5;

fn ring(sealing: u8, others: &[u8]) -> KeyRing {
    let key = |number: u8| EncryptionKey::new(&[number; 32]).unwrap();
    KeyRing::new(key(sealing), others.iter().copied().map(key).collect())
}

fn cipher(sealing: u8, others: &[u8]) -> CredentialCipher {
    CredentialCipher::with_ring(ring(sealing, others))
}

fn place(number: usize) -> CredentialPlace {
    let api = ApiId::parse("id", &format!("api_{number:05}")).unwrap();
    (WorkspaceId::parse("id", "ws_one").unwrap(), api)
}

/// Sealed values in memory. It fails after so many changes.
struct Vault {
    values: Mutex<BTreeMap<SealedPlace, SealedValue>>,
    changes_left: AtomicUsize,
}

impl Vault {
    fn filled(cipher: &CredentialCipher) -> Self {
        let mut values = BTreeMap::new();
        let mut put = |place: SealedPlace, sealed: Vec<u8>| {
            values.insert(place.clone(), SealedValue { place, sealed, version: 1 });
        };
        put(SealedPlace::Check, cipher.seal_check(Purpose::Own).unwrap());
        let signing = SigningKeyId::from_random([1; 16]);
        let text = |number: usize| SecretText::new(format!("secret {number}"));
        let sealed = cipher.seal_signing_key(&signing, &text(0)).unwrap();
        put(SealedPlace::SigningKey(signing), sealed);
        for number in 0..CREDENTIALS {
            let (workspace, api) = place(number);
            let sealed = cipher.seal(&workspace, &api, &text(number)).unwrap();
            put(SealedPlace::Credential(workspace, api), sealed.0);
        }
        Self { values: Mutex::new(values), changes_left: AtomicUsize::new(usize::MAX) }
    }

    fn opens_with(&self, cipher: &CredentialCipher) -> bool {
        let values = self.values.lock();
        values.values().all(|value| match &value.place {
            SealedPlace::Check => cipher.knows(&value.sealed),
            SealedPlace::SigningKey(id) => cipher.open_signing_key(id, &value.sealed).is_ok(),
            SealedPlace::Credential(workspace, api) => {
                let sealed = crate::resources::SealedCredential(value.sealed.clone());
                cipher.open(workspace, api, &sealed).is_ok()
            }
        })
    }

    /// Somebody changes a credential.
    fn edit(&self, number: usize, cipher: &CredentialCipher, text: &str) {
        let (workspace, api) = place(number);
        let sealed = cipher.seal(&workspace, &api, &SecretText::new(text.to_owned())).unwrap().0;
        let place = SealedPlace::Credential(workspace, api);
        let mut values = self.values.lock();
        let value = values.get_mut(&place).unwrap();
        (value.sealed, value.version) = (sealed, value.version + 1);
    }
}

#[async_trait]
impl SealedValues for Vault {
    async fn sealed_singly(&self) -> Result<Vec<SealedValue>, StoreError> {
        let values = self.values.lock();
        let is_single = |value: &&SealedValue| !matches!(value.place, SealedPlace::Credential(..));
        Ok(values.values().filter(is_single).cloned().collect())
    }

    async fn credentials_after(
        &self,
        after: Option<&CredentialPlace>,
        limit: usize,
    ) -> Result<SealedPage, StoreError> {
        let values = self.values.lock();
        let of = |value: &SealedValue| match &value.place {
            SealedPlace::Credential(workspace, api) => Some((workspace.clone(), api.clone())),
            _ => None,
        };
        let later = values.values().filter(|value| of(value).is_some_and(|place| Some(&place) > after));
        let page: Vec<SealedValue> = later.take(limit).cloned().collect();
        let next = page.last().filter(|_| page.len() == limit).and_then(of);
        Ok(SealedPage { values: page, next })
    }
}

#[async_trait]
impl SealedStore for Vault {
    async fn replace_sealed(
        &self,
        value: &SealedValue,
        sealed: Vec<u8>,
        _: Millis,
    ) -> Result<bool, StoreError> {
        let left = self.changes_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
        if left.is_err() {
            return Err(StoreError::Unavailable { store: "config", detail: "cut off".to_owned() });
        }
        let mut values = self.values.lock();
        let present = values.get_mut(&value.place).filter(|present| *present == value);
        Ok(present.map(|present| (present.sealed, present.version) = (sealed, value.version + 1)).is_some())
    }
}

#[tokio::test]
async fn everything_is_sealed_again_and_a_second_time_there_is_nothing_to_do() {
    let vault = Vault::filled(&cipher(1, &[]));
    let new = cipher(2, &[1]);
    assert_eq!(sealed_otherwise(&vault, new.key_id()).await, Ok(CREDENTIALS + 2));
    let done = reseal(&vault, &new, Millis::ZERO).await.unwrap();
    assert_eq!((done.moved, done.is_whole()), (CREDENTIALS + 2, true));
    assert_eq!(sealed_otherwise(&vault, new.key_id()).await, Ok(0));
    assert!(vault.opens_with(&cipher(2, &[])));
    assert_eq!(reseal(&vault, &new, Millis::ZERO).await, Ok(Resealed::default()));
}

#[tokio::test]
async fn cut_off_anywhere_it_opens_with_both_keys_and_goes_on() {
    for changes in [0, 1, 2, 3, CREDENTIALS / 2, CREDENTIALS + 1] {
        let vault = Vault::filled(&cipher(1, &[]));
        vault.changes_left.store(changes, Ordering::Relaxed);
        let both = cipher(2, &[1]);
        reseal(&vault, &both, Millis::ZERO).await.unwrap_err();
        assert!(vault.opens_with(&both), "after {changes}");
        assert_eq!(sealed_otherwise(&vault, both.key_id()).await, Ok(CREDENTIALS + 2 - changes));
        vault.changes_left.store(usize::MAX, Ordering::Relaxed);
        assert_eq!(reseal(&vault, &both, Millis::ZERO).await.unwrap().moved, CREDENTIALS + 2 - changes);
        assert!(vault.opens_with(&cipher(2, &[])));
    }
}

#[tokio::test]
async fn a_change_by_somebody_else_is_not_lost_and_needs_another_look() {
    let vault = Vault::filled(&cipher(1, &[]));
    let both = cipher(2, &[1]);
    let page = vault.credentials_after(None, 1).await.unwrap();
    let read = &page.values[0];
    vault.edit(0, &cipher(1, &[]), "a newer secret");
    let again = both.reseal(&read.place, &read.sealed).unwrap().unwrap();
    assert_eq!(vault.replace_sealed(read, again, Millis::ZERO).await, Ok(false));
    assert!(reseal(&vault, &both, Millis::ZERO).await.unwrap().is_whole());
    let (workspace, api) = place(0);
    let kept = vault.values.lock()[&SealedPlace::Credential(workspace.clone(), api.clone())].clone();
    let sealed = crate::resources::SealedCredential(kept.sealed);
    let opened = cipher(2, &[]).open(&workspace, &api, &sealed).unwrap();
    assert_eq!(opened.expose(), "a newer secret");
}

#[tokio::test]
async fn what_cannot_be_opened_is_named_and_the_rest_is_sealed_again() {
    let vault = Vault::filled(&cipher(1, &[]));
    for number in 0..PLACES_TOLD_MAX + 2 {
        vault.edit(number, &cipher(9, &[]), "under a lost key");
    }
    let done = reseal(&vault, &cipher(2, &[1]), Millis::ZERO).await.unwrap();
    assert_eq!((done.unopened, done.moved), (PLACES_TOLD_MAX + 2, CREDENTIALS - PLACES_TOLD_MAX));
    assert!(!done.is_whole());
    let told = done.unopened().unwrap().to_string();
    assert!(
        told.contains("the credential of API api_00000 of ws_one") && told.ends_with("and others"),
        "{told}"
    );
}

/// A source that is told what it says.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Option<KeyRing>>>);

impl KeySource for Told {
    fn changed(&self) -> Option<KeyRing> {
        self.0.lock().take()
    }
}

/// Longest wait for something that is bound to happen, on a clock that goes as fast as it can.
const PATIENCE: Duration = Duration::from_secs(600);

async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("never: {what}"));
}

#[tokio::test(start_paused = true)]
async fn a_watch_seals_again_whenever_keys_change_and_forgets_the_old_one_in_the_end() {
    let vault = Arc::new(Vault::filled(&cipher(1, &[])));
    let told = Told::default();
    let following = CredentialCipher::following(ring(1, &[]), told.clone());
    let clock = Arc::new(crate::clock::SystemClock::default());
    let watch = KeyWatch::new(vault.clone(), following.clone(), clock);
    let stop = CancellationToken::new();
    let task = tokio::spawn(watch.run(Arc::new(Notify::new()), stop.clone()));
    *told.0.lock() = Some(ring(2, &[1]));
    eventually("everything is sealed again", || vault.opens_with(&cipher(2, &[]))).await;
    // Sealed before the change, and stored after it.
    vault.edit(7, &cipher(1, &[]), "late");
    *told.0.lock() = Some(ring(2, &[]));
    eventually("what came late is sealed again", || vault.opens_with(&cipher(2, &[]))).await;
    eventually("the old key is forgotten", || !following.ring().has_others()).await;
    // Nobody seals with keys that are not the installation's.
    *told.0.lock() = Some(ring(3, &[]));
    eventually("foreign keys are seen", || following.foreign().is_some()).await;
    assert_eq!(following.key_id(), cipher(2, &[]).key_id());
    // A rotation of which nothing was seen here: another process has sealed everything meanwhile.
    reseal(vault.as_ref(), &cipher(3, &[2]), Millis::ZERO).await.unwrap();
    eventually("they are taken", || following.key_id() == cipher(3, &[]).key_id()).await;
    stop.cancel();
    task.await.unwrap();
}
