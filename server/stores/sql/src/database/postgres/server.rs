//! A database on a server, as its URL names it, and how this process connects to it.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr as _;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions, PgSslMode};

use super::super::{CALL_MS_MAX, LOAD_MS_MAX, OpenError};
use super::is_reusable;

/// As what a connection shows itself to whoever looks after the server.
const APPLICATION: &str = "rateguard";
/// Longest wait for a connection: a server that is away is told of in good time.
const ACQUIRE_MS_MAX: u64 = 3_000;
/// How long a transaction may do nothing. A process that hangs in one is thrown out, so that others
/// can go on within their own wait for it.
const IDLE_IN_TRANSACTION_MS_MAX: u64 = 5_000;
/// How often the server looks, while a statement runs, whether anybody still waits for it.
const CLIENT_CHECK_MS: u64 = 1_000;
/// After how much silence the server asks whether this side is still there, in seconds.
const KEEPALIVE_IDLE_SECONDS: u64 = 10;
/// After how many more seconds it asks again.
const KEEPALIVE_INTERVAL_SECONDS: u64 = 5;
/// After how many questions without an answer it gives the connection up.
const KEEPALIVE_COUNT: u64 = 3;
/// How long the server waits for what it sent to be acknowledged.
const SENT_MS_MAX: u64 = 20_000;
/// How long a connection may stay unused before it is closed.
const IDLE_SECONDS_MAX: u64 = 600;
/// Connections beside those of the stores: one that listens, one that stands for whoever rolls up.
const CONNECTIONS_ASIDE: u32 = 2;
/// Stores that share a database.
const STORES: u32 = 3;
/// Connections of a store that write. They take turns; while one is ending its turn, another may
/// begin.
const WRITERS_MAX: u32 = 4;

/// Whether the schemas of a database are brought up to date when it is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Migrations {
    /// They are.
    Apply,
    /// They must be already.
    Require,
}

/// A database on a server. It is not connected to before a store is opened in it.
#[derive(Clone)]
pub struct PostgresDatabase {
    options: PgConnectOptions,
    name: String,
    connections_max: u32,
    migrations: Migrations,
}

impl PostgresDatabase {
    /// Reads a URL: `postgres://ROLE:PASSWORD@HOST:PORT/DATABASE`, with `?sslmode=` and
    /// `&sslrootcert=` as PostgreSQL's own programs know them. `connections_max` is the most that
    /// this process opens; each store gets at least two of them.
    ///
    /// # Errors
    /// [`OpenError::Url`], which does not repeat the URL.
    pub fn new(url: &str, connections_max: u32, migrations: Migrations) -> Result<Self, OpenError> {
        let refused = |error: sqlx::Error| OpenError::Url { detail: error.to_string() };
        let options = PgConnectOptions::from_str(url).map_err(refused)?.application_name(APPLICATION);
        let name = name_of(&options);
        Ok(Self { options, name, connections_max, migrations })
    }

    /// The same, with migrations applied when a store is opened.
    #[must_use]
    pub fn applying_migrations(mut self) -> Self {
        self.migrations = Migrations::Apply;
        self
    }

    /// The same, with stores opened only where they are up to date.
    #[must_use]
    pub fn requiring_migrations(mut self) -> Self {
        self.migrations = Migrations::Require;
        self
    }

    /// The database as messages name it: without role and password.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether what is sent to the server stays between it and this process: it is on this machine, or is
    /// reached under TLS with its certificate and its name checked. Anything less can be read, or answered
    /// by somebody else, on the way.
    pub fn is_private(&self) -> bool {
        let host = self.options.get_host().trim_matches(['[', ']']);
        self.options.get_socket().is_some()
            || matches!(self.options.get_ssl_mode(), PgSslMode::VerifyFull)
            || host == "localhost"
            || host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
    }

    pub(super) fn migrations(&self) -> Migrations {
        self.migrations
    }

    /// How a connection is made that looks into one schema.
    pub(super) fn connecting(&self, schema: &str, statement_ms_max: u64) -> PgConnectOptions {
        let milliseconds = [
            ("statement_timeout", statement_ms_max),
            ("lock_timeout", statement_ms_max.min(CALL_MS_MAX)),
            ("idle_in_transaction_session_timeout", IDLE_IN_TRANSACTION_MS_MAX),
            ("client_connection_check_interval", CLIENT_CHECK_MS),
            ("tcp_keepalives_idle", KEEPALIVE_IDLE_SECONDS),
            ("tcp_keepalives_interval", KEEPALIVE_INTERVAL_SECONDS),
            ("tcp_keepalives_count", KEEPALIVE_COUNT),
            ("tcp_user_timeout", SENT_MS_MAX),
        ];
        self.options.clone().options([("search_path", schema)]).options(milliseconds)
    }

    /// How a connection is made that migrates, and may take its time.
    pub(super) fn connecting_to_migrate(&self, schema: &str) -> PgConnectOptions {
        // What is there already is no news to whoever starts.
        self.options.clone().options([("search_path", schema), ("client_min_messages", "warning")])
    }

    /// The pool of connections that write.
    pub(super) fn writers(&self, schema: &str) -> PgPool {
        pool_options(self.writers_max()).connect_lazy_with(self.connecting(schema, CALL_MS_MAX))
    }

    /// The pool of connections that only read; some statements read a whole store.
    pub(super) fn readers(&self, schema: &str) -> PgPool {
        let readers_max = self.share().saturating_sub(self.writers_max()).max(1);
        let options = self.connecting(schema, LOAD_MS_MAX).options([("default_transaction_read_only", "on")]);
        pool_options(readers_max).connect_lazy_with(options)
    }

    /// The connections of one store.
    fn share(&self) -> u32 {
        self.connections_max.saturating_sub(CONNECTIONS_ASIDE) / STORES
    }

    fn writers_max(&self) -> u32 {
        (self.share() / 3).clamp(1, WRITERS_MAX)
    }
}

fn pool_options(connections_max: u32) -> PgPoolOptions {
    PgPoolOptions::new()
        .max_connections(connections_max)
        .acquire_timeout(Duration::from_millis(ACQUIRE_MS_MAX))
        .idle_timeout(Duration::from_secs(IDLE_SECONDS_MAX))
        // The first statement over a connection finds out whether it is alive.
        .test_before_acquire(false)
        .after_release(|connection, _| Box::pin(is_reusable(connection)))
}

fn name_of(options: &PgConnectOptions) -> String {
    let database = options.get_database().unwrap_or(options.get_username());
    match options.get_socket() {
        Some(socket) => format!("database {database} on {}", socket.display()),
        None => format!("database {database} on {}:{}", options.get_host(), options.get_port()),
    }
}

impl fmt::Debug for PostgresDatabase {
    /// Says no more than messages may: the options hold a password.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("PostgresDatabase").field(&self.name).finish()
    }
}

#[cfg(test)]
mod tests;
