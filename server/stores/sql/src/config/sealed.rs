//! [`SealedStore`] over the configuration, and its reading half for a process beside the one that has
//! the data folder.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use rateguard_core::time::Millis;
use rateguard_engine::ports::{
    CredentialPlace, SealedPage, SealedStore, SealedValue, SealedValues, StoreError,
};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _};

use super::{SCHEMA, STORE, SqlConfigStore, reseal};
use crate::database::{OpenError, failure};

#[async_trait]
impl SealedValues for SqlConfigStore {
    async fn sealed_singly(&self) -> Result<Vec<SealedValue>, StoreError> {
        let work = async {
            let mut reader = self.database.reader().await?;
            reseal::singly(&mut reader).await
        };
        self.database.within_deadline(work).await
    }

    async fn credentials_after(
        &self,
        after: Option<&CredentialPlace>,
        limit: usize,
    ) -> Result<SealedPage, StoreError> {
        let work = async {
            let mut reader = self.database.reader().await?;
            reseal::credentials_after(&mut reader, after, limit).await
        };
        self.database.within_deadline(work).await
    }
}

#[async_trait]
impl SealedStore for SqlConfigStore {
    async fn replace_sealed(
        &self,
        value: &SealedValue,
        sealed: Vec<u8>,
        now: Millis,
    ) -> Result<bool, StoreError> {
        let work = async {
            let mut transaction = self.database.begin().await?;
            let replaced = reseal::replace(&mut transaction, value, sealed, now).await?;
            Ok((transaction, replaced))
        };
        self.database.write(work).await
    }
}

/// What stands sealed in a data folder, for a process beside the one that has the folder. Nothing is
/// locked or written.
#[derive(Clone, Debug)]
pub struct SqlSealedReader {
    path: PathBuf,
}

impl SqlSealedReader {
    /// A reader of a folder's configuration.
    ///
    /// # Errors
    /// [`OpenError::NoInstallation`] where there is none.
    pub fn new(folder: &Path) -> Result<Self, OpenError> {
        let path = folder.join(SCHEMA.file);
        let found = path.metadata().is_ok_and(|metadata| metadata.len() > 0);
        found.then_some(Self { path }).ok_or_else(|| OpenError::NoInstallation { path: folder.to_owned() })
    }

    async fn connect(&self) -> Result<SqliteConnection, StoreError> {
        let options = SqliteConnectOptions::new().filename(&self.path).read_only(true);
        options.connect().await.map_err(failure(STORE))
    }
}

#[async_trait]
impl SealedValues for SqlSealedReader {
    async fn sealed_singly(&self) -> Result<Vec<SealedValue>, StoreError> {
        let mut connection = self.connect().await?;
        let values = reseal::singly(&mut connection).await?;
        connection.close().await.map_err(failure(STORE))?;
        Ok(values)
    }

    async fn credentials_after(
        &self,
        after: Option<&CredentialPlace>,
        limit: usize,
    ) -> Result<SealedPage, StoreError> {
        let mut connection = self.connect().await?;
        let page = reseal::credentials_after(&mut connection, after, limit).await?;
        connection.close().await.map_err(failure(STORE))?;
        Ok(page)
    }
}

#[cfg(test)]
mod tests;
