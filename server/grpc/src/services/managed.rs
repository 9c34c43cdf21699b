//! What the services of managed resources have in common: one way to create, get, list, update and
//! delete, whatever the kind.

use std::sync::Arc;

use prost::Message;
use prost_types::FieldMask;
use rateguard_core::money::Currency;
use rateguard_engine::caller::Identity;
use rateguard_engine::directory::WorkspaceView;
use rateguard_engine::engine::Engine;
use rateguard_engine::error::{EngineError, Reason};
use rateguard_engine::manage::ResourceFilter;
use rateguard_engine::ports::{ClientRequest, Resource, ResourceKind, Stored};
use rateguard_engine::secrets::random;
use tonic::{Request, Status};

use super::mask::{Maskable, masked};
use super::{Call, open};
use crate::convert::{client_request, etag_version, missing, resource_id, within};
use crate::listing::{ListMethod, PageFields};

/// One kind of managed resource, as the wire has it.
pub trait Managed: Sized {
    /// Its message.
    type Message: Message + Default;
    /// Its kind.
    const KIND: ResourceKind;
    /// The field of requests that holds it.
    const FIELD: &'static str;
    /// What update masks are held against.
    const MASKABLE: Maskable;

    /// The id and the etag that a message carries.
    fn id_and_etag(message: &Self::Message) -> (&str, &str);

    /// Reads a message: a new resource, or what becomes of the present one. Errors name fields of the
    /// message.
    ///
    /// # Errors
    /// Those of its fields.
    fn read(desk: &Desk<'_>, message: Self::Message, present: Option<&Self>) -> Result<Self, EngineError>;

    /// What tells two requests for a new resource apart.
    fn content(message: &Self::Message) -> Vec<u8> {
        message.encode_to_vec()
    }

    /// The message of a stored resource, with everything that an update can leave as it is.
    fn message(stored: &Stored<Self>, currency: Currency) -> Self::Message;

    /// The resource out of its kind.
    fn into_resource(self) -> Resource;

    /// The resource, when it is of this kind.
    fn from_resource(resource: Resource) -> Option<Self>;
}

/// Where what one person or program asks for is done.
pub struct Desk<'e> {
    /// The engine.
    pub engine: &'e Arc<Engine>,
    /// Who asks.
    pub who: Identity,
    /// Their workspace, as of now.
    pub view: Arc<WorkspaceView>,
}

/// A page of resources of one kind.
pub struct Page<M> {
    /// The resources.
    pub items: Vec<Stored<M>>,
    /// Asks for the next page; empty at the end.
    pub next_page_token: String,
}

/// A resource after an update.
pub struct Updated<M> {
    /// As it is stored now.
    pub stored: Stored<M>,
    /// Whether it has new counters.
    pub counters_reset: bool,
}

/// Brings a request to the desk.
///
/// # Errors
/// As [`open`].
pub fn at_desk<M>(engine: &Arc<Engine>, request: Request<M>) -> Result<(Desk<'_>, M), Status> {
    let Call { who, view, message } = open(engine, request)?;
    Ok((Desk { engine, who, view }, message))
}

impl Desk<'_> {
    /// The workspace's currency.
    pub fn currency(&self) -> Currency {
        self.view.workspace.currency
    }

    /// Reads a new resource out of a request.
    ///
    /// # Errors
    /// [`Reason::FieldMissing`], and those of its fields.
    pub fn read_new<M: Managed>(&self, message: Option<M::Message>) -> Result<M, EngineError> {
        let message = message.ok_or_else(|| missing(M::FIELD))?;
        M::read(self, message, None).map_err(|error| within(M::FIELD, error))
    }

    /// Creates a resource, once for the request id that it comes with.
    ///
    /// # Errors
    /// As [`Desk::read_new`] and [`Engine::create_once`].
    pub async fn create<M: Managed>(
        &self,
        message: Option<M::Message>,
        request_id: &str,
    ) -> Result<Stored<M>, EngineError> {
        let request = creation::<M>(message.as_ref(), request_id)?;
        let value: M = self.read_new(message)?;
        let (engine, who, resource) = (self.engine.clone(), self.who.clone(), value.into_resource());
        let created = to_the_end(async move { engine.create_once(&who, resource, request).await }).await?;
        of_kind(created.stored)
    }

    /// Finds a resource.
    ///
    /// # Errors
    /// [`Reason::ResourceNotFound`]; [`Reason::FieldMissing`] and [`Reason::FieldOutOfBounds`] for an
    /// id that is none.
    pub async fn get<M: Managed>(&self, field: &str, id: &str) -> Result<Stored<M>, EngineError> {
        of_kind(self.engine.get(&self.who, M::KIND, resource_id(field, id)?).await?)
    }

    /// Lists resources.
    ///
    /// # Errors
    /// [`Reason::PageTokenInvalid`], [`Reason::FieldMalformed`], [`Reason::FieldOutOfBounds`].
    pub async fn list<M: Managed>(
        &self,
        filter: &ResourceFilter,
        page: PageFields<'_>,
    ) -> Result<Page<M>, EngineError> {
        let method = ListMethod::of_resources(M::KIND.as_str());
        let turn = method.turn(self.who.workspace()?.as_str(), filter, page)?;
        let page = self.engine.list(&self.who, M::KIND, filter, &turn.page()?).await?;
        let next_page_token = turn.token_after(page.next_after.as_ref());
        Ok(Page { items: page.items.into_iter().map(of_kind).collect::<Result<_, _>>()?, next_page_token })
    }

    /// Changes the fields that the mask names.
    ///
    /// # Errors
    /// [`Reason::EtagMismatch`], [`Reason::UpdateMaskInvalid`], and as [`Engine::update`].
    pub async fn update<M: Managed>(
        &self,
        message: Option<M::Message>,
        mask: Option<FieldMask>,
    ) -> Result<Updated<M>, EngineError> {
        let changes = message.ok_or_else(|| missing(M::FIELD))?;
        let (id, etag) = M::id_and_etag(&changes);
        let stored: Stored<M> = self.get(&format!("{}.id", M::FIELD), id).await?;
        let expected = etag_version(etag)?.unwrap_or(stored.version);
        if expected != stored.version {
            return Err(EngineError::new(Reason::EtagMismatch, "the resource has changed since it was read"));
        }
        let present = M::message(&stored, self.currency());
        let merged = masked(M::MASKABLE, &present, &changes, mask.as_ref())?;
        let value = M::read(self, merged, Some(&stored.value)).map_err(|error| within(M::FIELD, error))?;
        let (engine, who, resource) = (self.engine.clone(), self.who.clone(), value.into_resource());
        let updated = to_the_end(async move { engine.update(&who, resource, expected).await }).await?;
        Ok(Updated { stored: of_kind(updated.stored)?, counters_reset: updated.counters_reset })
    }

    /// Deletes a resource.
    ///
    /// # Errors
    /// As [`Engine::delete`]; [`Reason::FieldMissing`] and [`Reason::FieldOutOfBounds`] for an id that
    /// is none.
    pub async fn delete<M: Managed>(&self, id: &str, etag: &str) -> Result<(), EngineError> {
        let expected = etag_version(etag)?;
        self.engine.delete(&self.who, M::KIND, resource_id("id", id)?, expected).await
    }
}

/// The request for a new resource, where somebody has named it.
///
/// # Errors
/// [`Reason::FieldMissing`] without the resource, [`Reason::FieldOutOfBounds`] for the id.
pub fn creation<M: Managed>(
    message: Option<&M::Message>,
    request_id: &str,
) -> Result<Option<ClientRequest>, EngineError> {
    let message = message.ok_or_else(|| missing(M::FIELD))?;
    client_request(request_id, M::FIELD, &M::content(message))
}

/// Runs a change to its end, also when its caller goes away in the middle: a new budget has to take
/// in what was spent before it.
///
/// # Errors
/// Those of the change.
pub async fn to_the_end<T: Send + 'static>(
    change: impl Future<Output = Result<T, EngineError>> + Send + 'static,
) -> Result<T, EngineError> {
    let ended = tokio::spawn(change).await;
    ended.unwrap_or_else(|_| Err(EngineError::internal("a change did not run to its end")))
}

/// Random bytes for a new id.
///
/// # Errors
/// INTERNAL when the system has none.
pub fn random_id() -> Result<[u8; 16], EngineError> {
    random().map_err(|error| EngineError::internal(&error.to_string()))
}

/// What the store gave, as the kind that it was asked for.
///
/// # Errors
/// INTERNAL when it is of another kind.
pub fn of_kind<M: Managed>(stored: Stored<Resource>) -> Result<Stored<M>, EngineError> {
    let another = || EngineError::internal("the store gave a resource of another kind");
    stored.try_map(|resource| M::from_resource(resource).ok_or_else(another))
}
