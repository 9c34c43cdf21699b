//! The behaviour suite of usage stores, on SQLite.

use async_trait::async_trait;
use proptest::prelude::*;
use rateguard_store_sql::{DataFolder, SqlEventLog, SqlUsageStore};
use rateguard_store_suite::{Backend, HeldWriter, usage_store, usage_store_suite};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// Sets of events that the property is tried on; each opens a store of its own.
const CASES: u32 = 24;
const EVENTS_MAX: usize = 250;

struct Sqlite(TempDir);

impl Sqlite {
    fn fresh() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder is made"))
    }
}

#[async_trait]
impl Backend for Sqlite {
    type Store = (SqlEventLog, SqlUsageStore);

    async fn open(&self) -> Self::Store {
        let folder = DataFolder::open(self.0.path()).expect("the folder is free");
        let log = SqlEventLog::open(&folder).await.expect("the log opens");
        let usage = SqlUsageStore::open(&folder, &log).await.expect("the usage opens");
        (log, usage)
    }

    async fn close(&self, (log, usage): Self::Store) {
        usage.close().await;
        log.close().await;
    }

    async fn hold_writer(&self) -> Option<Box<dyn HeldWriter>> {
        None
    }
}

usage_store_suite!(Sqlite::fresh());

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    /// U3: by accounting time, the rollups equal the events, whatever the batches.
    #[test]
    fn rollups_equal_the_events(seed: u64, count in 1..EVENTS_MAX) {
        let runtime = Runtime::new().unwrap();
        runtime.block_on(usage_store::sums_equal_the_events(&Sqlite::fresh(), seed, count)).unwrap();
    }
}
