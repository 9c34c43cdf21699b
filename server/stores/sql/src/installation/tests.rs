//! Tests of what is made, what is built again, and what is refused with which words.

use std::fs;
use std::path::Path;

use rateguard_core::ids::WorkspaceId;
use rateguard_core::time::Millis;
use rateguard_engine::audit::Deed;
use rateguard_engine::ports::{Checkpoint, CheckpointBatch, CheckpointStore, ConfigStore, UsageStore};
use rateguard_store_suite::config_store::samples::workspace;
use rateguard_store_suite::event_log::samples::varied;
use tempfile::TempDir;

use super::*;

const FILES: [&str; 4] = ["config.db", "events.db", "usage.db", "counters.db"];
const EVENTS: usize = 40;

async fn open(folder: &TempDir, opening: Opening) -> Result<SqlStores, OpenError> {
    SqlStores::open(&DataFolder::open(folder.path()).unwrap(), opening).await
}

async fn reopened(folder: &TempDir) -> Result<SqlStores, OpenError> {
    open(folder, Opening::Existing).await
}

/// Takes a file with all that SQLite has put beside it away.
fn remove(folder: &Path, file: &str) {
    for suffix in ["", "-wal", "-shm"] {
        let path = folder.join(format!("{file}{suffix}"));
        if path.exists() {
            fs::remove_file(path).unwrap();
        }
    }
}

/// An installation with a workspace, events, rollups and a checkpoint, closed.
async fn filled() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let stores = open(&folder, Opening::ExistingOrNew).await.unwrap();
    let deed = Deed::of_server("Test", Millis::ZERO);
    stores.config.create_workspace(workspace("ws_a"), &deed).await.unwrap();
    stores.events.append(&varied(1, EVENTS)).await.unwrap();
    let logged = stores.events.read_after(Position(0), EVENTS).await.unwrap();
    stores.usage.apply(&logged).await.unwrap();
    let batch = CheckpointBatch { position: Some(logged[EVENTS - 1].position), ..CheckpointBatch::default() };
    stores.checkpoints.save(batch).await.unwrap();
    stores.close().await;
    folder
}

#[tokio::test]
async fn a_folder_without_an_installation_is_refused_and_left_empty() {
    let folder = tempfile::tempdir().unwrap();
    let refused = reopened(&folder).await.unwrap_err();
    assert!(matches!(refused, OpenError::NoInstallation { .. }), "{refused}");
    assert!(refused.to_string().contains("rateguard init"), "{refused}");
    assert!(FILES.iter().all(|file| !folder.path().join(file).exists()));
}

#[tokio::test]
async fn an_installation_opens_again_with_everything_in_it() {
    let folder = filled().await;
    let stores = reopened(&folder).await.unwrap();
    assert!(!stores.counters_are_lost() && !stores.usage_was_lost);
    assert_eq!(stores.config.snapshot().await.unwrap().workspaces.len(), 1);
    let end = stores.events.end().await.unwrap();
    assert_eq!(stores.usage.cursor().await.unwrap(), end);
    assert_eq!(stores.checkpoints.position().await.unwrap(), end);
}

#[tokio::test]
async fn a_lost_or_empty_file_that_nothing_can_replace_is_refused_by_its_name() {
    for (file, holds) in [("config.db", "workspaces, keys and budgets"), ("events.db", "holds the events")] {
        for emptied in [false, true] {
            let folder = filled().await;
            remove(folder.path(), file);
            if emptied {
                fs::write(folder.path().join(file), "").unwrap();
            }
            for opening in [Opening::Existing, Opening::ExistingOrNew, Opening::Existing] {
                let refused = open(&folder, opening).await.unwrap_err();
                assert!(matches!(refused, OpenError::Missing { .. }), "{refused}");
                let message = refused.to_string();
                assert!(message.contains(&format!("/{file} is missing or empty")), "{message}");
                assert!(message.contains("restore it from a backup") && message.contains(holds), "{message}");
            }
        }
    }
}

#[tokio::test]
async fn a_file_of_another_installation_is_refused_by_its_name() {
    for file in FILES {
        let (folder, other) = (filled().await, filled().await);
        remove(folder.path(), file);
        fs::copy(other.path().join(file), folder.path().join(file)).unwrap();
        let refused = reopened(&folder).await.unwrap_err();
        assert!(matches!(refused, OpenError::Foreign { .. }), "{refused}");
        let mut others = FILES.to_vec();
        others.retain(|other| *other != file);
        let (these, those) = if file == "config.db" { (vec![file], others) } else { (others, vec![file]) };
        let sides = format!("{} on one side, {} on the other", these.join(", "), those.join(", "));
        assert!(refused.to_string().contains(&sides), "{refused}");
        // What cannot be built again is not to be moved away.
        let is_rebuilt = ["usage.db", "counters.db"].contains(&file);
        assert_eq!(refused.to_string().contains("move them away"), is_rebuilt, "{refused}");
    }
}

#[tokio::test]
async fn lost_rollups_begin_anew_and_follow_the_log() {
    let folder = filled().await;
    let before = reopened(&folder).await.unwrap();
    let everything = rateguard_engine::ports::UsageFilter {
        accounted: Millis::ZERO..Millis::new(i64::MAX),
        api: None,
        key: None,
        subject: None,
        model: None,
    };
    let owner = WorkspaceId::parse("id", "ws_a").unwrap();
    let summed = before.usage.summary(&owner, &everything).await.unwrap();
    before.close().await;
    drop(before);
    remove(folder.path(), "usage.db");

    let stores = reopened(&folder).await.unwrap();
    assert!(stores.usage_was_lost);
    assert_eq!(stores.usage.cursor().await.unwrap(), Position(0));
    let logged = stores.events.read_after(Position(0), EVENTS).await.unwrap();
    stores.usage.apply(&logged).await.unwrap();
    assert_eq!(stores.usage.summary(&owner, &everything).await.unwrap(), summed);
    stores.close().await;
    drop(stores);
    assert!(!reopened(&folder).await.unwrap().usage_was_lost);
}

#[tokio::test]
async fn lost_counters_stay_lost_until_somebody_begins_them() {
    let folder = filled().await;
    remove(folder.path(), "counters.db");
    for _ in 0..2 {
        let stores = reopened(&folder).await.unwrap();
        assert!(stores.counters_are_lost(), "a start that was cut off has begun nothing");
        stores.close().await;
    }
    let mut stores = reopened(&folder).await.unwrap();
    stores.begin_counters(Position(7)).await.unwrap();
    assert!(!stores.counters_are_lost());
    stores.close().await;
    drop(stores);
    let stores = reopened(&folder).await.unwrap();
    assert!(!stores.counters_are_lost());
    let expected = Checkpoint { position: Position(7), crashes: 1, ..Checkpoint::default() };
    assert_eq!(stores.checkpoints.load().await.unwrap(), expected);
}

#[tokio::test]
async fn a_file_that_is_newer_than_the_log_is_refused_and_the_log_is_named() {
    for file in ["usage.db", "counters.db"] {
        let folder = filled().await;
        let stores = reopened(&folder).await.unwrap();
        for (store, table) in
            [(stores.usage.database(), "progress"), (stores.checkpoints.database(), "positions")]
        {
            if file.starts_with(store.store()) {
                execute(store, &format!("UPDATE {table} SET position = 1000")).await;
            }
        }
        stores.close().await;
        drop(stores);
        let refused = reopened(&folder).await.unwrap_err();
        assert!(matches!(refused, OpenError::AheadOfLog { position: 1_000, .. }), "{refused}");
        let message = refused.to_string();
        assert!(
            message.contains(&format!("/{file} ")) && message.contains("newer than events.db"),
            "{message}"
        );
    }
}

/// Files of the version before have no marks: together they are an installation.
#[tokio::test]
async fn files_without_marks_get_them_all_at_once() {
    let folder = filled().await;
    forget_marks(&folder, &FILES).await;
    let stores = reopened(&folder).await.unwrap();
    assert_eq!(stores.config.snapshot().await.unwrap().workspaces.len(), 1);
    let id = stores.id.clone();
    stores.close().await;
    drop(stores);
    assert_eq!(reopened(&folder).await.unwrap().id, id);
}

#[tokio::test]
async fn a_file_without_a_mark_among_marked_ones_is_foreign() {
    for file in FILES {
        let folder = filled().await;
        forget_marks(&folder, &[file]).await;
        let refused = reopened(&folder).await.unwrap_err();
        assert!(matches!(refused, OpenError::Foreign { .. }), "{refused}");
        assert!(refused.to_string().contains(&format!("{file} on ")), "{refused}");
    }
}

#[tokio::test]
async fn a_damaged_file_may_be_moved_away_only_where_it_is_built_again() {
    for file in FILES {
        let folder = filled().await;
        remove(folder.path(), file);
        fs::write(folder.path().join(file), "this is no database. ".repeat(1_000)).unwrap();
        let refused = reopened(&folder).await.unwrap_err();
        assert!(matches!(refused, OpenError::Corrupt { .. }), "{refused}");
        let message = refused.to_string();
        assert!(message.contains(&format!("/{file} is damaged; restore it from a backup")), "{message}");
        remove(folder.path(), file);
        assert_eq!(message.contains("move it away"), reopened(&folder).await.is_ok(), "{message}");
    }
}

#[tokio::test]
async fn an_installation_whose_making_was_cut_off_is_made_to_its_end() {
    for made in 1..FILES.len() {
        let folder = tempfile::tempdir().unwrap();
        let stores = open(&folder, Opening::ExistingOrNew).await.unwrap();
        execute(stores.config.database(), "UPDATE installation SET whole = 0").await;
        stores.close().await;
        drop(stores);
        FILES[made..].iter().for_each(|file| remove(folder.path(), file));
        let stores = open(&folder, Opening::ExistingOrNew).await.unwrap();
        assert!(!stores.counters_are_lost());
        stores.close().await;
        drop(stores);
        reopened(&folder).await.unwrap();
    }
}

async fn forget_marks(folder: &TempDir, files: &[&str]) {
    let data_folder = DataFolder::open(folder.path()).unwrap();
    for schema in
        [crate::config::SCHEMA, crate::events::SCHEMA, crate::usage::SCHEMA, crate::counters::SCHEMA]
    {
        if files.contains(&schema.file) {
            let database = Database::open(&data_folder, &schema).await.unwrap();
            execute(&database, "DELETE FROM installation").await;
            database.close().await;
        }
    }
}

async fn execute(database: &Database, sql: &str) {
    let mut transaction = database.begin(Scope::Installation).await.unwrap();
    crate::database::query(sqlx::AssertSqlSafe(sql)).execute(&mut transaction).await.unwrap();
    transaction.commit().await.unwrap();
}
