//! A database of PostgreSQL under the program, and the database gone while the program serves.

use std::collections::BTreeSet;
use std::sync::Arc;

use rateguard_proto::v1;
use rateguard_test_servers::PostgresServer;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic::Code;

use crate::clients::{Clients, eventually, record};
use crate::process::{Installation, Server};

/// Clients of each replica.
const REPORTERS: u64 = 8;
/// Every report is of one record of so much.
const NANOS: i64 = 3;
/// How much is accepted before the database is killed, and how often each side is asked while it is away.
const ACCEPTED_BEFORE: usize = 200;
const ASKED_WHILE_AWAY: usize = 50;

/// Which server's database it is.
enum Home {
    Shared(&'static PostgresServer),
    Own(PostgresServer),
}

/// An empty database.
pub struct Database {
    home: Home,
    pub url: String,
}

impl Database {
    /// On the server that all tests share.
    pub async fn shared() -> Self {
        let server = PostgresServer::shared().await.unwrap();
        Self { url: server.new_database().await.unwrap(), home: Home::Shared(server) }
    }

    /// On a server of its own, which may be killed.
    async fn own() -> Self {
        let server = PostgresServer::start().await.unwrap();
        Self { url: server.new_database().await.unwrap(), home: Home::Own(server) }
    }

    pub fn server(&self) -> &PostgresServer {
        match &self.home {
            Home::Shared(server) => server,
            Home::Own(server) => server,
        }
    }

    /// Runs statements as somebody whom row-level security does not hold back.
    pub async fn ask(&self, sql: &str) -> String {
        let url = self.server().superuser_url(&self.url);
        self.server().run(&url, sql).await.unwrap().trim().to_owned()
    }

    /// Nothing is half-written: every event has its id and its attempt, positions run without a gap up to
    /// the head, and so does the feed of changes up to its revision.
    pub async fn is_whole(&self) {
        let halves = [
            "SELECT count(*) FROM rateguard_events.events e FULL JOIN rateguard_events.event_ids i \
             ON (e.position, e.event_hash, e.received_at) = (i.position, i.event_hash, i.received_at) \
             WHERE e.position IS NULL OR i.position IS NULL",
            "SELECT count(*) FROM (SELECT * FROM rateguard_events.events \
             WHERE reservation_hash IS NOT NULL AND attempt <> 0) e \
             FULL JOIN rateguard_events.event_attempts a \
             ON (e.position, e.reservation_hash, e.attempt, e.received_at) \
             = (a.position, a.reservation_hash, a.attempt, a.received_at) \
             WHERE e.position IS NULL OR a.position IS NULL",
            "SELECT count(*) FROM rateguard_events.events, rateguard_events.head \
             WHERE events.position > head.position",
            "SELECT revision - (SELECT count(*) FROM rateguard_config.changes) \
             FROM rateguard_config.revisions",
        ];
        for half in halves {
            assert_eq!(self.ask(half).await, "0", "{half}");
        }
    }
}

/// What the reporters of one replica have seen.
#[derive(Default)]
struct Seen {
    accepted: BTreeSet<String>,
    sent: BTreeSet<String>,
    refused: usize,
}

/// Reports one record after the other until told to stop. What was not accepted is sent again under the
/// same id.
async fn report_until_stopped(
    client: Clients,
    name: String,
    accepted_count: Arc<watch::Sender<usize>>,
    stop: watch::Receiver<bool>,
) -> Seen {
    let mut seen = Seen::default();
    for number in 0_u64.. {
        let id = format!("{name}-{number}");
        seen.sent.insert(id.clone());
        loop {
            match client.report(vec![record(&id, "somebody", NANOS)]).await {
                Ok(results) => {
                    let status = results[0].status();
                    let counts = [v1::RecordStatus::Accepted, v1::RecordStatus::Duplicate].contains(&status);
                    assert!(counts, "{id}: {:?}", results[0]);
                    break;
                }
                Err(status) => assert_eq!(status.code(), Code::Unavailable, "{id}: {status}"),
            }
            seen.refused += 1;
            if *stop.borrow() {
                return seen;
            }
            tokio::task::yield_now().await;
        }
        seen.accepted.insert(id);
        accepted_count.send_modify(|count| *count += 1);
        if *stop.borrow() {
            return seen;
        }
    }
    seen
}

/// Two replicas with reporters on each.
struct Load {
    reporting: JoinSet<Seen>,
    accepted: Arc<watch::Sender<usize>>,
    stop: watch::Sender<bool>,
}

impl Load {
    async fn on(replicas: [&Server; 2], key: &str) -> Self {
        let mut load =
            Self { reporting: JoinSet::new(), accepted: Arc::default(), stop: watch::Sender::new(false) };
        for (side, server) in ["a", "b"].into_iter().zip(replicas) {
            for number in 0..REPORTERS {
                let client = server.connect(key).await;
                let name = format!("{side}{number}");
                let (accepted, stop) = (load.accepted.clone(), load.stop.subscribe());
                load.reporting.spawn(report_until_stopped(client, name, accepted, stop));
            }
        }
        load
    }

    async fn rises_by(&self, more: usize) {
        let wanted = *self.accepted.borrow() + more;
        eventually("the reporters get on", async || *self.accepted.borrow() >= wanted).await;
    }

    async fn stopped(self) -> Vec<Seen> {
        self.stop.send_replace(true);
        self.reporting.join_all().await
    }
}

/// While the database is away: checks are answered from memory, management and reports are not done.
async fn only_checks_are_answered(client: &Clients, made: &mut BTreeSet<String>) {
    for number in 0..ASKED_WHILE_AWAY {
        let answer = client.check(v1::CheckQuotaRequest::default()).await.unwrap();
        assert_eq!(answer.decision(), v1::Decision::Allowed);
        // Each management call waits for the database; few are enough.
        if number % 25 == 0 {
            let name = format!("away {number} {}", made.len());
            let refused = client.try_make_key(&name, &[v1::KeyScope::Quota]).await.unwrap_err();
            assert_eq!(refused.code(), Code::Unavailable, "{refused}");
            made.insert(name);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_killed_and_started_under_load_stops_no_checks_and_loses_nothing() {
    let database = Database::own().await;
    let installation = Installation::make_on(&database.url).await;
    let other = installation.replica(&database.url);
    let (server_a, server_b) = (installation.serve().await, other.serve().await);
    let first = installation.administer(&server_a).await;
    let scopes = [v1::KeyScope::Quota, v1::KeyScope::Usage, v1::KeyScope::Read, v1::KeyScope::Manage];
    let key = first.make_key(&scopes).await;
    let budget = first.make_budget("somebody", 1_000_000_000).await;
    let (a, b) = (server_a.connect(&key).await, server_b.connect(&key).await);
    eventually("the other replica knows the key", async || {
        b.check(v1::CheckQuotaRequest::default()).await.is_ok()
    })
    .await;

    let load = Load::on([&server_a, &server_b], &key).await;
    load.rises_by(ACCEPTED_BEFORE).await;
    database.server().kill().await.unwrap();
    let mut refused_names = BTreeSet::new();
    only_checks_are_answered(&a, &mut refused_names).await;
    only_checks_are_answered(&b, &mut refused_names).await;
    database.server().start_again().await.unwrap();
    load.rises_by(ACCEPTED_BEFORE).await;
    let seen = load.stopped().await;

    assert!(seen.iter().any(|seen| seen.refused > 0), "nobody noticed that the database was away");
    books_agree(&a, &b, &seen, &budget).await;
    nothing_was_made_that_was_refused(&a, &refused_names).await;
    a.make_key(&[v1::KeyScope::Quota]).await;
    database.is_whole().await;
    assert!(server_a.interrupt().await.success());
    assert!(server_b.interrupt().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_hangs_stops_no_checks_and_is_there_again_when_it_wakes() {
    let database = Database::own().await;
    let installation = Installation::make_on(&database.url).await;
    let server = installation.serve().await;
    let first = installation.administer(&server).await;
    let key = first.make_key(&[v1::KeyScope::Quota, v1::KeyScope::Manage]).await;
    let client = server.connect(&key).await;

    database.server().pause().unwrap();
    let waiting = {
        let client = client.clone();
        tokio::spawn(async move { client.try_make_key("hanging", &[v1::KeyScope::Quota]).await })
    };
    for _ in 0..ASKED_WHILE_AWAY {
        assert!(client.check(v1::CheckQuotaRequest::default()).await.is_ok());
    }
    let refused = waiting.await.unwrap().unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    database.server().resume().unwrap();

    eventually("keys are made again", async || {
        client.try_make_key("after", &[v1::KeyScope::Quota]).await.is_ok()
    })
    .await;
    nothing_was_made_that_was_refused(&client, &BTreeSet::from(["hanging".to_owned()])).await;
    database.is_whole().await;
    assert!(server.interrupt().await.success());
}

/// Both replicas list what was accepted once, with nothing that was never sent, and their budgets and
/// rollups come to the same money.
async fn books_agree(a: &Clients, b: &Clients, seen: &[Seen], budget: &v1::Budget) {
    let accepted: BTreeSet<&String> = seen.iter().flat_map(|seen| &seen.accepted).collect();
    let sent: BTreeSet<&String> = seen.iter().flat_map(|seen| &seen.sent).collect();
    let events = a.all_events().await;
    let ids: Vec<&String> = events.iter().map(|event| &event.record.as_ref().unwrap().event_id).collect();
    let listed: BTreeSet<&String> = ids.iter().copied().collect();
    assert_eq!(ids.len(), listed.len(), "an event is listed twice");
    assert!(accepted.is_subset(&listed), "an accepted event is missing");
    assert!(listed.is_subset(&sent), "an event was never sent");
    let spent = i64::try_from(listed.len()).unwrap() * NANOS;
    for client in [a, b] {
        eventually("the budget has followed the log", async || {
            client.budget_state(&budget.id).await.spent_nanos == spent
        })
        .await;
        eventually("the rollups equal the events", async || {
            client.rolled_up().await.cost.unwrap().nanos == spent
        })
        .await;
    }
}

/// A change that was answered UNAVAILABLE was surely not made.
async fn nothing_was_made_that_was_refused(client: &Clients, names: &BTreeSet<String>) {
    let request = v1::ListKeysRequest { page_size: 1_000, ..v1::ListKeysRequest::default() };
    let keys = client.keys().list_keys(request).await.unwrap().into_inner().keys;
    let made: Vec<_> = keys.iter().filter(|key| names.contains(&key.display_name)).collect();
    assert!(made.is_empty(), "{made:?}");
}
