//! Which one of several processes does what only one may do: the one whose session holds a lock. The
//! server gives the lock back when the session ends, however it ends.

use std::fmt;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Connection as _, Error};
use tokio::sync::Mutex;

use super::super::{CALL_MS_MAX, failure};
use super::{PING_MS_MAX, PostgresDatabase, ServerSchema};
use rateguard_engine::ports::StoreError;

/// Stands for one office among all processes.
pub(crate) struct Leadership {
    store: &'static str,
    lock: i64,
    options: PgConnectOptions,
    session: Mutex<Option<Session>>,
}

struct Session {
    connection: PgConnection,
    leads: bool,
}

impl Leadership {
    /// Stands for the office of a lock. Nobody holds it before they ask for it.
    pub fn of(server: &PostgresDatabase, schema: &ServerSchema, lock: i64) -> Self {
        let options = server.connecting(schema.name, CALL_MS_MAX);
        Self { store: schema.store, lock, options, session: Mutex::default() }
    }

    /// Whether this process has the office now. It asks for it where nobody has it.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the server does not say; then this process has given it up.
    pub async fn try_lead(&self) -> Result<bool, StoreError> {
        let mut session = self.session.lock().await;
        let asked = tokio::time::timeout(Duration::from_millis(PING_MS_MAX), self.ask(session.take())).await;
        let asked = asked.map_err(|_| Error::PoolTimedOut).and_then(|asked| asked);
        let asked = asked.map_err(failure(self.store))?;
        Ok(session.insert(asked).leads)
    }

    /// Gives the office up.
    pub async fn resign(&self) {
        let session = self.session.lock().await.take();
        if let Some(session) = session {
            // The lock goes with the session, whether or not the server hears the farewell.
            let farewell = Duration::from_millis(PING_MS_MAX);
            drop(tokio::time::timeout(farewell, session.connection.close()).await);
        }
    }

    /// Whoever leads does so for as long as the session answers. A session that fails to is dropped.
    async fn ask(&self, session: Option<Session>) -> Result<Session, Error> {
        let Session { mut connection, leads } = match session {
            Some(session) => session,
            None => Session { connection: self.options.connect().await?, leads: false },
        };
        if leads {
            connection.ping().await?;
            return Ok(Session { connection, leads });
        }
        let asked = sqlx::query_scalar("SELECT pg_try_advisory_lock($1)").bind(self.lock);
        let leads = asked.fetch_one(&mut connection).await?;
        Ok(Session { connection, leads })
    }
}

impl fmt::Debug for Leadership {
    /// Without the options, which hold a password.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Leadership").field("lock", &self.lock).finish_non_exhaustive()
    }
}
