//! Telling other processes at once that a feed has grown. PostgreSQL does it with the commit; a file
//! has no other processes.

use sqlx::Error;

use super::connection::{Connection, Kind};
use super::query::query;

/// What processes listen to.
pub(super) const CHANNEL: &str = "rateguard_changes";

/// A feed that others follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Feed {
    /// Of managed resources.
    Config,
    /// Of people.
    People,
}

impl Feed {
    /// What is said on the channel.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::People => "people",
        }
    }
}

/// Tells of a feed once the transaction is committed, and not at all if it is not.
pub(crate) async fn notify(connection: &mut Connection, feed: Feed) -> Result<(), Error> {
    if connection.kind() == Kind::Sqlite {
        return Ok(());
    }
    let notice = query("SELECT pg_notify($1, $2)").bind(CHANNEL).bind(feed.word());
    notice.execute(connection).await.map(drop)
}
