//! The server killed again and again among many callers: plain limits never admit more than they
//! allow, and what each kill forfeits of them is at most a lease.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use rateguard_proto::v1;
use rateguard_proto::v1::rule::Algorithm;
use tokio::task::JoinSet;

use super::random::{Random, Told, first_seed};
use crate::clients::{Clients, eventually, tell};
use crate::process::{Installation, Server};

const CALLERS: u64 = 48;
/// Connections that the callers share.
const CONNECTIONS: usize = 8;
/// A kill comes after so many more answers.
const ANSWERS_BEFORE_KILL: std::ops::RangeInclusive<i64> = 100..=400;
/// Kills of a plain run, and of a soak.
const KILLS: u32 = 3;
const KILLS_OF_SOAK: u32 = 20;
const HOUR_MS: i64 = 60 * 60 * 1_000;
const YEAR_MS: i64 = 365 * 24 * HOUR_MS;
/// A window so short that a kill uses it up, and that many of them pass.
const MOMENTS_MS: i64 = 2_000;
/// How far the clocks of callers and server may be apart.
const EDGE_MS: i64 = 50;
/// Users of a limit that is theirs alone and too small for a lead.
const USERS: i64 = 100;
const USER_LIMIT: i64 = 3;
/// The part of a limit that a lease is at most, where it takes long to be given back.
const LEASE_OF_LIMIT: i64 = 20;

/// A kind of limit, with the endpoint that it is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Kind {
    Fixed,
    Sliding,
    Bucket,
    Calendar,
    OfUser,
    OfMoments,
}

const KINDS: [Kind; 6] =
    [Kind::Fixed, Kind::Sliding, Kind::Bucket, Kind::Calendar, Kind::OfUser, Kind::OfMoments];

impl Kind {
    fn limit(self) -> i64 {
        match self {
            Self::Fixed => 1_500,
            Self::Sliding => 1_200,
            Self::Bucket => 900,
            Self::Calendar => 1_000,
            Self::OfUser => USER_LIMIT,
            Self::OfMoments => 25,
        }
    }

    fn algorithm(self) -> Algorithm {
        let limit = self.limit();
        match self {
            Self::Fixed | Self::OfUser => {
                Algorithm::FixedWindow(v1::FixedWindow { limit, window_ms: YEAR_MS })
            }
            Self::OfMoments => Algorithm::FixedWindow(v1::FixedWindow { limit, window_ms: MOMENTS_MS }),
            Self::Sliding => Algorithm::SlidingWindow(v1::SlidingWindow { limit, window_ms: 12 * HOUR_MS }),
            // What is given back in a test's time is none.
            Self::Bucket => Algorithm::TokenBucket(v1::TokenBucket {
                capacity: limit,
                refill_amount: 1,
                refill_period_ms: HOUR_MS,
            }),
            Self::Calendar => Algorithm::CalendarWindow(v1::CalendarWindow {
                limit,
                period: v1::CalendarPeriod::Month.into(),
                time_zone: String::new(),
            }),
        }
    }

    fn endpoint(self) -> String {
        format!("/{self:?}")
    }

    fn rule(self) -> v1::Rule {
        let by_subject =
            v1::ScopeDimension { kind: v1::ScopeKind::Subject.into(), ..v1::ScopeDimension::default() };
        v1::Rule {
            display_name: format!("{self:?}"),
            unit: "requests".to_owned(),
            r#match: Some(v1::CallMatch { endpoints: vec![self.endpoint()], ..v1::CallMatch::default() }),
            scope: if self == Self::OfUser { vec![by_subject] } else { Vec::new() },
            algorithm: Some(self.algorithm()),
            ..v1::Rule::default()
        }
    }

    fn lease(self) -> i64 {
        self.limit() / LEASE_OF_LIMIT
    }
}

/// Whose counter: a kind, and the user where each has its own.
type Place = (Kind, i64);

/// What became of the calls on one counter.
#[derive(Clone, Debug, Default)]
struct Calls {
    allowed: i64,
    /// Calls without an answer: they may be taken.
    unanswered: i64,
}

/// All that callers know.
#[derive(Default)]
struct Ledger {
    calls: Mutex<BTreeMap<Place, Calls>>,
    /// When calls of moments were surely decided in the same window, by its number.
    moments: Mutex<BTreeMap<i64, i64>>,
    answers: AtomicUsize,
    killing: AtomicBool,
}

impl Ledger {
    fn note(&self, place: Place, note: impl FnOnce(&mut Calls)) {
        note(self.calls.lock().entry(place).or_default());
    }

    fn calls(&self, place: Place) -> Calls {
        self.calls.lock().get(&place).cloned().unwrap_or_default()
    }

    /// Waits until so many more calls were answered.
    async fn answers_rise_by(&self, more: i64) {
        let count = self.answers.load(Ordering::SeqCst) + usize::try_from(more).unwrap();
        eventually("the callers get on", async || self.answers.load(Ordering::SeqCst) >= count).await;
    }

    /// Calls until the server is killed.
    async fn call_until_killed(self: Arc<Self>, client: Clients, mut random: Random) {
        loop {
            let kind = KINDS[random.place(KINDS.len()).unwrap()];
            let user = if kind == Kind::OfUser { random.within(1..=USERS) } else { 0 };
            if let Err(status) = self.call(&client, (kind, user)).await {
                let killing = self.killing.load(Ordering::SeqCst);
                assert!(killing, "a call failed before the kill: {status}");
                return;
            }
        }
    }

    /// Calls once, and says whether it was allowed.
    async fn call(&self, client: &Clients, (kind, user): Place) -> Result<bool, tonic::Status> {
        let request = v1::CheckQuotaRequest {
            endpoint: kind.endpoint(),
            subject: format!("user-{user}"),
            ..v1::CheckQuotaRequest::default()
        };
        self.note((kind, user), |calls| calls.unanswered += 1);
        let sent = window_of_now();
        let answer = client.check(request).await?;
        let allowed = answer.decision() == v1::Decision::Allowed;
        self.note((kind, user), |calls| {
            calls.unanswered -= 1;
            calls.allowed += i64::from(allowed);
        });
        let decided =
            sent.filter(|sent| kind == Kind::OfMoments && allowed && window_of_now() == Some(*sent));
        if let Some(window) = decided {
            *self.moments.lock().entry(window).or_default() += 1;
        }
        self.answers.fetch_add(1, Ordering::SeqCst);
        Ok(allowed)
    }
}

/// The number of the moment's window, unless it is so near an edge that the server's clock may be
/// beyond it.
fn window_of_now() -> Option<i64> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let now_ms = i64::try_from(now.as_millis()).unwrap();
    let inside = EDGE_MS..MOMENTS_MS - EDGE_MS;
    inside.contains(&(now_ms % MOMENTS_MS)).then_some(now_ms / MOMENTS_MS)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_kill_gives_back_what_plain_limits_admitted() {
    let seed = first_seed();
    let _told = Told::at_start(seed);
    let kills = if std::env::var_os("RATEGUARD_SOAK_ROUNDS").is_some() { KILLS_OF_SOAK } else { KILLS };
    let mut random = Random::of(seed, 0);
    let installation = Installation::make().await;
    let mut server = installation.serve().await;
    let first = installation.administer(&server).await;
    for kind in KINDS {
        let request = v1::CreateRuleRequest { rule: Some(kind.rule()), request_id: String::new() };
        first.rules().create_rule(request).await.unwrap();
    }
    let key = first.make_key(&[v1::KeyScope::Quota]).await;
    let ledger = Arc::new(Ledger::default());
    for kill in 1..=kills {
        kill_among_callers(server, &key, &ledger, &mut random, seed.wrapping_add(kill.into())).await;
        server = installation.serve().await;
    }
    let client = server.connect(&key).await;
    use_up(&client, &ledger).await;
    assert!(server.interrupt().await.success());
    judge(&ledger, kills.into());
}

async fn kill_among_callers(server: Server, key: &str, ledger: &Arc<Ledger>, random: &mut Random, seed: u64) {
    ledger.killing.store(false, Ordering::SeqCst);
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(server.connect(key).await);
    }
    let mut calling = JoinSet::new();
    for (number, client) in (0..CALLERS).zip(connections.iter().cycle()) {
        let choices = Random::of(seed, 1 + number);
        calling.spawn(ledger.clone().call_until_killed(client.clone(), choices));
    }
    ledger.answers_rise_by(random.within(ANSWERS_BEFORE_KILL)).await;
    ledger.killing.store(true, Ordering::SeqCst);
    server.kill().await;
    calling.join_all().await;
}

/// Calls on every counter until it denies, so that what is missing was forfeited. Moments pass.
async fn use_up(client: &Clients, ledger: &Ledger) {
    for kind in KINDS.into_iter().filter(|kind| *kind != Kind::OfMoments) {
        let users = if kind == Kind::OfUser { 1..=USERS } else { 0..=0 };
        for user in users {
            while ledger.call(client, (kind, user)).await.unwrap() {}
        }
    }
}

fn judge(ledger: &Ledger, kills: i64) {
    let fullest = ledger.moments.lock().values().copied().max().unwrap_or(0);
    let limit = Kind::OfMoments.limit();
    tell(&format!("kills: {kills}; moments: at most {fullest} of {limit} admitted in a window"));
    assert!(fullest <= limit);
    for kind in KINDS.into_iter().filter(|kind| *kind != Kind::OfMoments) {
        let users = if kind == Kind::OfUser { 1..=USERS } else { 0..=0 };
        let calls: Vec<Calls> = users.map(|user| ledger.calls((kind, user))).collect();
        let most = calls.iter().map(|calls| calls.allowed).max().unwrap_or(0);
        let missing = calls.iter().map(|calls| kind.limit() - calls.allowed).sum::<i64>();
        let unanswered = calls.iter().map(|calls| calls.unanswered).sum::<i64>();
        let leases = kills * kind.lease();
        tell(&format!(
            "{kind:?}: admitted {most} of {}, forfeited {} to {missing}, kills × lease {leases}, unanswered {unanswered}",
            kind.limit(),
            (missing - unanswered).max(0),
        ));
        assert!(most <= kind.limit(), "{kind:?} admitted more than its limit");
        assert!(missing <= leases + unanswered, "{kind:?} forfeited more than its leases");
    }
}
