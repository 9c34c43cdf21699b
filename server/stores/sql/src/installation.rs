//! The four files of an installation, opened together: they belong together, and a start that
//! finds one of them missing, empty or another installation's says so instead of beginning anew.
//!
//! The same id stands in all four. The configuration's file has it first, and says last that all
//! have it, so that a start that was cut off goes on where it stopped. What another file holds can
//! be built again: rollups from the log here, counters by whoever knows what budgets count.

mod server;
mod state;
mod verdict;

use rateguard_core::counter::Position;
use rateguard_engine::ports::{EventLog as _, StoreError};
use rateguard_engine::secrets::random;

use crate::database::{DataFolder, Database, OpenError, Scope};
use crate::{SqlCheckpointStore, SqlConfigStore, SqlEventLog, SqlUsageStore};
pub(crate) use state::Mark;
use state::inspect;
use verdict::{Found, Verdict, judge};
pub(crate) use verdict::{REBUILD_COUNTERS, REBUILD_USAGE, RESTORE_CONFIG, RESTORE_EVENTS};

/// Random bytes of an installation's id.
const ID_BYTES: usize = 16;

/// What a folder may hold when it is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// An installation.
    Existing,
    /// An installation, or nothing: then one is made.
    ExistingOrNew,
}

/// The stores of one installation, open.
#[derive(Debug)]
pub struct SqlStores {
    /// Managed resources.
    pub config: SqlConfigStore,
    /// The log of events.
    pub events: SqlEventLog,
    /// Rollups.
    pub usage: SqlUsageStore,
    /// Checkpoints of counters.
    pub checkpoints: SqlCheckpointStore,
    /// Whether the rollups were lost: they are empty now, and follow the log from its beginning.
    pub usage_was_lost: bool,
    id: String,
    counters_are_lost: bool,
}

impl SqlStores {
    /// Opens the four files of a folder, or makes them.
    ///
    /// # Errors
    /// [`OpenError`], naming the file and what to do.
    pub async fn open(folder: &DataFolder, opening: Opening) -> Result<Self, OpenError> {
        let verdict = judge(folder.path(), &Found::read(folder).await?, opening)?;
        let id = match &verdict.id {
            Some(id) => id.clone(),
            None => draw_id(folder)?,
        };
        let config = Database::open(folder, &crate::config::SCHEMA).await?;
        let mark = |whole| Mark { id: id.clone(), whole };
        if !verdict.is_whole {
            mark(false).write(folder, &config).await?;
        }
        let events = SqlEventLog::open(folder).await?;
        let config = SqlConfigStore::over(config, &events).await;
        mark(true).write(folder, events.database()).await?;
        let usage = SqlUsageStore::open(folder, &events).await?;
        mark(true).write(folder, usage.database()).await?;
        let checkpoints = open_checkpoints(folder, &events, verdict.counters_are_lost).await?;
        if !verdict.counters_are_lost {
            mark(true).write(folder, checkpoints.database()).await?;
        }
        mark(true).write(folder, config.database()).await?;
        let Verdict { usage_was_lost, counters_are_lost, .. } = verdict;
        Ok(Self { config, events, usage, checkpoints, usage_was_lost, id, counters_are_lost })
    }

    /// Whether the counters were lost and have to begin again before anything is decided, with
    /// [`SqlStores::begin_counters`].
    pub fn counters_are_lost(&self) -> bool {
        self.counters_are_lost
    }

    /// Makes the counters this installation's again: empty, and to be given every record after a
    /// position.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when nothing was written.
    pub async fn begin_counters(&mut self, position: Position) -> Result<(), StoreError> {
        let mark = Mark { id: self.id.clone(), whole: true };
        self.checkpoints.begin(position, &mark).await?;
        self.counters_are_lost = false;
        Ok(())
    }

    /// Finishes what is under way and closes the files.
    pub async fn close(&self) {
        self.config.close().await;
        self.usage.close().await;
        self.events.close().await;
        self.checkpoints.close().await;
    }
}

impl Found {
    async fn read(folder: &DataFolder) -> Result<Self, OpenError> {
        Ok(Self {
            config: inspect(folder, &crate::config::SCHEMA).await?,
            events: inspect(folder, &crate::events::SCHEMA).await?,
            usage: inspect(folder, &crate::usage::SCHEMA).await?,
            counters: inspect(folder, &crate::counters::SCHEMA).await?,
        })
    }
}

fn draw_id(folder: &DataFolder) -> Result<String, OpenError> {
    let unavailable = |error: rateguard_engine::secrets::SecretError| OpenError::Unavailable {
        path: folder.path().to_owned(),
        detail: error.to_string(),
    };
    Ok(hex::encode(random::<ID_BYTES>().map_err(unavailable)?))
}

/// Counters that hold more than the log would pass over what the log takes from now on.
async fn open_checkpoints(
    folder: &DataFolder,
    events: &SqlEventLog,
    counters_are_lost: bool,
) -> Result<SqlCheckpointStore, OpenError> {
    let checkpoints = SqlCheckpointStore::open(folder).await?;
    if counters_are_lost {
        return Ok(checkpoints);
    }
    let path = folder.path().join(crate::counters::SCHEMA.file);
    let unavailable =
        |error: StoreError| OpenError::Unavailable { path: path.clone(), detail: error.to_string() };
    let position = checkpoints.position().await.map_err(unavailable)?;
    let end = events.end().await.map_err(unavailable)?;
    if position <= end {
        return Ok(checkpoints);
    }
    checkpoints.close().await;
    Err(OpenError::AheadOfLog { path, position: position.0, end: end.0 })
}

impl Mark {
    /// Writes the mark into an open file, unless it stands there.
    async fn write(&self, folder: &DataFolder, database: &Database) -> Result<(), OpenError> {
        let unavailable = |error: StoreError| OpenError::Unavailable {
            path: folder.path().to_owned(),
            detail: error.to_string(),
        };
        self.keep_in(database).await.map_err(unavailable)
    }

    async fn keep_in(&self, database: &Database) -> Result<(), StoreError> {
        let work = async {
            let mut transaction = database.begin(Scope::Installation).await?;
            self.write_in(&mut transaction, database.store()).await?;
            Ok((transaction, ()))
        };
        database.write(work).await
    }
}

#[cfg(test)]
mod tests;
