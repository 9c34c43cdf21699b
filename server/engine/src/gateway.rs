//! What only a gateway may ask: routes with their credentials, and what changes among them.

use std::sync::Arc;

use tokio::sync::watch;

use crate::caller::Caller;
use crate::engine::Engine;
use crate::error::{EngineError, Reason};
use crate::ports::{ConfigStore, ResourceKind, Stored, has_gap};
use crate::resources::Api;
use crate::secrets::SecretText;

/// Changes told one by one; when there are more at once, everything is to be forgotten.
const CHANGES_TOLD_MAX: usize = 1_000;

/// Where calls to an API go.
#[derive(Clone, Debug)]
pub struct Route {
    /// The API.
    pub api: Arc<Stored<Api>>,
    /// Its credential, in clear.
    pub credential: Option<SecretText>,
}

/// What a gateway should forget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteChange {
    /// Every route.
    All,
    /// The route to the API of this id, which was made, changed or deleted.
    Api(String),
}

/// Follows the changes of all workspaces' routes.
pub struct RouteWatch {
    config: Arc<dyn ConfigStore>,
    revisions: watch::Receiver<u64>,
    /// Up to where changes were told; `None` before the first.
    told: Option<u64>,
}

impl Engine {
    /// The route to an API of the caller's workspace.
    ///
    /// # Errors
    /// [`Reason::GatewayOnly`] for anyone else, [`Reason::ResourceNotFound`] also for an API without
    /// a base URL, [`Reason::KeyRestricted`], [`Reason::ApiInactive`].
    pub fn route(&self, caller: &Caller, slug: &str) -> Result<Route, EngineError> {
        if !caller.by_gateway {
            return Err(EngineError::new(Reason::GatewayOnly, "only a gateway may resolve routes"));
        }
        let view = self.view(&caller.workspace)?;
        let api = view.api(slug).filter(|api| !api.value.base_url.is_empty());
        let api = api.ok_or_else(|| EngineError::not_found("api", slug))?.clone();
        if !caller.key.apis.is_empty() && !caller.key.apis.contains(&api.value.id) {
            return Err(EngineError::new(Reason::KeyRestricted, "the key may not be used for this API"));
        }
        if !api.value.active {
            return Err(EngineError::field(Reason::ApiInactive, "slug", "the API is switched off"));
        }
        let credential = self.open_credential(&caller.workspace, &api.value)?;
        Ok(Route { api, credential })
    }

    /// Follows the changes of routes from now on.
    pub fn watch_routes(&self) -> RouteWatch {
        RouteWatch { config: self.config.clone(), revisions: self.directory.watch(), told: None }
    }
}

impl RouteWatch {
    /// The next changes, once decisions are made by them: at first, that nothing kept before is to
    /// be believed. `None` when the engine is gone.
    ///
    /// # Errors
    /// Those of the store; the watch is to be begun anew.
    pub async fn next(&mut self) -> Result<Option<Vec<RouteChange>>, EngineError> {
        let Some(mut told) = self.told else {
            self.told = Some(*self.revisions.borrow_and_update());
            return Ok(Some(vec![RouteChange::All]));
        };
        while self.revisions.changed().await.is_ok() {
            let revision = *self.revisions.borrow_and_update();
            let changes = self.changes(told, revision).await?;
            told = revision;
            self.told = Some(told);
            if !changes.is_empty() {
                return Ok(Some(changes));
            }
        }
        Ok(None)
    }

    async fn changes(&self, after: u64, through: u64) -> Result<Vec<RouteChange>, EngineError> {
        let entries = self.config.changes_after(after, CHANGES_TOLD_MAX + 1).await?;
        if entries.len() > CHANGES_TOLD_MAX || has_gap(after, &entries) {
            return Ok(vec![RouteChange::All]);
        }
        let mut changes = Vec::new();
        for entry in entries {
            let change = RouteChange::Api(entry.id);
            if entry.kind == Some(ResourceKind::Api)
                && entry.revision <= through
                && !changes.contains(&change)
            {
                changes.push(change);
            }
        }
        Ok(changes)
    }
}
