//! An installation whose stores are in one database on a server, where any number of processes open
//! them at once. Each process keeps its counters in a folder of its own, which knows by the same id
//! where it belongs.

use rateguard_engine::ports::StoreError;

use super::state::{State, inspect, state_of};
use super::{Mark, Opening, SqlStores, draw_id, open_checkpoints};
use crate::database::{DataFolder, OpenError, PostgresDatabase};
use crate::{SqlConfigStore, SqlEventLog, SqlUsageStore, config, counters, events, usage};

/// The stores of a database, open, with what each says of itself.
struct Found {
    config: SqlConfigStore,
    events: SqlEventLog,
    usage: SqlUsageStore,
    states: States,
}

/// What each store says of itself. Their migrations were applied, so that none is missing.
struct States {
    config: State,
    events: State,
    usage: State,
}

/// Which installation a database holds.
#[derive(Debug, PartialEq, Eq)]
struct Held {
    id: String,
    /// Whether all stores have the id; else it is to be written.
    is_whole: bool,
    /// Whether the rollups are to be built again.
    usage_was_lost: bool,
}

impl SqlStores {
    /// Opens the stores of a database, or makes them, and this process's counters in a folder. A new
    /// folder has none: then they are lost, as those of an installation of files may be.
    ///
    /// # Errors
    /// [`OpenError`], naming the database or the file, and what to do.
    pub async fn open_on_server(
        server: &PostgresDatabase,
        folder: &DataFolder,
        opening: Opening,
    ) -> Result<Self, OpenError> {
        // Two that make an installation at once would each make their own.
        let mut turn = server.wait_for_turn().await?;
        // Nothing is made for somebody who named a wrong database.
        let is_there = turn.finds(config::SERVER_SCHEMA.name).await;
        let opened = match (is_there, opening) {
            (Ok(false), Opening::Existing) => Err(empty(server)),
            (Ok(_), _) => open_in_turn(server, folder, opening).await,
            (Err(error), _) => Err(error),
        };
        turn.end().await;
        opened
    }
}

async fn open_in_turn(
    server: &PostgresDatabase,
    folder: &DataFolder,
    opening: Opening,
) -> Result<SqlStores, OpenError> {
    let found = Found::open(server).await?;
    let joined = found.join(server, folder, opening).await;
    if joined.is_err() {
        found.close().await;
    }
    joined
}

impl Found {
    async fn open(server: &PostgresDatabase) -> Result<Self, OpenError> {
        let events = SqlEventLog::open_on_server(server).await?;
        let config = SqlConfigStore::open_on_server(server, &events).await?;
        let usage = SqlUsageStore::open_on_server(server, &events).await?;
        let states = States {
            config: state_of(config.database(), &config::SCHEMA.content).await.map_err(away(server))?,
            events: state_of(events.database(), &events::SCHEMA.content).await.map_err(away(server))?,
            usage: state_of(usage.database(), &usage::SCHEMA.content).await.map_err(away(server))?,
        };
        Ok(Self { config, events, usage, states })
    }

    async fn close(&self) {
        self.config.close().await;
        self.usage.close().await;
        self.events.close().await;
    }

    /// Writes the id where it is missing, the configuration's last, and opens the counters that go
    /// with it.
    async fn join(
        &self,
        server: &PostgresDatabase,
        folder: &DataFolder,
        opening: Opening,
    ) -> Result<SqlStores, OpenError> {
        let counters_state = inspect(folder, &counters::SCHEMA).await?;
        let held = match self.states.judge(server, opening)? {
            Some(held) => held,
            None => Held { id: draw_id(folder)?, is_whole: false, usage_was_lost: false },
        };
        let counters_are_lost = counters_are_lost(server, folder, &held, &counters_state)?;
        let mark = |whole| Mark { id: held.id.clone(), whole };
        if !held.is_whole {
            mark(false).keep_in(self.config.database()).await.map_err(away(server))?;
            mark(true).keep_in(self.events.database()).await.map_err(away(server))?;
        }
        if !held.is_whole || held.usage_was_lost {
            mark(true).keep_in(self.usage.database()).await.map_err(away(server))?;
        }
        let checkpoints = open_checkpoints(folder, &self.events, counters_are_lost).await?;
        if !counters_are_lost {
            mark(true).write(folder, checkpoints.database()).await?;
        }
        if !held.is_whole {
            mark(true).keep_in(self.config.database()).await.map_err(away(server))?;
        }
        Ok(SqlStores {
            config: self.config.clone(),
            events: self.events.clone(),
            usage: self.usage.clone(),
            checkpoints,
            usage_was_lost: held.usage_was_lost,
            id: held.id,
            counters_are_lost,
        })
    }
}

impl States {
    /// Which installation it is; `None` when it is to be made. The stores share a database and its
    /// backups, so what does not fit together was put together by hand, and only people know how.
    fn judge(&self, server: &PostgresDatabase, opening: Opening) -> Result<Option<Held>, OpenError> {
        if let Some(schema) = self.misfit() {
            return Err(OpenError::ServerForeign { database: server.name().to_owned(), schema });
        }
        match (self.config.mark(), opening) {
            (Some(mark), _) => Ok(Some(Held {
                id: mark.id.clone(),
                is_whole: mark.whole,
                usage_was_lost: mark.whole && !self.usage.is_there(),
            })),
            (None, Opening::Existing) => Err(empty(server)),
            (None, Opening::ExistingOrNew) => Ok(None),
        }
    }

    /// A schema that does not go with the configuration's.
    fn misfit(&self) -> Option<&'static str> {
        let (events, usage) = (events::SERVER_SCHEMA.name, usage::SERVER_SCHEMA.name);
        let Some(mark) = self.config.mark() else {
            let all =
                [(config::SERVER_SCHEMA.name, &self.config), (events, &self.events), (usage, &self.usage)];
            return all.into_iter().find(|(_, state)| state.is_there()).map(|(schema, _)| schema);
        };
        let is_other = |state: &State| state.is_there() && state.mark().is_none_or(|it| it.id != mark.id);
        let events_are_gone = mark.whole && !self.events.is_there();
        match (is_other(&self.events) || events_are_gone, is_other(&self.usage)) {
            (true, _) => Some(events),
            (false, true) => Some(usage),
            (false, false) => None,
        }
    }
}

/// Whether this process's counters have to begin again: those of a folder that is new to an installation
/// which is whole.
fn counters_are_lost(
    server: &PostgresDatabase,
    folder: &DataFolder,
    held: &Held,
    found: &State,
) -> Result<bool, OpenError> {
    match found.mark() {
        Some(mark) if mark.id == held.id => Ok(false),
        None if !found.is_there() => Ok(held.is_whole),
        _ => Err(OpenError::ForeignCounters {
            path: folder.path().join(counters::SCHEMA.file),
            database: server.name().to_owned(),
        }),
    }
}

fn empty(server: &PostgresDatabase) -> OpenError {
    OpenError::ServerEmpty { database: server.name().to_owned() }
}

fn away(server: &PostgresDatabase) -> impl Fn(StoreError) -> OpenError {
    let database = server.name().to_owned();
    move |error| OpenError::Server { database: database.clone(), detail: error.to_string() }
}

#[cfg(test)]
mod tests;
