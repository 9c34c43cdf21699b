//! [`SealedStore`] over the configuration, and its reading half for a process beside the one that
//! serves the installation.

use std::path::Path;

use async_trait::async_trait;
use rateguard_core::time::Millis;
use rateguard_engine::ports::{
    CredentialPlace, SealedPage, SealedStore, SealedValue, SealedValues, StoreError,
};

use super::{SCHEMA, SERVER_SCHEMA, SqlConfigStore, reseal};
use crate::database::{Database, OpenError, PostgresDatabase, Scope};

#[async_trait]
impl SealedValues for SqlConfigStore {
    async fn sealed_singly(&self) -> Result<Vec<SealedValue>, StoreError> {
        self.sealed().sealed_singly().await
    }

    async fn credentials_after(
        &self,
        after: Option<&CredentialPlace>,
        limit: usize,
    ) -> Result<SealedPage, StoreError> {
        self.sealed().credentials_after(after, limit).await
    }
}

impl SqlConfigStore {
    fn sealed(&self) -> SqlSealedReader {
        SqlSealedReader { database: self.database.clone() }
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
            let mut transaction = self.database.begin(Scope::Installation).await?;
            let replaced = reseal::replace(&mut transaction, value, sealed, now).await?;
            Ok((transaction, replaced))
        };
        self.database.write(work).await
    }
}

/// What stands sealed in an installation, also for a process beside the one that serves it. Nothing is
/// locked or written.
#[derive(Clone, Debug)]
pub struct SqlSealedReader {
    database: Database,
}

impl SqlSealedReader {
    /// A reader of a data folder's configuration.
    ///
    /// # Errors
    /// [`OpenError::NoInstallation`] where there is none, else as it cannot be read.
    pub async fn open_to_read(folder: &Path) -> Result<Self, OpenError> {
        let found = folder.join(SCHEMA.file).metadata().is_ok_and(|metadata| metadata.len() > 0);
        if !found {
            return Err(OpenError::NoInstallation { path: folder.to_owned() });
        }
        Ok(Self { database: Database::open_to_read(folder, &SCHEMA).await? })
    }

    /// A reader of the configuration in a database on a server. Nothing is migrated, whatever the database
    /// says of migrations.
    ///
    /// # Errors
    /// [`OpenError`], also where the schema is not the one of this version.
    pub async fn open_on_server(server: &PostgresDatabase) -> Result<Self, OpenError> {
        let server = server.clone().requiring_migrations();
        Ok(Self { database: Database::open_on_server(&server, &SERVER_SCHEMA).await? })
    }
}

#[async_trait]
impl SealedValues for SqlSealedReader {
    async fn sealed_singly(&self) -> Result<Vec<SealedValue>, StoreError> {
        let work = async {
            let mut reader = self.database.reader(Scope::Installation).await?;
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
            let mut reader = self.database.reader(Scope::Installation).await?;
            reseal::credentials_after(&mut reader, after, limit).await
        };
        self.database.within_deadline(work).await
    }
}

#[cfg(test)]
mod tests;
