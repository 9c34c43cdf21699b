//! The encryption key changes while calls that need what it seals go through, and the command that changes it
//! is killed in each of its steps.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use rateguard_proto::v1;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout};

use crate::clients::eventually;
use crate::http::{ChatCall, Http};
use crate::process::{Installation, PROGRAM, Server, command};
use crate::upstream;

/// Longest wait for one step of the command.
const STEP_WITHIN: Duration = Duration::from_secs(90);

/// The command at work.
struct Rotating {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Rotating {
    fn start(installation: &Installation) -> Self {
        let mut child = command(PROGRAM)
            .args(["rotate-encryption-key", "--data-dir"])
            .arg(installation.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// Waits for a line that begins so.
    async fn says(&mut self, beginning: &str) {
        let said = async {
            while let Some(line) = self.lines.next_line().await.unwrap() {
                if line.starts_with(beginning) {
                    return;
                }
            }
            panic!("it ended before it said {beginning:?}");
        };
        tokio::time::timeout(STEP_WITHIN, said).await.expect("it said nothing in time");
    }

    async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }
}

struct Scene {
    installation: Installation,
    server: Server,
    app_key: String,
    http: Http,
}

impl Scene {
    async fn set() -> Self {
        let installation = Installation::make().await;
        let server = installation.serve().await;
        let (_, upstream) = upstream::start().await;
        let manager = installation.administer(&server).await;
        upstream::make_api(&manager, upstream).await;
        let app_key = manager.make_key(&[v1::KeyScope::Gateway]).await;
        Self { installation, server, app_key, http: Http::new() }
    }

    /// A call for which the gateway needs the credential.
    async fn call(&self) {
        let call = ChatCall::new(&self.server.address, "chat", &self.app_key);
        assert_eq!(self.http.call(&call).await.status, 200);
    }

    async fn kill_and_start_again(mut self) -> Self {
        self.server.kill().await;
        self.server = self.installation.serve().await;
        self
    }

    fn file(&self) -> PathBuf {
        self.installation.path().join("encryption.key")
    }

    fn keys(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.file()).unwrap();
        text.lines().map(|line| line.trim_start_matches("next ").to_owned()).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_that_is_killed_in_each_of_its_steps_ends_right_and_no_call_notices() {
    let mut scene = Scene::set().await;
    scene.call().await;
    let old = scene.keys().remove(0);
    for step in ["The new key", "Waiting until every", "Sealing everything", "Waiting until nothing"] {
        let mut rotating = Rotating::start(&scene.installation);
        rotating.says(step).await;
        rotating.kill().await;
        let keys = scene.keys();
        assert!(keys.len() == 2 && keys.contains(&old), "after {step:?} there are {} keys", keys.len());
        scene.call().await;
        scene.server.signal("HUP").await;
        scene.call().await;
        scene = scene.kill_and_start_again().await;
        scene.call().await;
    }
    let mut rotating = Rotating::start(&scene.installation);
    rotating.says("Done").await;
    assert!(rotating.child.wait().await.unwrap().success());
    let keys = scene.keys();
    assert!(keys.len() == 1 && keys[0] != old);
    scene.call().await;
    scene = scene.kill_and_start_again().await;
    scene.call().await;
    // Nothing is left for the old key to open.
    scene.server.interrupt().await;
    std::fs::write(scene.installation.path().join("encryption.key"), format!("{old}\n")).unwrap();
    let refused = command(PROGRAM)
        .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(scene.installation.path())
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("holds another key"), "{said}");
}

#[tokio::test]
async fn a_server_takes_a_key_that_somebody_has_put_into_the_file_and_seals_with_it() {
    let scene = Scene::set().await;
    let old = scene.keys().remove(0);
    let new = "0f1e2d3c4b5a69788796a5b4c3d2e1f0".repeat(2);
    let unfinished = scene.installation.path().join("by-hand");
    std::fs::copy(scene.file(), &unfinished).unwrap();
    std::fs::write(&unfinished, format!("{new}\n{old}\n")).unwrap();
    std::fs::rename(&unfinished, scene.file()).unwrap();
    scene.server.signal("HUP").await;
    let reader = rateguard_store_sql::SqlSealedReader::open_to_read(scene.installation.path()).await.unwrap();
    let id = rateguard_engine::secrets::EncryptionKey::new(&hex::decode(&new).unwrap()).unwrap().id();
    eventually("everything is sealed with the new key", || async {
        rateguard_engine::reseal::sealed_otherwise(&reader, id).await.unwrap() == 0
    })
    .await;
    scene.call().await;
}
