//! Tests of what only SQL can show: rows that somebody else has changed.

mod forward;

use rateguard_core::time::Millis;
use rateguard_engine::ports::{ConfigStore, has_gap};
use rateguard_store_suite::config_store::samples::{rule, varied, workspace};
use tempfile::TempDir;

use super::*;
use crate::database::{Connection, Row};

async fn filled() -> (TempDir, SqlConfigStore) {
    let folder = tempfile::tempdir().unwrap();
    let home = DataFolder::open(folder.path()).unwrap();
    let log = SqlEventLog::open(&home).await.unwrap();
    let store = SqlConfigStore::open(&home, &log).await.unwrap();
    store.create_workspace(workspace("ws_1"), &by()).await.unwrap();
    for resource in varied() {
        store.insert(&owner(), resource, 100, &by()).await.unwrap();
    }
    (folder, store)
}

fn by() -> Deed {
    Deed::of_server("Test", Millis::ZERO)
}

fn owner() -> WorkspaceId {
    WorkspaceId::parse("id", "ws_1").unwrap()
}

async fn after(statement: &'static str) -> StoreError {
    let (_folder, store) = filled().await;
    let mut transaction = store.database().begin(Scope::Installation).await.unwrap();
    query(statement).execute(&mut transaction).await.unwrap();
    transaction.commit().await.unwrap();
    store.snapshot().await.unwrap_err()
}

#[tokio::test]
async fn a_row_that_cannot_be_understood_is_corrupt_and_is_named() {
    let statements = [
        ("UPDATE rules SET body = '{}'", "rule rule_1 of ws_1"),
        ("UPDATE rules SET body = 'no json'", "rule rule_1 of ws_1"),
        ("UPDATE budgets SET body_version = 2", "body version 2 is not known"),
        ("UPDATE keys SET secret_sha256 = x'00' WHERE id = 'key_1'", "key key_1 of ws_1"),
        ("UPDATE apis SET slug = 'No Slug' WHERE id = 'api_1'", "api api_1 of ws_1"),
        ("UPDATE price_overrides SET version = -1", "negative version"),
        ("UPDATE workspaces SET zone = 'Mars/Olympus'", "workspace ws_1"),
    ];
    for (statement, named) in statements {
        let error = after(statement).await;
        assert!(matches!(error, StoreError::Corrupt { store: "config", .. }), "{error}");
        assert!(error.to_string().contains(named), "{statement}: {error}");
    }
}

#[tokio::test]
async fn a_secret_never_stands_in_a_body() {
    let (_folder, store) = filled().await;
    let mut reader = store.database().reader(Scope::Installation).await.unwrap();
    let bodies: Vec<String> = query_scalar("SELECT body FROM keys").fetch_all(&mut reader).await.unwrap();
    assert!(bodies.iter().all(|body| !body.contains("secret") && !body.contains(&"01".repeat(32))));
    assert!(!bodies.is_empty());
}

#[tokio::test]
async fn a_change_of_a_kind_that_only_a_later_version_knows_is_passed_on_without_it() {
    let (_folder, store) = filled().await;
    let mut transaction = store.database().begin(Scope::Installation).await.unwrap();
    query("UPDATE changes SET kind = 'lease' WHERE revision = 1").execute(&mut transaction).await.unwrap();
    transaction.commit().await.unwrap();
    let changes = store.changes_after(0, 2).await.unwrap();
    let told: Vec<_> = changes.iter().map(|change| (change.revision, change.kind.is_some())).collect();
    assert_eq!(told, [(1, false), (2, true)]);
}

#[tokio::test]
async fn a_user_of_a_kind_that_only_a_later_version_knows_is_counted() {
    let (_folder, store) = filled().await;
    let mut transaction = store.database().begin(Scope::Installation).await.unwrap();
    let insert = "INSERT INTO resource_references (workspace_id, kind, id, user_kind, user_id) \
                  VALUES ('ws_1', 'rule', 'rule_1', 'lease', 'lease_1')";
    query(insert).execute(&mut transaction).await.unwrap();
    transaction.commit().await.unwrap();
    let refused = store.remove(&owner(), ResourceKind::Rule, "rule_1", None, &by()).await;
    let id = "rule_1".to_owned();
    assert_eq!(refused, Err(StoreError::InUse { kind: ResourceKind::Rule, id, by: vec![], more: 1 }));
}

#[tokio::test]
async fn the_feed_forgets_old_changes_but_never_the_last_one_of_a_workspace() {
    let (_folder, store) = filled().await;
    let before = store.changes_after(0, 100).await.unwrap();
    store.create_workspace(workspace("ws_2"), &by()).await.unwrap();
    let other = WorkspaceId::parse("id", "ws_2").unwrap();
    let later = Deed::of_server("Test", Millis::new(change::CHANGE_LIFE_MS + 1));
    for (name, id) in [(&other, "rule_2"), (&owner(), "rule_8"), (&owner(), "rule_9")] {
        store.insert(name, Resource::Rule(rule(id)), 100, &later).await.unwrap();
    }
    let kept = store.changes_after(0, 100).await.unwrap();
    assert_eq!(kept[..before.len() - 4], before[4..]);
    assert_eq!(kept.len(), before.len() - 4 + 3);
    assert!(has_gap(0, &kept) && !has_gap(4, &kept));

    for version in 1..=u64::try_from(before.len()).unwrap() {
        store.replace(&owner(), Resource::Rule(rule("rule_9")), version, &later).await.unwrap();
    }
    let much_later = Deed::of_server("Test", Millis::new(3 * change::CHANGE_LIFE_MS));
    for number in 10..40 {
        let resource = Resource::Rule(rule(&format!("rule_{number}")));
        store.insert(&owner(), resource, 100, &much_later).await.unwrap();
    }
    let kept = store.changes_after(0, 100).await.unwrap();
    let of_other: Vec<_> = kept.iter().filter(|change| change.workspace == other).collect();
    assert_eq!((of_other.len(), kept.len()), (1, 31));
}

#[tokio::test]
async fn a_row_that_cannot_be_understood_can_still_be_removed() {
    let (_folder, store) = filled().await;
    let mut transaction = store.database().begin(Scope::Installation).await.unwrap();
    query("UPDATE rules SET body = 'no json'").execute(&mut transaction).await.unwrap();
    transaction.commit().await.unwrap();
    store.get(&owner(), ResourceKind::Rule, "rule_1").await.unwrap_err();
    store.remove(&owner(), ResourceKind::Rule, "rule_1", Some(1), &by()).await.unwrap();
    assert_eq!(store.get(&owner(), ResourceKind::Rule, "rule_1").await, Ok(None));
}

/// What names what, as it is kept beside the bodies.
async fn references(connection: &mut Connection) -> Vec<(String, String, String, String)> {
    let sql = "SELECT kind, id, user_kind, user_id FROM resource_references ORDER BY 1, 2, 3, 4";
    let rows = query(sql).fetch_all(connection).await.unwrap();
    let text = |row: &Row, place: usize| row.try_get::<String, _>(place).unwrap();
    rows.iter().map(|row| (text(row, 0), text(row, 1), text(row, 2), text(row, 3))).collect()
}

#[tokio::test]
async fn the_migration_finds_what_older_rows_name() {
    const MIGRATION: &str = include_str!("../../../../../migrations/config/sqlite/0009_references.sql");
    let (_folder, store) = filled().await;
    let mut transaction = store.database().begin(Scope::Installation).await.unwrap();
    let kept = references(&mut transaction).await;
    assert_eq!(kept.len(), 5);
    query("DELETE FROM resource_references").execute(&mut transaction).await.unwrap();
    query("UPDATE rules SET body = 'no json' WHERE id = 'rule_1'").execute(&mut transaction).await.unwrap();
    for statement in MIGRATION.split(';').filter(|statement| statement.contains("INSERT OR IGNORE")) {
        query(statement).execute(&mut transaction).await.unwrap();
    }
    assert_eq!(references(&mut transaction).await, kept);
}
