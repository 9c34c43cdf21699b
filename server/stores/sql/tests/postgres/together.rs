//! Several processes on one database.

use futures::future::join_all;
use rateguard_core::counter::Position;
use rateguard_core::usage::UsageEvent;
use rateguard_engine::ports::{AppendOutcome, EventLog, StoreError};
use rateguard_store_sql::{Migrations, OpenError, PostgresDatabase, SqlEventLog};
use rateguard_store_suite::event_log::samples::event;
use sqlx::AssertSqlSafe;

use super::on_server::{CONNECTIONS_MAX, OnServer};

/// Processes that open a database at once.
const OPENERS: usize = 4;
/// Appends of each of two processes.
const APPENDS_EACH: usize = 40;
/// More than any test appends.
const ALL: usize = 1_000;

async fn log(on: &OnServer) -> SqlEventLog {
    SqlEventLog::open_on_server(&on.database()).await.expect("the log opens")
}

fn positions(outcomes: &[AppendOutcome]) -> Vec<Position> {
    let position = |outcome: &AppendOutcome| match outcome {
        AppendOutcome::Appended(position) => *position,
        other => panic!("{other:?}"),
    };
    outcomes.iter().map(position).collect()
}

async fn append_one_by_one(log: &SqlEventLog, name: &str) -> Result<Vec<Position>, StoreError> {
    let mut taken = Vec::new();
    for number in 0..APPENDS_EACH {
        let batch: Vec<UsageEvent> =
            (0..3).map(|place| event("ws_a", &format!("{name}-{number}-{place}"))).collect();
        let before = log.end().await?;
        let appended = log.append(&batch).await?;
        let new = positions(&appended.outcomes);
        assert!(appended.before >= before && new[0].0 == appended.before.0 + 1, "{appended:?}");
        taken.extend(new);
    }
    Ok(taken)
}

/// Reads on and on until it has seen a number of events.
async fn follow(log: &SqlEventLog, events: usize) -> Result<Vec<Position>, StoreError> {
    let mut seen: Vec<Position> = Vec::new();
    while seen.len() < events {
        let after = seen.last().copied().unwrap_or(Position(0));
        seen.extend(log.read_after(after, ALL).await?.iter().map(|logged| logged.position));
    }
    Ok(seen)
}

#[tokio::test]
async fn appends_of_two_processes_are_seen_in_their_order_by_a_third() -> Result<(), StoreError> {
    let on = OnServer::fresh().await;
    let (one, other, third) = (log(&on).await, log(&on).await, log(&on).await);
    let (first, second, seen) = futures::try_join!(
        append_one_by_one(&one, "one"),
        append_one_by_one(&other, "other"),
        follow(&third, 2 * 3 * APPENDS_EACH),
    )?;
    let mut taken = [first, second].concat();
    taken.sort_unstable();
    assert_eq!(seen, taken, "a reader who never looks back has seen every event");
    Ok(())
}

#[tokio::test]
async fn an_event_of_two_processes_counts_once() -> Result<(), StoreError> {
    let on = OnServer::fresh().await;
    let (one, other) = (log(&on).await, log(&on).await);
    let batch = [event("ws_a", "1"), event("ws_a", "2")];
    let (first, second) = futures::try_join!(one.append(&batch), other.append(&batch))?;
    let new = [&first, &second].map(|outcomes| {
        outcomes.outcomes.iter().filter(|outcome| matches!(outcome, AppendOutcome::Appended(_))).count()
    });
    assert!(new == [2, 0] || new == [0, 2], "{new:?}");
    assert_eq!(one.read_after(Position(0), ALL).await?.len(), 2);
    Ok(())
}

#[tokio::test]
async fn processes_that_start_at_once_migrate_once() {
    let on = OnServer::fresh().await;
    let database = on.database();
    let opened = join_all((0..OPENERS).map(|_| SqlEventLog::open_on_server(&database))).await;
    assert!(opened.iter().all(Result::is_ok), "{opened:?}");
    let mut connection = on.connect().await;
    let applied: i64 = sqlx::query_scalar("SELECT count(*) FROM rateguard_events._sqlx_migrations")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert!(applied > 0);
}

async fn refusal(on: &OnServer, migrations: Migrations) -> OpenError {
    let database = PostgresDatabase::new(&on.url, CONNECTIONS_MAX, migrations).unwrap();
    SqlEventLog::open_on_server(&database).await.unwrap_err()
}

async fn change(on: &OnServer, sql: &'static str) {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut on.connect().await).await.unwrap();
}

#[tokio::test]
async fn a_newer_schema_is_refused_whether_it_may_be_changed_or_not() {
    let on = OnServer::fresh().await;
    log(&on).await.close().await;
    change(
        &on,
        "INSERT INTO rateguard_events._sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (9999, 'from the future', true, ''::bytea, 0)",
    )
    .await;
    for migrations in [Migrations::Apply, Migrations::Require] {
        let refused = refusal(&on, migrations).await;
        assert!(matches!(refused, OpenError::ServerNewer { version: 9999, .. }), "{refused}");
    }
}

#[tokio::test]
async fn an_older_schema_is_refused_where_it_may_not_be_changed() {
    let on = OnServer::fresh().await;
    let empty = refusal(&on, Migrations::Require).await;
    assert!(matches!(empty, OpenError::ServerOlder { schema: "rateguard_events", .. }), "{empty}");
    log(&on).await.close().await;
    let database = PostgresDatabase::new(&on.url, CONNECTIONS_MAX, Migrations::Require).unwrap();
    SqlEventLog::open_on_server(&database).await.expect("the schema is of this version");
    change(&on, "DELETE FROM rateguard_events._sqlx_migrations WHERE version > 1").await;
    let older = refusal(&on, Migrations::Require).await;
    assert!(matches!(older, OpenError::ServerOlder { .. }), "{older}");
}

#[tokio::test]
async fn a_migration_that_was_changed_later_is_refused() {
    let on = OnServer::fresh().await;
    log(&on).await.close().await;
    change(&on, "UPDATE rateguard_events._sqlx_migrations SET checksum = ''::bytea").await;
    let refused = refusal(&on, Migrations::Apply).await;
    assert!(matches!(refused, OpenError::ServerSchema { .. }), "{refused}");
}

#[tokio::test]
async fn a_server_that_refuses_is_named_without_the_password() {
    let on = OnServer::fresh().await;
    let guessed = on.url.replace("for-tests-only", "a-wrong-one");
    let database = PostgresDatabase::new(&guessed, CONNECTIONS_MAX, Migrations::Apply).unwrap();
    let refused = SqlEventLog::open_on_server(&database).await.unwrap_err();
    let OpenError::Server { database, .. } = &refused else { panic!("{refused}") };
    assert!(database.contains("on 127.0.0.1:"), "{refused}");
    assert!(!refused.to_string().contains("a-wrong-one"), "{refused}");
}

#[tokio::test]
async fn it_is_told_whether_a_role_passes_row_security_by() {
    let on = OnServer::fresh().await;
    assert!(!on.database().role_passes_row_security().await.unwrap());
    let server = rateguard_test_servers::PostgresServer::shared().await.unwrap();
    let url = server.superuser_url(&on.url);
    let database = PostgresDatabase::new(&url, CONNECTIONS_MAX, Migrations::Apply).unwrap();
    assert!(database.role_passes_row_security().await.unwrap());
}
