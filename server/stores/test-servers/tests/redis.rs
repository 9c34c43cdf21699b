//! The Redis servers for tests do what tests lean on.

use rateguard_test_servers::{Keeping, RedisCluster, RedisSentinels, RedisServer};

#[tokio::test]
async fn what_was_written_is_there_after_a_kill_where_it_was_to_be_kept() {
    for (keeping, kept) in [(Keeping::Writes, "1"), (Keeping::Nothing, "0")] {
        let server = RedisServer::start(keeping).await.unwrap();
        assert_eq!(server.ask(&["SET", "key", "value"]).await.unwrap(), "OK");
        server.kill().await.unwrap();
        assert!(server.ask(&["PING"]).await.is_err());
        assert!(server.kill().await.is_err(), "a server that is dead cannot be killed");
        server.start_again().await.unwrap();
        assert_eq!(server.ask(&["EXISTS", "key"]).await.unwrap(), kept, "{keeping:?}");
    }
}

#[tokio::test]
async fn a_paused_server_answers_nothing_until_it_is_resumed() {
    let server = RedisServer::start(Keeping::Nothing).await.unwrap();
    server.pause().unwrap();
    let mut waiting = std::pin::pin!(server.ask(&["PING"]));
    let within = std::time::Duration::from_millis(300);
    assert!(tokio::time::timeout(within, &mut waiting).await.is_err());
    server.resume().unwrap();
    assert_eq!(waiting.await.unwrap(), "PONG");
}

#[tokio::test]
async fn three_nodes_lead_a_cluster() {
    let cluster = RedisCluster::start().await.unwrap();
    assert_eq!(cluster.urls().len(), 6);
    assert_eq!(cluster.ask_masters(&["PING"]).await.unwrap(), ["PONG"; 3]);
}

#[tokio::test]
async fn a_replica_leads_when_the_first_server_is_gone() {
    let servers = RedisSentinels::start().await.unwrap();
    assert_eq!(servers.urls().len(), 3);
    servers.fail_over().await.unwrap();
}
