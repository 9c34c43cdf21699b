//! The connections to one file.

use sqlx::Error;
use sqlx::sqlite::SqlitePool;

use super::DataFolder;
use super::connection::{Connection, Held};

/// Pools of a file: one connection that writes, and a few that only read.
#[derive(Clone, Debug)]
pub(super) struct SqlitePools {
    pub writer: SqlitePool,
    pub readers: SqlitePool,
    // Keeps the folder locked while any store of it is open.
    pub _folder: Option<DataFolder>,
}

impl SqlitePools {
    pub async fn begin(&self) -> Result<Connection, Error> {
        let transaction = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        Ok(Connection::Sqlite(Held::Transaction(transaction)))
    }

    pub async fn reader(&self) -> Result<Connection, Error> {
        Ok(Connection::Sqlite(Held::Plain(self.readers.acquire().await?)))
    }

    pub async fn begin_read(&self) -> Result<Connection, Error> {
        Ok(Connection::Sqlite(Held::Transaction(self.readers.begin().await?)))
    }

    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}
