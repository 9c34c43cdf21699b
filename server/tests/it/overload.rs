//! A disk that is full, and files that the server must not touch.

use std::collections::BTreeSet;
use std::path::Path;

use rateguard_proto::v1;
use tonic::Code;
use tonic_types::StatusExt;

use crate::clients::{Clients, eventually, record};
use crate::process::{Installation, PROGRAM, Server, command};

/// Records to report until the disk is full, at most.
const RECORDS_MAX: usize = 10_000;
/// What each costs.
const COST_NANOS: i64 = 3;
/// How far the files may still grow: some tens of records.
const ROOM_BYTES: u64 = 256 * 1024;
/// How long the file of messages is: longer than any file may be then.
const LOG_BYTES: u64 = 1 << 30;
/// Runs a program for which a file that may not grow is an error and not its end.
const IGNORING_THE_SIGNAL: [&str; 4] = ["-c", r#"trap "" XFSZ; exec "$@""#, "sh", PROGRAM];

/// Bounds the size of the files that a running server writes, as a full disk would.
async fn bound_files(server: &Server, bytes: &str) {
    let (pid, bound) = (server.pid().to_string(), format!("--fsize={bytes}:"));
    let bounded = command("prlimit").args(["--pid", &pid, &bound]).status().await.unwrap();
    assert!(bounded.success());
}

/// How large the log's file may grow from now on.
fn nearly_full(folder: &Path) -> String {
    let log = std::fs::metadata(folder.join("events.db-wal")).unwrap();
    (log.len() + ROOM_BYTES).to_string()
}

/// Where the server's messages go: longer than any file may be once the disk is full.
fn full_log(folder: &Path) -> std::fs::File {
    let log = std::fs::OpenOptions::new().append(true).create(true).open(folder.join("log")).unwrap();
    log.set_len(LOG_BYTES).unwrap();
    log
}

/// Reports one record after the other until one is refused, and returns what was accepted and the
/// refused one.
async fn report_until_refused(client: &Clients) -> (BTreeSet<String>, v1::UsageRecord, tonic::Status) {
    let mut accepted = BTreeSet::new();
    for number in 0..RECORDS_MAX {
        let record = record(&format!("record-{number}"), "disk", COST_NANOS);
        match client.report(vec![record.clone()]).await {
            Ok(results) => {
                assert_eq!(results[0].status(), v1::RecordStatus::Accepted);
                accepted.insert(record.event_id);
            }
            Err(refused) => return (accepted, record, refused),
        }
    }
    panic!("{RECORDS_MAX} records found room")
}

#[tokio::test]
async fn a_full_disk_answers_unavailable_and_loses_nothing_accepted() {
    let installation = Installation::make().await;
    let mut shell = command("sh");
    shell.args(IGNORING_THE_SIGNAL).stderr(full_log(installation.path()));
    let server = installation.serve_under(shell).await;
    let first = installation.administer(&server).await;
    let budget = first.make_budget("disk", 1_000_000_000).await;
    let key = first.make_key(&[v1::KeyScope::Usage, v1::KeyScope::Read]).await;
    let client = server.connect(&key).await;

    bound_files(&server, &nearly_full(installation.path())).await;
    let (mut accepted, record, refused) = report_until_refused(&client).await;
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    let retry = refused.get_details_retry_info().and_then(|info| info.retry_delay);
    assert!(retry.is_some_and(|delay| !delay.is_zero()), "{refused:?}");
    assert!(!accepted.is_empty());

    bound_files(&server, "unlimited").await;
    // Whether the refused record got into the file is what its answer did not say.
    let again = client.report_one(record).await;
    assert_ne!(again.status(), v1::RecordStatus::Rejected, "{}", again.message);
    accepted.insert(again.event_id);
    server.kill().await;

    let server = installation.serve().await;
    let client = server.connect(&key).await;
    let events = client.all_events().await;
    let listed: BTreeSet<String> = events.into_iter().map(|event| event.record.unwrap().event_id).collect();
    assert_eq!(listed, accepted);
    let spent = COST_NANOS * i64::try_from(accepted.len()).unwrap();
    let reader = installation.administer(&server).await;
    assert_eq!(reader.budget_state(&budget.id).await.spent_nanos, spent);
    eventually("the rollups equal the events", async || {
        client.rolled_up().await.cost.unwrap().nanos == spent
    })
    .await;
}

/// What the server says when it does not start.
async fn refusal(installation: &Installation) -> String {
    let mut serve = command(PROGRAM);
    serve.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(installation.path());
    let output = serve.kill_on_drop(true).output().await.unwrap();
    assert!(!output.status.success(), "it started");
    String::from_utf8(output.stderr).unwrap()
}

#[tokio::test]
async fn a_damaged_file_is_refused_saying_which_and_what_to_do() {
    let installation = Installation::make().await;
    assert!(installation.serve().await.interrupt().await.success());
    let file = installation.path().join("events.db");
    std::fs::write(&file, "this is no database any more".repeat(1_000)).unwrap();
    let said = refusal(&installation).await;
    assert!(said.contains("events.db is damaged"), "{said}");
    assert!(said.contains("restore it from a backup"), "{said}");
}

#[tokio::test]
async fn a_file_of_a_newer_version_is_refused_saying_what_to_do() {
    let installation = Installation::make().await;
    assert!(installation.serve().await.interrupt().await.success());
    let file = installation.path().join("usage.db");
    let from_the_future = "import sqlite3, sys; d = sqlite3.connect(sys.argv[1]); \
        d.execute(\"INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
        VALUES (9999, 'from the future', 1, x'00', 0)\"); d.commit()";
    let changed = command("python3").args(["-c", from_the_future]).arg(&file).status().await.unwrap();
    assert!(changed.success());
    let said = refusal(&installation).await;
    assert!(said.contains("usage.db has the schema 9999"), "{said}");
    assert!(said.contains("start the version that wrote it"), "{said}");
}
