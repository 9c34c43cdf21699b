//! `ApiService`.

use std::sync::Arc;

use prost::Message as _;
use prost_types::FieldMask;
use rateguard_core::ids::ApiId;
use rateguard_core::money::Currency;
use rateguard_engine::engine::Engine;
use rateguard_engine::error::EngineError;
use rateguard_engine::ports::{Resource, ResourceKind, Stored};
use rateguard_engine::resources::Api;
use rateguard_proto::v1;
use rateguard_proto::v1::api_service_server::ApiService;
use tonic::{Request, Response, Status};

use super::answer;
use super::managed::{Desk, Managed, at_desk, random_id};
use super::mask::Maskable;
use crate::convert::apis::{api_draft, api_message};
use crate::convert::lists::api_filter;
use crate::listing::page_fields;

impl Managed for Api {
    type Message = v1::Api;
    const KIND: ResourceKind = ResourceKind::Api;
    const FIELD: &'static str = "api";
    const MASKABLE: Maskable = Maskable {
        message: "rateguard.v1.Api",
        fixed: &["id", "credential_set", "etag", "create_time", "update_time"],
    };

    fn id_and_etag(message: &v1::Api) -> (&str, &str) {
        (&message.id, &message.etag)
    }

    fn read(desk: &Desk<'_>, message: v1::Api, present: Option<&Self>) -> Result<Self, EngineError> {
        let id = match present {
            Some(present) => present.id.clone(),
            None => ApiId::from_random(random_id()?),
        };
        let draft = api_draft(message, id, present, desk.currency())?;
        desk.engine.seal(desk.who.workspace()?, draft)
    }

    /// Without the credential itself: a plain hash of a short one could be guessed.
    fn content(message: &v1::Api) -> Vec<u8> {
        let credential = message.credential.as_ref().map(|_| v1::SecretText::default());
        v1::Api { credential, ..message.clone() }.encode_to_vec()
    }

    fn message(stored: &Stored<Self>, currency: Currency) -> v1::Api {
        api_message(stored, currency)
    }

    fn into_resource(self) -> Resource {
        Resource::Api(self)
    }

    fn from_resource(resource: Resource) -> Option<Self> {
        if let Resource::Api(api) = resource { Some(api) } else { None }
    }
}

/// The id of the API that a request names by id or slug.
fn id_of(desk: &Desk<'_>, id_or_slug: &str) -> String {
    desk.view.api(id_or_slug).map_or_else(|| id_or_slug.to_owned(), |api| api.value.id.to_string())
}

/// What is stored of a credential is never read back, so that a mask which names it and a request
/// without it must be told from a mask that leaves it alone: the first removes it, as empty does.
/// Whence the last one came is no longer true of the new one.
fn with_named_credential(mut api: v1::Api, mask: &mut Option<FieldMask>) -> v1::Api {
    let Some(FieldMask { paths }) = mask else { return api };
    let names = |field: &str| paths.iter().any(|path| path == field);
    if names("credential") {
        api.credential.get_or_insert_default();
        if !names("credential_reference") {
            api.credential_reference.clear();
            paths.push("credential_reference".to_owned());
        }
    }
    api
}

/// The service over the engine.
pub struct Apis(pub Arc<Engine>);

#[tonic::async_trait]
impl ApiService for Apis {
    async fn create_api(
        &self,
        request: Request<v1::CreateApiRequest>,
    ) -> Result<Response<v1::CreateApiResponse>, Status> {
        let (desk, message) = at_desk(&self.0, request)?;
        answer(async {
            let stored = desk.create(message.api, &message.request_id).await?;
            Ok(v1::CreateApiResponse { api: Some(api_message(&stored, desk.currency())) })
        })
        .await
    }

    async fn get_api(
        &self,
        request: Request<v1::GetApiRequest>,
    ) -> Result<Response<v1::GetApiResponse>, Status> {
        let (desk, message) = at_desk(&self.0, request)?;
        answer(async {
            let stored = desk.get("id", &id_of(&desk, &message.id)).await?;
            Ok(v1::GetApiResponse { api: Some(api_message(&stored, desk.currency())) })
        })
        .await
    }

    async fn list_apis(
        &self,
        request: Request<v1::ListApisRequest>,
    ) -> Result<Response<v1::ListApisResponse>, Status> {
        let (desk, message) = at_desk(&self.0, request)?;
        answer(async {
            let page = desk
                .list(
                    &api_filter(&message)?,
                    page_fields(message.page_size, &message.page_token, &message.order_by),
                )
                .await?;
            let apis = page.items.iter().map(|stored| api_message(stored, desk.currency())).collect();
            Ok(v1::ListApisResponse { apis, next_page_token: page.next_page_token })
        })
        .await
    }

    async fn update_api(
        &self,
        request: Request<v1::UpdateApiRequest>,
    ) -> Result<Response<v1::UpdateApiResponse>, Status> {
        let (desk, message) = at_desk(&self.0, request)?;
        answer(async {
            let mut mask = message.update_mask;
            let api = message.api.map(|api| with_named_credential(api, &mut mask));
            let updated = desk.update(api, mask).await?;
            Ok(v1::UpdateApiResponse { api: Some(api_message(&updated.stored, desk.currency())) })
        })
        .await
    }

    async fn delete_api(
        &self,
        request: Request<v1::DeleteApiRequest>,
    ) -> Result<Response<v1::DeleteApiResponse>, Status> {
        let (desk, message) = at_desk(&self.0, request)?;
        answer(async {
            desk.delete::<Api>(&message.id, &message.etag).await?;
            Ok(v1::DeleteApiResponse {})
        })
        .await
    }
}
