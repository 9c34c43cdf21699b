//! Tests of the log that need its inside: an append kept open, a disk without room, details that
//! cannot be read.

mod forward;

use async_trait::async_trait;
use rateguard_engine::ports::AppendOutcome;
use rateguard_store_suite::event_log::samples::{event, full_event, workspace};
use rateguard_store_suite::event_log::{
    Fillable, OpenAppend, SlowAppends, a_full_disk_refuses_and_loses_nothing,
    an_append_that_is_held_open_is_not_skipped,
};
use rateguard_store_suite::{Backend, HeldWriter};
use sqlx::AssertSqlSafe;
use tempfile::TempDir;

use super::*;
use crate::database::Transaction;
use crate::testing::empty_database;

/// Pages that a log without room may still take: a few events fit.
const PAGES_LEFT: i64 = 4;

struct Sqlite {
    folder: DataFolder,
    _files: TempDir,
}

impl Sqlite {
    fn fresh() -> Self {
        let files = tempfile::tempdir().unwrap();
        Self { folder: DataFolder::open(files.path()).unwrap(), _files: files }
    }
}

#[async_trait]
impl Backend for Sqlite {
    type Store = SqlEventLog;

    async fn open(&self) -> SqlEventLog {
        SqlEventLog::open(&self.folder).await.unwrap()
    }

    async fn close(&self, store: SqlEventLog) {
        store.close().await;
    }

    async fn hold_writer(&self) -> Option<Box<dyn HeldWriter>> {
        None
    }
}

/// A database on a server.
struct Server(PostgresDatabase);

impl Server {
    async fn fresh() -> Self {
        Self(empty_database().await)
    }
}

#[async_trait]
impl Backend for Server {
    type Store = SqlEventLog;

    async fn open(&self) -> SqlEventLog {
        SqlEventLog::open_on_server(&self.0).await.unwrap()
    }

    async fn close(&self, store: SqlEventLog) {
        store.close().await;
    }

    async fn hold_writer(&self) -> Option<Box<dyn HeldWriter>> {
        None
    }
}

struct HeldAppend(SqlEventLog, Transaction);

#[async_trait]
impl SlowAppends for Server {
    async fn begin_append(&self, event: UsageEvent) -> Box<dyn OpenAppend> {
        begin_append(self.open().await, event).await
    }
}

#[async_trait]
impl SlowAppends for Sqlite {
    async fn begin_append(&self, event: UsageEvent) -> Box<dyn OpenAppend> {
        begin_append(self.open().await, event).await
    }
}

async fn begin_append(log: SqlEventLog, event: UsageEvent) -> Box<dyn OpenAppend> {
    let mut transaction = log.database.begin(Scope::Installation).await.unwrap();
    append::append(&mut transaction, &[event]).await.unwrap();
    Box::new(HeldAppend(log, transaction))
}

#[async_trait]
impl OpenAppend for HeldAppend {
    async fn commit(self: Box<Self>) -> Result<(), StoreError> {
        let Self(log, transaction) = *self;
        log.database.write(async { Ok((transaction, ())) }).await
    }
}

#[async_trait]
impl Fillable for Sqlite {
    async fn take_room(&self, store: &SqlEventLog) {
        let used: i64 = number(store, "PRAGMA page_count").await;
        limit_pages(store, used + PAGES_LEFT).await;
    }

    async fn give_room(&self, store: &SqlEventLog) {
        limit_pages(store, i64::from(u32::MAX) - 1).await;
    }
}

async fn limit_pages(store: &SqlEventLog, pages: i64) {
    let mut transaction = store.database.begin(Scope::Installation).await.unwrap();
    let sql = format!("PRAGMA max_page_count = {pages}");
    query(AssertSqlSafe(sql)).execute(&mut transaction).await.unwrap();
    transaction.commit().await.unwrap();
}

async fn number(store: &SqlEventLog, sql: &'static str) -> i64 {
    let mut reader = store.database.reader(Scope::Installation).await.unwrap();
    query_scalar(sql).fetch_one(&mut reader).await.unwrap()
}

async fn change(store: &SqlEventLog, sql: &'static str) {
    let mut transaction = store.database.begin(Scope::Installation).await.unwrap();
    query(sql).execute(&mut transaction).await.unwrap();
    transaction.commit().await.unwrap();
}

#[tokio::test]
async fn an_open_append_is_not_skipped() -> Result<(), StoreError> {
    an_append_that_is_held_open_is_not_skipped(&Sqlite::fresh()).await
}

#[tokio::test]
async fn an_open_append_of_another_process_is_not_skipped() -> Result<(), StoreError> {
    an_append_that_is_held_open_is_not_skipped(&Server::fresh().await).await
}

#[tokio::test]
async fn a_full_disk_loses_nothing() -> Result<(), StoreError> {
    a_full_disk_refuses_and_loses_nothing(&Sqlite::fresh()).await
}

#[tokio::test]
async fn a_batch_that_fails_midway_leaves_nothing() -> Result<(), StoreError> {
    let backend = Sqlite::fresh();
    let log = backend.open().await;
    backend.take_room(&log).await;
    let batch: Vec<_> = (0..600).map(|place| event("ws_a", &format!("{place}"))).collect();
    assert!(matches!(log.append(&batch).await, Err(StoreError::Unavailable { .. })));
    assert_eq!((log.end().await?, log.read_after(Position(0), 1).await?), (Position(0), vec![]));
    backend.give_room(&log).await;
    assert_eq!(log.append(&batch).await?.outcomes[599], AppendOutcome::Appended(Position(600)));
    Ok(())
}

#[tokio::test]
async fn a_position_is_not_given_again_after_its_event_was_deleted() -> Result<(), StoreError> {
    let backend = Sqlite::fresh();
    let log = backend.open().await;
    log.append(&[event("ws_a", "1"), event("ws_a", "2")]).await?;
    change(&log, "DELETE FROM events WHERE position = 2").await;
    let appended = log.append(&[event("ws_a", "3")]).await?;
    assert_eq!(
        (appended.before, appended.outcomes),
        (Position(2), vec![AppendOutcome::Appended(Position(3))])
    );
    Ok(())
}

#[tokio::test]
async fn a_plain_event_has_short_details() {
    assert_eq!(details::Details::write(&event("ws_a", "1")).unwrap(), "{}");
}

#[tokio::test]
async fn details_that_are_damaged_are_an_error_and_no_panic() -> Result<(), StoreError> {
    let backend = Sqlite::fresh();
    let log = backend.open().await;
    log.append(&[full_event("ws_a", "1")]).await?;
    for damage in [
        "UPDATE events SET details = '{'",
        "UPDATE events SET details = '{\"unheard_of\":1}'",
        "UPDATE events SET details = '{\"consumed\":[\"Not A Unit\"]}'",
        "UPDATE events SET details = '{\"budgets\":[\"xyz\"]}'",
        "UPDATE events SET details = '{}', details_version = 2",
        "UPDATE events SET details_version = 1, kind = 9",
        "UPDATE events SET kind = 0, status = -1",
        "UPDATE events SET status = 0, key_id = 'nobody'",
    ] {
        change(&log, damage).await;
        let read = log.read_after(Position(0), 1).await;
        assert!(matches!(read, Err(StoreError::Corrupt { store: STORE, .. })), "{damage}: {read:?}");
    }
    Ok(())
}

#[tokio::test]
async fn lookups_go_by_their_index() {
    let backend = Sqlite::fresh();
    let log = backend.open().await;
    let plans = [
        ("SELECT 1 FROM events WHERE event_hash = x'00'", "events_by_id"),
        (
            "SELECT 1 FROM events WHERE reservation_hash = x'00' AND nullif(attempt, 0) = 1",
            "events_by_attempt",
        ),
        ("SELECT 1 FROM events WHERE position > 5 ORDER BY position", "PRIMARY KEY"),
    ];
    for (sql, index) in plans {
        let mut reader = log.database.reader(Scope::Installation).await.unwrap();
        let explain = AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}"));
        let plan = query(explain).fetch_all(&mut reader).await.unwrap();
        let plan: Vec<String> = plan.iter().map(|row| row.try_get("detail").unwrap()).collect();
        assert!(plan.concat().contains(index), "{sql}: {plan:?}");
    }
}

#[tokio::test]
async fn after_closing_calls_are_unavailable() {
    let backend = Sqlite::fresh();
    let log = backend.open().await;
    log.close().await;
    let refused = log.find(&workspace("ws_a"), &event("ws_a", "1").event_id).await;
    assert!(matches!(refused, Err(StoreError::Unavailable { .. })), "{refused:?}");
}

/// A month, in milliseconds, and more.
const MONTH_MS: i64 = 31 * 24 * 60 * 60 * 1_000;

/// How PostgreSQL goes about a statement when it may not read whole tables.
async fn server_plan(log: &SqlEventLog, sql: &str, hash: &[u8]) -> String {
    let mut transaction = log.database.begin_read(Scope::Workspace(&workspace("ws_a"))).await.unwrap();
    query("SET LOCAL enable_seqscan = off").execute(&mut transaction).await.unwrap();
    let explain = query(AssertSqlSafe(format!("EXPLAIN {sql}"))).bind(hash);
    let rows = explain.fetch_all(&mut transaction).await.unwrap();
    rows.iter().map(|row| row.try_get::<String, _>(0).unwrap()).collect::<Vec<_>>().join("\n")
}

/// Behind row-level security too, and in each month.
#[tokio::test]
async fn lookups_on_a_server_go_by_their_index_in_every_month() {
    let log = Server::fresh().await.open().await;
    for month in 0..3 {
        let mut one = full_event("ws_a", &month.to_string());
        one.received_at = one.received_at.plus(month * MONTH_MS);
        log.append(&[one]).await.unwrap();
    }
    let [before, after] = named_by_event(Kind::Postgres);
    for (condition, index) in [
        (format!("{before}$1{after}"), "_pkey"),
        ("e.reservation_hash = $1".to_owned(), "_reservation_hash_idx"),
    ] {
        let plan = server_plan(&log, &format!("{SELECT} WHERE {condition}"), &[0; 16]).await;
        assert!(!plan.contains("Seq Scan on events"), "{plan}");
        assert!(plan.matches(index).count() >= 3, "{plan}");
    }
    let plan =
        server_plan(&log, &format!("{SELECT} WHERE e.position > 1 AND $1::bytea IS NOT NULL LIMIT 10"), &[0])
            .await;
    assert!(!plan.contains("Seq Scan on events"), "{plan}");
}
