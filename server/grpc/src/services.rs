//! The services: thin. Each finds who asks, converts, asks the engine, converts back.

pub mod analytics;
pub mod apis;
pub mod audit;
pub mod auth;
pub mod budgets;
pub mod configuration;
pub mod envoy;
pub mod gateway;
pub mod keys;
mod managed;
mod mask;
pub mod members;
mod people;
pub mod prices;
pub mod quota;
pub mod rules;
pub mod usage;
pub mod workspaces;

use std::future::Future;
use std::sync::Arc;

use rateguard_engine::caller::{Caller, Identity};
use rateguard_engine::directory::WorkspaceView;
use rateguard_engine::engine::Engine;
use rateguard_engine::error::EngineError;
use tonic::{Request, Response, Status};

use crate::status::status;

/// A request with who sent it and their workspace.
pub struct Call<W, M> {
    /// Who.
    pub who: W,
    /// Their workspace, as of now.
    pub view: Arc<WorkspaceView>,
    /// What.
    pub message: M,
}

/// Takes a request apart. The layer in front has put there who sends it.
///
/// # Errors
/// INTERNAL when it has not: then the layer is missing. ROLE_MISSING for a person who is in no workspace,
/// STORE_UNAVAILABLE while their workspace is not known here yet.
pub fn open<M>(engine: &Engine, request: Request<M>) -> Result<Call<Identity, M>, Status> {
    let (_, mut extensions, message) = request.into_parts();
    let unauthenticated = || status(&EngineError::internal("a request came past authentication"));
    let who: Identity = extensions.remove().ok_or_else(unauthenticated)?;
    let workspace = who.workspace().map_err(|error| status(&error))?;
    let view = engine.workspace(workspace).map_err(|error| status(&error))?;
    Ok(Call { who, view, message })
}

/// The same for what only the holder of a key does: making calls, and reporting them.
///
/// # Errors
/// As [`open`]; ROLE_MISSING for a person: what is charged is charged to a key.
pub fn open_by_key<M>(engine: &Engine, request: Request<M>) -> Result<Call<Caller, M>, Status> {
    let Call { who, view, message } = open(engine, request)?;
    let who = who.into_caller().map_err(|error| status(&error))?;
    Ok(Call { who, view, message })
}

/// What a method answers: the one place where an error of the engine becomes a status.
///
/// # Errors
/// The status of the error.
pub async fn answer<T>(work: impl Future<Output = Result<T, EngineError>>) -> Result<Response<T>, Status> {
    work.await.map(Response::new).map_err(|error| status(&error))
}
