//! Tests of what a URL becomes, without a server.

use super::*;

const URL: &str = "postgres://someone:a%20secret@db.example:6543/books?sslmode=verify-full";

fn database(connections_max: u32) -> PostgresDatabase {
    PostgresDatabase::new(URL, connections_max, Migrations::Apply).unwrap()
}

#[test]
fn a_database_is_named_without_its_password() {
    let database = database(8);
    assert_eq!(database.name(), "database books on db.example:6543");
    assert!(!format!("{database:?}").contains("secret"));
}

#[test]
fn a_url_that_cannot_be_read_is_not_repeated() {
    let refused = PostgresDatabase::new("postgres://u:a secret@[::/x", 8, Migrations::Apply).unwrap_err();
    assert!(matches!(refused, OpenError::Url { .. }), "{refused}");
    assert!(!refused.to_string().contains("secret"), "{refused}");
}

#[test]
fn all_stores_together_keep_to_the_connections_that_there_may_be() {
    for (connections_max, writers, all) in [(8, 1, 2), (24, 2, 7), (100, 4, 32)] {
        let database = database(connections_max);
        assert_eq!((database.writers_max(), database.share()), (writers, all));
        assert!(database.share() * STORES + CONNECTIONS_ASIDE <= connections_max);
    }
}

#[test]
fn only_what_stays_on_the_machine_or_is_verified_whole_is_private() {
    let is_private = |url: &str| PostgresDatabase::new(url, 8, Migrations::Apply).unwrap().is_private();
    for url in [
        URL,
        "postgres://r@localhost/d",
        "postgres://r@127.0.0.1:6543/d?sslmode=disable",
        "postgres://r@[::1]/d",
        "postgres://r@%2Fvar%2Frun%2Fpostgresql/d",
    ] {
        assert!(is_private(url), "{url}");
    }
    for url in [
        "postgres://r@db.example/d",
        "postgres://r@db.example/d?sslmode=disable",
        "postgres://r@db.example/d?sslmode=require",
        "postgres://r@db.example/d?sslmode=verify-ca",
        "postgres://r@10.0.0.1/d",
        "postgres://r@localhost.example/d",
    ] {
        assert!(!is_private(url), "{url}");
    }
}
