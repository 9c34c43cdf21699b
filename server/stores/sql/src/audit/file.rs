//! Reading the trail of a data folder without its server, or beside it.

use std::path::Path;

use super::{SqlAuditStore, Witness};
use crate::config::CONFIG_FILE;
use crate::database::{Database, OpenError};
use crate::events::EVENTS_FILE;

impl SqlAuditStore {
    /// Opens the trail of a data folder, only to read it. The folder is not locked: a server may be at
    /// work in it.
    ///
    /// # Errors
    /// [`OpenError`] when a file is missing or cannot be read.
    pub async fn open_to_read(folder: &Path) -> Result<Self, OpenError> {
        let entries = Database::open_to_read(&folder.join(CONFIG_FILE), super::STORE).await?;
        let copies = Database::open_to_read(&folder.join(EVENTS_FILE), super::STORE).await?;
        Ok(Self::over(Witness::new(entries, copies)))
    }

    /// Closes what [`SqlAuditStore::open_to_read`] has opened.
    pub async fn close(&self) {
        self.witness.entries.close().await;
        self.witness.copies.close().await;
    }
}
