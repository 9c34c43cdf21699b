//! Keys that get new secrets.

use rateguard_proto::v1;
use rateguard_proto::v1::ErrorReason as R;
use rateguard_proto::v1::key_service_client::KeyServiceClient;
use rateguard_proto::v1::quota_service_client::QuotaServiceClient;
use tonic::{Code, Status};

use super::managed::mask;
use super::world::{START_MS, Transport, World, reason, told};

const HOUR_MS: i64 = 3_600_000;

/// A key of a world, whose secret changes.
struct Rotating {
    world: World,
    keys: KeyServiceClient<Transport>,
    id: String,
    secret: String,
}

impl Rotating {
    async fn new() -> Self {
        let world = World::new().await;
        let mut keys = KeyServiceClient::new(world.transport());
        let scopes = vec![v1::KeyScope::Quota.into()];
        let key = v1::Key { display_name: "back end".to_owned(), scopes, ..v1::Key::default() };
        let made = keys
            .create_key(v1::CreateKeyRequest { key: Some(key), request_id: String::new() })
            .await
            .unwrap()
            .into_inner();
        Self { world, keys, id: made.key.unwrap().id, secret: made.secret.unwrap().value }
    }

    async fn rotate(&mut self, etag: &str, overlap_ms: Option<i64>) -> Result<(v1::Key, String), Status> {
        let request = v1::RotateKeyRequest {
            id: self.id.clone(),
            etag: etag.to_owned(),
            overlap_ms,
            request_id: String::new(),
        };
        let answer = self.keys.rotate_key(request).await?.into_inner();
        Ok((answer.key.unwrap(), answer.secret.unwrap().value))
    }

    /// Why a call with a secret is refused; `None` when it is not.
    async fn refusal(&self, secret: &str) -> Option<R> {
        let mut quota = QuotaServiceClient::new(self.world.transport_with(secret));
        quota.check_quota(v1::CheckQuotaRequest::default()).await.err().map(|status| reason(&status))
    }
}

#[tokio::test]
async fn the_old_secret_works_until_the_overlap_ends_and_the_key_stays_the_same_one() {
    let mut one = Rotating::new().await;
    let old = one.secret.clone();
    let (key, new) = one.rotate("", Some(HOUR_MS)).await.unwrap();
    assert_eq!(key.id, one.id);
    assert!(new.starts_with(&key.prefix) && old.starts_with(&key.previous_prefix) && new != old);
    let until = key.previous_expire_time.unwrap();
    assert_eq!(until.seconds * 1_000, START_MS + HOUR_MS);

    one.world.pass_ms(HOUR_MS - 1).await;
    assert_eq!((one.refusal(&old).await, one.refusal(&new).await), (None, None));
    one.world.pass_ms(1).await;
    assert_eq!((one.refusal(&old).await, one.refusal(&new).await), (Some(R::KeyExpired), None));
}

#[tokio::test]
async fn without_an_overlap_the_old_secret_ends_at_once_and_unsaid_it_lasts_a_day() {
    let mut one = Rotating::new().await;
    let first = one.secret.clone();
    let (_, second) = one.rotate("", Some(0)).await.unwrap();
    assert_eq!(one.refusal(&first).await, Some(R::KeyExpired));
    let (key, _) = one.rotate("", None).await.unwrap();
    assert_eq!(key.previous_expire_time.unwrap().seconds * 1_000, START_MS + 24 * HOUR_MS);
    assert_eq!(one.refusal(&second).await, None);
}

#[tokio::test]
async fn a_second_rotation_ends_the_oldest_secret_at_once() {
    let mut one = Rotating::new().await;
    let first = one.secret.clone();
    let (_, second) = one.rotate("", None).await.unwrap();
    let (_, third) = one.rotate("", None).await.unwrap();
    let refusals = [one.refusal(&first).await, one.refusal(&second).await, one.refusal(&third).await];
    assert_eq!(refusals, [Some(R::CredentialUnknown), None, None]);
}

#[tokio::test]
async fn disabling_and_deleting_a_key_ends_both_of_its_secrets() {
    let mut one = Rotating::new().await;
    let old = one.secret.clone();
    let (_, new) = one.rotate("", None).await.unwrap();
    let disabled = v1::Key { id: one.id.clone(), state: v1::KeyState::Disabled.into(), ..v1::Key::default() };
    let update = v1::UpdateKeyRequest { key: Some(disabled), update_mask: mask(&["state"]) };
    let updated = one.keys.update_key(update).await.unwrap().into_inner().key.unwrap();
    assert!(old.starts_with(&updated.previous_prefix) && !updated.previous_prefix.is_empty());
    for secret in [&old, &new] {
        assert_eq!(one.refusal(secret).await, Some(R::KeyDisabled));
    }
    let delete = v1::DeleteKeyRequest { id: one.id.clone(), etag: String::new() };
    one.keys.delete_key(delete).await.unwrap();
    for secret in [&old, &new] {
        assert_eq!(one.refusal(secret).await, Some(R::CredentialUnknown));
    }
}

#[tokio::test]
async fn a_rotation_needs_the_etag_that_it_names_an_overlap_in_bounds_and_a_key_that_exists() {
    let mut one = Rotating::new().await;
    let (key, _) = one.rotate("", None).await.unwrap();
    one.rotate(&key.etag, None).await.unwrap();
    assert_eq!(told(&one.rotate(&key.etag, None).await.unwrap_err()).0, Code::Aborted);
    for overlap_ms in [-1, 30 * 24 * HOUR_MS + 1, i64::MIN, i64::MAX] {
        let refused = told(&one.rotate("", Some(overlap_ms)).await.unwrap_err());
        assert_eq!(refused, (Code::InvalidArgument, R::FieldOutOfBounds, "overlap_ms".to_owned()));
    }
    one.rotate("", Some(30 * 24 * HOUR_MS)).await.unwrap();
    one.id = "key_none".to_owned();
    assert_eq!(told(&one.rotate("", None).await.unwrap_err()).1, R::ResourceNotFound);
}

#[tokio::test]
async fn an_update_cannot_change_what_a_rotation_left() {
    let mut one = Rotating::new().await;
    let (key, _) = one.rotate("", None).await.unwrap();
    let update = v1::UpdateKeyRequest { key: Some(key), update_mask: mask(&["previous_prefix"]) };
    let refused = one.keys.update_key(update).await.unwrap_err();
    assert_eq!(reason(&refused), R::UpdateMaskInvalid);
}
