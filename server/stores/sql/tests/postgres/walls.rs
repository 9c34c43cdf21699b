//! Row-level security: with the scope of one workspace no row of another is seen or changed, whatever
//! a statement asks for.

use rateguard_core::time::Millis;
use rateguard_engine::audit::Deed;
use rateguard_engine::people::Role;
use rateguard_engine::ports::{ConfigStore, EventLog, PeopleStore, StoreError, UsageStore};
use rateguard_store_sql::{SqlConfigStore, SqlEventLog, SqlUsageStore};
use rateguard_store_suite::config_store::samples::one_of_each;
use rateguard_store_suite::event_log::samples::event;
use rateguard_store_suite::people_store::samples::{hashes, invitation, own, session, user, ws};
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

use super::on_server::OnServer;

/// Whose rows are there.
const OWNER: &str = "ws_1";
/// Who must not see them.
const OTHER: &str = "ws_2";
/// More than any test makes.
const LIMIT: usize = 100;
/// The tables behind the wall, each with what says whose a row is. Partitions are closed to everyone.
const TABLES: &str = "SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname) \
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
    WHERE n.nspname LIKE 'rateguard%' AND c.relrowsecurity AND NOT c.relispartition ORDER BY 1";
/// The partitions.
const PARTITIONS: &str = "SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname) \
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
    WHERE n.nspname LIKE 'rateguard%' AND c.relispartition AND c.relkind = 'r' ORDER BY 1";
/// A column of each kind that tables have, to be written with itself.
const OWNERS: [&str; 3] = ["workspace_id", "workspace", "id"];

async fn state(connection: &mut PgConnection, scope: &str) {
    let sql = "SELECT set_config('rateguard.workspace', $1, false)";
    sqlx::query(sql).bind(scope).execute(connection).await.unwrap();
}

async fn names(connection: &mut PgConnection, sql: &'static str) -> Vec<String> {
    sqlx::query_scalar(sql).fetch_all(connection).await.unwrap()
}

async fn count(connection: &mut PgConnection, table: &str) -> i64 {
    let sql = format!("SELECT count(*) FROM {table}");
    sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(connection).await.unwrap()
}

/// How many rows a statement changes; nothing stays of it.
async fn changed(connection: &mut PgConnection, sql: String) -> u64 {
    sqlx::raw_sql("BEGIN").execute(&mut *connection).await.unwrap();
    let done = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *connection).await.unwrap();
    sqlx::raw_sql("ROLLBACK").execute(&mut *connection).await.unwrap();
    done.rows_affected()
}

async fn owner_of(connection: &mut PgConnection, table: &str) -> &'static str {
    let sql = "SELECT attname FROM pg_attribute WHERE attrelid = $1::regclass AND attnum > 0";
    let columns: Vec<String> = sqlx::query_scalar(sql).bind(table).fetch_all(connection).await.unwrap();
    let owner = OWNERS.into_iter().find(|owner| columns.iter().any(|column| column == owner));
    owner.unwrap_or_else(|| panic!("{table} names no workspace"))
}

/// Rows of one workspace in every table: by the stores, and by hand where those keep none for long.
async fn filled() -> Result<OnServer, StoreError> {
    let on = OnServer::fresh().await;
    let database = on.database();
    let log = SqlEventLog::open_on_server(&database).await.expect("the log opens");
    let config = SqlConfigStore::open_on_server(&database, &log).await.expect("the store opens");
    let usage = SqlUsageStore::open_on_server(&database, &log).await.expect("the usage opens");
    let by = Deed::of_server("Test", Millis::new(1));
    let people = config.people();
    people.create_user(user("ada"), own(OWNER), LIMIT, &by).await?;
    people.create_user(user("bob"), own(OTHER), LIMIT, &by).await?;
    people.insert_invitation(invitation(1, OWNER, None, Role::Viewer), [1; 32], LIMIT, &by).await?;
    people.begin_session(session(1, "ada"), &user("ada").password, hashes(1, 1), LIMIT, &by).await?;
    people.move_session(&session(1, "ada").id, &ws(OWNER), &by).await?;
    for resource in one_of_each(1) {
        config.insert(&ws(OWNER), resource, LIMIT, &by).await?;
    }
    // It takes over what waits for its second copy; what waits is made by hand.
    config.close().await;
    log.append(&[event(OWNER, "1")]).await?;
    usage.apply(&log.read_after(rateguard_core::counter::Position(0), LIMIT).await?).await?;
    let mut connection = on.connect().await;
    state(&mut connection, "*").await;
    let by_hand = format!(
        "INSERT INTO rateguard_config.audit_outbox VALUES ('{OWNER}', 1000, 'x'::bytea); \
         INSERT INTO rateguard_config.key_uses SELECT workspace_id, id, 1 FROM rateguard_config.keys; \
         INSERT INTO rateguard_config.budget_top_ups \
             VALUES ('{OWNER}', 'bud_1', 1, 'top_1', 'r', 1, '', 'key', 'key_1', 1); \
         INSERT INTO rateguard_config.client_requests VALUES ('{OWNER}', 'r', 'x'::bytea, 'rule', 'rule_1', 1); \
         INSERT INTO rateguard_config.resource_references VALUES ('{OWNER}', 'api', 'api_1', 'rule', 'rule_1'); \
         INSERT INTO rateguard_config.user_requests \
             SELECT id, 'r', 'x'::bytea, '{OWNER}', '{OWNER}', 1 FROM rateguard_config.users LIMIT 1"
    );
    sqlx::raw_sql(AssertSqlSafe(by_hand)).execute(&mut connection).await.unwrap();
    Ok(on)
}

#[tokio::test]
async fn no_row_of_another_workspace_is_seen_or_changed_in_any_table() -> Result<(), StoreError> {
    let on = filled().await?;
    let mut connection = on.connect().await;
    let tables = names(&mut connection, TABLES).await;
    assert!(tables.len() > 15, "{tables:?}");
    for table in tables {
        let owner = owner_of(&mut connection, &table).await;
        state(&mut connection, "*").await;
        let is_owned = match table.as_str() {
            "rateguard_events.events" => {
                format!("{owner} = (SELECT number FROM rateguard_events.workspaces WHERE id = '{OWNER}')")
            }
            _ => format!("{owner} = '{OWNER}'"),
        };
        let owned = format!("{table} WHERE {is_owned}");
        assert!(count(&mut connection, &owned).await > 0, "{table} holds nothing to be hidden");
        state(&mut connection, OWNER).await;
        assert!(count(&mut connection, &table).await > 0, "{table} is hidden from whose it is");
        for scope in [OTHER, ""] {
            state(&mut connection, scope).await;
            assert_eq!(count(&mut connection, &owned).await, 0, "{table} shows its rows to {scope:?}");
            for change in [format!("UPDATE {table} SET {owner} = {owner}"), format!("DELETE FROM {table}")] {
                let sql = format!("{change} WHERE {is_owned}");
                assert_eq!(changed(&mut connection, sql.clone()).await, 0, "{sql} as {scope:?}");
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn no_partition_is_a_way_around_the_wall() -> Result<(), StoreError> {
    let on = filled().await?;
    let mut connection = on.connect().await;
    let partitions = names(&mut connection, PARTITIONS).await;
    assert!(partitions.len() >= 4, "{partitions:?}");
    for scope in [OWNER, OTHER, "*"] {
        state(&mut connection, scope).await;
        for partition in &partitions {
            assert_eq!(count(&mut connection, partition).await, 0, "{partition} as {scope}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn no_row_is_written_into_another_workspace() -> Result<(), StoreError> {
    let on = filled().await?;
    let mut connection = on.connect().await;
    state(&mut connection, OTHER).await;
    let insert = format!(
        "INSERT INTO rateguard_config.rules (workspace_id, id, version, created_at, updated_at, body_version, body) \
         VALUES ('{OWNER}', 'rule_9', 1, 0, 0, 1, '{{}}')"
    );
    let refused = sqlx::raw_sql(AssertSqlSafe(insert)).execute(&mut connection).await.unwrap_err();
    let code = refused.as_database_error().and_then(|error| error.code().map(|code| code.into_owned()));
    assert_eq!(code.as_deref(), Some("42501"), "{refused}");
    Ok(())
}
