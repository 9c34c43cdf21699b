//! Tests of which index a list goes by.

use rateguard_core::ids::{KeyId, RequestId};
use rateguard_core::usage::UsageEvent;
use rateguard_engine::ports::EventLog;
use rateguard_store_suite::event_log::samples::{event, reservation, workspace};

use super::*;
use crate::database::Scope;
use crate::{DataFolder, SqlEventLog};

async fn plan(connection: &mut Connection, query: &EventQuery) -> Result<String, StoreError> {
    let owner = workspace("ws_a");
    let number = workspace_number(connection, &owner).await?.unwrap();
    let found = candidates(connection, number, &query.filter, before(query)).await?;
    let explain = format!("EXPLAIN QUERY PLAN {SELECT}");
    let mut select = statement(&explain, &owner, number, query, &found);
    let rows = select.build().fetch_all(connection).await.map_err(failure(STORE))?;
    Ok(rows.iter().map(|row| row.try_get::<String, _>("detail").unwrap()).collect::<Vec<_>>().join("; "))
}

#[tokio::test]
async fn every_list_goes_by_the_index_meant_for_it() -> Result<(), StoreError> {
    let files = tempfile::tempdir().unwrap();
    let log = SqlEventLog::open(&DataFolder::open(files.path()).unwrap()).await.unwrap();
    let one = UsageEvent {
        request_id: RequestId::parse("request_id", "r").ok(),
        reservation: Some(reservation(1)),
        ..event("ws_a", "1")
    };
    log.append(std::slice::from_ref(&one)).await?;
    let any = EventFilter::default;
    let lists = [
        ("events_by_id (event_hash=?)", EventFilter { event_id: Some(one.event_id), ..any() }),
        ("events_by_attempt (reservation_hash=?)", EventFilter { reservation: one.reservation, ..any() }),
        ("events_by_request (request_hash=?)", EventFilter { request_id: one.request_id, ..any() }),
        (
            "events_by_occurrence (workspace=? AND occurred_at>? AND occurred_at<?)",
            EventFilter { occurred: Some(Millis::ZERO..Millis::new(i64::MAX)), ..any() },
        ),
        (
            "events_by_workspace (workspace=? AND rowid>? AND rowid<?)",
            EventFilter { key: KeyId::parse("key", "key_other").ok(), ..any() },
        ),
    ];
    for (index, filter) in lists {
        let query = EventQuery { filter, before: Some(Position(10)), limit: 10 };
        let mut reader = log.database().reader(Scope::Installation).await?;
        let plan = plan(&mut reader, &query).await?;
        assert!(plan.contains(&format!("SEARCH e USING INDEX {index}")), "{index}: {plan}");
    }
    Ok(())
}
