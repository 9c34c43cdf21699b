//! Listening to what other processes tell of. A notice may be lost with its connection, so that
//! whoever is woken reads the feed itself, and now and then without a notice too.

use std::convert::Infallible;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use rateguard_engine::telling::Telling;
use sqlx::postgres::{PgListener, PgNotification, PgPool, PgPoolOptions};
use sqlx::{Error, Executor as _};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::super::CALL_MS_MAX;
use super::super::notices::{CHANNEL, Feed};
use super::{PING_MS_MAX, PostgresDatabase};

/// After how much silence the connection is asked whether it is still there.
const SILENCE_MS_MAX: u64 = 10_000;
/// Wait before a connection that was lost is looked for again.
const RETRY_MS: u64 = 500;

/// Notices of other processes, and of this one. Its task ends with the last clone.
#[derive(Clone, Debug)]
pub(crate) struct Listener {
    config: watch::Receiver<u64>,
    people: watch::Receiver<u64>,
    heard: watch::Receiver<bool>,
    _task: Arc<JoinSet<()>>,
}

/// Whom to wake.
struct Wakes {
    config: watch::Sender<u64>,
    people: watch::Sender<u64>,
    /// Whether notices are heard now.
    heard: watch::Sender<bool>,
}

impl Listener {
    /// Begins to listen over a connection of its own, and goes on trying while the server is away.
    pub fn start(server: &PostgresDatabase, schema: &str) -> Self {
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(Duration::from_millis(CALL_MS_MAX))
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_lazy_with(server.connecting(schema, CALL_MS_MAX));
        let (config, config_seen) = watch::channel(0);
        let (people, people_seen) = watch::channel(0);
        let (heard, heard_seen) = watch::channel(false);
        let mut task = JoinSet::new();
        task.spawn(Wakes { config, people, heard }.listen_on(pool));
        Self { config: config_seen, people: people_seen, heard: heard_seen, _task: Arc::new(task) }
    }

    /// Whether notices are heard now.
    pub fn heard(&self) -> watch::Receiver<bool> {
        self.heard.clone()
    }

    /// What changes whenever a feed may have grown.
    pub fn of(&self, feed: Feed) -> watch::Receiver<u64> {
        match feed {
            Feed::Config => self.config.clone(),
            Feed::People => self.people.clone(),
        }
    }
}

impl Wakes {
    async fn listen_on(self, pool: PgPool) {
        let mut telling = Telling::of("hearing the notices of other processes");
        loop {
            let Err(lost) = self.listen(&pool, &mut telling).await;
            self.heard.send_replace(false);
            telling.tell(&Err::<(), _>(lost));
            tokio::time::sleep(Duration::from_millis(RETRY_MS)).await;
        }
    }

    /// Listens until the connection is lost.
    async fn listen(&self, pool: &PgPool, telling: &mut Telling) -> Result<Infallible, Error> {
        let mut listener = PgListener::connect_with(pool).await?;
        // A second try is this module's own, over a new listener.
        listener.eager_reconnect(false);
        listener.listen(CHANNEL).await?;
        self.heard.send_replace(true);
        telling.tell(&Ok::<_, Error>(()));
        // What was told before is not told again.
        self.wake_all();
        loop {
            let silence = Duration::from_millis(SILENCE_MS_MAX);
            match tokio::time::timeout(silence, listener.try_recv()).await {
                Ok(Ok(Some(notice))) => self.wake(&notice),
                Ok(Ok(None)) => return Err(Error::Io(ErrorKind::ConnectionReset.into())),
                Ok(Err(error)) => return Err(error),
                Err(_) => ask(&mut listener).await?,
            }
        }
    }

    fn wake(&self, notice: &PgNotification) {
        match notice.payload() {
            word if word == Feed::Config.word() => raise(&self.config),
            word if word == Feed::People.word() => raise(&self.people),
            // Another version may tell of more.
            _ => self.wake_all(),
        }
    }

    fn wake_all(&self) {
        raise(&self.config);
        raise(&self.people);
    }
}

fn raise(wake: &watch::Sender<u64>) {
    wake.send_modify(|times| *times = times.wrapping_add(1));
}

async fn ask(listener: &mut PgListener) -> Result<(), Error> {
    let asked = tokio::time::timeout(Duration::from_millis(PING_MS_MAX), listener.execute("SELECT 1"));
    asked.await.map_err(|_| Error::PoolTimedOut)?.map(drop)
}
