//! Behaviour suites of the ports: what every store of a kind promises, written once and run on
//! each back end.
//!
//! A suite is a set of functions over a [`Backend`], one for each promise. A back end's tests call
//! them all, each on storage of its own.

use async_trait::async_trait;

pub mod audit_store;
pub mod checkpoint_store;
pub mod config_store;
pub mod counter_store;
pub mod event_log;
pub mod people_store;
pub mod usage_store;

/// Storage for one store, empty at first, that a test opens, closes and opens again.
#[async_trait]
pub trait Backend: Send + Sync {
    /// The store under test.
    type Store: Send + Sync + 'static;

    /// Opens the store on this storage. What was opened before is closed by then.
    async fn open(&self) -> Self::Store;

    /// Closes a store cleanly, so that the storage can be opened again.
    async fn close(&self, store: Self::Store);

    /// Begins a write on the side, as another process would, and keeps it open until the guard is
    /// released. `None` where nothing else can write.
    async fn hold_writer(&self) -> Option<Box<dyn HeldWriter>>;
}

/// A write that is under way.
#[async_trait]
pub trait HeldWriter: Send {
    /// Ends it without an effect.
    async fn release(self: Box<Self>);
}
