//! Files that somebody has changed by hand: what is found, and where.

use std::path::Path;
use std::time::Duration;

use rateguard_core::ids::WorkspaceId;
use rateguard_core::time::Millis;
use rateguard_engine::audit::{AuditHead, Deed, Problem, Report, verify};
use rateguard_engine::listing::SequenceQuery;
use rateguard_engine::ports::{AuditQuery, AuditStore, ConfigStore, Resource};
use rateguard_store_sql::SqlAuditStore;
use rateguard_store_suite::config_store::samples::{rule, workspace};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection};
use tempfile::TempDir;

use super::Opened;

/// Entries of the chain: the workspace, and rules.
const ENTRIES: u64 = 6;

/// Longer than what waits is left alone.
const WAIT: Duration = Duration::from_secs(30);

fn owner() -> WorkspaceId {
    WorkspaceId::parse("id", "ws_1").unwrap()
}

fn by() -> Deed {
    Deed::of_server("Test", Millis::new(5))
}

async fn add_rule(opened: &Opened, number: u64) {
    let rule = Resource::Rule(rule(&format!("rule_{number}")));
    opened.config.insert(&owner(), rule, 100, &by()).await.unwrap();
}

/// A folder with a chain, closed.
async fn made() -> TempDir {
    let home = tempfile::tempdir().unwrap();
    let opened = Opened::open(&home).await;
    opened.config.create_workspace(workspace("ws_1"), &by()).await.unwrap();
    for number in 2..=ENTRIES {
        add_rule(&opened, number).await;
    }
    opened.close().await;
    home
}

async fn by_hand(home: &TempDir, file: &str, statements: &[&'static str]) {
    let options = SqliteConnectOptions::new().filename(home.path().join(file));
    let mut connection: SqliteConnection = options.connect().await.unwrap();
    for statement in statements {
        let done = sqlx::query(*statement).execute(&mut connection).await.unwrap();
        assert!(done.rows_affected() > 0, "{statement} changed nothing");
    }
    connection.close().await.unwrap();
}

async fn report(folder: &Path, kept: &[AuditHead]) -> Report {
    let store = SqlAuditStore::open_to_read(folder).await.unwrap();
    let report = verify(&store, kept).await.unwrap();
    store.close().await;
    report
}

async fn found(home: &TempDir) -> Vec<(u64, Problem)> {
    let findings = report(home.path(), &[]).await.findings;
    assert!(findings.iter().all(|finding| finding.workspace == "ws_1"));
    findings.iter().map(|finding| (finding.sequence, finding.problem)).collect()
}

#[tokio::test]
async fn a_trail_that_nobody_touched_is_sound() {
    let home = made().await;
    let report = report(home.path(), &[]).await;
    assert_eq!((report.findings_count, report.chains.len()), (0, 1));
    assert_eq!((report.chains[0].entries, report.chains[0].head.sequence), (ENTRIES, ENTRIES));
}

#[tokio::test]
async fn each_column_of_a_row_is_guarded() {
    let statements = [
        "UPDATE audit_entries SET changed_at = 6 WHERE sequence = 3",
        "UPDATE audit_entries SET actor_kind = 'key' WHERE sequence = 3",
        "UPDATE audit_entries SET actor_id = 'key_1' WHERE sequence = 3",
        "UPDATE audit_entries SET method = 'x' WHERE sequence = 3",
        "UPDATE audit_entries SET kind = 'key' WHERE sequence = 3",
        "UPDATE audit_entries SET id = 'rule_9' WHERE sequence = 3",
        "UPDATE audit_entries SET state_before = '{}' WHERE sequence = 3",
        "UPDATE audit_entries SET state_after = '{}' WHERE sequence = 3",
        "UPDATE audit_entries SET ip = '192.0.2.1' WHERE sequence = 3",
        "UPDATE audit_entries SET user_agent = 'x' WHERE sequence = 3",
        "UPDATE audit_entries SET request_id = '' WHERE sequence = 3",
    ];
    for statement in statements {
        let home = made().await;
        by_hand(&home, "config.db", &[statement]).await;
        assert_eq!(found(&home).await, [(3, Problem::Altered)], "{statement}");
    }
}

#[tokio::test]
async fn a_hash_that_was_altered_breaks_the_chain_behind_it() {
    let home = made().await;
    by_hand(&home, "config.db", &["UPDATE audit_entries SET hash = zeroblob(32) WHERE sequence = 3"]).await;
    let expected = [(3, Problem::Altered), (3, Problem::WitnessDiffers), (4, Problem::Unchained)];
    assert_eq!(found(&home).await, expected);
    let home = made().await;
    by_hand(&home, "config.db", &["UPDATE audit_entries SET hash = x'00' WHERE sequence = 3"]).await;
    assert!(found(&home).await.contains(&(3, Problem::Altered)));
}

#[tokio::test]
async fn a_last_row_that_was_deleted_is_missed() {
    let home = made().await;
    by_hand(&home, "config.db", &["DELETE FROM audit_entries WHERE sequence = 6"]).await;
    assert_eq!(found(&home).await, [(6, Problem::CutOff)]);
}

#[tokio::test]
async fn last_rows_that_were_deleted_with_the_head_are_missed_by_the_other_file() {
    let home = made().await;
    let cut = [
        "DELETE FROM audit_entries WHERE sequence > 4",
        "UPDATE audit_heads SET sequence = 4, \
         hash = (SELECT hash FROM audit_entries WHERE sequence = 4)",
    ];
    by_hand(&home, "config.db", &cut).await;
    assert_eq!(found(&home).await, [(5, Problem::CutOff)]);
    // Nor does it help to let the server write on from there.
    let opened = Opened::open(&home).await;
    for number in 7..=9 {
        add_rule(&opened, number).await;
    }
    opened.close().await;
    assert_eq!(found(&home).await, [(5, Problem::WitnessDiffers), (6, Problem::WitnessDiffers)]);
}

#[tokio::test]
async fn an_entry_that_was_put_where_no_chain_is_is_found() {
    for chain in ["''", "'ws_0'", "'ws_9'"] {
        let home = made().await;
        let insert = format!(
            "INSERT INTO audit_entries (workspace_id, sequence, changed_at, actor_kind, actor_id, method, kind, id, \
             previous_hash, hash) SELECT {chain}, 1, changed_at, actor_kind, actor_id, method, kind, id, \
             previous_hash, hash FROM audit_entries WHERE sequence = 1"
        );
        by_hand(&home, "config.db", &[insert.leak()]).await;
        let report = report(home.path(), &[]).await;
        let strays: Vec<_> =
            report.findings.iter().filter(|it| format!("'{}'", it.workspace) == chain).collect();
        assert!(strays.iter().any(|it| it.problem == Problem::NotWitnessed), "{chain}: {report:?}");
        assert_eq!(report.findings.len(), strays.len(), "{chain}: {report:?}");
    }
}

#[tokio::test]
async fn a_chain_that_was_deleted_whole_is_missed() {
    let home = made().await;
    by_hand(&home, "config.db", &["DELETE FROM audit_entries", "DELETE FROM audit_heads"]).await;
    assert_eq!(found(&home).await, [(1, Problem::CutOff)]);
}

#[tokio::test]
async fn a_row_in_the_middle_that_was_deleted_is_missed() {
    let home = made().await;
    by_hand(&home, "config.db", &["DELETE FROM audit_entries WHERE sequence = 3"]).await;
    assert_eq!(found(&home).await, [(3, Problem::Missing)]);
}

#[tokio::test]
async fn rows_whose_places_were_exchanged_are_found() {
    let home = made().await;
    let exchange = [
        "UPDATE audit_entries SET sequence = 99 WHERE sequence = 3",
        "UPDATE audit_entries SET sequence = 3 WHERE sequence = 4",
        "UPDATE audit_entries SET sequence = 4 WHERE sequence = 99",
    ];
    by_hand(&home, "config.db", &exchange).await;
    let found = found(&home).await;
    for expected in [(3, Problem::Altered), (3, Problem::Unchained), (4, Problem::Altered)] {
        assert!(found.contains(&expected), "{expected:?} of {found:?}");
    }
}

#[tokio::test]
async fn a_chain_that_was_computed_anew_is_told_by_the_hashes_kept_elsewhere() {
    let home = made().await;
    forge(&home).await;
    let found = found(&home).await;
    assert_eq!(found.iter().filter(|(_, problem)| *problem == Problem::WitnessDiffers).count(), 4);
    assert!(found.iter().all(|(sequence, problem)| {
        *sequence >= 3 && matches!(problem, Problem::WitnessDiffers | Problem::HeadDiffers)
    }));
}

#[tokio::test]
async fn forging_both_files_is_told_by_a_head_that_somebody_has_kept() {
    let home = made().await;
    let kept = report(home.path(), &[]).await.chains[0].head.clone();
    assert_eq!(report(home.path(), std::slice::from_ref(&kept)).await.findings_count, 0);
    forge(&home).await;
    let opened = Opened::open(&home).await;
    let heads = opened.config.audit().audit_heads().await.unwrap();
    opened.close().await;
    assert_ne!(heads[0].hash, kept.hash);
    by_hand(&home, "events.db", &["DELETE FROM audit_witness"]).await;
    let attach = home.path().join("config.db");
    let options = SqliteConnectOptions::new().filename(home.path().join("events.db"));
    let mut connection = options.connect().await.unwrap();
    sqlx::query("ATTACH DATABASE $1 AS config")
        .bind(attach.to_str().unwrap())
        .execute(&mut connection)
        .await
        .unwrap();
    sqlx::query("INSERT INTO audit_witness SELECT workspace_id, sequence, hash FROM config.audit_entries")
        .execute(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
    assert_eq!(report(home.path(), &[]).await.findings_count, 0);
    let findings = report(home.path(), &[kept]).await.findings;
    assert_eq!((findings.len(), findings[0].problem), (1, Problem::HeadDiffers));
}

#[tokio::test]
async fn a_second_copy_that_was_changed_is_told_apart() {
    let home = made().await;
    by_hand(&home, "events.db", &["DELETE FROM audit_witness WHERE sequence = 2"]).await;
    assert_eq!(found(&home).await, [(2, Problem::NotWitnessed)]);
    let home = made().await;
    by_hand(&home, "events.db", &["UPDATE audit_witness SET hash = zeroblob(32) WHERE sequence = 2"]).await;
    assert_eq!(found(&home).await, [(2, Problem::WitnessDiffers)]);
}

#[tokio::test]
async fn what_a_killed_process_left_unwitnessed_is_witnessed_at_the_next_start() {
    let home = made().await;
    // As it is between the commit and the second copy.
    by_hand(&home, "events.db", &["DELETE FROM audit_witness WHERE sequence = 6"]).await;
    let wait =
        "INSERT INTO audit_outbox SELECT workspace_id, sequence, hash FROM audit_entries WHERE sequence = 6";
    by_hand(&home, "config.db", &[wait]).await;
    assert_eq!(found(&home).await, []);
    Opened::open(&home).await.close().await;
    let store = SqlAuditStore::open_to_read(home.path()).await.unwrap();
    assert_eq!(store.audit_unwitnessed("ws_1").await.unwrap(), []);
    assert_eq!(store.witnessed_heads().await.unwrap()[0].sequence, 6);
    store.close().await;
    assert_eq!(found(&home).await, []);
}

#[tokio::test]
async fn what_waited_while_the_second_copy_was_held_is_taken_over_without_another_change() {
    let home = made().await;
    let opened = Opened::open(&home).await;
    let options = SqliteConnectOptions::new().filename(home.path().join("events.db"));
    let mut holder: SqliteConnection = options.connect().await.unwrap();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut holder).await.unwrap();
    for number in 7..=9 {
        add_rule(&opened, number).await;
    }
    let audit = opened.config.audit();
    assert_eq!(audit.audit_unwitnessed("ws_1").await.unwrap().len(), 3);
    assert_eq!(report(home.path(), &[]).await.findings, []);
    sqlx::query("ROLLBACK").execute(&mut holder).await.unwrap();
    let taken_over = async {
        while audit.witnessed_heads().await.unwrap()[0].sequence < 9 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(WAIT, taken_over).await.expect("it is tried again");
    opened.close().await;
    assert_eq!(found(&home).await, []);
}

#[tokio::test]
async fn a_folder_is_verified_while_its_server_writes() {
    let home = made().await;
    let opened = Opened::open(&home).await;
    for number in 7..=40 {
        let (_, report) = tokio::join!(add_rule(&opened, number), report(home.path(), &[]));
        assert_eq!(report.findings, []);
    }
    opened.close().await;
}

#[tokio::test]
async fn a_folder_without_files_is_no_trail() {
    let home = tempfile::tempdir().unwrap();
    assert!(SqlAuditStore::open_to_read(home.path()).await.is_err());
    assert_eq!(home.path().read_dir().unwrap().count(), 0);
}

/// Alters the third entry and computes its hash and all that follow anew, with the head.
async fn forge(home: &TempDir) {
    let store = SqlAuditStore::open_to_read(home.path()).await.unwrap();
    let query = AuditQuery {
        part: SequenceQuery { limit: 100, ..SequenceQuery::default() },
        ..AuditQuery::default()
    };
    let mut entries = store.audit_entries(Some(&owner()), &query).await.unwrap();
    store.close().await;
    entries.reverse();
    let options = SqliteConnectOptions::new().filename(home.path().join("config.db"));
    let mut connection = options.connect().await.unwrap();
    let mut previous = entries[1].hash;
    for mut entry in entries.into_iter().skip(2) {
        if entry.sequence == 3 {
            entry.actor_id = "key_9".to_owned();
        }
        entry.previous_hash = previous;
        previous = entry.chained_hash();
        sqlx::query(
            "UPDATE audit_entries SET actor_id = $1, previous_hash = $2, hash = $3 WHERE sequence = $4",
        )
        .bind(entry.actor_id)
        .bind(&entry.previous_hash[..])
        .bind(&previous[..])
        .bind(i64::try_from(entry.sequence).unwrap())
        .execute(&mut connection)
        .await
        .unwrap();
    }
    sqlx::query("UPDATE audit_heads SET hash = $1")
        .bind(&previous[..])
        .execute(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
}
