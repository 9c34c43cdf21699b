//! What only a gateway may ask: routes with their credentials.

use std::sync::Arc;

use crate::caller::Caller;
use crate::engine::Engine;
use crate::error::{EngineError, Reason};
use crate::ports::Stored;
use crate::resources::Api;
use crate::secrets::SecretText;

/// Where calls to an API go.
#[derive(Clone, Debug)]
pub struct Route {
    /// The API.
    pub api: Arc<Stored<Api>>,
    /// Its credential, in clear.
    pub credential: Option<SecretText>,
}

impl Engine {
    /// The route to an API of the caller's workspace.
    ///
    /// # Errors
    /// [`Reason::GatewayOnly`] for anyone else, [`Reason::ResourceNotFound`],
    /// [`Reason::ApiInactive`].
    pub fn route(&self, caller: &Caller, slug: &str) -> Result<Route, EngineError> {
        if !caller.by_gateway {
            return Err(EngineError::new(Reason::GatewayOnly, "only a gateway may resolve routes"));
        }
        let view = self.view(&caller.workspace)?;
        let api = view.api(slug).ok_or_else(|| EngineError::not_found("api", slug))?.clone();
        if !api.value.active {
            return Err(EngineError::field(Reason::ApiInactive, "slug", "the API is switched off"));
        }
        let credential = self.open_credential(&caller.workspace, &api.value)?;
        Ok(Route { api, credential })
    }
}
