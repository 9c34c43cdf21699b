//! The baseline of reports: the rows that the server wrote, inserted again by plain multi-row
//! statements into the same tables and indexes, each statement committed and synced by itself.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Args;
use sqlx::sqlite::{SqliteArguments, SqliteConnectOptions, SqliteJournalMode, SqliteRow, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Row as _, TypeInfo as _, ValueRef as _};
use sqlx::{SqliteConnection, query::Query};

use crate::load::runtime;
use crate::table::say;

/// The server's setting, so that logs that grow are cut alike.
const WAL_BYTES_KEPT_MAX: &str = "67108864";

/// Inserts events of one file into another, and prints how many nanoseconds it took.
#[derive(Debug, Args)]
pub struct Insert {
    /// The file that the server wrote
    #[arg(long)]
    from: PathBuf,
    /// The file to insert into; made with the same tables and indexes where it is missing
    #[arg(long)]
    into: PathBuf,
    /// Rows of one statement and commit
    #[arg(long)]
    rows_per_commit: usize,
    /// Events after this position
    #[arg(long)]
    after: i64,
    /// How many events
    #[arg(long)]
    rows: usize,
}

impl Insert {
    /// Does it.
    ///
    /// # Errors
    /// When there are fewer rows, or the database fails.
    pub fn run(&self) -> anyhow::Result<()> {
        let elapsed = runtime()?.block_on(self.insert())?;
        say(&elapsed.as_nanos().to_string())
    }

    async fn insert(&self) -> anyhow::Result<Duration> {
        let mut source = SqliteConnectOptions::new().filename(&self.from).connect().await?;
        let mut target = target(&self.into).await?;
        copy_schema(&mut source, &mut target).await?;
        let rows = self.read(&mut source).await?;
        source.close().await?;
        let columns = rows.first().map_or(0, Vec::len);
        let sql = statement(columns, self.rows_per_commit);
        let started = Instant::now();
        for chunk in rows.chunks_exact(self.rows_per_commit) {
            let bound = chunk.iter().flatten().fold(sqlx::query(AssertSqlSafe(sql.as_str())), bind);
            bound.execute(&mut target).await?;
        }
        let elapsed = started.elapsed();
        target.close().await?;
        Ok(elapsed)
    }

    async fn read(&self, source: &mut SqliteConnection) -> anyhow::Result<Vec<Vec<Value>>> {
        ensure!(self.rows.is_multiple_of(self.rows_per_commit), "every commit has as many rows");
        let rows = sqlx::query("SELECT * FROM events WHERE position > ? ORDER BY position LIMIT ?")
            .bind(self.after)
            .bind(i64::try_from(self.rows)?)
            .fetch_all(source)
            .await?;
        ensure!(rows.len() == self.rows, "the server wrote {} rows of {}", rows.len(), self.rows);
        rows.iter().map(values).collect()
    }
}

async fn target(path: &Path) -> anyhow::Result<SqliteConnection> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .pragma("journal_size_limit", WAL_BYTES_KEPT_MAX);
    Ok(options.connect().await?)
}

async fn copy_schema(source: &mut SqliteConnection, target: &mut SqliteConnection) -> anyhow::Result<()> {
    let known: i64 = sqlx::query_scalar("SELECT count(*) FROM sqlite_schema WHERE name = 'events'")
        .fetch_one(&mut *target)
        .await?;
    if known > 0 {
        return Ok(());
    }
    let of_events = "SELECT sql FROM sqlite_schema WHERE tbl_name = 'events' AND sql IS NOT NULL \
        ORDER BY type DESC, name";
    let made: Vec<String> = sqlx::query_scalar(of_events).fetch_all(source).await?;
    ensure!(made.len() > 1, "the events have a table and indexes");
    for sql in made {
        sqlx::query(AssertSqlSafe(sql)).execute(&mut *target).await?;
    }
    Ok(())
}

/// What a column holds.
enum Value {
    Null,
    Integer(i64),
    Text(String),
    Blob(Vec<u8>),
}

fn values(row: &SqliteRow) -> anyhow::Result<Vec<Value>> {
    (0..row.len()).map(|column| value(row, column)).collect()
}

fn value(row: &SqliteRow, column: usize) -> anyhow::Result<Value> {
    let raw = row.try_get_raw(column)?;
    Ok(match raw.type_info().name() {
        _ if raw.is_null() => Value::Null,
        "INTEGER" => Value::Integer(row.try_get(column)?),
        "TEXT" => Value::Text(row.try_get(column)?),
        "BLOB" => Value::Blob(row.try_get(column)?),
        other => return Err(anyhow::Error::msg(format!("a column of type {other}"))).context("an event"),
    })
}

fn statement(columns: usize, rows: usize) -> String {
    let row = format!("({})", vec!["?"; columns].join(","));
    format!("INSERT INTO events VALUES {}", vec![row; rows].join(","))
}

fn bind<'q>(
    query: Query<'q, sqlx::Sqlite, SqliteArguments>,
    value: &'q Value,
) -> Query<'q, sqlx::Sqlite, SqliteArguments> {
    match value {
        Value::Null => query.bind(None::<i64>),
        Value::Integer(value) => query.bind(*value),
        Value::Text(value) => query.bind(value.as_str()),
        Value::Blob(value) => query.bind(value.as_slice()),
    }
}
