//! Resources that are made once, however often their client asks.

use crate::caller::Identity;
use crate::engine::Engine;
use crate::error::{EngineError, Reason};
use crate::ports::{ClientRequest, Once, Resource, ResourceChange, StoreError, Stored};

use super::{describe, limit_of, request_id_reused};

/// A resource that somebody asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Created {
    /// As it is now.
    pub stored: Stored<Resource>,
    /// Whether an earlier call with the same request id made it.
    pub repeated: bool,
}

impl Engine {
    /// Makes a resource, once for the request that it comes with.
    ///
    /// # Errors
    /// As [`Engine::create`]; [`Reason::RequestIdReused`], and [`Reason::ResourceNotFound`] where what was
    /// made before is gone.
    pub async fn create_once(
        &self,
        identity: &Identity,
        resource: Resource,
        request: Option<ClientRequest>,
    ) -> Result<Created, EngineError> {
        let Some(request) = request else {
            let stored = self.create(identity, resource).await?;
            return Ok(Created { stored, repeated: false });
        };
        if let Some(before) = self.made_before(identity, &request).await? {
            return Ok(before);
        }
        if let Err(refused) = self.check_new(identity, &resource).await {
            // Perhaps by what the same request has made in this instant.
            return self.made_before(identity, &request).await?.ok_or(refused);
        }
        let limit = limit_of(resource.kind());
        self.change_once(identity, ResourceChange::Insert { resource, limit }, &request).await
    }

    /// What was made under a request before.
    ///
    /// # Errors
    /// [`Reason::RequestIdReused`], [`Reason::ResourceNotFound`].
    pub(super) async fn made_before(
        &self,
        identity: &Identity,
        request: &ClientRequest,
    ) -> Result<Option<Created>, EngineError> {
        let found = self.config.changed_before(identity.workspace()?, request, self.now()).await;
        let found = found.map_err(reused_or)?;
        found.map(created).transpose()
    }

    /// Makes or replaces a resource, once for a request.
    ///
    /// # Errors
    /// As [`Engine::create_once`].
    pub(super) async fn change_once(
        &self,
        identity: &Identity,
        change: ResourceChange,
        request: &ClientRequest,
    ) -> Result<Created, EngineError> {
        let kind = change.kind();
        let deed = identity.deed(self.now());
        let once = self.config.change_once(identity.workspace()?, change, request, &deed).await;
        let made = created(once.map_err(|error| describe(error, kind, limit_of(kind)))?)?;
        if made.repeated {
            return Ok(made);
        }
        Ok(Created { stored: self.take_in(made.stored).await, repeated: false })
    }
}

fn created(once: Once) -> Result<Created, EngineError> {
    match once {
        Once::Made(stored) => Ok(Created { stored: *stored, repeated: false }),
        Once::Before(Some(stored)) => Ok(Created { stored: *stored, repeated: true }),
        Once::Before(None) => Err(made_and_gone()),
    }
}

/// The refusal of a request that has made something, which is no more.
pub(crate) fn made_and_gone() -> EngineError {
    EngineError::new(
        Reason::ResourceNotFound,
        "what an earlier call with this request id made is gone since; draw a new request id",
    )
}

fn reused_or(error: StoreError) -> EngineError {
    match error {
        StoreError::AlreadyExists { .. } => request_id_reused(),
        error => error.into(),
    }
}
