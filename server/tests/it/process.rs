//! A server in a process of its own, on a data folder that outlives it.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::time::timeout;

use crate::clients::Clients;

/// Longest wait for a server to be ready.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_rateguard");

/// A command whose program is configured by its arguments alone: the variables that are meant for
/// the tests, or for somebody's own server, are no configuration of it.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    let variables = std::env::vars_os().map(|(name, _)| name);
    for name in variables.filter(|name| name.to_string_lossy().starts_with("RATEGUARD_")) {
        command.env_remove(name);
    }
    command
}

/// A data folder with an installation in it, or with what one replica of an installation keeps for itself.
pub struct Installation {
    folder: TempDir,
    /// What its programs are configured by besides.
    variables: Vec<(String, String)>,
    /// The first key: manage and read.
    pub first_key: String,
    /// The password of its first owner.
    pub owner_password: String,
}

/// The address of an installation's first owner, who was not named otherwise.
pub const OWNER_EMAIL: &str = "owner@example.com";

impl Installation {
    /// Makes one with `rateguard init`.
    pub async fn make() -> Self {
        Self::make_with(Vec::new()).await
    }

    /// Makes one whose stores are in a database of PostgreSQL.
    pub async fn make_on(database_url: &str) -> Self {
        Self::make_with(on_postgres(database_url)).await
    }

    /// Another replica of an installation: a folder of its own with the same encryption key, over the same
    /// database, which it may reach by another URL.
    pub fn replica(&self, database_url: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::copy(self.path().join(ENCRYPTION_KEY), folder.path().join(ENCRYPTION_KEY)).unwrap();
        Self {
            folder,
            variables: on_postgres(database_url),
            first_key: self.first_key.clone(),
            owner_password: self.owner_password.clone(),
        }
    }

    /// Its counters, and those of its replicas made from here on, are in Redis.
    /// Decisions wait so long for them.
    pub fn with_counters_in(self, redis_url: &str, deadline_ms: u32) -> Self {
        self.with_redis("single", &[redis_url.to_owned()], deadline_ms)
    }

    /// The same in a Redis Cluster, by the addresses of its nodes.
    pub fn with_counters_in_cluster(self, urls: &[String], deadline_ms: u32) -> Self {
        self.with_redis("cluster", urls, deadline_ms)
    }

    fn with_redis(mut self, topology: &str, urls: &[String], deadline_ms: u32) -> Self {
        let (urls, deadline) = (format!("{urls:?}"), deadline_ms.to_string());
        for (name, value) in [("TOPOLOGY", topology), ("URLS", &urls), ("DEADLINE_MS", &deadline)] {
            self.variables.push((format!("RATEGUARD_STORES__REDIS__{name}"), value.to_owned()));
        }
        self
    }

    async fn make_with(variables: Vec<(String, String)>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let output = command(PROGRAM)
            .envs(variables.clone())
            .args(["init", "--workspace", "test", "--data-dir"])
            .arg(folder.path())
            .output()
            .await
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let first_key = text.split_whitespace().find(|word| word.starts_with("rg_live_")).unwrap().to_owned();
        let mut words = text.split_whitespace().skip_while(|word| *word != OWNER_EMAIL).skip(1);
        let owner_password = words.next().unwrap().to_owned();
        Self { folder, variables, first_key, owner_password }
    }

    /// The data folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Starts a server on it.
    pub async fn serve(&self) -> Server {
        self.serve_under(command(PROGRAM)).await
    }

    /// A client with the first key.
    pub async fn administer(&self, server: &Server) -> Clients {
        server.connect(&self.first_key).await
    }

    /// Starts a server that gateways of other processes may connect to with the token in a file.
    pub async fn serve_for_gateways(&self, token_file: &Path) -> GatewayServer {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut command = command(PROGRAM);
        command.env("RATEGUARD_SERVER__GATEWAY_LISTEN", free.to_string());
        command.env("RATEGUARD_SERVER__GATEWAY_TOKEN_FILE", token_file);
        GatewayServer { server: self.serve_under(command).await, gateway_address: format!("http://{free}") }
    }

    /// Starts a server through another program, which is given the server's command line.
    pub async fn serve_under(&self, command: Command) -> Server {
        Server::started(self.told_to_serve(command)).await
    }

    /// Starts a server, and does not wait until it is ready.
    pub fn begin_to_serve(&self) -> Starting {
        let mut command = self.told_to_serve(command(PROGRAM));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap()).lines();
        let log = BufReader::new(child.stderr.take().unwrap()).lines();
        Starting { child, output, log }
    }

    fn told_to_serve(&self, mut command: Command) -> Command {
        command
            .envs(self.variables.clone())
            .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(self.path())
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }
}

/// The file of the key that seals credentials, in a data folder.
const ENCRYPTION_KEY: &str = "encryption.key";

/// The variables by which a program keeps its stores in a database.
pub fn on_postgres(url: &str) -> Vec<(String, String)> {
    let variables = [("RATEGUARD_STORES__KIND", "postgres"), ("RATEGUARD_STORES__POSTGRES__URL", url)];
    variables.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()
}

/// A server with a listener for gateways of other processes.
pub struct GatewayServer {
    pub server: Server,
    gateway_address: String,
}

impl GatewayServer {
    /// Starts a gateway in a process of its own, whose reservations last a second.
    pub async fn start_gateway(&self, token_file: &Path) -> Server {
        let mut command = command(gateway_program().await);
        command
            .args([
                "--listen",
                "127.0.0.1:0",
                "--reservation-ttl-ms",
                "1000",
                "--server",
                &self.gateway_address,
            ])
            .arg("--token-file")
            .arg(token_file);
        Server::started(command).await
    }
}

/// The gateway's program, beside the server's. Cargo builds it when it is not there yet.
pub async fn gateway_program() -> std::path::PathBuf {
    let package = ["build", "--quiet", "-p", "rateguard-gateway-http", "--bin", "rateguard-gateway"];
    let mut build = Command::new(env!("CARGO"));
    build.args(package);
    // What Cargo tells this test of its own package would make build scripts run anew.
    let names = std::env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned());
    for name in names.filter(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")) {
        build.env_remove(name);
    }
    assert!(build.status().await.unwrap().success());
    Path::new(PROGRAM).with_file_name("rateguard-gateway")
}

/// A server that is being started.
pub struct Starting {
    child: Child,
    output: Lines<BufReader<ChildStdout>>,
    log: Lines<BufReader<ChildStderr>>,
}

impl Starting {
    /// Waits until its log has a text.
    pub async fn logs(&mut self, text: &str) {
        let logged = async {
            while let Some(line) = self.log.next_line().await.unwrap() {
                if line.contains(text) {
                    return;
                }
            }
            panic!("it ended without {text:?} in its log");
        };
        timeout(READY_WITHIN, logged).await.expect("nothing was logged in time");
    }

    /// Waits until it is ready.
    pub async fn is_ready(&mut self) {
        ready_address(&mut self.output).await;
    }

    /// Asks it to stop, as Ctrl-C does.
    pub async fn interrupt(&self) {
        signal(&self.child, "INT").await;
    }

    /// As [`Server::ended`].
    pub async fn ended(self) -> ExitStatus {
        ended(self.child).await
    }
}

/// Where a program says that it is ready.
async fn ready_address(output: &mut Lines<BufReader<ChildStdout>>) -> String {
    let ready = timeout(READY_WITHIN, output.next_line()).await.expect("not ready in time");
    let line = ready.unwrap().expect("the program ended before it was ready");
    line.strip_prefix("ready at ").unwrap().to_owned()
}

async fn signal(child: &Child, name: &str) {
    let pid = child.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-s", name, &pid]).status().await.unwrap().success());
}

async fn ended(mut child: Child) -> ExitStatus {
    timeout(READY_WITHIN, child.wait()).await.expect("it did not stop").unwrap()
}

/// A running server.
pub struct Server {
    child: Child,
    /// Its address, as a URL.
    pub address: String,
}

impl Server {
    /// Starts a command and waits until it says that it is ready.
    pub async fn started(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = ready_address(&mut output).await;
        Self { child, address }
    }

    /// A client with a key, over a connection of its own.
    pub async fn connect(&self, key: &str) -> Clients {
        Clients::connect(&self.address, key).await
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id().unwrap()
    }

    /// Ends it as a power cut would end a process, and waits until it is gone.
    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// Sends it a signal, by its name.
    pub async fn signal(&self, name: &str) {
        signal(&self.child, name).await;
    }

    /// Asks it to stop, as Ctrl-C does, and returns its exit status.
    pub async fn interrupt(self) -> ExitStatus {
        self.signal("INT").await;
        self.ended().await
    }

    /// Waits until it has ended, and returns its exit status.
    pub async fn ended(self) -> ExitStatus {
        ended(self.child).await
    }
}
