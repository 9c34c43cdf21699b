//! What one file says of itself before it is opened to be written: nothing is made or changed here,
//! so that a refusal leaves everything as it was.

use rateguard_engine::ports::StoreError;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Error};

use crate::database::{
    Connection, Content, DataFolder, Database, OpenError, Schema, Scope, failure, query, refusal,
};

/// The mark of an installation in one of its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Which installation.
    pub id: String,
    /// Whether all of its files have the mark; read in the configuration's file alone.
    pub whole: bool,
}

/// What was found of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// No file, or one without tables.
    Missing,
    /// Tables with nothing in them, and no mark.
    Blank,
    /// Data without a mark: of a time before files had one.
    Unmarked,
    /// A file of an installation.
    Marked {
        /// Its mark.
        mark: Mark,
        /// Whether there is nothing else in it.
        blank: bool,
    },
}

impl State {
    /// The mark, where there is one.
    pub(super) fn mark(&self) -> Option<&Mark> {
        match self {
            Self::Marked { mark, .. } => Some(mark),
            Self::Missing | Self::Blank | Self::Unmarked => None,
        }
    }
}

/// Looks at a file.
pub(super) async fn inspect(folder: &DataFolder, schema: &Schema) -> Result<State, OpenError> {
    let path = folder.path().join(schema.file);
    let size = match std::fs::metadata(&path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
        Err(source) => return Err(OpenError::Folder { path, source }),
    };
    if size == 0 {
        return Ok(State::Missing);
    }
    let refused = |error: Error| refusal(&path, schema, &error);
    let options = SqliteConnectOptions::new().filename(&path).read_only(true);
    let mut connection = options.connect().await.map_err(refused)?;
    let found = state(&mut connection, schema).await.map_err(refused);
    connection.close().await.map_err(refused)?;
    found
}

async fn state(connection: &mut SqliteConnection, schema: &Schema) -> Result<State, Error> {
    let tables: Vec<String> = sqlx::query_scalar("SELECT name FROM sqlite_schema WHERE type = 'table'")
        .fetch_all(&mut *connection)
        .await?;
    let has = |name: &str| tables.iter().any(|table| table == name);
    if !has(schema.content.table) {
        return Ok(State::Missing);
    }
    let sql = format!("SELECT NOT EXISTS ({})", schema.content.rows);
    let blank: bool = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut *connection).await?;
    let mark = if has("installation") { read_mark(connection).await? } else { None };
    Ok(match mark {
        Some(mark) => State::Marked { mark, blank },
        None if blank => State::Blank,
        None => State::Unmarked,
    })
}

/// Looks at a store that is open.
pub(super) async fn state_of(database: &Database, content: &Content) -> Result<State, StoreError> {
    let mut reader = database.reader(Scope::Installation).await?;
    let failed = failure(database.store());
    let content = query(content.rows).fetch_optional(&mut reader).await.map_err(&failed)?;
    let found =
        query("SELECT id, whole FROM installation").fetch_optional(&mut reader).await.map_err(&failed)?;
    let Some(row) = found else {
        return Ok(if content.is_some() { State::Unmarked } else { State::Blank });
    };
    let whole: i64 = row.try_get("whole").map_err(&failed)?;
    let mark = Mark { id: row.try_get("id").map_err(&failed)?, whole: whole != 0 };
    Ok(State::Marked { mark, blank: content.is_none() })
}

async fn read_mark(connection: &mut SqliteConnection) -> Result<Option<Mark>, Error> {
    let found: Option<(String, bool)> =
        sqlx::query_as("SELECT id, whole FROM installation").fetch_optional(connection).await?;
    Ok(found.map(|(id, whole)| Mark { id, whole }))
}

impl Mark {
    /// Writes the mark within a transaction.
    pub(crate) async fn write_in(
        &self,
        connection: &mut Connection,
        store: &'static str,
    ) -> Result<(), StoreError> {
        let sql = "INSERT INTO installation (only_row, id, whole) VALUES (1, $1, $2) \
                   ON CONFLICT (only_row) DO UPDATE SET id = excluded.id, whole = excluded.whole";
        let query = query(sql).bind(self.id.clone()).bind(self.whole);
        query.execute(connection).await.map(drop).map_err(failure(store))
    }
}
