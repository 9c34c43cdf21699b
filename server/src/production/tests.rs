//! What is refused in production, and what says why.

use std::path::Path;

use rateguard_core::ids::DisplayName;
use rateguard_core::money::Currency;
use rateguard_core::time::Zone;
use rateguard_engine::listing::PageQuery;
use rateguard_engine::manage::ResourceFilter;
use rateguard_engine::people::EmailAddress;

use super::*;
use crate::config::Override;
use crate::demo::Demo;
use crate::keyfile;
use crate::running::Running;
use crate::setup::{FirstWorkspace, install};

fn config(folder: &Path, mode: &str) -> Config {
    let flags: [Override; 3] = [
        ("data.folder", folder.display().to_string()),
        ("server.listen", "127.0.0.1:0".to_owned()),
        ("server.mode", mode.to_owned()),
    ];
    Config::load(None, &[], &flags).unwrap()
}

async fn make(config: &Config) {
    let name = DisplayName::parse("workspace", "tests").unwrap();
    let owner = EmailAddress::parse("owner", "owner@example.com").unwrap();
    install(config, FirstWorkspace { name, zone: Zone::UTC, currency: Currency::USD, owner }).await.unwrap();
}

async fn refusal(config: &Config) -> String {
    match Running::start(config).await {
        Ok(_) => panic!("the start was not refused"),
        Err(error) => format!("{error:#}"),
    }
}

#[tokio::test]
async fn an_installation_of_ones_own_is_served_in_production_and_not_without_its_key() {
    let folder = tempfile::tempdir().unwrap();
    let production = config(folder.path(), "production");
    make(&production).await;
    Running::start(&production).await.unwrap().stop().await.unwrap();
    std::fs::remove_file(production.encryption_key_file()).unwrap();
    let refused = refusal(&production).await;
    assert!(refused.contains("encryption.key; restore it from a backup"), "{refused}");
}

#[tokio::test]
async fn a_demo_is_not_served_in_production_whether_it_is_marked_or_known_by_its_upstream() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("demo");
    let development = config(&folder, "development");
    Demo::start(&development).await.unwrap().stop().await.unwrap();
    let production = config(&folder, "production");
    for purpose in [Purpose::Demo, Purpose::Own] {
        let stores = crate::wiring::OpenStores::open(
            &development,
            rateguard_store_sql::Opening::Existing,
            rateguard_engine::manage::Recount::Exact,
        )
        .await
        .unwrap();
        stores.mark(&development, purpose).await.unwrap();
        stores.close().await;
        drop(stores);
        let refused = refusal(&production).await;
        assert!(refused.contains("holds the demo") && refused.contains("rateguard init"), "{refused}");
    }
    // A demo of a version without marks gets its mark when it is started again.
    Demo::start(&development).await.unwrap().stop().await.unwrap();
    let refused = Demo::start(&production).await.map(drop).unwrap_err().to_string();
    assert!(refused.contains("not for production") && refused.contains("server.mode"), "{refused}");
}

#[tokio::test]
async fn a_demo_without_its_apis_is_still_known_by_its_mark() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("demo");
    let development = config(&folder, "development");
    let demo = Demo::start(&development).await.unwrap();
    let engine = demo.running.engine.clone();
    let caller = engine.authenticator().by_key(&demo.keys.manage, engine.now()).unwrap();
    let who = caller.into();
    let kind = rateguard_engine::ports::ResourceKind::Api;
    for api in engine.list(&who, kind, &ResourceFilter::default(), &PageQuery::first(10)).await.unwrap().items
    {
        engine.delete(&who, kind, api.value.id(), None).await.unwrap();
    }
    drop(engine);
    demo.stop().await.unwrap();
    let refused = refusal(&config(&folder, "production")).await;
    assert!(refused.contains("holds the demo"), "{refused}");
}

#[tokio::test]
async fn a_key_that_nobody_drew_is_refused_in_production_alone() {
    let folder = tempfile::tempdir().unwrap();
    let development = config(folder.path(), "development");
    keyfile::create(&development.encryption_key_file(), &"0123456789abcdef".repeat(4)).unwrap();
    make(&development).await;
    Running::start(&development).await.unwrap().stop().await.unwrap();
    let refused = refusal(&config(folder.path(), "production")).await;
    assert!(
        refused.contains("not drawn at random") && refused.contains("rotate-encryption-key"),
        "{refused}"
    );
    assert!(!refused.contains("0123456789abcdef"), "{refused}");
}

#[test]
fn mail_into_the_log_is_refused_in_production_alone() {
    let load = |mode: &str, pairs: &[(&str, &str)]| {
        let environment: Vec<(String, String)> = std::iter::once(&("RATEGUARD_SERVER__MODE", mode))
            .chain(pairs)
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        Config::load(None, &environment, &[]).map_err(|error| error.to_string())
    };
    let from = ("RATEGUARD_MAIL__FROM", "a@example.com");
    for (pairs, key, said) in [
        (&[("RATEGUARD_MAIL__TRANSPORT", "log"), from][..], "mail.transport", "smtp or none"),
        (&[("RATEGUARD_MAIL__TRANSPORT", "file"), from], "mail.transport", "smtp or none"),
    ] {
        let refused = load("production", pairs).unwrap_err();
        assert!(refused.starts_with(key) && refused.contains(said), "{refused}");
        assert!(refused.contains("server.mode is production"), "{refused}");
        load("development", pairs).unwrap();
    }
    load("production", &[]).unwrap();
    assert!(load("prod", &[]).unwrap_err().contains("mode"));
}

#[test]
fn a_database_elsewhere_is_reached_under_a_checked_certificate_in_production() {
    let database = |mode: &str, url: &str| {
        let flags: [Override; 3] = [
            ("stores.kind", "postgres".to_owned()),
            ("stores.postgres.url", url.to_owned()),
            ("server.mode", mode.to_owned()),
        ];
        crate::wiring::database_server(&Config::load(None, &[], &flags).unwrap())
    };
    let far = "postgres://role:hidden@db.example/name";
    for url in [far.to_owned(), format!("{far}?sslmode=disable"), format!("{far}?sslmode=require")] {
        let refused = database("production", &url).unwrap_err().to_string();
        assert!(refused.contains("sslmode=verify-full") && refused.contains("db.example"), "{refused}");
        assert!(!refused.contains("hidden"), "{refused}");
        database("development", &url).unwrap();
    }
    database("production", &format!("{far}?sslmode=verify-full")).unwrap();
    database("production", "postgres://role@127.0.0.1/name").unwrap();
}

#[tokio::test]
async fn redis_elsewhere_is_reached_under_a_checked_certificate_in_production() {
    let folder = tempfile::tempdir().unwrap();
    make(&config(folder.path(), "production")).await;
    let urls = folder.path().join("redis-urls");
    keyfile::create(&urls, "redis://user:hush@redis.invalid").unwrap();
    let flags = |mode: &str| -> [Override; 6] {
        [
            ("data.folder", folder.path().display().to_string()),
            ("server.listen", "127.0.0.1:0".to_owned()),
            ("server.mode", mode.to_owned()),
            ("stores.redis.topology", "single".to_owned()),
            ("stores.redis.urls_file", urls.display().to_string()),
            ("stores.redis.connect_timeout_ms", "100".to_owned()),
        ]
    };
    let refused = refusal(&Config::load(None, &[], &flags("production")).unwrap()).await;
    assert!(refused.contains("redis.invalid:6379") && refused.contains("rediss://"), "{refused}");
    assert!(!refused.contains("hush"), "{refused}");
    let unreached = refusal(&Config::load(None, &[], &flags("development")).unwrap()).await;
    assert!(unreached.contains("Redis") && !unreached.contains("rediss://"), "{unreached}");
}
