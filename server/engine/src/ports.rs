//! The ports: what the engine asks of stores. A store implements them; the program's wiring is
//! the only place that knows which.
//!
//! Ports take batches, and speak of what to commit. Only [`CounterStore`] decides, by the core's
//! own arithmetic.

pub mod audit_store;
pub mod checkpoint;
pub mod client_requests;
pub mod config_store;
pub mod counter_store;
pub mod event_log;
pub mod identity_store;
pub mod people_store;
pub mod sealed_store;
pub mod top_ups;
pub mod usage_store;

use thiserror::Error;

pub use audit_store::{AuditFilter, AuditLink, AuditQuery, AuditStore};
pub use checkpoint::{Checkpoint, CheckpointBatch, CheckpointStore, CounterRow, LeadRow, Loss};
pub use client_requests::{CLIENT_REQUEST_LIFE_MS, CLIENT_REQUESTS_DROPPED_MAX, ClientRequest, Once};
pub use config_store::{
    Change, ConfigStore, KeyUse, MODEL_PRICES_FULL, Resource, ResourceChange, ResourceKind, ResourcePlace,
    Snapshot, Stored, WorkspaceState, has_gap,
};
pub use counter_store::{
    ATTEMPTS_MAX, Attempt, BudgetOpening, CancelOutcome, CheckCommand, CheckOutcome, CounterHealth,
    CounterQuery, CounterStore, Decided, ExpiredReservation, LEASES_PER_COMMAND_MAX, LeaseCommand,
    LiveBudgets, LostCounters, Overflowed, Principal, Prompt, RESERVATION_RANDOM_BYTES, ReleaseOutcome,
    RenewOutcome, RequestFingerprint, ReservationRequest, ResetCounters, SLOT_MARGIN_MS, SettleCharge,
    SettleCommand, SettleReservation, Slot, SlotClaim, SlotHolder, Standing,
};
pub use event_log::{AppendOutcome, Appended, EventLog};
pub use identity_store::{ExternalIdentity, IDENTITIES_FULL, IdentityStore};
pub use people_store::{
    INVITATIONS_FULL, Invitation, InvitedOnce, JoinBounds, Joining, MEMBERS_FULL, Member, MemberChange,
    MemberRefusal, Membership, PeopleChange, PeopleFeed, PeopleStore, RefreshHashes, Refreshed, Refreshing,
    SealedSigningKey, Session, StoredWorkspace, User, WORKSPACES_FULL,
};
pub use sealed_store::{CredentialPlace, SealedPage, SealedStore, SealedValue, SealedValues};
pub use top_ups::{NewTopUp, TOP_UPS_FULL, TopUp, TopUpOutcome};
pub use usage_store::{
    EventFilter, EventPage, EventQuery, Granularity, GroupBy, SeriesPoint, SeriesQuery, Summary, UsageFilter,
    UsageStore,
};

/// Users of a resource that a refusal to remove it names.
pub const USERS_TOLD_MAX: usize = 10;

/// Why a store did not do what it was asked. Surely not done and perhaps done are kept apart,
/// since only the first may be tried again with another id.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StoreError {
    /// The store cannot be reached or refuses to write; nothing was done.
    #[error("the {store} store is unavailable: {detail}")]
    Unavailable {
        /// Which store.
        store: &'static str,
        /// What it said, without secrets.
        detail: String,
    },
    /// The store stopped answering; it may have done it.
    #[error("the {store} store did not say whether it was done: {detail}")]
    OutcomeUnknown {
        /// Which store.
        store: &'static str,
        /// What it said, without secrets.
        detail: String,
    },
    /// A queue or a named bound is full; nothing was done.
    #[error("{what} is full")]
    Full {
        /// What is full.
        what: &'static str,
    },
    /// What the store holds is not what it was given.
    #[error("the {store} store holds corrupt data: {detail}")]
    Corrupt {
        /// Which store.
        store: &'static str,
        /// What is wrong, and what to do.
        detail: String,
    },
    /// Nothing was done: an attempt at the same request id is half done, or this one was cancelled before. Of the store
    /// it says nothing.
    #[error("{store}: {detail}")]
    AttemptRefused {
        /// Which store.
        store: &'static str,
        /// What is half done or cancelled.
        detail: &'static str,
    },
    /// Another resource has the same unique value.
    #[error("the same {field} exists already")]
    AlreadyExists {
        /// The field.
        field: &'static str,
    },
    /// There is no such resource.
    #[error("not found")]
    NotFound,
    /// The resource is named by others, which would name nothing.
    #[error("the {kind} {id} is in use", kind = kind.as_str())]
    InUse {
        /// Its kind.
        kind: ResourceKind,
        /// Which.
        id: String,
        /// What names it, at most [`USERS_TOLD_MAX`].
        by: Vec<(ResourceKind, String)>,
        /// How many more do.
        more: u64,
    },
    /// Something that the resource names is not there.
    #[error("there is no {kind} {id}", kind = kind.as_str())]
    Dangling {
        /// Its kind.
        kind: ResourceKind,
        /// Which.
        id: String,
    },
    /// The resource is not at the version that the caller has seen.
    #[error("the version has changed")]
    VersionMismatch,
}

impl StoreError {
    /// Whether the store has not answered, was not reached, or can do nothing now.
    pub fn is_away(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::OutcomeUnknown { .. })
    }

    /// Whether a check was left without a decision, so that its rules' failure policies decide.
    pub fn is_undecided(&self) -> bool {
        self.is_away() || matches!(self, Self::AttemptRefused { .. })
    }
}
