//! The migrations for PostgreSQL apply to a real server, and their walls hold.

use std::path::{Path, PathBuf};

use rateguard_test_servers::PostgresServer;

const STORES: [&str; 3] = ["config", "events", "usage"];

/// 2026-11-21T10:00:00Z, 2026-11-30T23:59:59.999Z and the instant after it.
const IN_NOVEMBER: i64 = 1_795_255_200_000;
const END_OF_NOVEMBER: i64 = 1_796_083_199_999;
const DECEMBER: i64 = END_OF_NOVEMBER + 1;

/// A database with all schemas.
struct Migrated {
    server: &'static PostgresServer,
    url: String,
}

impl Migrated {
    async fn new() -> Self {
        let server = PostgresServer::shared().await.expect("a server starts");
        let url = server.new_database().await.expect("a database is made");
        let database = Self { server, url };
        for store in STORES {
            database.admin(&format!("CREATE SCHEMA rateguard_{store} AUTHORIZATION rateguard")).await;
            for file in files(store) {
                let sql = std::fs::read_to_string(&file).expect("a migration can be read");
                database
                    .run(store, "*", &format!("BEGIN; {sql} COMMIT;"))
                    .await
                    .expect("a migration applies");
            }
        }
        database
    }

    /// Runs statements on one store with a scope stated.
    async fn run(&self, store: &str, scope: &str, sql: &str) -> Result<String, String> {
        let stated =
            format!("SET search_path = rateguard_{store}; SET rateguard.workspace = '{scope}'; {sql}");
        let answer = self.server.run(&self.url, &stated).await;
        answer.map(|text| text.trim().to_owned()).map_err(|error| error.to_string())
    }

    async fn admin(&self, sql: &str) -> String {
        let url = self.server.superuser_url(&self.url);
        self.server.run(&url, sql).await.expect("a superuser may").trim().to_owned()
    }
}

/// A store's migrations in their order.
fn files(store: &str) -> Vec<PathBuf> {
    let folder =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../migrations").join(store).join("postgres");
    let entries = std::fs::read_dir(folder).expect("the store has migrations");
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

fn event_in(workspace: i64, position: i64, received_at: i64) -> String {
    format!(
        "INSERT INTO events SELECT {position}, {workspace}, '\\x00', 'e', 0, NULL, '', NULL, '', 0, 0, 0, \
         {received_at}, '', '', '', '', '', '', 200, '', 0, 0, NULL, NULL, NULL, NULL, 0, 0, 1, ''"
    )
}

#[tokio::test]
async fn every_table_that_names_a_workspace_is_behind_the_wall() {
    let database = Migrated::new().await;
    let named = "SELECT n.nspname || '.' || c.relname || ' ' || c.relrowsecurity || c.relforcerowsecurity \
        || EXISTS (SELECT 1 FROM pg_policy p WHERE p.polrelid = c.oid) \
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
        WHERE n.nspname LIKE 'rateguard%' AND c.relkind IN ('r', 'p') AND (c.relname = 'workspaces' OR EXISTS \
        (SELECT 1 FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname IN ('workspace', 'workspace_id')))";
    let tables = database.admin(named).await;
    let open: Vec<&str> = tables.lines().filter(|table| !table.ends_with(" truetruetrue")).collect();
    assert_eq!(open, Vec::<&str>::new());
    // Those of the three stores' first migrations alone.
    assert!(tables.lines().count() >= 11 + 2 + 3, "{tables}");
}

#[tokio::test]
async fn every_number_is_a_bigint_and_every_compared_text_goes_by_its_bytes() {
    let database = Migrated::new().await;
    let others = "SELECT table_name || '.' || column_name FROM information_schema.columns \
        WHERE table_schema LIKE 'rateguard%' AND NOT (data_type IN ('bigint', 'bytea') OR data_type = 'text' \
        AND (collation_name = 'C' OR column_name IN ('body', 'details', 'latencies', 'state_before', 'state_after')))";
    assert_eq!(database.admin(others).await, "");
}

#[tokio::test]
async fn a_scope_sees_and_changes_its_own_workspace_alone() {
    let database = Migrated::new().await;
    let rows = "INSERT INTO workspaces (id, name, zone, currency, created_at) \
        VALUES ('a', 'A', 'UTC', 'USD', 0), ('b', 'B', 'UTC', 'USD', 0); \
        INSERT INTO apis VALUES ('a', 'x', 'slug', 1, 0, 0, 1, '{}'), ('b', 'y', 'slug', 1, 0, 0, 1, '{}');";
    database.run("config", "*", rows).await.unwrap();

    let listed = "SELECT id FROM apis ORDER BY id";
    assert_eq!(database.run("config", "*", listed).await.unwrap(), "x\ny");
    assert_eq!(database.run("config", "a", listed).await.unwrap(), "x");
    assert_eq!(database.run("config", "", listed).await.unwrap(), "");
    let changed = "UPDATE apis SET version = 9; SELECT count(*) FROM apis WHERE version = 9;";
    assert_eq!(database.run("config", "b", changed).await.unwrap(), "1");
    let deleted = "DELETE FROM apis; DELETE FROM workspaces WHERE id = 'a'";
    database.run("config", "b", deleted).await.unwrap();
    assert_eq!(database.run("config", "*", listed).await.unwrap(), "x");
    let smuggled = "INSERT INTO apis VALUES ('a', 'z', 'other', 1, 0, 0, 1, '{}')";
    let refusal = database.run("config", "b", smuggled).await.unwrap_err();
    assert!(refusal.contains("row-level security"), "{refusal}");
}

#[tokio::test]
async fn a_model_has_one_price_in_a_workspace_from_an_instant_on() {
    let database = Migrated::new().await;
    let workspace =
        "INSERT INTO workspaces (id, name, zone, currency, created_at) VALUES ('a', '', '', '', 0)";
    database.run("config", "*", workspace).await.unwrap();
    let price = |id: &str, model: &str, from_ms: i64| {
        let body = format!(r#"{{"provider":"p","model":"{model}","effective_from_ms":{from_ms}}}"#);
        format!("INSERT INTO price_overrides VALUES ('a', '{id}', 1, 0, 0, 1, '{body}')")
    };
    database.run("config", "a", &price("1", "m", 5)).await.unwrap();
    database.run("config", "a", &price("2", "n", 5)).await.unwrap();
    database.run("config", "a", &price("3", "m", 6)).await.unwrap();
    let refusal = database.run("config", "a", &price("4", "m", 5)).await.unwrap_err();
    assert!(refusal.contains("price_overrides_by_model"), "{refusal}");
}

#[tokio::test]
async fn months_are_made_once_and_divide_by_utc() {
    let database = Migrated::new().await;
    let workspaces = "INSERT INTO workspaces (id) VALUES ('a'), ('b')";
    database.run("events", "*", workspaces).await.unwrap();
    let refusal = database.run("events", "*", &event_in(1, 1, IN_NOVEMBER)).await.unwrap_err();
    assert!(refusal.contains("no partition"), "{refusal}");

    for instant in [IN_NOVEMBER, END_OF_NOVEMBER, DECEMBER] {
        let made = format!("SET timezone = 'Asia/Tokyo'; SELECT make_month('events', {instant})");
        database.run("events", "*", &made).await.unwrap();
    }
    let instants = [IN_NOVEMBER, END_OF_NOVEMBER, DECEMBER];
    for (position, instant) in (1..).zip(instants) {
        database.run("events", "*", &event_in(position % 2 + 1, position, instant)).await.unwrap();
    }
    let placed = "SELECT tableoid::REGCLASS, position FROM events ORDER BY position";
    let expected = "events_2026_11|1\nevents_2026_11|2\nevents_2026_12|3";
    assert_eq!(database.run("events", "*", placed).await.unwrap(), expected);
    assert_eq!(database.run("events", "a", "SELECT position FROM events").await.unwrap(), "2");
    assert_eq!(database.run("events", "c", "SELECT position FROM events").await.unwrap(), "");
    assert_eq!(database.run("events", "", "SELECT position FROM events").await.unwrap(), "");
    // Who goes around the parent sees nothing at all.
    assert_eq!(database.run("events", "*", "SELECT position FROM events_2026_11").await.unwrap(), "");
}

#[tokio::test]
async fn rollups_add_up_in_their_month() {
    let database = Migrated::new().await;
    let add = format!(
        "SELECT make_month('usage_by_subject', {IN_NOVEMBER}); \
         INSERT INTO usage_by_subject VALUES ('a', 3600000, {IN_NOVEMBER}, '', 's', 'm', 1, 0, 0, 0, 0, 5, 0, 0, 0, '') \
         ON CONFLICT (workspace, grain_ms, start, api, subject, model) \
         DO UPDATE SET requests = usage_by_subject.requests + excluded.requests"
    );
    database.run("usage", "*", &add).await.unwrap();
    database.run("usage", "*", &add).await.unwrap();
    let sum = "SELECT tableoid::REGCLASS, requests FROM usage_by_subject";
    assert_eq!(database.run("usage", "a", sum).await.unwrap(), "usage_by_subject_2026_11|2");
    assert_eq!(database.run("usage", "b", sum).await.unwrap(), "");
}
