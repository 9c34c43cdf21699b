//! What one process learns of another at once: that a feed has grown, and that nobody rolls up.

use std::net::SocketAddr;
use std::time::Duration;

use rateguard_core::time::Millis;
use rateguard_engine::audit::Deed;
use rateguard_engine::ports::{ConfigStore, PeopleStore, StoreError, UsageStore};
use rateguard_store_sql::{Migrations, PostgresDatabase, SqlConfigStore, SqlEventLog, SqlUsageStore};
use rateguard_store_suite::config_store::samples::workspace;
use rateguard_store_suite::people_store::samples::{own, user, ws};
use rateguard_test_servers::{Flow, PostgresServer, Proxy};
use tokio::sync::watch;

use super::on_server::{CONNECTIONS_MAX, OnServer};

/// Longer than any notice or any succession takes.
const WAIT: Duration = Duration::from_secs(20);

async fn config(url: &str) -> SqlConfigStore {
    let database = PostgresDatabase::new(url, CONNECTIONS_MAX, Migrations::Apply).unwrap();
    let log = SqlEventLog::open_on_server(&database).await.expect("the log opens");
    SqlConfigStore::open_on_server(&database, &log).await.expect("the store opens")
}

async fn usage(url: &str) -> SqlUsageStore {
    let database = PostgresDatabase::new(url, CONNECTIONS_MAX, Migrations::Apply).unwrap();
    let log = SqlEventLog::open_on_server(&database).await.expect("the log opens");
    SqlUsageStore::open_on_server(&database, &log).await.expect("the usage opens")
}

async fn proxied(on: &OnServer) -> Proxy {
    let server = PostgresServer::shared().await.unwrap();
    assert!(on.url.contains(&server.port().to_string()));
    Proxy::to(SocketAddr::from(([127, 0, 0, 1], server.port()))).await.unwrap()
}

/// A wake that has been raised for the beginning of the connection, and waits for the next.
async fn connected(wake: Option<watch::Receiver<u64>>) -> watch::Receiver<u64> {
    let mut wake = wake.expect("a store on a server is woken");
    tokio::time::timeout(WAIT, wake.wait_for(|times| *times > 0)).await.expect("in time").unwrap();
    wake.mark_unchanged();
    wake
}

async fn woken(wake: &mut watch::Receiver<u64>) {
    tokio::time::timeout(WAIT, wake.changed()).await.expect("a notice comes").expect("somebody listens");
}

fn by() -> Deed {
    Deed::of_server("Test", Millis::new(1))
}

#[tokio::test]
async fn a_change_wakes_the_readers_of_its_feed_in_every_process() -> Result<(), StoreError> {
    let on = OnServer::fresh().await;
    let (one, other) = (config(&on.url).await, config(&on.url).await);
    let mut of_config = connected(other.wake()).await;
    let mut of_people = connected(other.people().wake()).await;
    one.people().create_user(user("ada"), own("ws_1"), 10, &by()).await?;
    woken(&mut of_people).await;
    assert!(!of_config.has_changed().unwrap(), "people are not of the configuration's feed");
    for resource in rateguard_store_suite::config_store::samples::one_of_each(1).into_iter().take(1) {
        one.insert(&ws("ws_1"), resource, 10, &by()).await?;
    }
    woken(&mut of_config).await;
    Ok(())
}

#[tokio::test]
async fn a_listener_whose_connection_was_cut_listens_again_and_wakes_for_what_it_missed() {
    let on = OnServer::fresh().await;
    let proxy = proxied(&on).await;
    let listening = config(&proxy.url(&on.url)).await;
    let mut wake = connected(listening.wake()).await;
    let mut heard = listening.notices_heard().expect("a store on a server hears of others");
    assert!(*heard.borrow_and_update());
    proxy.set(Flow::RefuseNew);
    proxy.cut();
    tokio::time::timeout(WAIT, heard.wait_for(|heard| !heard)).await.expect("the silence is known").unwrap();
    config(&on.url).await.create_workspace(workspace("ws_1"), &by()).await.unwrap();
    proxy.set(Flow::Pass);
    woken(&mut wake).await;
    assert!(*heard.borrow_and_update());
}

#[tokio::test]
async fn a_file_wakes_nobody() {
    let files = tempfile::tempdir().unwrap();
    let folder = rateguard_store_sql::DataFolder::open(files.path()).unwrap();
    let log = SqlEventLog::open(&folder).await.unwrap();
    let store = SqlConfigStore::open(&folder, &log).await.unwrap();
    assert!(store.wake().is_none() && store.people().wake().is_none());
    let usage = SqlUsageStore::open(&folder, &log).await.unwrap();
    assert_eq!(usage.try_lead().await, Ok(true), "it has one process");
}

/// Asks until this process leads.
async fn leads_at_last(usage: &SqlUsageStore) {
    let asking = async {
        while !matches!(usage.try_lead().await, Ok(true)) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(WAIT, asking).await.expect("somebody leads");
}

#[tokio::test]
async fn one_process_rolls_up_until_it_closes() {
    let on = OnServer::fresh().await;
    let (one, other) = (usage(&on.url).await, usage(&on.url).await);
    for _ in 0..3 {
        assert_eq!(one.try_lead().await, Ok(true));
        assert_eq!(other.try_lead().await, Ok(false));
    }
    one.close().await;
    leads_at_last(&other).await;
}

#[tokio::test]
async fn whoever_loses_its_connection_is_followed_by_another_and_knows_it() {
    let on = OnServer::fresh().await;
    let proxy = proxied(&on).await;
    let (one, other) = (usage(&proxy.url(&on.url)).await, usage(&on.url).await);
    assert_eq!(one.try_lead().await, Ok(true));
    assert_eq!(other.try_lead().await, Ok(false));
    proxy.cut();
    leads_at_last(&other).await;
    let lost = one.try_lead().await;
    assert!(!matches!(lost, Ok(true)), "{lost:?}");
    assert_eq!(other.try_lead().await, Ok(true));
}
