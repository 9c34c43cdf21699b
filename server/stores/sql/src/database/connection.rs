//! Connections and transactions, of either database.

use std::ops::{Deref, DerefMut};

use sqlx::pool::PoolConnection;
use sqlx::{Error, Postgres, Sqlite};

/// Which database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A file of this process's own.
    Sqlite,
    /// A server that others use too.
    Postgres,
}

/// A connection, which statements are run over.
#[derive(Debug)]
pub(crate) enum Connection {
    /// To a file.
    Sqlite(Held<Sqlite>),
    /// To a server.
    Postgres(Held<Postgres>),
}

/// How a connection of a pool is held.
#[derive(Debug)]
pub(crate) enum Held<DB: sqlx::Database> {
    /// Each statement by itself.
    Plain(PoolConnection<DB>),
    /// Within a transaction.
    Transaction(sqlx::Transaction<'static, DB>),
}

/// A connection that only reads.
#[derive(Debug)]
pub(crate) struct Reader(pub(super) Connection);

/// A transaction; dropped without a commit, it is rolled back.
#[derive(Debug)]
pub(crate) struct Transaction(pub(super) Connection);

impl Connection {
    /// Of which database it is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Sqlite(_) => Kind::Sqlite,
            Self::Postgres(_) => Kind::Postgres,
        }
    }
}

impl<DB: sqlx::Database> Held<DB> {
    /// The driver's connection.
    pub fn raw(&mut self) -> &mut DB::Connection {
        match self {
            Self::Plain(connection) => connection,
            Self::Transaction(transaction) => transaction,
        }
    }

    /// A plain connection has nothing left to commit.
    async fn commit(self) -> Result<(), Error> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Transaction(transaction) => transaction.commit().await,
        }
    }
}

impl Transaction {
    /// Makes what was written stay.
    pub async fn commit(self) -> Result<(), Error> {
        match self.0 {
            Connection::Sqlite(held) => held.commit().await,
            Connection::Postgres(held) => held.commit().await,
        }
    }
}

impl Kind {
    /// What a query of a row ends with that holds the row until the transaction ends. In SQLite
    /// whoever may write has the whole file.
    pub fn for_update(self) -> &'static str {
        match self {
            Self::Sqlite => "",
            Self::Postgres => " FOR UPDATE",
        }
    }

    /// Placeholders for rows of values: `(?,?),(?,?)`. SQLite looks a placeholder with a name up by
    /// walking all before it; PostgreSQL knows only numbers.
    pub fn placeholders(self, columns: usize, rows: usize) -> String {
        let one = |number: usize| match self {
            Self::Sqlite => "?".to_owned(),
            Self::Postgres => format!("${}", number + 1),
        };
        let row = |row: usize| {
            let values: Vec<String> = (row * columns..(row + 1) * columns).map(one).collect();
            format!("({})", values.join(","))
        };
        (0..rows).map(row).collect::<Vec<_>>().join(",")
    }
}

impl Deref for Reader {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.0
    }
}

impl DerefMut for Reader {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.0
    }
}

impl Deref for Transaction {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.0
    }
}

impl DerefMut for Transaction {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.0
    }
}
