//! The rows of a tenant, read from the stores' files past all of the product.

use std::collections::BTreeSet;
use std::path::Path;

use sqlx::AssertSqlSafe;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};

/// Columns that say whose a row is.
const OWNER_COLUMNS: [&str; 3] = ["workspace_id", "workspace", "user_id"];
/// Tables whose `id` says whose a row is.
const OWNER_TABLES: [&str; 2] = ["workspaces", "users"];
/// Where a session works; whose it is says its person.
const PLACE_OF_SESSION: (&str, &str) = ("sessions", "workspace_id");
/// Tables of the installation, which are no tenant's.
const OF_NOBODY: [&str; 9] = [
    "_sqlx_migrations",
    "encryption_check",
    "head",
    "installation",
    "people_revisions",
    "positions",
    "progress",
    "revisions",
    "signing_keys",
];
/// Copies that are written or moved a moment later: of counters and of the last uses of keys, which are
/// compared as their owner sees them, and of the audit trail's hashes, which stand in its entries too.
const COPIES: [&str; 4] = ["audit_outbox", "audit_witness", "counters", "key_uses"];

/// The files of an installation.
pub struct Rows(Vec<SqlitePool>);

impl Rows {
    pub async fn open(folder: &Path) -> Self {
        let mut pools = Vec::new();
        for file in ["config.db", "events.db", "usage.db", "counters.db"] {
            let options = SqliteConnectOptions::new().filename(folder.join(file)).read_only(true);
            pools.push(SqlitePool::connect_with(options).await.unwrap());
        }
        Self(pools)
    }

    /// Every row that belongs to one of the owners, as text with its table in front.
    pub async fn of(&self, owners: &BTreeSet<String>) -> BTreeSet<String> {
        let mut rows = BTreeSet::new();
        for pool in &self.0 {
            for table in tables(pool).await {
                rows.extend(of_table(pool, &table, owners).await);
            }
        }
        rows
    }

    /// Every text of a query's one column.
    pub async fn texts(&self, sql: &str) -> Vec<String> {
        sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_all(&self.0[0]).await.unwrap()
    }
}

async fn tables(pool: &SqlitePool) -> Vec<String> {
    let sql =
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name";
    let mut names: Vec<String> = sqlx::query_scalar(sql).fetch_all(pool).await.unwrap();
    names.retain(|name| !OF_NOBODY.contains(&name.as_str()) && !COPIES.contains(&name.as_str()));
    names
}

async fn of_table(pool: &SqlitePool, table: &str, owners: &BTreeSet<String>) -> Vec<String> {
    let sql = format!("SELECT name FROM pragma_table_xinfo('{table}')");
    let columns: Vec<String> = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(pool).await.unwrap();
    let tells_owner = |column: &&String| {
        let is_owner =
            OWNER_COLUMNS.contains(&column.as_str()) || (*column == "id" && OWNER_TABLES.contains(&table));
        is_owner && !(table, column.as_str()).eq(&PLACE_OF_SESSION)
    };
    let owners = owners.iter().map(|owner| format!("'{owner}'")).collect::<Vec<_>>().join(", ");
    let belongs: Vec<String> =
        columns.iter().filter(tells_owner).map(|c| belongs(table, c, &owners)).collect();
    assert!(
        !belongs.is_empty(),
        "whose the rows of {table} are is not known: name its column, or it as nobody's"
    );
    let cells: Vec<String> = columns.iter().map(|column| format!("quote(\"{column}\")")).collect();
    let sql = format!(
        "SELECT '{table}: ' || {} FROM {table} WHERE {}",
        cells.join(" || ', ' || "),
        belongs.join(" OR ")
    );
    sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(pool).await.unwrap()
}

fn belongs(table: &str, column: &str, owners: &str) -> String {
    match (table, column) {
        // Events know their workspace by a number.
        ("events", "workspace") => {
            format!("workspace IN (SELECT number FROM workspaces WHERE id IN ({owners}))")
        }
        _ => format!("\"{column}\" IN ({owners})"),
    }
}
