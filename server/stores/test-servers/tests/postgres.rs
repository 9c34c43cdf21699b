//! The server for tests does what tests lean on.

use rateguard_test_servers::PostgresServer;

#[tokio::test]
async fn databases_are_apart_and_their_owner_is_no_superuser() {
    let server = PostgresServer::shared().await.unwrap();
    let (one, other) = (server.new_database().await.unwrap(), server.new_database().await.unwrap());
    server.run(&one, "CREATE TABLE only_here (n BIGINT)").await.unwrap();

    let privileges = "SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user";
    assert_eq!(server.run(&one, privileges).await.unwrap().trim(), "f");
    let superuser = server.superuser_url(&one);
    assert_eq!(server.run(&superuser, privileges).await.unwrap().trim(), "t");
    assert_eq!(server.run(&superuser, "SELECT count(*) FROM only_here").await.unwrap().trim(), "0");
    let refusal = server.run(&other, "SELECT count(*) FROM only_here").await.unwrap_err();
    assert!(refusal.to_string().contains("does not exist"), "{refusal}");
}

#[tokio::test]
async fn a_wrong_password_is_refused() {
    let server = PostgresServer::shared().await.unwrap();
    let url = server.new_database().await.unwrap().replace("for-tests-only", "guessed");
    let refusal = server.run(&url, "SELECT 1").await.unwrap_err();
    assert!(refusal.to_string().contains("password authentication failed"), "{refusal}");
}

#[tokio::test]
async fn what_was_committed_is_there_after_a_kill_and_a_start() {
    let server = PostgresServer::start().await.unwrap();
    let url = server.new_database().await.unwrap();
    server.run(&url, "CREATE TABLE kept AS SELECT generate_series(1, 1000) AS n").await.unwrap();

    server.kill().await.unwrap();
    assert!(server.run(&url, "SELECT 1").await.is_err());
    assert!(server.kill().await.is_err(), "a server that is dead cannot be killed");
    server.start_again().await.unwrap();

    assert_eq!(server.run(&url, "SELECT count(*) FROM kept").await.unwrap().trim(), "1000");
}

#[tokio::test]
async fn a_paused_server_answers_nothing_until_it_is_resumed() {
    let server = PostgresServer::start().await.unwrap();
    let url = server.new_database().await.unwrap();

    server.pause().unwrap();
    let mut waiting = std::pin::pin!(server.run(&url, "SELECT 1"));
    let within = std::time::Duration::from_millis(300);
    assert!(tokio::time::timeout(within, &mut waiting).await.is_err());
    server.resume().unwrap();

    assert_eq!(waiting.await.unwrap().trim(), "1");
}

#[tokio::test]
async fn a_server_that_was_killed_while_it_was_paused_starts_again() {
    let server = PostgresServer::start().await.unwrap();
    let url = server.new_database().await.unwrap();
    server.pause().unwrap();
    server.kill().await.unwrap();
    server.start_again().await.unwrap();
    assert_eq!(server.run(&url, "SELECT 1").await.unwrap().trim(), "1");
}

#[tokio::test]
async fn a_dropped_server_leaves_nothing_behind() {
    let server = PostgresServer::start().await.unwrap();
    let url = server.new_database().await.unwrap();
    let folder = server.run(&server.superuser_url(&url), "SHOW data_directory").await.unwrap();
    let folder = std::path::PathBuf::from(folder.trim());
    assert!(folder.exists());
    let port = server.port();

    drop(server);

    assert!(!folder.exists() && !folder.parent().unwrap().exists());
    let refused = tokio::net::TcpStream::connect(("127.0.0.1", port)).await;
    assert!(refused.is_err(), "something still listens on port {port}");
}
