//! Prices: the catalogue's, which nobody changes, and the workspace's own, which go before them.

use std::cmp::Ordering;

use rateguard_core::ids::PriceId;
use rateguard_core::pricing::{PriceSheet, PriceSource};
use rateguard_core::time::Millis;

use super::{PRICES_PER_WORKSPACE_MAX, ResourceFilter};
use crate::caller::Identity;
use crate::directory::WorkspaceView;
use crate::engine::Engine;
use crate::error::{EngineError, Reason};
use crate::listing::{Order, OrderBy, PageQuery};
use crate::ports::{Resource, ResourceKind, Stored};
use crate::resources::PriceOverride;

/// Which prices. Every part that is set must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PriceFilter {
    /// Who offers the model.
    pub provider: Option<String>,
    /// The model, whole.
    pub model: Option<String>,
    /// Where the price comes from.
    pub source: Option<PriceSource>,
}

/// A price, with what the store knows of it.
#[derive(Clone, Debug, PartialEq)]
pub struct ListedPrice {
    /// The price.
    pub sheet: PriceSheet,
    /// The stored version of an override; the catalogue has none.
    pub stored_version: Option<u64>,
    /// When the next override of the model takes over; `None` for the last one, and in the catalogue.
    pub effective_until: Option<Millis>,
}

/// Where a price stands in the listing: overrides first, then by provider, model and instant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PricePlace {
    /// Whether it is the catalogue's.
    pub is_catalogue: bool,
    /// Who offers the model.
    pub provider: String,
    /// The model.
    pub model: String,
    /// Since when it is in force.
    pub effective_from: Millis,
}

/// Which part of the prices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PriceQuery {
    /// By [`OrderBy::CreateTime`] the instant from which a price is in force, and then its place; by
    /// anything else the place.
    pub order: Order,
    /// Only what comes after this place; `None` from the start.
    pub after: Option<PricePlace>,
    /// How many at most.
    pub limit: usize,
}

impl PriceQuery {
    fn compare(&self, one: &PricePlace, other: &PricePlace) -> Ordering {
        let by_instant = match self.order.by {
            OrderBy::CreateTime => one.effective_from.cmp(&other.effective_from),
            _ => Ordering::Equal,
        };
        let ascending = by_instant.then_with(|| one.cmp(other));
        if self.order.descending { ascending.reverse() } else { ascending }
    }

    fn is_ahead(&self, place: &PricePlace) -> bool {
        self.after.as_ref().is_none_or(|after| self.compare(place, after) == Ordering::Greater)
    }
}

/// A page of prices.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PricePage {
    /// The prices.
    pub items: Vec<ListedPrice>,
    /// The place to go on after; `None` at the end.
    pub next_after: Option<PricePlace>,
}

impl PriceFilter {
    fn holds(&self, sheet: &PriceSheet) -> bool {
        self.provider.as_ref().is_none_or(|provider| *provider == sheet.provider)
            && self.model.as_ref().is_none_or(|model| *model == sheet.model)
            && self.source.is_none_or(|source| source == sheet.source)
    }
}

impl ListedPrice {
    /// Where it stands in the listing.
    pub fn place(&self) -> PricePlace {
        place(&self.sheet)
    }
}

impl Engine {
    /// A page of prices.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn prices(
        &self,
        identity: &Identity,
        filter: &PriceFilter,
        query: &PriceQuery,
    ) -> Result<PricePage, EngineError> {
        let view = self.view(identity.workspace()?)?;
        let overrides = self.overrides(identity).await?;
        let mut found: Vec<(PricePlace, &PriceSheet, Option<u64>)> = overrides
            .iter()
            .map(|stored| (&stored.value.sheet, Some(stored.version)))
            .chain(view.catalogue.iter().map(|sheet| (sheet, None)))
            .filter(|(sheet, _)| filter.holds(sheet))
            .map(|(sheet, stored_version)| (place(sheet), sheet, stored_version))
            .filter(|(place, ..)| query.is_ahead(place))
            .collect();
        found.sort_by(|(one, ..), (other, ..)| query.compare(one, other));
        let more = found.len() > query.limit;
        found.truncate(query.limit);
        let items: Vec<ListedPrice> = found
            .into_iter()
            .map(|(_, sheet, stored_version)| listed(&view, sheet.clone(), stored_version))
            .collect();
        let next_after = items.last().filter(|_| more).map(ListedPrice::place);
        Ok(PricePage { items, next_after })
    }

    /// The newest version of a price, of the workspace's own or the catalogue's.
    ///
    /// # Errors
    /// [`Reason::ResourceNotFound`].
    pub async fn price(&self, identity: &Identity, id: &str) -> Result<ListedPrice, EngineError> {
        let view = self.view(identity.workspace()?)?;
        if let Some(sheet) = in_catalogue(&view, id) {
            return Ok(listed(&view, sheet.clone(), None));
        }
        let stored = self.get(identity, ResourceKind::PriceOverride, id).await?;
        let version = stored.version;
        match stored.value {
            Resource::PriceOverride(price) => Ok(listed(&view, price.sheet, Some(version))),
            _ => Err(EngineError::internal("the store gave a resource of another kind")),
        }
    }

    /// An override as it was just stored, with what the engine knows of those around it.
    ///
    /// # Errors
    /// Those of the workspace's own.
    pub fn listed_price(
        &self,
        identity: &Identity,
        stored: Stored<PriceOverride>,
    ) -> Result<ListedPrice, EngineError> {
        let view = self.view(identity.workspace()?)?;
        Ok(listed(&view, stored.value.sheet, Some(stored.version)))
    }

    /// Refuses to change a price of the catalogue.
    ///
    /// # Errors
    /// [`Reason::PriceReadOnly`].
    pub fn check_price_writable(&self, identity: &Identity, id: &str) -> Result<(), EngineError> {
        let view = self.view(identity.workspace()?)?;
        match in_catalogue(&view, id) {
            Some(_) => Err(EngineError::new(
                Reason::PriceReadOnly,
                "a price of the catalogue cannot be changed; make an override of the model",
            )),
            None => Ok(()),
        }
    }

    /// Of one model only one override begins at an instant. This names the one that is there; of two that
    /// are made at once the store takes one.
    pub(super) async fn check_new_price(
        &self,
        identity: &Identity,
        price: &PriceOverride,
    ) -> Result<(), EngineError> {
        let overrides = self.overrides(identity).await?;
        let wanted = place(&price.sheet);
        match overrides.iter().find(|stored| place(&stored.value.sheet) == wanted) {
            Some(stored) => {
                let id = &stored.value.sheet.reference.id;
                let message = format!("the model has the override {id} from this instant on already");
                Err(EngineError::field(Reason::PriceOverridden, "price.effective_time", message))
            }
            None => Ok(()),
        }
    }

    async fn overrides(&self, identity: &Identity) -> Result<Vec<Stored<PriceOverride>>, EngineError> {
        let kind = ResourceKind::PriceOverride;
        let all = PageQuery::first(PRICES_PER_WORKSPACE_MAX);
        let page = self.list(identity, kind, &ResourceFilter::default(), &all).await?;
        let own = |resource| match resource {
            Resource::PriceOverride(value) => Ok(value),
            _ => Err(EngineError::internal("the store gave a resource of another kind")),
        };
        page.items.into_iter().map(|stored| stored.try_map(own)).collect()
    }
}

/// A changed override is the next version of the one before, in force since the same instant. Every
/// other resource stays as it is.
pub(super) fn succeed(before: &Resource, mut after: Resource) -> Resource {
    if let (Resource::PriceOverride(before), Resource::PriceOverride(after)) = (before, &mut after) {
        after.sheet.reference.version = before.sheet.reference.version.saturating_add(1);
        after.sheet.effective_from = before.sheet.effective_from;
    }
    after
}

fn listed(view: &WorkspaceView, sheet: PriceSheet, stored_version: Option<u64>) -> ListedPrice {
    let effective_until = stored_version.and_then(|_| view.overrides.end_of(&sheet));
    ListedPrice { sheet, stored_version, effective_until }
}

fn in_catalogue<'v>(view: &'v WorkspaceView, id: &str) -> Option<&'v PriceSheet> {
    PriceId::parse("id", id).ok().and_then(|id| view.catalogue.newest(&id))
}

fn place(sheet: &PriceSheet) -> PricePlace {
    PricePlace {
        is_catalogue: sheet.source == PriceSource::Catalogue,
        provider: sheet.provider.clone(),
        model: sheet.model.clone(),
        effective_from: sheet.effective_from,
    }
}
