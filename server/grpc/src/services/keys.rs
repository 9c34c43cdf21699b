//! `KeyService`.

use std::sync::Arc;

use prost::Message as _;
use rateguard_core::ids::KeyId;
use rateguard_core::money::Currency;
use rateguard_engine::engine::Engine;
use rateguard_engine::error::EngineError;
use rateguard_engine::manage::{KeyOnce, Rotation};
use rateguard_engine::ports::{Resource, ResourceKind, Stored};
use rateguard_engine::resources::Key;
use rateguard_engine::secrets::SecretText;
use rateguard_proto::v1;
use rateguard_proto::v1::key_service_server::KeyService;
use tonic::{Request, Response, Status};

use super::answer;
use super::managed::{Desk, Managed, at_desk, creation, of_kind};
use super::mask::Maskable;
use crate::convert::keys::{KeyIdentity, key, key_message, overlap_ms};
use crate::convert::lists::key_filter;
use crate::convert::{client_request, etag_version, resource_id, timestamp};
use crate::listing::page_fields;

impl Managed for Key {
    type Message = v1::Key;
    const KIND: ResourceKind = ResourceKind::Key;
    const FIELD: &'static str = "key";
    const MASKABLE: Maskable = Maskable {
        message: "rateguard.v1.Key",
        fixed: &[
            "id",
            "prefix",
            "label",
            "etag",
            "create_time",
            "update_time",
            "last_use_time",
            "previous_prefix",
            "previous_expire_time",
        ],
    };

    fn id_and_etag(message: &v1::Key) -> (&str, &str) {
        (&message.id, &message.etag)
    }

    fn read(_: &Desk<'_>, message: v1::Key, present: Option<&Self>) -> Result<Self, EngineError> {
        let identity = match present {
            Some(present) => KeyIdentity::from(present),
            None => KeyIdentity::not_yet_drawn(),
        };
        key(message, identity)
    }

    fn message(stored: &Stored<Self>, _: Currency) -> v1::Key {
        key_message(stored)
    }

    fn into_resource(self) -> Resource {
        Resource::Key(self)
    }

    fn from_resource(resource: Resource) -> Option<Self> {
        if let Resource::Key(key) = resource { Some(key) } else { None }
    }
}

/// Tells requests for a rotation from those for a key.
const ROTATION: &str = "rotation";

/// A key for its owner: the one time that anybody else sees it.
fn secret_shown(secret: &SecretText) -> v1::SecretText {
    v1::SecretText { value: secret.expose().to_owned() }
}

/// The service over the engine.
pub struct Keys(pub Arc<Engine>);

#[tonic::async_trait]
impl KeyService for Keys {
    async fn create_key(
        &self,
        request: Request<v1::CreateKeyRequest>,
    ) -> Result<Response<v1::CreateKeyResponse>, Status> {
        let (desk, message) = at_desk(&self.0, request)?;
        answer(async {
            let request = creation::<Key>(message.key.as_ref(), &message.request_id)?;
            let draft: Key = desk.read_new(message.key)?;
            let KeyOnce { stored, secret } = desk.engine.create_key_once(&desk.who, draft, request).await?;
            let key = Some(key_message(&of_kind(stored)?));
            let secret = secret.as_ref().map(secret_shown);
            Ok(v1::CreateKeyResponse { key, secret })
        })
        .await
    }

    async fn get_key(
        &self,
        request: Request<v1::GetKeyRequest>,
    ) -> Result<Response<v1::GetKeyResponse>, Status> {
        let (desk, message) = at_desk(&self.0, request)?;
        answer(async {
            let stored = desk.get("id", &message.id).await?;
            Ok(v1::GetKeyResponse { key: Some(with_last_use(&desk, &stored).await?) })
        })
        .await
    }

    async fn list_keys(
        &self,
        request: Request<v1::ListKeysRequest>,
    ) -> Result<Response<v1::ListKeysResponse>, Status> {
        let (desk, message) = at_desk(&self.0, request)?;
        answer(async {
            let page = desk
                .list(
                    &key_filter(&message)?,
                    page_fields(message.page_size, &message.page_token, &message.order_by),
                )
                .await?;
            let keys = with_last_uses(&desk, &page.items).await?;
            Ok(v1::ListKeysResponse { keys, next_page_token: page.next_page_token })
        })
        .await
    }

    async fn update_key(
        &self,
        request: Request<v1::UpdateKeyRequest>,
    ) -> Result<Response<v1::UpdateKeyResponse>, Status> {
        let (desk, message) = at_desk(&self.0, request)?;
        answer(async {
            let updated = desk.update(message.key, message.update_mask).await?;
            Ok(v1::UpdateKeyResponse { key: Some(with_last_use(&desk, &updated.stored).await?) })
        })
        .await
    }

    async fn rotate_key(
        &self,
        request: Request<v1::RotateKeyRequest>,
    ) -> Result<Response<v1::RotateKeyResponse>, Status> {
        let (desk, message) = at_desk(&self.0, request)?;
        answer(async {
            let content = v1::RotateKeyRequest { request_id: String::new(), ..message.clone() };
            let request = client_request(&message.request_id, ROTATION, &content.encode_to_vec())?;
            let id = KeyId::parse("id", resource_id("id", &message.id)?)?;
            let rotation = Rotation {
                id,
                expected: etag_version(&message.etag)?,
                overlap_ms: overlap_ms(message.overlap_ms)?,
            };
            let KeyOnce { stored, secret } = desk.engine.rotate_key(&desk.who, rotation, request).await?;
            let key = Some(key_message(&of_kind(stored)?));
            let secret = secret.as_ref().map(secret_shown);
            Ok(v1::RotateKeyResponse { key, secret })
        })
        .await
    }

    async fn delete_key(
        &self,
        request: Request<v1::DeleteKeyRequest>,
    ) -> Result<Response<v1::DeleteKeyResponse>, Status> {
        let (desk, message) = at_desk(&self.0, request)?;
        answer(async {
            desk.delete::<Key>(&message.id, &message.etag).await?;
            Ok(v1::DeleteKeyResponse {})
        })
        .await
    }
}

async fn with_last_use(desk: &Desk<'_>, stored: &Stored<Key>) -> Result<v1::Key, EngineError> {
    let told = with_last_uses(desk, std::slice::from_ref(stored)).await?.pop();
    told.ok_or_else(|| EngineError::internal("a key was not told"))
}

async fn with_last_uses(desk: &Desk<'_>, page: &[Stored<Key>]) -> Result<Vec<v1::Key>, EngineError> {
    let ids: Vec<KeyId> = page.iter().map(|stored| stored.value.id.clone()).collect();
    let uses = desk.engine.key_uses(&desk.who, &ids).await?;
    let told = |stored: &Stored<Key>| v1::Key {
        last_use_time: uses.get(&stored.value.id).copied().map(timestamp),
        ..key_message(stored)
    };
    Ok(page.iter().map(told).collect())
}
