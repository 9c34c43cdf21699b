//! [`CheckpointStore`] in SQL: a row for each counter, with its state in a compact encoding, since
//! a start reads all of them before it answers.

mod bytes;
mod lead;
mod reservation;
mod state;

use async_trait::async_trait;
use futures::TryStreamExt;
use rateguard_core::counter::{CounterId, Position};
use rateguard_core::ids::{ReservationId, WorkspaceId};
use rateguard_core::reservation::Reservation;
use rateguard_engine::ports::{Checkpoint, CheckpointBatch, CheckpointStore, CounterRow, StoreError};
use sqlx::Error;
use sqlx::migrate::Migrator;

use crate::database::{
    Connection, Content, DataFolder, Database, Durability, LOAD_MS_MAX, OpenError, QueryBuilder, Row, Schema,
    Scope, Writing, failure, query, query_scalar,
};
use crate::installation::Mark;

/// The name by which errors know the store.
const STORE: &str = "counters";
static MIGRATOR: Migrator = sqlx::migrate!("../../../migrations/counters/sqlite");
pub(crate) const SCHEMA: Schema = Schema {
    store: STORE,
    file: "counters.db",
    migrator: &MIGRATOR,
    durability: Durability::EveryCommit,
    content: Content {
        table: "positions",
        rows: "SELECT 1 FROM positions WHERE position > 0 UNION ALL SELECT 1 FROM counters",
    },
    writing: Writing::Seldom,
    remedy: crate::installation::REBUILD_COUNTERS,
};
/// Rows of one statement. SQLite runs a statement without a pause, on a thread that shares its core with
/// checks where there is no other: so many take about as long as a few checks do, and a check that comes in
/// between does not wait for a whole batch.
const ROWS_PER_STATEMENT: usize = 16;
/// Longest wait for a batch, whose size is the caller's: a million counters on a slow disk.
const SAVE_MS_MAX: u64 = 60_000;

/// Checkpoints of counters in `counters.db`.
#[derive(Clone, Debug)]
pub struct SqlCheckpointStore {
    database: Database,
}

impl SqlCheckpointStore {
    /// Opens the store in a data folder.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open(folder: &DataFolder) -> Result<Self, OpenError> {
        Ok(Self { database: Database::open(folder, &SCHEMA).await? })
    }

    /// Closes it; calls afterwards are unavailable.
    pub async fn close(&self) {
        self.database.close().await;
    }

    /// The position up to which every counter includes the log.
    pub(crate) async fn position(&self) -> Result<Position, StoreError> {
        let work = async { read_position(&mut *self.database.reader(Scope::Installation).await?).await };
        self.database.within_deadline(work).await
    }

    /// Begins with no counters at a position, as a file of an installation.
    pub(crate) async fn begin(&self, position: Position, mark: &Mark) -> Result<(), StoreError> {
        let work = async {
            let mut transaction = self.database.begin(Scope::Installation).await?;
            set_position(&mut transaction, position).await?;
            mark.write_in(&mut transaction, STORE).await?;
            Ok((transaction, ()))
        };
        self.database.write(work).await
    }

    /// Its database.
    pub(crate) fn database(&self) -> &Database {
        &self.database
    }
}

// A counter in both parts of a batch was dropped and has come back: it stays. Loading takes the
// reservations away, so that they are not found again after a crash.
#[async_trait]
impl CheckpointStore for SqlCheckpointStore {
    async fn save(&self, batch: CheckpointBatch) -> Result<(), StoreError> {
        let work = async {
            let mut transaction = self.database.begin(Scope::Installation).await?;
            for removed in batch.removed.chunks(ROWS_PER_STATEMENT) {
                delete_counters(&mut transaction, removed).await?;
            }
            for rows in batch.rows.chunks(ROWS_PER_STATEMENT) {
                upsert_counters(&mut transaction, rows).await?;
            }
            lead::save(&mut transaction, &batch.leads).await?;
            if let Some(position) = batch.position {
                set_position(&mut transaction, position).await?;
            }
            set_clean(&mut transaction, false).await?;
            delete_reservations(&mut transaction).await?;
            Ok((transaction, ()))
        };
        self.database.write_within(SAVE_MS_MAX, work).await
    }

    async fn load(&self) -> Result<Checkpoint, StoreError> {
        let work = async {
            let mut transaction = self.database.begin(Scope::Installation).await?;
            let clean = read_clean(&mut transaction).await?;
            let checkpoint = Checkpoint {
                position: read_position(&mut transaction).await?,
                rows: read_counters(&mut transaction).await?,
                leads: lead::read(&mut transaction).await?,
                clean,
                crashes: count_crash(&mut transaction, !clean).await?,
                reservations: read_reservations(&mut transaction).await?,
            };
            set_clean(&mut transaction, false).await?;
            delete_reservations(&mut transaction).await?;
            Ok((transaction, checkpoint))
        };
        self.database.write_within(LOAD_MS_MAX, work).await
    }

    async fn save_reservations(
        &self,
        reservations: Vec<(WorkspaceId, Reservation)>,
    ) -> Result<(), StoreError> {
        let work = async {
            let mut transaction = self.database.begin(Scope::Installation).await?;
            delete_reservations(&mut transaction).await?;
            for rows in reservations.chunks(ROWS_PER_STATEMENT) {
                insert_reservations(&mut transaction, rows).await?;
            }
            set_clean(&mut transaction, true).await?;
            Ok((transaction, ()))
        };
        self.database.write_within(SAVE_MS_MAX, work).await
    }
}

async fn upsert_counters(connection: &mut Connection, rows: &[CounterRow]) -> Result<(), StoreError> {
    let values = rows
        .iter()
        .map(|row| Ok((row, position_column(row.included)?)))
        .collect::<Result<Vec<_>, StoreError>>()?;
    let mut query = QueryBuilder::new("INSERT INTO counters (workspace_id, id, included, state, crashes) ");
    query.push_values(values, |mut values, (row, included)| {
        values.push_bind(row.workspace.as_str()).push_bind(id_column(row.id));
        values.push_bind(included).push_bind(state::encode(&row.counter)).push_bind(i64::from(row.crashes));
    });
    query.push(
        " ON CONFLICT (workspace_id, id) DO UPDATE SET included = excluded.included, state = excluded.state, \
         crashes = excluded.crashes",
    );
    query.build().execute(connection).await.map_err(failure(STORE))?;
    Ok(())
}

async fn delete_counters(
    connection: &mut Connection,
    removed: &[(WorkspaceId, CounterId)],
) -> Result<(), StoreError> {
    let mut query = QueryBuilder::new("DELETE FROM counters WHERE (workspace_id, id) IN (");
    query.push_values(removed, |mut values, (workspace, id)| {
        values.push_bind(workspace.as_str()).push_bind(id_column(*id));
    });
    query.push(")");
    query.build().execute(connection).await.map_err(failure(STORE))?;
    Ok(())
}

async fn read_counters(connection: &mut Connection) -> Result<Vec<CounterRow>, StoreError> {
    let mut found =
        query("SELECT workspace_id, id, included, state, crashes FROM counters").fetch(connection);
    let mut rows: Vec<CounterRow> = Vec::new();
    while let Some(row) = found.try_next().await.map_err(failure(STORE))? {
        let counter = counter_row(&row, rows.last().map(|last| &last.workspace))?;
        rows.push(counter);
    }
    Ok(rows)
}

/// Rows come by workspace, so that one shares its workspace's id with the row before it.
fn counter_row(row: &Row, last: Option<&WorkspaceId>) -> Result<CounterRow, StoreError> {
    let raw = RawCounter::read(row).map_err(failure(STORE))?;
    let of_counter = |what: &str| corrupt(format!("counter {:02x?} of {}: {what}", raw.id, raw.workspace));
    let workspace = match last {
        Some(last) if last.as_str() == raw.workspace => last.clone(),
        _ => WorkspaceId::parse("workspace_id", raw.workspace).map_err(|e| of_counter(&e.to_string()))?,
    };
    let id = <[u8; 16]>::try_from(raw.id).map_err(|_| of_counter("its id is not 16 bytes"))?;
    Ok(CounterRow {
        workspace,
        id: CounterId(u128::from_be_bytes(id)),
        included: position(raw.included)?,
        counter: state::decode(raw.state).map_err(|error| of_counter(&error.to_string()))?,
        crashes: crashes(raw.crashes)?,
    })
}

/// The columns of a counter, by place rather than by name: a start reads a million of them.
struct RawCounter<'r> {
    workspace: &'r str,
    id: &'r [u8],
    included: i64,
    state: &'r [u8],
    crashes: i64,
}

impl<'r> RawCounter<'r> {
    fn read(row: &'r Row) -> Result<Self, Error> {
        Ok(Self {
            workspace: row.try_get(0)?,
            id: row.try_get(1)?,
            included: row.try_get(2)?,
            state: row.try_get(3)?,
            crashes: row.try_get(4)?,
        })
    }
}

async fn set_position(connection: &mut Connection, position: Position) -> Result<(), StoreError> {
    query("UPDATE positions SET position = $1 WHERE only_row = 1")
        .bind(position_column(position)?)
        .execute(connection)
        .await
        .map_err(failure(STORE))?;
    Ok(())
}

async fn read_position(connection: &mut Connection) -> Result<Position, StoreError> {
    let column = query_scalar("SELECT position FROM positions WHERE only_row = 1")
        .fetch_one(connection)
        .await
        .map_err(failure(STORE))?;
    position(column)
}

async fn set_clean(connection: &mut Connection, clean: bool) -> Result<(), StoreError> {
    query("UPDATE positions SET clean = $1 WHERE only_row = 1 AND clean <> $1")
        .bind(clean)
        .execute(connection)
        .await
        .map_err(failure(STORE))?;
    Ok(())
}

async fn read_clean(connection: &mut Connection) -> Result<bool, StoreError> {
    query_scalar("SELECT clean FROM positions WHERE only_row = 1")
        .fetch_one(connection)
        .await
        .map_err(failure(STORE))
}

/// Counts a start that found no clean stop, and gives how many did.
async fn count_crash(connection: &mut Connection, is_crash: bool) -> Result<u32, StoreError> {
    let counted = "UPDATE positions SET crashes = crashes + $1 WHERE only_row = 1 RETURNING crashes";
    let column = query_scalar(counted)
        .bind(i64::from(is_crash))
        .fetch_one(connection)
        .await
        .map_err(failure(STORE))?;
    crashes(column)
}

async fn insert_reservations(
    connection: &mut Connection,
    rows: &[(WorkspaceId, Reservation)],
) -> Result<(), StoreError> {
    let mut query = QueryBuilder::new("INSERT INTO reservations (workspace_id, id, state) ");
    query.push_values(rows, |mut values, (workspace, reservation)| {
        values.push_bind(workspace.as_str()).push_bind(reservation.id.as_str());
        values.push_bind(reservation::encode(reservation));
    });
    query.build().execute(connection).await.map_err(failure(STORE))?;
    Ok(())
}

async fn read_reservations(
    connection: &mut Connection,
) -> Result<Vec<(WorkspaceId, Reservation)>, StoreError> {
    query("SELECT workspace_id, id, state FROM reservations ORDER BY workspace_id, id")
        .fetch(connection)
        .map_err(failure(STORE))
        .and_then(|row| async move { reservation_row(&row) })
        .try_collect()
        .await
}

fn reservation_row(row: &Row) -> Result<(WorkspaceId, Reservation), StoreError> {
    let parts =
        || -> Result<(&str, &str, &[u8]), Error> { Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?)) };
    let (workspace, id, bytes) = parts().map_err(failure(STORE))?;
    let of_reservation = |what: String| corrupt(format!("reservation {id} of {workspace}: {what}"));
    let owner = WorkspaceId::parse("workspace_id", workspace).map_err(|e| of_reservation(e.to_string()))?;
    let parsed = ReservationId::parse("id", id).map_err(|e| of_reservation(e.to_string()))?;
    let reservation = reservation::decode(parsed, bytes).map_err(|e| of_reservation(e.to_string()))?;
    Ok((owner, reservation))
}

async fn delete_reservations(connection: &mut Connection) -> Result<(), StoreError> {
    query("DELETE FROM reservations").execute(connection).await.map_err(failure(STORE))?;
    Ok(())
}

fn id_column(id: CounterId) -> Vec<u8> {
    id.0.to_be_bytes().to_vec()
}

fn position_column(position: Position) -> Result<i64, StoreError> {
    i64::try_from(position.0).map_err(|_| StoreError::Unavailable {
        store: STORE,
        detail: format!("position {} is beyond what a column holds", position.0),
    })
}

fn position(column: i64) -> Result<Position, StoreError> {
    u64::try_from(column).map(Position).map_err(|_| corrupt(format!("negative position {column}")))
}

fn crashes(column: i64) -> Result<u32, StoreError> {
    u32::try_from(column).map_err(|_| corrupt(format!("{column} crashes are no number of crashes")))
}

fn corrupt(detail: String) -> StoreError {
    StoreError::Corrupt { store: STORE, detail }
}

#[cfg(test)]
mod tests;
