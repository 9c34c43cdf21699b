//! Tests of what only SQL can show: rows that somebody else has changed.

use rateguard_store_suite::checkpoint_store::samples::{lead, reservation, row, ws};

use super::*;

async fn after(statement: &'static str) -> StoreError {
    let folder = tempfile::tempdir().unwrap();
    let store = SqlCheckpointStore::open(&DataFolder::open(folder.path()).unwrap()).await.unwrap();
    let (rows, leads) = (vec![row("ws_1", 1, 10)], vec![lead("ws_1", 7, 10)]);
    store.save(CheckpointBatch { rows, leads, ..CheckpointBatch::default() }).await.unwrap();
    store.save_reservations(vec![(ws("ws_1"), reservation(1))]).await.unwrap();
    let mut transaction = store.database().begin(Scope::Installation).await.unwrap();
    query(statement).execute(&mut transaction).await.unwrap();
    transaction.commit().await.unwrap();
    store.load().await.unwrap_err()
}

#[tokio::test]
async fn a_row_that_cannot_be_understood_is_corrupt_and_is_named() {
    let statements = [
        ("UPDATE counters SET state = x'0109'", "of ws_1: its kind is malformed"),
        ("UPDATE counters SET id = x'00'", "not 16 bytes"),
        ("UPDATE counters SET included = -1", "negative position"),
        ("UPDATE counters SET workspace_id = 'nobody'", "of nobody"),
        ("UPDATE reservations SET state = x'01'", "its key is malformed"),
        ("UPDATE reservations SET id = 'nothing'", "reservation nothing of ws_1"),
        ("UPDATE positions SET position = -5", "negative position"),
        ("UPDATE counters SET crashes = -1", "-1 crashes"),
        ("UPDATE leads SET state = x'02'", "lead 7 of ws_1: its version is malformed"),
        ("UPDATE leads SET family = -7", "lead -7 of ws_1: its family is not 32 bits"),
        ("UPDATE leads SET workspace_id = 'nobody'", "lead 7 of nobody"),
    ];
    for (statement, named) in statements {
        let error = after(statement).await;
        assert!(matches!(error, StoreError::Corrupt { store: "counters", .. }), "{error}");
        assert!(error.to_string().contains(named), "{statement}: {error}");
    }
}

#[tokio::test]
async fn a_save_is_whole_or_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqlCheckpointStore::open(&DataFolder::open(folder.path()).unwrap()).await.unwrap();
    let beyond = CounterRow { included: Position(u64::MAX), ..row("ws_1", 999, 1) };
    let rows = (0..ROWS_PER_STATEMENT as u64).map(|number| row("ws_1", number, 1)).chain([beyond]).collect();
    let refused = store.save(CheckpointBatch { rows, ..CheckpointBatch::default() }).await;
    assert!(matches!(refused, Err(StoreError::Unavailable { .. })), "{refused:?}");
    assert_eq!(store.load().await.unwrap(), Checkpoint { crashes: 1, ..Checkpoint::default() });
}
