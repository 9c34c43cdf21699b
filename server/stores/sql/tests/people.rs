//! The behaviour suite of stores of people, on SQLite.

#[path = "sqlite/held_write.rs"]
mod held_write;

use async_trait::async_trait;
use rateguard_engine::ports::{PeopleChange, PeopleStore as _, StoreError};
use rateguard_store_sql::{DataFolder, SqlConfigStore, SqlEventLog, SqlPeopleStore};
use rateguard_store_suite::people_store::samples::{by, own, user};
use rateguard_store_suite::{Backend, HeldWriter, people_store_suite};
use sqlx::ConnectOptions as _;
use sqlx::sqlite::SqliteConnectOptions;
use tempfile::TempDir;

use held_write::HeldWrite;

struct Sqlite(TempDir);

impl Sqlite {
    fn fresh() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder is made"))
    }
}

#[async_trait]
impl Backend for Sqlite {
    type Store = SqlPeopleStore;

    async fn open(&self) -> SqlPeopleStore {
        let folder = DataFolder::open(self.0.path()).expect("the folder is free");
        let log = SqlEventLog::open(&folder).await.expect("the log opens");
        SqlConfigStore::open(&folder, &log).await.expect("the store opens").people()
    }

    async fn close(&self, store: SqlPeopleStore) {
        store.close().await;
    }

    async fn hold_writer(&self) -> Option<Box<dyn HeldWriter>> {
        Some(Box::new(HeldWrite::begin(&self.0.path().join("config.db")).await))
    }
}

people_store_suite!(Sqlite::fresh());

#[tokio::test]
async fn a_change_that_only_a_newer_version_knows_holds_nothing_up() -> Result<(), StoreError> {
    let backend = Sqlite::fresh();
    let store = backend.open().await;
    store.create_user(user("ada"), own("ws_1"), 10, &by(1)).await?;
    let known = store.people_changes_after(0, 10).await?.changes;
    let file = SqliteConnectOptions::new().filename(backend.0.path().join("config.db"));
    let mut newer = file.connect().await.expect("the file opens");
    let record = "UPDATE people_revisions SET revision = revision + 1; \
                  INSERT INTO people_changes (revision, kind, changed_at) \
                  SELECT revision, 'passkey', 2 FROM people_revisions";
    sqlx::raw_sql(record).execute(&mut newer).await.expect("another process writes");
    let revision = known.len() as u64 + 1;
    let read = store.people_changes_after(revision - 1, 10).await?;
    assert_eq!(read.changes, [(revision, PeopleChange::Unknown("passkey".to_owned()))]);
    assert_eq!(read.last_recorded, revision);
    Ok(())
}
