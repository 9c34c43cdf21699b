//! What callers wait for on disk: whoever comes first writes for all who wait.

use std::sync::Arc;

use rateguard_engine::ports::StoreError;

use crate::ceilings::Raise;
use crate::checkpointing::Disk;
use crate::covering::Waiting;
use crate::store::STORE;

/// The disk, and those who wait for it.
pub(crate) struct Writes {
    /// Whoever has it writes; everybody else waits.
    pub(crate) disk: tokio::sync::Mutex<Disk>,
    /// Ceilings that wait to be raised together.
    pub(crate) raises: parking_lot::Mutex<Vec<Raise>>,
    /// Checks that wait until what they took is on disk.
    pub(crate) waiting: parking_lot::Mutex<Waiting>,
}

impl Writes {
    pub(crate) fn new(disk: Disk) -> Arc<Self> {
        Arc::new(Self {
            disk: tokio::sync::Mutex::new(disk),
            raises: parking_lot::Mutex::default(),
            waiting: parking_lot::Mutex::default(),
        })
    }
}

/// Works in a task of its own. A caller may go away, or be driven on by nobody for a while: if its turn at the
/// disk went with it, everybody behind it would wait.
///
/// # Errors
/// Those of the work; [`StoreError::OutcomeUnknown`] when it came to no end.
pub(crate) async fn apart(
    work: impl Future<Output = Result<(), StoreError>> + Send + 'static,
) -> Result<(), StoreError> {
    let unended = |error: tokio::task::JoinError| {
        Err(StoreError::OutcomeUnknown { store: STORE, detail: error.to_string() })
    };
    tokio::spawn(work).await.unwrap_or_else(unended)
}
