//! Tests of the store that need its inside: bounds on raw events, a full disk, damage.

use rateguard_core::ids::KeyId;
use rateguard_core::time::{Millis, Zone};
use rateguard_engine::ports::{EventFilter, Granularity};
use rateguard_store_suite::event_log::samples::{START_MS, event, varied, workspace};
use sqlx::AssertSqlSafe;
use tempfile::TempDir;

use super::rollup::{DAY_MS, ROLLUPS};
use super::scan::RAW_EVENTS_MAX;
use super::*;

struct Opened {
    folder: DataFolder,
    log: SqlEventLog,
    usage: SqlUsageStore,
    _files: TempDir,
}

async fn opened() -> Opened {
    let files = tempfile::tempdir().unwrap();
    let folder = DataFolder::open(files.path()).unwrap();
    let log = SqlEventLog::open(&folder).await.unwrap();
    let usage = SqlUsageStore::open(&folder, &log).await.unwrap();
    Opened { folder, log, usage, _files: files }
}

async fn change(database: &Database, sql: String) {
    let mut transaction = database.begin(Scope::Installation).await.unwrap();
    crate::database::query(AssertSqlSafe(sql)).execute(&mut transaction).await.unwrap();
    transaction.commit().await.unwrap();
}

/// Adds copies of the one event in the log, a millisecond apart.
async fn add_copies(log: &SqlEventLog, copies: usize) {
    let kept = "event_id, kind, request_hash, request_id, reservation_hash, reservation, attempt";
    let rest = "received_at, api, key_id, endpoint, method, subject, model, status, error_type, rate_limited, \
         cache_hit, latency_ms, input_tokens, cached_input_tokens, output_tokens, cost_nanos, flags, \
         details_version, details";
    let sql = format!(
        "WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < {copies}) \
         INSERT INTO events (position, workspace, event_hash, {kept}, occurred_at, accounted_at, {rest}) \
         SELECT position + i, workspace, cast(i AS text), {kept}, occurred_at + i, accounted_at + i, {rest} \
         FROM n CROSS JOIN events WHERE position = 1"
    );
    change(log.database(), sql).await;
    change(log.database(), "UPDATE head SET position = (SELECT max(position) FROM events)".to_owned()).await;
}

fn filter(from_ms: i64, to_ms: i64) -> UsageFilter {
    let accounted = Millis::new(START_MS + from_ms)..Millis::new(START_MS + to_ms);
    UsageFilter { accounted, api: None, key: None, subject: None, model: None }
}

fn list(filter: EventFilter, limit: usize) -> EventQuery {
    EventQuery { filter, before: None, limit }
}

fn other_key() -> KeyId {
    KeyId::parse("key", "key_other").unwrap()
}

/// A day is 86,400,000 ms, so that the copies lie within the first few minutes.
#[tokio::test]
async fn raw_events_are_read_up_to_a_bound() -> Result<(), StoreError> {
    let store = opened().await;
    store.log.append(&[event("ws_a", "1")]).await?;
    add_copies(&store.log, RAW_EVENTS_MAX).await;
    change(&store.usage.rollups, format!("UPDATE progress SET position = {}", RAW_EVENTS_MAX + 1)).await;
    let owner = workspace("ws_a");
    let by_no_rollup =
        |to_ms| UsageFilter { key: Some(other_key()), subject: Some("x".to_owned()), ..filter(0, to_ms) };
    let bound = i64::try_from(RAW_EVENTS_MAX).unwrap();
    assert_eq!(store.usage.summary(&owner, &by_no_rollup(bound)).await?.requests, 0);
    let refused = store.usage.summary(&owner, &by_no_rollup(DAY_MS)).await;
    assert!(matches!(refused, Err(StoreError::Full { what }) if what.contains("200000")), "{refused:?}");

    let of_nobody = EventFilter { key: Some(other_key()), ..EventFilter::default() };
    let early = Millis::new(START_MS)..Millis::new(START_MS + bound);
    let of_nobody_early = EventFilter { occurred: Some(early.clone()), ..of_nobody };
    assert_eq!(store.usage.events(&owner, &list(of_nobody_early, 1)).await?, EventPage::default());

    let newest = store.usage.events(&owner, &list(EventFilter::default(), 2)).await?;
    assert_eq!(newest.events[0].position, store.log.end().await?);
    let all_times = Some(Millis::ZERO..Millis::new(i64::MAX));
    let timed = EventFilter { occurred: all_times, ..EventFilter::default() };
    assert_eq!(store.usage.events(&owner, &list(timed, 2)).await?, newest);
    let oldest = EventFilter { occurred: Some(early), ..EventFilter::default() };
    let query = EventQuery { before: Some(Position(3)), ..list(oldest, 5) };
    let page = store.usage.events(&owner, &query).await?;
    assert_eq!((page.events.len(), page.next_before), (2, None));
    Ok(())
}

/// The one event that fits is the oldest: the pages before it are empty, and each goes on below
/// what the one before it has looked through.
#[tokio::test]
async fn a_filter_that_few_events_pass_is_followed_page_by_page_to_its_end() -> Result<(), StoreError> {
    let store = opened().await;
    store.log.append(&[event("ws_a", "1")]).await?;
    add_copies(&store.log, 2 * RAW_EVENTS_MAX).await;
    change(store.log.database(), "UPDATE events SET key_id = 'key_other' WHERE position = 1".to_owned())
        .await;
    let all_times = Some(Millis::ZERO..Millis::new(i64::MAX));
    for occurred in [None, all_times] {
        let filter = EventFilter { occurred, key: Some(other_key()), ..EventFilter::default() };
        let mut query = list(filter, 1);
        let mut pages = Vec::new();
        loop {
            let page = store.usage.events(&workspace("ws_a"), &query).await?;
            assert!(page.next_before.is_none_or(|next| query.before.is_none_or(|before| next < before)));
            query.before = page.next_before;
            pages.push(page);
            if query.before.is_none() {
                break;
            }
        }
        let found: Vec<Vec<Position>> =
            pages.iter().map(|page| page.events.iter().map(|event| event.position).collect()).collect();
        assert_eq!(found, [vec![], vec![], vec![Position(1)]]);
    }
    Ok(())
}

#[tokio::test]
async fn a_series_of_too_many_days_is_refused() -> Result<(), StoreError> {
    let store = opened().await;
    let filter = UsageFilter { accounted: Millis::ZERO..Millis::new(i64::MAX), ..filter(0, 0) };
    let query = SeriesQuery {
        filter,
        granularity: Granularity::Day,
        group_by: None,
        zone: Zone::UTC,
        points_max: 10,
    };
    let refused = store.usage.series(&workspace("ws_a"), &query).await;
    assert!(matches!(refused, Err(StoreError::Full { .. })), "{refused:?}");
    Ok(())
}

#[tokio::test]
async fn usage_that_is_ahead_of_its_log_is_refused() -> Result<(), StoreError> {
    let store = opened().await;
    change(&store.usage.rollups, "UPDATE progress SET position = 1".to_owned()).await;
    store.usage.close().await;
    let refused = SqlUsageStore::open(&store.folder, &store.log).await.unwrap_err();
    assert!(matches!(refused, OpenError::AheadOfLog { position: 1, end: 0, .. }), "{refused}");
    assert!(refused.to_string().contains("events.db ends at 0"), "{refused}");
    Ok(())
}

#[tokio::test]
async fn a_damaged_histogram_is_an_error_and_no_panic() -> Result<(), StoreError> {
    let store = opened().await;
    store.log.append(&varied(1, 20)).await?;
    let logged = store.log.read_after(Position(0), 20).await?;
    store.usage.apply(&logged[..10]).await?;
    for rollup in &ROLLUPS {
        change(&store.usage.rollups, format!("UPDATE {} SET latencies = 'x'", rollup.table)).await;
    }
    let whole = UsageFilter { accounted: Millis::ZERO..Millis::new(i64::MAX), ..filter(0, 0) };
    let owner = &logged[0].event.workspace;
    let read = store.usage.summary(owner, &whole).await;
    assert!(matches!(read, Err(StoreError::Corrupt { store: STORE, .. })), "{read:?}");
    let again: Vec<LoggedEvent> = logged[10..].to_vec();
    let mut same_rows = again.clone();
    same_rows.iter_mut().for_each(|event| event.event = logged[0].event.clone());
    let written = store.usage.apply(&same_rows).await;
    assert!(matches!(written, Err(StoreError::Corrupt { .. })), "{written:?}");
    assert_eq!(store.usage.cursor().await?, logged[9].position);
    Ok(())
}

#[tokio::test]
async fn a_full_disk_leaves_sums_and_cursor_as_they_were() -> Result<(), StoreError> {
    let store = opened().await;
    store.log.append(&varied(2, 500)).await?;
    let logged = store.log.read_after(Position(0), 500).await?;
    store.usage.apply(&logged[..10]).await?;
    let whole = UsageFilter { accounted: Millis::ZERO..Millis::new(i64::MAX), ..filter(0, 0) };
    let before = store.usage.summary(&workspace("ws_a"), &whole).await?;
    change(&store.usage.rollups, "PRAGMA max_page_count = 1".to_owned()).await;
    let refused = store.usage.apply(&logged).await;
    assert!(matches!(refused, Err(StoreError::Unavailable { .. })), "{refused:?}");
    assert_eq!(store.usage.cursor().await?, logged[9].position);
    assert_eq!(store.usage.summary(&workspace("ws_a"), &whole).await?, before);
    change(&store.usage.rollups, format!("PRAGMA max_page_count = {}", u32::MAX - 1)).await;
    store.usage.apply(&logged).await?;
    assert_eq!(store.usage.cursor().await?, logged[499].position);
    Ok(())
}
