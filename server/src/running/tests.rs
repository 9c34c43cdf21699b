//! What becomes of a server a part of which fails.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

use rateguard_core::ids::DisplayName;
use rateguard_core::money::Currency;
use rateguard_core::time::Zone;
use rateguard_engine::manage::equip;
use rateguard_engine::people::EmailAddress;
use rateguard_engine::ports::Resource;
use rateguard_engine::resources::Scope;
use rateguard_engine::secrets::SecretText;
use rateguard_proto::v1::ListKeysRequest;
use rateguard_proto::v1::key_service_client::KeyServiceClient;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::Code;

use super::*;
use crate::setup::{FirstWorkspace, install, plain_key};

/// Longest wait for something that is bound to happen.
const PATIENCE: Duration = Duration::from_secs(20);

/// A new installation, served on any port.
async fn start(flags: &[(&'static str, &str)]) -> (TempDir, Running) {
    let (folder, running, _) = start_with_key(flags).await;
    (folder, running)
}

/// The same, with the secret of its first key.
async fn start_with_key(flags: &[(&'static str, &str)]) -> (TempDir, Running, SecretText) {
    let folder = tempfile::tempdir().unwrap();
    let own = [("data.folder", folder.path().to_str().unwrap()), ("server.listen", "127.0.0.1:0")];
    let flags: Vec<_> = own.iter().chain(flags).map(|(key, value)| (*key, (*value).to_owned())).collect();
    let config = Config::load(None, &[], &flags).unwrap();
    let name = DisplayName::parse("workspace", "tests").unwrap();
    let owner = EmailAddress::parse("owner", "owner@example.com").unwrap();
    let first = FirstWorkspace { name, zone: Zone::UTC, currency: Currency::USD, owner };
    let secret = install(&config, first).await.unwrap().secret;
    let running = Running::start(&config).await.unwrap();
    (folder, running, secret)
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("this was bound to happen")
}

#[tokio::test]
async fn a_server_that_is_well_reports_no_failure_and_stops() {
    let (_folder, mut running) = start(&[]).await;
    assert!(tokio::time::timeout(Duration::ZERO, running.failed()).await.is_err());
    within(running.stop()).await.unwrap();
}

#[tokio::test]
async fn a_listener_that_ends_by_itself_is_noticed_and_the_server_still_stops_in_order() {
    let (_folder, mut running) = start(&[]).await;
    running.listeners.spawn(async { Err(io::Error::other("no more descriptors")) });
    let failure = within(running.failed()).await;
    assert_eq!(format!("{failure:#}"), "a listener failed: no more descriptors");
    within(running.stop()).await.unwrap();
}

#[tokio::test]
async fn a_listener_that_is_gone_without_a_word_is_noticed_too() {
    let (_folder, mut running) = start(&[]).await;
    running.listeners.spawn(async { Ok(()) });
    let failure = within(running.failed()).await;
    assert!(failure.to_string().contains("nobody stopped it"), "{failure}");
    within(running.stop()).await.unwrap();
}

#[tokio::test]
async fn a_stop_tells_of_a_listener_that_failed_and_writes_everything_down_all_the_same() {
    let (folder, mut running) = start(&[]).await;
    running.listeners.spawn(async { Err(io::Error::other("broken")) });
    let error = within(running.stop()).await.unwrap_err();
    assert_eq!(format!("{error:#}"), "a listener failed: broken");
    // The folder is free again: its files were closed.
    let flags = [("data.folder", folder.path().display().to_string())];
    let config = Config::load(None, &[], &flags).unwrap();
    OpenStores::open(&config, Opening::Existing, Recount::Exact).await.unwrap().close().await;
}

#[tokio::test]
async fn a_token_file_without_a_token_is_named_with_its_key_and_what_belongs_into_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let flags = [
        ("data.folder", folder.path().join("data").display().to_string()),
        ("server.listen", "127.0.0.1:0".to_owned()),
        ("server.gateway_listen", "127.0.0.1:0".to_owned()),
        ("server.gateway_token_file", file.display().to_string()),
    ];
    let config = Config::load(None, &[], &flags).unwrap();
    for (text, said) in [(" \n", "holds no token"), ("short", "holds too short a token")] {
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        let error = Running::start(&config).await.err().unwrap().to_string();
        let said =
            format!("server.gateway_token_file {} {said}: put a random token of at least 32", file.display());
        assert!(error.starts_with(&said) && error.contains("each gateway"), "{error}");
    }
}

/// What `/ready` answers, head and all.
async fn readiness(running: &Running) -> String {
    answer_to("/ready", running).await
}

async fn answer_to(path: &str, running: &Running) -> String {
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let question = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(question.as_bytes()).await.unwrap();
    let mut answer = String::new();
    within(stream.read_to_string(&mut answer)).await.unwrap();
    answer
}

#[tokio::test]
async fn metrics_are_told_to_prometheus_unless_they_are_off() {
    let (_folder, running) = start(&[]).await;
    let answer = answer_to("/metrics", &running).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("content-type: application/openmetrics-text; version=1.0.0"), "{answer}");
    let told = [
        "# TYPE rateguard_degraded_decisions counter",
        r#"rateguard_degraded_decisions_total{policy="local",decision="denied"} 0"#,
        "\nrateguard_unheard_checks_total 0",
        "\nrateguard_ready 1",
        r#"rateguard_store_failing{store="event log"} 0"#,
        r#"rateguard_store_age_seconds{store="config"} "#,
    ];
    for line in told {
        assert!(answer.contains(line), "{line} is not in {answer}");
    }
    assert!(answer.trim_end().ends_with("# EOF"), "{answer}");
    within(running.stop()).await.unwrap();
    let (_folder, running) = start(&[("server.metrics", "false")]).await;
    let answer = answer_to("/metrics", &running).await;
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    within(running.stop()).await.unwrap();
}

#[tokio::test]
async fn a_server_is_ready_once_it_was_declared_to_be() {
    let (folder, running) = start(&[]).await;
    let answer = readiness(&running).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(r#""missing":[]"#), "{answer}");
    for store in ["config", "people", "event log", "usage"] {
        assert!(answer.contains(&format!(r#""{store}":{{"age_ms""#)), "{answer}");
    }
    within(running.stop()).await.unwrap();
    let own = [("data.folder", folder.path().to_str().unwrap()), ("server.listen", "127.0.0.1:0")];
    let config = Config::load(None, &[], &own.map(|(key, value)| (key, value.to_owned()))).unwrap();
    let running = Running::start_unready(&config, Recount::Exact).await.unwrap();
    let answer = readiness(&running).await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("still being made"), "{answer}");
    running.declare_ready();
    assert!(readiness(&running).await.starts_with("HTTP/1.1 200"));
    within(running.stop()).await.unwrap();
}

/// The secret of a key that may be used from one address alone.
async fn key_for(address: &str, first: &SecretText, engine: &Engine) -> SecretText {
    let who = engine.authenticator().by_key(first.expose(), engine.now()).unwrap().into();
    let mut key = plain_key("restricted", [Scope::Read].into_iter().collect()).unwrap();
    key.ip_ranges = vec![address.parse().unwrap()];
    let (key, secret) = equip(key).unwrap();
    engine.create(&who, Resource::Key(key)).await.unwrap();
    secret
}

/// How a call with a key is answered that a proxy says to come from this address.
async fn called_from(address: &str, key: &SecretText, running: &Running) -> Code {
    let mut keys = KeyServiceClient::connect(running.url()).await.unwrap();
    let mut call = tonic::Request::new(ListKeysRequest::default());
    call.metadata_mut().insert("authorization", format!("Bearer {}", key.expose()).parse().unwrap());
    call.metadata_mut().insert("x-forwarded-for", address.parse().unwrap());
    within(keys.list_keys(call)).await.err().map_or(Code::Ok, |status| status.code())
}

#[tokio::test]
async fn behind_trusted_proxies_a_key_is_used_from_where_its_client_is() {
    let flags =
        [("server.client_address_header", "x-forwarded-for"), ("server.trusted_proxies", "[\"127.0.0.1\"]")];
    let (_folder, running, first) = start_with_key(&flags).await;
    let key = key_for("203.0.113.7/32", &first, &running.engine).await;
    assert_eq!(called_from("203.0.113.7", &key, &running).await, Code::Ok);
    assert_eq!(called_from("203.0.113.7, 198.51.100.1", &key, &running).await, Code::PermissionDenied);
    within(running.stop()).await.unwrap();
}

#[tokio::test]
async fn without_trusted_proxies_nobody_says_that_they_are_elsewhere() {
    let (_folder, running, first) = start_with_key(&[]).await;
    let key = key_for("203.0.113.7/32", &first, &running.engine).await;
    assert_eq!(called_from("203.0.113.7", &key, &running).await, Code::PermissionDenied);
    within(running.stop()).await.unwrap();
}
