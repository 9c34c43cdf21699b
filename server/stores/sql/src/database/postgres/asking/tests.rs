//! Tests with a server that takes connections and says nothing: the clock jumps to the next deadline.

use std::net::SocketAddr;

use tokio::net::TcpListener;

use super::super::Migrations;
use super::*;
use crate::database::Database;

/// A server that takes connections, for as long as the listener is there, and answers none.
async fn silent() -> (TcpListener, PostgresDatabase) {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let url = format!("postgres://role@{}/database", listener.local_addr().unwrap());
    (listener, PostgresDatabase::new(&url, 8, Migrations::Apply).unwrap())
}

/// Within what time it is told that the server is away.
async fn told_within<T>(asking: impl Future<Output = Result<T, OpenError>>) -> Duration {
    let began = Instant::now();
    let refused = asking.await.err().unwrap();
    assert!(matches!(refused, OpenError::Server { .. }), "{refused}");
    began.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a_server_that_answers_nothing_is_told_of_in_good_time_whatever_is_asked_first() {
    let (_listener, server) = silent().await;
    let patience = Duration::from_millis(CONNECT_MS_MAX + 1);
    assert!(told_within(server.wait_for_turn()).await <= patience);
    assert!(told_within(server.role_passes_row_security()).await <= patience);
    assert!(told_within(server.applied(&crate::events::SERVER_SCHEMA)).await <= patience);
    assert!(told_within(Database::open_on_server(&server, &crate::events::SERVER_SCHEMA)).await <= patience);
}

#[tokio::test(start_paused = true)]
async fn a_question_that_is_not_answered_ends_with_its_own_deadline() {
    let (_listener, server) = silent().await;
    let never = std::future::pending::<Result<(), Error>>();
    assert!(told_within(server.answer(never)).await <= Duration::from_millis(CALL_MS_MAX + 1));
}
