//! Tests of which index sums over raw events go by.

use rateguard_core::time::Millis;
use rateguard_engine::ports::UsageFilter;
use rateguard_store_suite::event_log::samples::workspace;

use super::*;
use crate::database::Scope;
use crate::usage::plan::Source;
use crate::{DataFolder, SqlEventLog};

#[tokio::test]
async fn sums_over_raw_events_go_by_the_time_of_accounting() -> Result<(), StoreError> {
    let files = tempfile::tempdir().unwrap();
    let log = SqlEventLog::open(&DataFolder::open(files.path()).unwrap()).await.unwrap();
    let accounted = Millis::ZERO..Millis::new(1_000);
    let subject = Some("anna".to_owned());
    let question = Question::whole(&UsageFilter { accounted, api: None, key: None, subject, model: None });
    let owner = workspace("ws_a");
    let scan = Scan { workspace: &owner, question: &question, through: 1 };
    for unit_ms in [None, Some(60_000)] {
        let statement = scan.raw(unit_ms, &Segment { source: Source::Raw, from: 0, to: 1_000 });
        let explain = format!("EXPLAIN QUERY PLAN {}", statement.sql);
        let mut reader = log.database().reader(Scope::Installation).await?;
        let rows = query(AssertSqlSafe(explain)).fetch_all(&mut reader).await.map_err(failure(STORE))?;
        let plan: Vec<String> = rows.iter().map(|row| row.try_get("detail").unwrap()).collect();
        let index = "events_by_accounting (workspace=? AND accounted_at>? AND accounted_at<?)";
        assert!(plan[0].ends_with(index), "{plan:?}");
    }
    Ok(())
}
