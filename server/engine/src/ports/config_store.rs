//! The store of everything that people manage.

use async_trait::async_trait;
use rateguard_core::ids::{KeyId, WorkspaceId};
use rateguard_core::rule::{Budget, Rule};
use rateguard_core::time::Millis;
use tokio::sync::watch;

use super::{ClientRequest, NewTopUp, Once, StoreError, TopUp, TopUpOutcome};
use crate::audit::Deed;
use crate::listing::{PageQuery, SequenceQuery};
use crate::resources::{Api, Key, PriceOverride, Workspace};

/// What is full at so many prices of a model
/// ([`PRICES_PER_MODEL_MAX`](rateguard_core::limits::PRICES_PER_MODEL_MAX)), as errors name it.
pub const MODEL_PRICES_FULL: &str = "the model's list of prices";

/// The kinds of managed resources.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ResourceKind {
    /// APIs.
    Api,
    /// Keys.
    Key,
    /// Rules.
    Rule,
    /// Budgets.
    Budget,
    /// Prices of the workspace's own.
    PriceOverride,
}

impl ResourceKind {
    /// Every kind.
    pub const ALL: [Self; 5] = [Self::Api, Self::Key, Self::Rule, Self::Budget, Self::PriceOverride];

    /// The kind in words, as errors name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Key => "key",
            Self::Rule => "rule",
            Self::Budget => "budget",
            Self::PriceOverride => "price override",
        }
    }
}

/// A managed resource.
#[derive(Clone, Debug, PartialEq)]
pub enum Resource {
    /// An API; its slug is unique in the workspace.
    Api(Api),
    /// A key; its hash is unique in the installation.
    Key(Key),
    /// A rule.
    Rule(Rule),
    /// A budget.
    Budget(Budget),
    /// A price of the workspace's own; its provider, model and first instant are unique in the
    /// workspace.
    PriceOverride(PriceOverride),
}

impl Resource {
    /// Its kind.
    pub fn kind(&self) -> ResourceKind {
        match self {
            Self::Api(_) => ResourceKind::Api,
            Self::Key(_) => ResourceKind::Key,
            Self::Rule(_) => ResourceKind::Rule,
            Self::Budget(_) => ResourceKind::Budget,
            Self::PriceOverride(_) => ResourceKind::PriceOverride,
        }
    }

    /// Its id, as text.
    pub fn id(&self) -> &str {
        match self {
            Self::Api(api) => api.id.as_str(),
            Self::Key(key) => key.id.as_str(),
            Self::Rule(rule) => rule.id.as_str(),
            Self::Budget(budget) => budget.id.as_str(),
            Self::PriceOverride(price) => price.sheet.reference.id.as_str(),
        }
    }
}

impl Resource {
    /// The APIs and keys that it names, and that cannot be removed as long as it does.
    pub fn references(&self) -> Vec<(ResourceKind, &str)> {
        let (apis, keys) = match self {
            Self::Rule(rule) => (&rule.matches.apis, Some(&rule.matches.keys)),
            Self::Budget(budget) => (&budget.matches.apis, Some(&budget.matches.keys)),
            Self::Key(key) => (&key.apis, None),
            Self::Api(_) | Self::PriceOverride(_) => return Vec::new(),
        };
        let apis = apis.iter().map(|api| (ResourceKind::Api, api.as_str()));
        let keys = keys.into_iter().flatten().map(|key| (ResourceKind::Key, key.as_str()));
        apis.chain(keys).collect()
    }
}

/// A resource as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored<T> {
    /// The tenant.
    pub workspace: WorkspaceId,
    /// The resource.
    pub value: T,
    /// Its version, from 1; the etag is made of it.
    pub version: u64,
    /// When it was made.
    pub created_at: Millis,
    /// When it was changed last.
    pub updated_at: Millis,
}

impl<T> Stored<T> {
    /// Another value under the same circumstances.
    pub fn with<U>(&self, value: U) -> Stored<U> {
        let Self { workspace, version, created_at, updated_at, .. } = self;
        Stored {
            workspace: workspace.clone(),
            value,
            version: *version,
            created_at: *created_at,
            updated_at: *updated_at,
        }
    }

    /// The same with another view of the resource.
    ///
    /// # Errors
    /// Those of `view`.
    pub fn try_map<U, E>(self, view: impl FnOnce(T) -> Result<U, E>) -> Result<Stored<U>, E> {
        let Self { workspace, value, version, created_at, updated_at } = self;
        Ok(Stored { workspace, value: view(value)?, version, created_at, updated_at })
    }
}

/// One entry of the change feed: what changed, not how, so that a reader fetches what is true now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Rising by one with each change of the installation.
    pub revision: u64,
    /// The tenant.
    pub workspace: WorkspaceId,
    /// What kind; `None` for one that only a later version knows, which has to pass without being read.
    pub kind: Option<ResourceKind>,
    /// Which.
    pub id: String,
}

/// Whether changes that were read after a revision leave out some that were made: those that the store
/// has forgotten, because they were too long ago.
pub fn has_gap(after: u64, changes: &[Change]) -> bool {
    changes.iter().zip(after.saturating_add(1)..).any(|(change, expected)| change.revision != expected)
}

/// Which resource of which workspace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResourcePlace {
    /// The tenant.
    pub workspace: WorkspaceId,
    /// Its kind.
    pub kind: ResourceKind,
    /// Its id.
    pub id: String,
}

/// That a key was used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyUse {
    /// The tenant.
    pub workspace: WorkspaceId,
    /// The key.
    pub key: KeyId,
    /// When, the last time.
    pub at: Millis,
}

/// Everything, as of one revision.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// The revision.
    pub revision: u64,
    /// The tenants.
    pub workspaces: Vec<Workspace>,
    /// Their resources.
    pub resources: Vec<Stored<Resource>>,
}

/// Everything of one workspace, as of one revision.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WorkspaceState {
    /// The revision of the workspace's last change; 0 before any. What others change leaves it as it is.
    pub revision: u64,
    /// The resources, by kind and then by id.
    pub resources: Vec<Stored<Resource>>,
}

/// One of several changes that are made together.
#[derive(Clone, Debug, PartialEq)]
pub enum ResourceChange {
    /// A resource is made, as by [`ConfigStore::insert`].
    Insert {
        /// The resource.
        resource: Resource,
        /// The most of its kind that the workspace may have.
        limit: usize,
    },
    /// A resource is replaced, as by [`ConfigStore::replace`].
    Replace {
        /// What it becomes.
        resource: Resource,
        /// The version that it must be at.
        expected: u64,
    },
    /// A resource is removed, as by [`ConfigStore::remove`].
    Remove {
        /// Its kind.
        kind: ResourceKind,
        /// Its id.
        id: String,
        /// The version that it must be at, if any.
        expected: Option<u64>,
    },
}

impl ResourceChange {
    /// The kind of what changes.
    pub fn kind(&self) -> ResourceKind {
        match self {
            Self::Insert { resource, .. } | Self::Replace { resource, .. } => resource.kind(),
            Self::Remove { kind, .. } => *kind,
        }
    }

    /// The id of what changes.
    pub fn id(&self) -> &str {
        match self {
            Self::Insert { resource, .. } | Self::Replace { resource, .. } => resource.id(),
            Self::Remove { id, .. } => id,
        }
    }
}

/// Managed resources with versions and a feed of changes. Every change is one transaction with its
/// entry in the feed and the entry of the [`Deed`] in the audit trail.
#[async_trait]
pub trait ConfigStore: Send + Sync + 'static {
    /// Makes a workspace.
    ///
    /// # Errors
    /// [`StoreError::AlreadyExists`].
    async fn create_workspace(&self, workspace: Workspace, by: &Deed) -> Result<(), StoreError>;

    /// Makes a resource.
    ///
    /// # Errors
    /// [`StoreError::AlreadyExists`] naming the field (`id`, `slug`, `secret`, `effective_from`),
    /// [`StoreError::NotFound`] for the workspace, [`StoreError::Full`] beyond `limit` resources of
    /// the kind in the workspace and where [`MODEL_PRICES_FULL`], [`StoreError::Dangling`] for something
    /// that it names.
    async fn insert(
        &self,
        workspace: &WorkspaceId,
        resource: Resource,
        limit: usize,
        by: &Deed,
    ) -> Result<Stored<Resource>, StoreError>;

    /// Replaces a resource that is at `expected`.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::VersionMismatch`], [`StoreError::AlreadyExists`],
    /// [`StoreError::Dangling`] for something that it names now and did not name before.
    async fn replace(
        &self,
        workspace: &WorkspaceId,
        resource: Resource,
        expected: u64,
        by: &Deed,
    ) -> Result<Stored<Resource>, StoreError>;

    /// Removes a resource; with `expected` only at that version.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::VersionMismatch`], [`StoreError::InUse`].
    async fn remove(
        &self,
        workspace: &WorkspaceId,
        kind: ResourceKind,
        id: &str,
        expected: Option<u64>,
        by: &Deed,
    ) -> Result<(), StoreError>;

    /// Makes a change, no removal, unless a change was made under the same request before; both in one
    /// transaction. Requests are forgotten after [`super::CLIENT_REQUEST_LIFE_MS`].
    ///
    /// # Errors
    /// [`StoreError::AlreadyExists`] naming `request_id` for one that was used for other content;
    /// otherwise those of the change.
    async fn change_once(
        &self,
        workspace: &WorkspaceId,
        change: ResourceChange,
        request: &ClientRequest,
        by: &Deed,
    ) -> Result<Once, StoreError>;

    /// What was changed under a request that is still known; `None` when nothing was.
    ///
    /// # Errors
    /// [`StoreError::AlreadyExists`] naming `request_id` for one that was used for other content.
    async fn changed_before(
        &self,
        workspace: &WorkspaceId,
        request: &ClientRequest,
        now: Millis,
    ) -> Result<Option<Once>, StoreError>;

    /// Tops a budget up: the entry of its ledger and the budget's sum are one transaction. A second call
    /// with the same request id and content gives the first one's entry, and changes nothing.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for the budget, [`StoreError::AlreadyExists`] naming `request_id` for one
    /// that was used for other content, [`StoreError::Full`] beyond `limit` entries of the budget.
    async fn top_up(
        &self,
        workspace: &WorkspaceId,
        top_up: NewTopUp,
        limit: usize,
        by: &Deed,
    ) -> Result<TopUpOutcome, StoreError>;

    /// At most `limit` entries of a budget's ledger after a place of it in a direction. They stay when the
    /// budget goes.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::Corrupt`].
    async fn top_ups(
        &self,
        workspace: &WorkspaceId,
        budget: &str,
        query: &SequenceQuery,
    ) -> Result<Vec<TopUp>, StoreError>;

    /// Makes changes of one workspace in their order, all of them or none, if nothing of the workspace
    /// has changed after the revision `seen`; each has its entry in the feed. What names what is looked at
    /// when all are made. Gives what was made and
    /// replaced, in that order.
    ///
    /// # Errors
    /// [`StoreError::VersionMismatch`] where something has changed since; otherwise those of the
    /// change at fault.
    async fn apply_all(
        &self,
        workspace: &WorkspaceId,
        changes: Vec<ResourceChange>,
        seen: u64,
        by: &Deed,
    ) -> Result<Vec<Stored<Resource>>, StoreError>;

    /// The resources of one workspace as of one revision: of each kind at most `limit`, the first by
    /// id.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::Corrupt`].
    async fn workspace_state(
        &self,
        workspace: &WorkspaceId,
        limit: usize,
    ) -> Result<WorkspaceState, StoreError>;

    /// One resource.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::Corrupt`].
    async fn get(
        &self,
        workspace: &WorkspaceId,
        kind: ResourceKind,
        id: &str,
    ) -> Result<Option<Stored<Resource>>, StoreError>;

    /// Those of these resources that are there, of whatever workspaces, in no particular order.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::Corrupt`].
    async fn get_all(&self, places: &[ResourcePlace]) -> Result<Vec<Stored<Resource>>, StoreError>;

    /// Those of these workspaces that are there, in no particular order.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::Corrupt`].
    async fn workspaces(&self, ids: &[WorkspaceId]) -> Result<Vec<Workspace>, StoreError>;

    /// Resources in the order that is asked for, from the place that is asked for on. The place's resource
    /// need not be there any longer.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::Corrupt`].
    async fn list(
        &self,
        workspace: &WorkspaceId,
        kind: ResourceKind,
        query: &PageQuery,
    ) -> Result<Vec<Stored<Resource>>, StoreError>;

    /// Everything, consistent, for the start.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::Corrupt`].
    async fn snapshot(&self) -> Result<Snapshot, StoreError>;

    /// At most `limit` changes after a revision, in order. Each follows the one before it by one, but where
    /// the store has forgotten some: see [`has_gap`]. The last change is never forgotten.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    async fn changes_after(&self, revision: u64, limit: usize) -> Result<Vec<Change>, StoreError>;

    /// Notes when keys were used last. The latest use of a key stays, whoever notes it and in whatever
    /// order; keys that are gone are passed over. It is no change of the key: neither its version nor
    /// the feed moves.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::OutcomeUnknown`]; to note the same again is harmless.
    async fn touch_keys(&self, uses: &[KeyUse]) -> Result<(), StoreError>;

    /// When these keys of a workspace were used last, as far as that was noted. A key that was never
    /// used is left out.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::Corrupt`].
    async fn key_uses(
        &self,
        workspace: &WorkspaceId,
        keys: &[KeyId],
    ) -> Result<Vec<(KeyId, Millis)>, StoreError>;

    /// Changes its value when the feed has grown, by whatever process. It hurries a reader, who reads
    /// now and then all the same: a notification may be lost. `None` where nobody notifies.
    fn wake(&self) -> Option<watch::Receiver<u64>> {
        None
    }
}
