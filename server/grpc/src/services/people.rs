//! What the services of people have in common: who asks, and from where.

use rateguard_engine::audit::Origin;
use rateguard_engine::caller::Identity;
use rateguard_engine::error::EngineError;
use rateguard_engine::people::Person;
use tonic::{Request, Status};

use crate::auth::browser::Browser;
use crate::status::status;

/// A request of somebody who is logged in.
pub(super) struct FromPerson<M> {
    /// Who.
    pub person: Person,
    /// From where.
    pub origin: Origin,
    /// What.
    pub message: M,
}

/// A request of somebody who is not known yet.
pub(super) struct FromVisitor<M> {
    /// From where.
    pub origin: Origin,
    /// With which browser, if any.
    pub browser: Browser,
    /// What.
    pub message: M,
}

/// Takes a request apart. The layer in front has put the person there.
///
/// # Errors
/// INTERNAL when it has not: then the layer is missing.
pub(super) fn from_person<M>(request: Request<M>) -> Result<FromPerson<M>, Status> {
    let (_, mut extensions, message) = request.into_parts();
    let person = extensions.remove().and_then(Identity::into_person).ok_or_else(past_authentication)?;
    let origin = extensions.remove().ok_or_else(past_authentication)?;
    Ok(FromPerson { person, origin, message })
}

/// The same for a request that needs no credential.
///
/// # Errors
/// As [`from_person`].
pub(super) fn from_visitor<M>(request: Request<M>) -> Result<FromVisitor<M>, Status> {
    let (_, mut extensions, message) = request.into_parts();
    let origin = extensions.remove().ok_or_else(past_authentication)?;
    let browser = extensions.remove().ok_or_else(past_authentication)?;
    Ok(FromVisitor { origin, browser, message })
}

fn past_authentication() -> Status {
    status(&EngineError::internal("a request came past authentication"))
}
