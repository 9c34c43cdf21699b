//! Reading the trail of a data folder without its server, or beside it.

use std::path::Path;

use super::{SqlAuditStore, Trail};
use crate::database::{Database, OpenError};

impl SqlAuditStore {
    /// Opens the trail of a data folder, only to read it. The folder is not locked: a server may be at
    /// work in it.
    ///
    /// # Errors
    /// [`OpenError`] when a file is missing or cannot be read.
    pub async fn open_to_read(folder: &Path) -> Result<Self, OpenError> {
        let entries = Database::open_to_read(folder, &crate::config::SCHEMA).await?;
        let copies = Database::open_to_read(folder, &crate::events::SCHEMA).await?;
        Ok(Self::over(Trail { entries, copies }))
    }

    /// Closes what [`SqlAuditStore::open_to_read`] has opened.
    pub async fn close(&self) {
        self.trail.entries.close().await;
        self.trail.copies.close().await;
    }
}
