//! What earlier versions have logged stays, whichever of them it was.

use super::*;
use crate::testing::histories;

/// Logs events with the schema of an earlier version.
async fn log_events(database: Database) -> Vec<LoggedEvent> {
    let log = SqlEventLog { database };
    log.append(&[full_event("ws_a", "first"), event("ws_b", "second")]).await.unwrap();
    let logged = log.read_after(Position(0), 10).await.unwrap();
    log.close().await;
    logged
}

/// The events are there, are still known by their ids, and further ones follow them.
async fn has(log: SqlEventLog, logged: &[LoggedEvent]) {
    assert_eq!(log.read_after(Position(0), 10).await.unwrap(), logged);
    let again = log.append(&[event("ws_b", "second"), event("ws_b", "third")]).await.unwrap().outcomes;
    assert!(matches!(again[0], AppendOutcome::Duplicate { position, .. } if position == logged[1].position));
    assert!(matches!(again[1], AppendOutcome::Appended(position) if position > logged[1].position));
    log.close().await;
}

#[tokio::test]
async fn what_any_earlier_version_logged_in_a_folder_is_there_after_the_upgrade() {
    for history in histories(&MIGRATOR) {
        let Sqlite { folder, _files } = Sqlite::fresh();
        let before = Database::open(&folder, &Schema { migrator: history, ..SCHEMA }).await.unwrap();
        let logged = log_events(before).await;
        has(SqlEventLog::open(&folder).await.unwrap(), &logged).await;
    }
}

#[tokio::test]
async fn what_any_earlier_version_logged_on_a_server_is_there_after_the_upgrade() {
    for history in histories(&SERVER_MIGRATOR) {
        let server = empty_database().await;
        let schema = ServerSchema { migrator: history, ..SERVER_SCHEMA };
        let logged = log_events(Database::open_on_server(&server, &schema).await.unwrap()).await;
        has(SqlEventLog::open_on_server(&server).await.unwrap(), &logged).await;
    }
}
