//! Management: APIs, keys, rules, budgets and prices of a workspace, versioned.
//!
//! One body of use cases for every kind; what is special to a kind stands in a file of its own.

mod apis;
mod apply;
mod audit;
mod budgets;
mod keys;
mod lists;
mod once;
mod powers;
mod prices;
mod resets;

use rateguard_core::ids::{ApiId, WorkspaceId};
use rateguard_core::limits::{BUDGETS_PER_WORKSPACE_MAX, PRICES_PER_MODEL_MAX, RULES_PER_WORKSPACE_MAX};
use rateguard_core::plan::{budget_keeps_counters, keeps_counters};

use crate::caller::Identity;
use crate::engine::Engine;
use crate::error::{EngineError, Reason};
use crate::ports::{MODEL_PRICES_FULL, Resource, ResourceKind, StoreError, Stored};

pub use apis::{ApiDraft, CredentialChange};
pub use apply::{Applied, CONFIGURATION_RESOURCES_MAX, Desired, Difference};
pub(crate) use budgets::OpenedHere;
pub use budgets::{
    BudgetStanding, Recount, RecountError, TOP_UPS_PER_BUDGET_MAX, TopUpDraft, prepare_recount, recount_from,
};
pub use keys::{KEY_OVERLAP_MS_DEFAULT, KEY_OVERLAP_MS_MAX, KeyOnce, NewKey, Rotation, equip, equip_as};
pub use lists::{ROWS_PER_PAGE_MAX, ResourceFilter, ResourceState};
pub use once::Created;
pub(crate) use once::made_and_gone;
pub use prices::{ListedPrice, PriceFilter, PricePage, PricePlace, PriceQuery};
pub use resets::{ResetDraft, ScopeValues};

/// APIs of one workspace.
pub const APIS_PER_WORKSPACE_MAX: usize = 1_000;
/// Keys of one workspace that the embedded store takes.
pub const KEYS_PER_WORKSPACE_MAX: usize = 1_000_000;
/// Price overrides of one workspace.
pub const PRICES_PER_WORKSPACE_MAX: usize = 1_000;

/// A resource after a change.
#[derive(Clone, Debug, PartialEq)]
pub struct Updated {
    /// The resource as it is now.
    pub stored: Stored<Resource>,
    /// Whether the change gave it new counters, so that nothing counts as used.
    pub counters_reset: bool,
}

impl Engine {
    /// Makes a resource. Its id is the caller's to draw.
    ///
    /// # Errors
    /// [`Reason::FieldOutOfBounds`], [`Reason::SlugTaken`], [`Reason::PriceOverridden`],
    /// [`Reason::WorkspaceFull`], [`Reason::ResourceNotFound`] for something that it names.
    pub async fn create(
        &self,
        identity: &Identity,
        resource: Resource,
    ) -> Result<Stored<Resource>, EngineError> {
        self.check_new(identity, &resource).await?;
        let (kind, limit) = (resource.kind(), limit_of(resource.kind()));
        let stored = self
            .config
            .insert(identity.workspace()?, resource, limit, &identity.deed(self.now()))
            .await
            .map_err(|error| describe(error, kind, limit))?;
        Ok(self.take_in(stored).await)
    }

    async fn check_new(&self, identity: &Identity, resource: &Resource) -> Result<(), EngineError> {
        powers::check_powers(identity, None, resource)?;
        self.check_resource(identity.workspace()?, None, resource)?;
        match resource {
            Resource::PriceOverride(price) => self.check_new_price(identity, price).await,
            _ => Ok(()),
        }
    }

    /// One resource.
    ///
    /// # Errors
    /// [`Reason::ResourceNotFound`].
    pub async fn get(
        &self,
        identity: &Identity,
        kind: ResourceKind,
        id: &str,
    ) -> Result<Stored<Resource>, EngineError> {
        let stored = self.config.get(identity.workspace()?, kind, id).await?;
        stored.ok_or_else(|| EngineError::not_found(kind.as_str(), id))
    }

    /// Replaces a resource that is at `expected`. What it named before it may go on naming, though it
    /// is gone.
    ///
    /// # Errors
    /// [`Reason::EtagMismatch`], [`Reason::ResourceNotFound`], and as [`Engine::create`].
    pub async fn update(
        &self,
        identity: &Identity,
        resource: Resource,
        expected: u64,
    ) -> Result<Updated, EngineError> {
        let (kind, id) = (resource.kind(), resource.id().to_owned());
        let before = self.get(identity, kind, &id).await?;
        powers::check_powers(identity, Some(&before.value), &resource)?;
        let resource = budgets::keep_top_ups(&before.value, resource);
        self.check_resource(identity.workspace()?, Some(&before.value), &resource)?;
        let counters_reset = self.resets_counters(identity.workspace()?, &before.value, &resource)?;
        let resource = budgets::succeed(&before.value, resource, counters_reset);
        let resource = prices::succeed(&before.value, resource);
        let deed = identity.deed(self.now());
        let stored =
            self.config.replace(identity.workspace()?, resource, expected, &deed).await.map_err(|error| {
                match error {
                    StoreError::NotFound => EngineError::not_found(kind.as_str(), &id),
                    error => describe(error, kind, limit_of(kind)),
                }
            })?;
        Ok(Updated { stored: self.take_in(stored).await, counters_reset })
    }

    /// Makes a change known that is stored. A budget that is to begin opens at once; where that
    /// fails it stays stored, not in force, until the next turn of the refresh opens it.
    async fn take_in(&self, stored: Stored<Resource>) -> Stored<Resource> {
        // Known before it opens: from here on what comes is charged to it.
        self.refresh_now().await;
        self.open_if_new(stored).await
    }

    /// Opens what is a budget that is to begin.
    async fn open_if_new(&self, stored: Stored<Resource>) -> Stored<Resource> {
        match &stored.value {
            Resource::Budget(budget) if budget.active && budget.opened_after.is_none() => {}
            _ => return stored,
        }
        match self.open_budget(&stored).await {
            Ok(opened) => opened,
            Err(error) => {
                let id = stored.value.id();
                tracing::warn!(%error, budget = id, "a budget is stored, and will open in a moment");
                stored
            }
        }
    }

    /// Takes the configuration in at once. What is stored is done whatever becomes of this: the
    /// next turn of the refresh takes it in otherwise.
    async fn refresh_now(&self) {
        if let Err(error) = self.directory.refresh(self.now()).await {
            tracing::warn!(%error, "a change is stored, and will be taken in with the next refresh");
        }
    }

    /// Removes a resource; with `expected` only at that version.
    ///
    /// # Errors
    /// [`Reason::EtagMismatch`], [`Reason::ResourceNotFound`].
    pub async fn delete(
        &self,
        identity: &Identity,
        kind: ResourceKind,
        id: &str,
        expected: Option<u64>,
    ) -> Result<(), EngineError> {
        let deed = identity.deed(self.now());
        let removed = self.config.remove(identity.workspace()?, kind, id, expected, &deed).await;
        removed.map_err(|error| match error {
            StoreError::NotFound => EngineError::not_found(kind.as_str(), id),
            error => error.into(),
        })?;
        self.refresh_now().await;
        Ok(())
    }

    /// Checks what the types alone cannot: bounds of parts together, and that what is newly named
    /// exists.
    fn check_resource(
        &self,
        workspace: &WorkspaceId,
        before: Option<&Resource>,
        resource: &Resource,
    ) -> Result<(), EngineError> {
        match resource {
            Resource::Rule(rule) => rule.check()?,
            Resource::Budget(budget) => budget.check()?,
            Resource::Api(_) | Resource::Key(_) | Resource::PriceOverride(_) => {}
        }
        let (field, apis) = apis_named(resource);
        let known = before.map_or(&[][..], |before| apis_named(before).1);
        let view = self.view(workspace)?;
        let is_gone = |api: &ApiId| !known.contains(api) && view.api(api.as_str()).is_none();
        match apis.iter().position(is_gone) {
            Some(place) => {
                let message = format!("there is no API {} in this workspace", apis[place]);
                Err(EngineError::field(Reason::ResourceNotFound, format!("{field}[{place}]"), message))
            }
            None => Ok(()),
        }
    }

    fn resets_counters(
        &self,
        workspace: &WorkspaceId,
        before: &Resource,
        after: &Resource,
    ) -> Result<bool, EngineError> {
        let zone = &self.view(workspace)?.workspace.zone;
        Ok(match (before, after) {
            (Resource::Rule(before), Resource::Rule(after)) => {
                !keeps_counters(workspace, zone, before, after)
            }
            (Resource::Budget(before), Resource::Budget(after)) => {
                !budget_keeps_counters(workspace, zone, before, after)
            }
            _ => false,
        })
    }
}

/// The APIs that a resource is restricted to, and the field that names them.
fn apis_named(resource: &Resource) -> (&'static str, &[ApiId]) {
    match resource {
        Resource::Rule(rule) => ("rule.match.api_ids", &rule.matches.apis),
        Resource::Budget(budget) => ("budget.match.api_ids", &budget.matches.apis),
        Resource::Key(key) => ("key.api_ids", &key.apis),
        Resource::Api(_) | Resource::PriceOverride(_) => ("", &[]),
    }
}

fn limit_of(kind: ResourceKind) -> usize {
    match kind {
        ResourceKind::Api => APIS_PER_WORKSPACE_MAX,
        ResourceKind::Key => KEYS_PER_WORKSPACE_MAX,
        ResourceKind::Rule => RULES_PER_WORKSPACE_MAX,
        ResourceKind::Budget => BUDGETS_PER_WORKSPACE_MAX,
        ResourceKind::PriceOverride => PRICES_PER_WORKSPACE_MAX,
    }
}

pub(crate) fn request_id_reused() -> EngineError {
    EngineError::field(Reason::RequestIdReused, "request_id", "was used for another request")
}

fn describe(error: StoreError, kind: ResourceKind, limit: usize) -> EngineError {
    match error {
        StoreError::AlreadyExists { field: "slug" } => {
            EngineError::field(Reason::SlugTaken, "api.slug", "another API of the workspace has this slug")
        }
        StoreError::AlreadyExists { field: "request_id" } => request_id_reused(),
        StoreError::AlreadyExists { field: "effective_from" } => {
            let message = "the model has an override from this instant on already";
            EngineError::field(Reason::PriceOverridden, "price.effective_time", message)
        }
        StoreError::Full { what: MODEL_PRICES_FULL } => {
            let message = format!("the model has {PRICES_PER_MODEL_MAX} overrides already");
            EngineError::new(Reason::WorkspaceFull, message)
        }
        StoreError::Full { .. } => {
            let message =
                format!("the workspace has {limit} resources of the kind {:?} already", kind.as_str());
            EngineError::new(Reason::WorkspaceFull, message)
        }
        error => error.into(),
    }
}
