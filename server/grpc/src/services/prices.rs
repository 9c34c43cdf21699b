//! `PriceService`: the catalogue is read, overrides are managed.

use std::sync::Arc;

use rateguard_core::ids::PriceId;
use rateguard_core::money::Currency;
use rateguard_core::time::Millis;
use rateguard_core::usage::PriceRef;
use rateguard_engine::engine::Engine;
use rateguard_engine::error::EngineError;
use rateguard_engine::listing::{Order, OrderBy};
use rateguard_engine::manage::ListedPrice;
use rateguard_engine::ports::{Resource, ResourceKind, Stored};
use rateguard_engine::resources::PriceOverride;
use rateguard_proto::v1;
use rateguard_proto::v1::price_service_server::PriceService;
use tonic::{Request, Response, Status};

use super::answer;
use super::managed::{Desk, Managed, at_desk, random_id};
use super::mask::Maskable;
use crate::convert::prices::{place_text, price_filter, price_message, price_sheet};
use crate::convert::{instant, resource_id};
use crate::listing::{ListMethod, page_fields};

/// The list of prices: by the model overrides come before the catalogue, each by provider, model and instant.
const PRICES: ListMethod = ListMethod {
    what: "prices",
    orders: &[("model", OrderBy::Id), ("effective_time", OrderBy::CreateTime)],
    default: Order::ascending(OrderBy::Id),
};
/// The version of a new override.
const FIRST_VERSION: u32 = 1;

impl Managed for PriceOverride {
    type Message = v1::Price;
    const KIND: ResourceKind = ResourceKind::PriceOverride;
    const FIELD: &'static str = "price";
    const MASKABLE: Maskable = Maskable {
        message: "rateguard.v1.Price",
        fixed: &[
            "id",
            "provider",
            "model",
            "version",
            "source",
            "currency_code",
            "effective_time",
            "effective_end_time",
            "etag",
        ],
    };

    fn id_and_etag(message: &v1::Price) -> (&str, &str) {
        (&message.id, &message.etag)
    }

    fn read(desk: &Desk<'_>, message: v1::Price, present: Option<&Self>) -> Result<Self, EngineError> {
        let (reference, effective_from) = match present {
            Some(present) => (present.sheet.reference.clone(), present.sheet.effective_from),
            None => (first_version()?, beginning(desk, &message)?),
        };
        Ok(Self { sheet: price_sheet(message, reference, effective_from)? })
    }

    fn message(stored: &Stored<Self>, currency: Currency) -> v1::Price {
        let sheet = stored.value.sheet.clone();
        let stored_version = Some(stored.version);
        price_message(&ListedPrice { sheet, stored_version, effective_until: None }, currency)
    }

    fn into_resource(self) -> Resource {
        Resource::PriceOverride(self)
    }

    fn from_resource(resource: Resource) -> Option<Self> {
        if let Resource::PriceOverride(price) = resource { Some(price) } else { None }
    }
}

/// Since when a new override is in force: now, unless its message says otherwise.
fn beginning(desk: &Desk<'_>, message: &v1::Price) -> Result<Millis, EngineError> {
    let given = message.effective_time.as_ref();
    given.map_or_else(|| Ok(desk.engine.now()), |time| instant("effective_time", time))
}

fn first_version() -> Result<PriceRef, EngineError> {
    Ok(PriceRef { id: PriceId::from_random(random_id()?), version: FIRST_VERSION })
}

/// The service over the engine.
pub struct Prices(pub Arc<Engine>);

impl Prices {
    fn shown(desk: &Desk<'_>, stored: Stored<PriceOverride>) -> Result<v1::Price, EngineError> {
        Ok(price_message(&desk.engine.listed_price(&desk.who, stored)?, desk.currency()))
    }

    async fn list(
        desk: &Desk<'_>,
        message: &v1::ListPricesRequest,
    ) -> Result<v1::ListPricesResponse, EngineError> {
        let filter = price_filter(message)?;
        let fields = page_fields(message.page_size, &message.page_token, &message.order_by);
        let turn = PRICES.turn(desk.who.workspace()?.as_str(), &filter, fields)?;
        let page = desk.engine.prices(&desk.who, &filter, &turn.prices()?).await?;
        let next_page_token = page.next_after.map(|place| turn.token_of(&place_text(&place)));
        Ok(v1::ListPricesResponse {
            prices: page.items.iter().map(|listed| price_message(listed, desk.currency())).collect(),
            next_page_token: next_page_token.unwrap_or_default(),
        })
    }
}

#[tonic::async_trait]
impl PriceService for Prices {
    async fn list_prices(
        &self,
        request: Request<v1::ListPricesRequest>,
    ) -> Result<Response<v1::ListPricesResponse>, Status> {
        let (desk, message) = at_desk(&self.0, request)?;
        answer(Self::list(&desk, &message)).await
    }

    async fn get_price(
        &self,
        request: Request<v1::GetPriceRequest>,
    ) -> Result<Response<v1::GetPriceResponse>, Status> {
        let (desk, message) = at_desk(&self.0, request)?;
        answer(async {
            let listed = desk.engine.price(&desk.who, resource_id("id", &message.id)?).await?;
            Ok(v1::GetPriceResponse { price: Some(price_message(&listed, desk.currency())) })
        })
        .await
    }

    async fn create_price_override(
        &self,
        request: Request<v1::CreatePriceOverrideRequest>,
    ) -> Result<Response<v1::CreatePriceOverrideResponse>, Status> {
        let (desk, message) = at_desk(&self.0, request)?;
        answer(async {
            let stored = desk.create::<PriceOverride>(message.price, &message.request_id).await?;
            Ok(v1::CreatePriceOverrideResponse { price: Some(Self::shown(&desk, stored)?) })
        })
        .await
    }

    async fn update_price_override(
        &self,
        request: Request<v1::UpdatePriceOverrideRequest>,
    ) -> Result<Response<v1::UpdatePriceOverrideResponse>, Status> {
        let (desk, message) = at_desk(&self.0, request)?;
        answer(async {
            let id = message.price.as_ref().map_or("", |price| &price.id);
            desk.engine.check_price_writable(&desk.who, id)?;
            let updated = desk.update::<PriceOverride>(message.price, message.update_mask).await?;
            Ok(v1::UpdatePriceOverrideResponse { price: Some(Self::shown(&desk, updated.stored)?) })
        })
        .await
    }

    async fn delete_price_override(
        &self,
        request: Request<v1::DeletePriceOverrideRequest>,
    ) -> Result<Response<v1::DeletePriceOverrideResponse>, Status> {
        let (desk, message) = at_desk(&self.0, request)?;
        answer(async {
            desk.engine.check_price_writable(&desk.who, &message.id)?;
            desk.delete::<PriceOverride>(&message.id, &message.etag).await?;
            Ok(v1::DeletePriceOverrideResponse {})
        })
        .await
    }
}
