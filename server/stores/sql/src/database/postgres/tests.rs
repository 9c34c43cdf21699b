//! Tests of what breaks on the way to a server, and of what is left then.

use std::net::SocketAddr;

use rateguard_engine::ports::StoreError;
use rateguard_test_servers::{Flow, PostgresServer, Proxy};
use tokio::sync::Notify;

use super::super::{Database, Migrations, Reader, Transaction, failure, query, query_scalar};
use super::*;

/// Connections of this process: of each store one that writes and three that read.
const CONNECTIONS_MAX: u32 = 14;
/// Tries that a store may need to be there again, with a wait between them.
const TRIES_MAX: usize = 200;

/// A store on a server behind a network that can fail.
struct Behind {
    proxy: Proxy,
    url: String,
    database: Database,
    /// Answers are held back from here on.
    held: Notify,
}

impl Behind {
    async fn over(server: &PostgresServer) -> Self {
        let url = server.new_database().await.unwrap();
        let proxy = Proxy::to(SocketAddr::from(([127, 0, 0, 1], server.port()))).await.unwrap();
        let database = opened(&proxy.url(&url)).await;
        Self { proxy, url, database, held: Notify::new() }
    }

    async fn fresh() -> Self {
        Self::over(PostgresServer::shared().await.unwrap()).await
    }

    /// A write of which the server's answer to the commit does not come.
    async fn commit_without_an_answer(&self, id: &str) -> Result<(), StoreError> {
        let (held, database) = (&self.held, &self.database);
        let work = async {
            let mut transaction = database.begin(Scope::Installation).await?;
            insert(&mut transaction, id).await?;
            self.proxy.set(Flow::HoldAnswers);
            held.notify_one();
            Ok((transaction, ()))
        };
        database.write(work).await
    }
}

async fn opened(url: &str) -> Database {
    let server = PostgresDatabase::new(url, CONNECTIONS_MAX, Migrations::Apply).unwrap();
    Database::open_on_server(&server, &crate::events::SERVER_SCHEMA).await.unwrap()
}

async fn insert(transaction: &mut Transaction, id: &str) -> Result<(), StoreError> {
    let insert = query("INSERT INTO workspaces (id) VALUES ($1)").bind(id);
    insert.execute(transaction).await.map(drop).map_err(failure("test"))
}

async fn write(database: &Database, id: &str) -> Result<(), StoreError> {
    let work = async {
        let mut transaction = database.begin(Scope::Installation).await?;
        insert(&mut transaction, id).await?;
        Ok((transaction, ()))
    };
    database.write(work).await
}

async fn ids(database: &Database) -> Result<Vec<String>, StoreError> {
    let read = async {
        let mut reader: Reader = database.reader(Scope::Installation).await?;
        let ids = query_scalar("SELECT id FROM workspaces ORDER BY id");
        ids.fetch_all(&mut reader).await.map_err(failure("test"))
    };
    database.within_deadline(read).await
}

/// Writes until it works again: every failure before that says that nothing was done.
async fn written_at_last(database: &Database, id: &str) {
    for _ in 0..TRIES_MAX {
        match write(database, id).await {
            Ok(()) => return,
            Err(StoreError::Unavailable { .. }) => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(other) => panic!("{other}"),
        }
    }
    panic!("the store did not come back");
}

fn is_unavailable<T>(result: &Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::Unavailable { .. }))
}

#[tokio::test]
async fn a_commit_whose_connection_breaks_may_have_been_done_and_is_whole() {
    let behind = Behind::fresh().await;
    let cut = async {
        // The commit is at the server once others see what it wrote.
        let direct = opened(&behind.url).await;
        while ids(&direct).await.unwrap().is_empty() {}
        behind.proxy.cut();
    };
    let (outcome, ()) = tokio::join!(behind.commit_without_an_answer("ws_1"), cut);
    behind.proxy.set(Flow::Pass);
    assert!(matches!(outcome, Err(StoreError::OutcomeUnknown { .. })), "{outcome:?}");
    assert_eq!(ids(&behind.database).await.unwrap(), ["ws_1"]);
}

#[tokio::test]
async fn a_server_that_is_killed_while_a_commit_is_under_way_leaves_all_or_nothing() {
    let server = PostgresServer::start().await.unwrap();
    let behind = Behind::over(&server).await;
    write(&behind.database, "ws_before").await.unwrap();
    let killing = async {
        behind.held.notified().await;
        server.kill().await.unwrap();
        behind.proxy.cut();
    };
    let (outcome, ()) = tokio::join!(behind.commit_without_an_answer("ws_during"), killing);
    behind.proxy.set(Flow::Pass);
    assert!(matches!(outcome, Err(StoreError::OutcomeUnknown { .. })), "{outcome:?}");
    assert!(is_unavailable(&write(&behind.database, "ws_away").await));
    assert!(is_unavailable(&ids(&behind.database).await));
    server.start_again().await.unwrap();
    written_at_last(&behind.database, "ws_after").await;
    let found = ids(&behind.database).await.unwrap();
    assert!(!found.contains(&"ws_away".to_owned()), "{found:?}");
    for kept in ["ws_before", "ws_after"] {
        assert!(found.contains(&kept.to_owned()), "{found:?}");
    }
}

#[tokio::test]
async fn connections_that_a_killed_server_left_behind_fail_no_call_once_it_is_back() {
    let server = PostgresServer::start().await.unwrap();
    let behind = Behind::over(&server).await;
    // Several connections stand idle.
    let reads = (0..3).map(|_| ids(&behind.database));
    futures::future::try_join_all(reads).await.unwrap();
    write(&behind.database, "ws_1").await.unwrap();
    server.kill().await.unwrap();
    server.start_again().await.unwrap();
    let reads = (0..3).map(|_| ids(&behind.database));
    for found in futures::future::try_join_all(reads).await.unwrap() {
        assert_eq!(found, ["ws_1"]);
    }
    write(&behind.database, "ws_2").await.unwrap();
}

#[tokio::test]
async fn a_connection_that_breaks_before_the_commit_surely_wrote_nothing() {
    let behind = Behind::fresh().await;
    let work = async {
        let mut transaction = behind.database.begin(Scope::Installation).await?;
        behind.proxy.cut();
        insert(&mut transaction, "ws_1").await?;
        Ok((transaction, ()))
    };
    let broken = behind.database.write(work).await;
    assert!(is_unavailable(&broken), "{broken:?}");
    assert_eq!(ids(&behind.database).await.unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn a_server_that_is_away_is_unavailable_and_then_there_again() {
    let behind = Behind::fresh().await;
    behind.proxy.set(Flow::RefuseNew);
    behind.proxy.cut();
    assert!(is_unavailable(&ids(&behind.database).await));
    behind.proxy.set(Flow::Pass);
    written_at_last(&behind.database, "ws_1").await;
    assert_eq!(ids(&behind.database).await.unwrap(), ["ws_1"]);
}

#[tokio::test]
async fn readers_cannot_write() {
    let behind = Behind::fresh().await;
    let mut reader = behind.database.reader(Scope::Installation).await.unwrap();
    let refused = query("DELETE FROM workspaces").execute(&mut reader).await.map_err(failure("test"));
    assert!(matches!(refused, Err(StoreError::Unavailable { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_reading_transaction_sees_one_state_throughout() {
    let behind = Behind::fresh().await;
    let mut transaction = behind.database.begin_read(Scope::Installation).await.unwrap();
    let count = "SELECT count(*) FROM workspaces";
    let before: i64 = query_scalar(count).fetch_one(&mut transaction).await.unwrap();
    write(&behind.database, "ws_1").await.unwrap();
    let after: i64 = query_scalar(count).fetch_one(&mut transaction).await.unwrap();
    assert_eq!((before, after), (0, 0));
}

#[tokio::test]
async fn a_transaction_that_is_given_up_leaves_nothing_and_frees_its_place() {
    let behind = Behind::fresh().await;
    let mut transaction = behind.database.begin(Scope::Installation).await.unwrap();
    insert(&mut transaction, "ws_1").await.unwrap();
    drop(transaction);
    write(&behind.database, "ws_2").await.unwrap();
    assert_eq!(ids(&behind.database).await.unwrap(), ["ws_2"]);
}
