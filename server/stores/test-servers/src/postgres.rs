//! A PostgreSQL server for tests: started on a free port from the installed programs, in a folder of
//! its own that is gone with it, never the machine's own cluster.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use self::account::Account;
use self::binaries::Binaries;
use self::processes::Processes;
use self::watchdog::Watchdog;
use crate::ServerError;
use crate::ports::free_port;

mod account;
mod binaries;
mod processes;
mod watchdog;

/// Generous, since several processes of tests may share the machine.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// How often a start is looked after.
const READY_POLL: Duration = Duration::from_millis(10);

/// Somebody else may take a free port between its choice and its use.
const PORTS_TRIED: u32 = 5;

/// How much of the log an error shows.
const LOG_LINES_SHOWN: usize = 20;

/// Owns the server; what it does is not held back by row-level security.
const SUPERUSER: &str = "rateguard_superuser";

/// Owns the tests' databases and is nothing more, so that row-level security counts for it.
const ROLE: &str = "rateguard";

/// Held against by the server, so that a wrong one is refused.
const PASSWORD: &str = "for-tests-only";

/// Nothing is forced to the disk, which only a power cut would notice. A commit is still written
/// before it is answered: with `synchronous_commit` off, a killed server forgets it.
const SETTINGS: &str = "
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
max_connections = 200
fsync = off
full_page_writes = off
synchronous_commit = on
wal_level = minimal
max_wal_senders = 0
shared_buffers = 16MB
dynamic_shared_memory_type = mmap
jit = off
password_encryption = md5
";

/// Who may come in: the tests' role by its password (md5, as it is the cheapest for both sides), the
/// superuser without.
const ADMISSION: &str = "
host all rateguard_superuser 127.0.0.1/32 trust
host all all 127.0.0.1/32 md5
";

/// A running server. It is stopped and its folder removed when this is dropped, and also when the
/// test's process ends in any other way.
#[derive(Debug)]
pub struct PostgresServer {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    binaries: Binaries,
    account: Account,
    folder: PathBuf,
    port: u16,
    databases: AtomicU32,
    running: Mutex<Option<Processes>>,
    /// Dropped last: removes the folder.
    _watchdog: Watchdog,
}

impl PostgresServer {
    /// A server of one's own, to kill and to pause. Takes about a second.
    ///
    /// # Errors
    ///
    /// [`ServerError`]; where PostgreSQL is not installed it says what to install.
    pub async fn start() -> Result<Self, ServerError> {
        blocking(|| Ok(Self { inner: Arc::new(Inner::start()?) })).await
    }

    /// The server that all tests of this process share, started by the first who asks. Each takes a
    /// database of its own from it, and none kills it.
    ///
    /// # Errors
    ///
    /// As [`PostgresServer::start`].
    pub async fn shared() -> Result<&'static Self, ServerError> {
        static SHARED: OnceLock<Result<PostgresServer, ServerError>> = OnceLock::new();
        blocking(|| {
            let start = || Ok(Self { inner: Arc::new(Inner::start()?) });
            SHARED.get_or_init(start).as_ref().map_err(Clone::clone)
        })
        .await
    }

    /// Makes an empty database and answers its URL, as the role that owns it. The role is no
    /// superuser.
    ///
    /// # Errors
    ///
    /// [`ServerError`], also when the server does not run.
    pub async fn new_database(&self) -> Result<String, ServerError> {
        let inner = Arc::clone(&self.inner);
        blocking(move || inner.new_database()).await
    }

    /// The URL of the same database as the server's superuser, whom row-level security does not
    /// hold back.
    #[must_use]
    pub fn superuser_url(&self, database_url: &str) -> String {
        let name = database_url.rsplit_once('/').map_or(database_url, |(_, name)| name);
        self.inner.superuser_url(name)
    }

    /// Runs statements with `psql`, all in one transaction, and answers what they print:
    /// a line for each row, columns divided by `|`.
    ///
    /// # Errors
    ///
    /// [`ServerError::Failed`] with the first statement's refusal.
    pub async fn run(&self, database_url: &str, statements: &str) -> Result<String, ServerError> {
        let inner = Arc::clone(&self.inner);
        let (url, statements) = (database_url.to_owned(), statements.to_owned());
        blocking(move || inner.run(&url, &statements)).await
    }

    /// The port on 127.0.0.1, the same for as long as the server is there.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.inner.port
    }

    /// Kills the server without a word (`kill -9`), and waits until all its processes are gone.
    ///
    /// # Errors
    ///
    /// [`ServerError::NotRunning`], or [`ServerError::StillRunning`] past half a minute.
    pub async fn kill(&self) -> Result<(), ServerError> {
        let inner = Arc::clone(&self.inner);
        blocking(move || inner.kill()).await
    }

    /// Starts it again on the same port and folder.
    ///
    /// # Errors
    ///
    /// As [`PostgresServer::start`].
    pub async fn start_again(&self) -> Result<(), ServerError> {
        let inner = Arc::clone(&self.inner);
        blocking(move || inner.start_again()).await
    }

    /// Freezes every process of the server: connections stay open and nobody answers.
    ///
    /// # Errors
    ///
    /// [`ServerError::NotRunning`].
    pub fn pause(&self) -> Result<(), ServerError> {
        self.inner.running().as_ref().ok_or(ServerError::NotRunning)?.freeze()
    }

    /// Lets a frozen server go on.
    ///
    /// # Errors
    ///
    /// [`ServerError::NotRunning`].
    pub fn resume(&self) -> Result<(), ServerError> {
        self.inner.running().as_ref().ok_or(ServerError::NotRunning)?.thaw()
    }
}

impl Inner {
    fn start() -> Result<Self, ServerError> {
        let (binaries, account) = (Binaries::find()?, Account::choose()?);
        let folder = new_folder(&account)?;
        let watchdog = Watchdog::over(&folder, &account)?;
        initialise(&binaries, &account, &folder)?;
        let (port, processes) = start_on_free_port(&binaries, &account, &folder)?;
        let running = Mutex::new(Some(processes));
        let databases = AtomicU32::new(0);
        let inner = Self { binaries, account, folder, port, databases, running, _watchdog: watchdog };
        let role = format!("CREATE ROLE {ROLE} LOGIN PASSWORD '{PASSWORD}' NOSUPERUSER NOBYPASSRLS;");
        inner.run(&inner.superuser_url("postgres"), &role)?;
        Ok(inner)
    }

    fn new_database(&self) -> Result<String, ServerError> {
        let name = format!("rateguard_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let statement = format!("CREATE DATABASE {name} OWNER {ROLE};");
        self.run(&self.superuser_url("postgres"), &statement)?;
        Ok(format!("postgres://{ROLE}:{PASSWORD}@127.0.0.1:{}/{name}", self.port))
    }

    fn superuser_url(&self, database: &str) -> String {
        format!("postgres://{SUPERUSER}@127.0.0.1:{}/{database}", self.port)
    }

    fn run(&self, url: &str, statements: &str) -> Result<String, ServerError> {
        let mut psql = Command::new(self.binaries.program("psql"));
        psql.args(["--no-psqlrc", "--quiet", "--no-align", "--tuples-only", "--set=ON_ERROR_STOP=1"]);
        psql.args(["--command", statements]).arg(url);
        finish(psql, "psql")
    }

    fn kill(&self) -> Result<(), ServerError> {
        self.running().take().ok_or(ServerError::NotRunning)?.kill()?;
        // Its number may soon be another process's, which the watchdog must not take for the server.
        std::fs::remove_file(self.folder.join("data/postmaster.pid"))
            .map_err(ServerError::system("remove the killed server's lock file"))
    }

    fn start_again(&self) -> Result<(), ServerError> {
        let processes = start(&self.binaries, &self.account, &self.folder, self.port)?;
        *self.running() = Some(processes);
        Ok(())
    }

    fn running(&self) -> MutexGuard<'_, Option<Processes>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Inner {
    /// Stops the server at once; what fails here the watchdog does again.
    fn drop(&mut self) {
        if let Some(processes) = self.running().take() {
            processes.thaw().ok();
            processes.signal(Signal::QUIT).ok();
            processes.wait().ok();
        }
    }
}

/// A folder that the account owns. It is not removed with the value: the watchdog does that.
fn new_folder(account: &Account) -> Result<PathBuf, ServerError> {
    let making = || ServerError::system("make a folder for PostgreSQL");
    let folder = tempfile::Builder::new().prefix("rateguard-postgres-").tempdir().map_err(making())?.keep();
    account.own(&folder).map_err(making())?;
    Ok(folder)
}

fn initialise(binaries: &Binaries, account: &Account, folder: &Path) -> Result<(), ServerError> {
    let mut initdb = account.command(&binaries.program("initdb"), folder);
    initdb.args([
        "--username",
        SUPERUSER,
        "--auth=trust",
        "--no-sync",
        "--locale=C.UTF-8",
        "--encoding=UTF8",
    ]);
    initdb.arg("--pgdata").arg(folder.join("data"));
    finish(initdb, "initdb")?;
    let writing = || ServerError::system("write PostgreSQL's settings");
    let settings = folder.join("data/postgresql.conf");
    let given = std::fs::read_to_string(&settings).map_err(writing())?;
    std::fs::write(&settings, given + SETTINGS).map_err(writing())?;
    std::fs::write(folder.join("data/pg_hba.conf"), ADMISSION).map_err(writing())
}

fn start_on_free_port(
    binaries: &Binaries,
    account: &Account,
    folder: &Path,
) -> Result<(u16, Processes), ServerError> {
    let mut last = ServerError::NotRunning;
    for _ in 0..PORTS_TRIED {
        let port = free_port().map_err(ServerError::system("find a free port"))?;
        match start(binaries, account, folder, port) {
            Ok(processes) => return Ok((port, processes)),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn start(binaries: &Binaries, account: &Account, folder: &Path, port: u16) -> Result<Processes, ServerError> {
    let mut postgres = account.command(&binaries.program("postgres"), folder);
    postgres.arg("-D").arg(folder.join("data")).args(["-p", &port.to_string()]);
    let log = folder.join("log");
    let mut processes = Processes::start(postgres, &log)?;
    let deadline = Instant::now() + READY_WITHIN;
    while !is_ready(folder) {
        if processes.have_ended() || Instant::now() > deadline {
            return Err(ServerError::NotReady(end_of(&log)));
        }
        std::thread::sleep(READY_POLL);
    }
    Ok(processes)
}

/// The eighth line of the lock file is the server's state, as `pg_ctl` reads it.
fn is_ready(folder: &Path) -> bool {
    const STATE_LINE: usize = 7;
    let lock = std::fs::read_to_string(folder.join("data/postmaster.pid")).unwrap_or_default();
    lock.lines().nth(STATE_LINE).is_some_and(|state| state.trim() == "ready")
}

fn end_of(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
}

/// Runs a program to its end and answers what it printed.
fn finish(mut command: Command, program: &'static str) -> Result<String, ServerError> {
    command.stdin(Stdio::null());
    let output = command.output().map_err(ServerError::system(format!("run {program}")))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(ServerError::Failed { program, output: String::from_utf8_lossy(&output.stderr).into_owned() })
    }
}

/// Starting and killing wait for other processes, which an async test must not do on its own thread.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ServerError> + Send + 'static,
) -> Result<T, ServerError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| ServerError::System {
        doing: "run the server's work beside the test".to_owned(),
        reason: error.to_string(),
    })?
}
