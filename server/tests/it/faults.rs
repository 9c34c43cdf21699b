//! Three replicas over one database and one Redis or a cluster of it, while replicas are killed and paused and
//! Redis is killed, paused and cut off: no limit that is closed or has a local share ever admits more than
//! it may, and where the counters were there it admits what it should, or nearly where the machine was too slow or its host
//! gave much of the cores to others.

mod callers;
mod failover;
mod host;
mod rules;
mod tally;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use rateguard_proto::v1;
use rateguard_test_servers::{Flow, Keeping, Proxy, RedisCluster, RedisServer};
use tokio::sync::{Mutex, watch};
use tokio::time::sleep;

use self::callers::{Callers, now_ms};
use self::host::{Cores, is_spoiled};
use self::rules::{Kind, LIMIT, REPLICAS, WINDOW_MS};
use self::tally::{Cell, Tally, window_of};
use crate::clients::{Clients, eventually, tell};
use crate::database::Database;
use crate::process::{Installation, Server};

/// What a window in which the counters were there admits at least.
const ADMITTED_PERCENT_MIN: i64 = 95;
/// The same of a window that the machine spoiled: what is lent to a caller that cannot run is admitted to nobody.
const ADMITTED_SPOILED_PERCENT_MIN: i64 = 80;
/// Callers ask for twice the limit. Where a slow machine lets them ask for hardly more than all of it, nobody asks for what
/// was lent or lost elsewhere.
const ASKED_PERCENT_MIN: i64 = 120;
/// How long decisions wait for the counters: longer than the usual 20 ms, since many processes share the cores here.
const DEADLINE_MS: u32 = 200;

/// What happens in a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weather {
    Calm,
    ReplicaKilled,
    ReplicaPaused,
    RedisPaused,
    RedisBack,
    OneCutOff,
    RedisKilled,
    /// Of a cluster a server stands still on which only spread rules count, for less than would make the others take
    /// over from it.
    NodePaused,
    /// There was no such server, and it was one on which other rules count, too.
    SharedNodePaused,
}

/// The windows of a round over one Redis, in order. A fault begins in the middle of one and lasts into the next.
const ROUND: [Weather; 9] = [
    Weather::Calm,
    Weather::ReplicaKilled,
    Weather::RedisPaused,
    Weather::RedisBack,
    Weather::OneCutOff,
    Weather::RedisBack,
    Weather::RedisKilled,
    Weather::RedisBack,
    Weather::Calm,
];

/// Those of a round over a cluster.
const CLUSTER_ROUND: [Weather; 8] = [
    Weather::Calm,
    Weather::ReplicaKilled,
    Weather::Calm,
    Weather::ReplicaPaused,
    Weather::NodePaused,
    Weather::Calm,
    Weather::ReplicaKilled,
    Weather::Calm,
];

/// How long it stands still: longer than any decision waits, and far from the two seconds after which it has failed.
const NODE_PAUSED: Duration = Duration::from_millis(600);
/// Of the decisions on counters elsewhere, at most so many are taken without them meanwhile.
const DEGRADED_ELSEWHERE_PERCENT_MAX: usize = 10;

impl Weather {
    fn name(self) -> &'static str {
        match self {
            Self::Calm => "calm",
            Self::ReplicaKilled => "replica killed",
            Self::ReplicaPaused => "replica paused",
            Self::RedisPaused => "Redis paused",
            Self::RedisBack => "Redis back",
            Self::OneCutOff => "one cut off",
            Self::RedisKilled => "Redis killed",
            Self::NodePaused => "one node paused",
            Self::SharedNodePaused => "shared one paused",
        }
    }

    /// Whether the counters of a kind answered all the time.
    fn counters_were_there(self, kind: Kind) -> bool {
        match self {
            Self::Calm | Self::ReplicaKilled | Self::ReplicaPaused => true,
            Self::NodePaused => !kind.spread,
            Self::SharedNodePaused
            | Self::RedisPaused
            | Self::RedisBack
            | Self::OneCutOff
            | Self::RedisKilled => false,
        }
    }
}

fn rounds() -> u64 {
    std::env::var("RATEGUARD_SOAK_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// Where the counters are.
enum Counters {
    Alone(RedisServer),
    Cluster(RedisCluster),
}

/// A replica, reached by callers while it runs.
struct Replica {
    installation: Installation,
    /// Its own way to the one Redis.
    proxy: Option<Proxy>,
    server: Option<Server>,
    client: watch::Sender<Option<Clients>>,
}

impl Replica {
    async fn over(counters: &Counters, installation: Installation) -> Self {
        let (installation, proxy) = match counters {
            Counters::Alone(redis) => {
                let proxy = Proxy::to(SocketAddr::from(([127, 0, 0, 1], redis.port()))).await.unwrap();
                let url = format!("redis://{}", proxy.address());
                (installation.with_counters_in(&url, DEADLINE_MS), Some(proxy))
            }
            Counters::Cluster(cluster) => {
                (installation.with_counters_in_cluster(&cluster.urls(), DEADLINE_MS), None)
            }
        };
        let server = Some(installation.serve().await);
        Self { installation, proxy, server, client: watch::channel(None).0 }
    }

    fn flow(&self, flow: Flow) {
        self.proxy.as_ref().unwrap().set(flow);
    }

    fn server(&self) -> &Server {
        self.server.as_ref().unwrap()
    }

    async fn let_in(&self, key: &str) {
        self.client.send_replace(Some(self.server().connect(key).await));
    }

    async fn kill(&mut self) {
        self.server.take().unwrap().kill().await;
    }

    async fn start_again(&mut self, key: &str) {
        self.server = Some(self.installation.serve().await);
        self.let_in(key).await;
    }
}

struct Scene {
    counters: Counters,
    _database: Database,
    replicas: Vec<Replica>,
    key: String,
    /// When a node of a cluster stood still.
    node_paused_ms: Range<i64>,
}

impl Scene {
    async fn set(counters: Counters, kinds: &[Kind]) -> Self {
        let database = Database::shared().await;
        let first = Installation::make_on(&database.url).await;
        let others: Vec<Installation> = (1..REPLICAS).map(|_| first.replica(&database.url)).collect();
        let mut replicas = Vec::new();
        for installation in std::iter::once(first).chain(others) {
            replicas.push(Replica::over(&counters, installation).await);
        }
        let manager = replicas[0].installation.administer(replicas[0].server()).await;
        for kind in kinds {
            kind.make(&manager).await;
        }
        let key = manager.make_key(&[v1::KeyScope::Quota]).await;
        for replica in &replicas {
            let client = replica.server().connect(&key).await;
            eventually("the replica knows the key and the last rule", async || {
                let subject = kinds.last().unwrap().subject();
                let request = v1::GetQuotaRequest { subject, ..Default::default() };
                let answer = client.quota().get_quota(request).await;
                answer.is_ok_and(|answer| !answer.into_inner().limits.is_empty())
            })
            .await;
            replica.let_in(&key).await;
        }
        Self { counters, _database: database, replicas, key, node_paused_ms: 0..0 }
    }

    /// Makes the weather of a window, from its beginning to its end. Says what it was.
    async fn live_through(&mut self, weather: Weather, window: i64) -> Weather {
        let mut lived = weather;
        let middle_ms = window * WINDOW_MS + WINDOW_MS / 2;
        match weather {
            Weather::Calm => {}
            Weather::ReplicaKilled => {
                until_ms(window * WINDOW_MS + WINDOW_MS / 4).await;
                let key = self.key.clone();
                self.replicas[1].kill().await;
                self.replicas[1].start_again(&key).await;
            }
            Weather::ReplicaPaused => {
                until_ms(window * WINDOW_MS + WINDOW_MS / 4).await;
                self.replicas[1].server().signal("STOP").await;
                until_ms(middle_ms).await;
                self.replicas[1].server().signal("CONT").await;
            }
            Weather::RedisPaused => {
                until_ms(middle_ms).await;
                self.redis().pause().unwrap();
            }
            Weather::OneCutOff => {
                until_ms(middle_ms).await;
                self.replicas[2].flow(Flow::BlackHole);
            }
            Weather::RedisKilled => {
                until_ms(middle_ms).await;
                self.redis().kill().await.unwrap();
            }
            Weather::RedisBack => {
                until_ms(middle_ms).await;
                self.redis_comes_back().await;
            }
            Weather::NodePaused | Weather::SharedNodePaused => {
                until_ms(window * WINDOW_MS + WINDOW_MS / 4).await;
                lived = self.pause_a_node().await;
            }
        }
        until_ms((window + 1) * WINDOW_MS).await;
        lived
    }

    fn redis(&self) -> &RedisServer {
        match &self.counters {
            Counters::Alone(redis) => redis,
            Counters::Cluster(_) => panic!("a round over a cluster has no faults of one Redis"),
        }
    }

    fn cluster(&self) -> &RedisCluster {
        match &self.counters {
            Counters::Cluster(cluster) => cluster,
            Counters::Alone(_) => panic!("one Redis has no nodes"),
        }
    }

    /// One of the nodes on which spread rules count stands still for a while, if there is one where nothing else is
    /// counted.
    async fn pause_a_node(&mut self) -> Weather {
        let cluster = self.cluster();
        let keys = cluster.keys().await.unwrap();
        let (mut shards, mut others) = (BTreeSet::new(), BTreeSet::new());
        for key in keys.iter().filter(|key| key.ends_with("}:c")) {
            // One that expires meanwhile has no leader any more.
            let leads = if key.contains("shard") { &mut shards } else { &mut others };
            leads.extend(cluster.leader_of(key).await.ok());
        }
        let alone = shards.difference(&others).next();
        let node = *alone.or(shards.first()).expect("spread rules count somewhere");
        let began_ms = now_ms();
        cluster.pause(node).unwrap();
        sleep(NODE_PAUSED).await;
        cluster.resume(node).unwrap();
        self.node_paused_ms = began_ms..now_ms();
        if alone.is_some() { Weather::NodePaused } else { Weather::SharedNodePaused }
    }

    /// Ends whatever stands between the replicas and Redis.
    async fn redis_comes_back(&self) {
        self.redis().resume().ok();
        if self.redis().ask(&["PING"]).await.is_err() {
            self.redis().start_again().await.unwrap();
        }
        for replica in &self.replicas {
            replica.flow(Flow::Pass);
        }
    }

    async fn stop(self) {
        for mut replica in self.replicas {
            assert!(replica.server.take().unwrap().interrupt().await.success());
        }
    }
}

/// Waits for an instant of the clock, which the windows go by.
async fn until_ms(at_ms: i64) {
    while let Ok(left_ms) = u64::try_from(at_ms - now_ms())
        && left_ms > 0
    {
        sleep(Duration::from_millis(left_ms)).await;
    }
}

/// Rounds take turns: each needs the machine for its own callers.
static TURN: Mutex<()> = Mutex::const_new(());

/// A window of a round.
struct Lived {
    window: i64,
    weather: Weather,
    /// Whether calls failed with a replica that was killed in it, or at the end of the one before.
    follows_a_kill: bool,
    /// What the host gave to others meanwhile.
    stolen_percent: u64,
}

impl Lived {
    /// Whether it says little of how much this rule admits.
    fn is_spoiled_for(&self, cell: &Cell) -> bool {
        is_spoiled(self.stolen_percent) || cell.asked_percent() < ASKED_PERCENT_MIN
    }

    /// What its rules did whose counters were there.
    fn judged<'k>(&self, tally: &Tally, kinds: &'k [Kind]) -> impl Iterator<Item = (&'k Kind, Cell)> {
        let there = kinds.iter().filter(|kind| self.weather.counters_were_there(**kind));
        there.map(|kind| (kind, tally.cell(*kind, self.window)))
    }
}

/// Windows in which the counters were there.
#[derive(Clone, Copy, Debug, Default)]
struct Judged {
    /// Held to all that is to be admitted.
    whole: usize,
    /// Held to less, since the machine spoiled them.
    spoiled: usize,
    /// Of the whole ones, those in which a node with spread rules alone stood still.
    node_paused: usize,
}

impl Judged {
    /// One round is held to what it can show. Many have to show most of their windows, and a node's pause, which chance
    /// makes in eight rounds of nine.
    fn says_enough(self, round: &[Weather]) {
        tell(&format!("{self:?}"));
        let is_lacking = round.contains(&Weather::NodePaused) && self.node_paused == 0;
        let is_enough = self.spoiled < self.whole && !is_lacking;
        assert!(rounds() == 1 || is_enough, "the rounds show too little: {self:?}");
    }

    fn and(self, other: Self) -> Self {
        Self {
            whole: self.whole + other.whole,
            spoiled: self.spoiled + other.spoiled,
            node_paused: self.node_paused + other.node_paused,
        }
    }
}

async fn one_round(counters: Counters, round: &[Weather]) -> Judged {
    let tally = Tally::default();
    let kinds = match counters {
        Counters::Alone(_) => Kind::all(),
        Counters::Cluster(_) => Kind::all_of_a_cluster(),
    };
    let mut scene = Scene::set(counters, &kinds).await;
    let ways: Vec<_> = scene.replicas.iter().map(|replica| replica.client.subscribe()).collect();
    let callers = Callers::start(&kinds, &ways, &tally);
    // The first whole window is the first that counts.
    let first = window_of(now_ms()) + 1;
    until_ms(first * WINDOW_MS).await;
    let mut round_lived: Vec<Lived> = Vec::new();
    for (window, weather) in (first..).zip(round) {
        let began = Cores::now();
        let weather = scene.live_through(*weather, window).await;
        let stolen_percent = Cores::now().stolen_percent_since(began);
        let before = round_lived.last().map(|lived| lived.weather);
        let follows_a_kill = [Some(weather), before].contains(&Some(Weather::ReplicaKilled));
        round_lived.push(Lived { window, weather, follows_a_kill, stolen_percent });
    }
    callers.stop().await;
    let named: Vec<_> = round_lived.iter().map(|lived| (lived.window, lived.weather.name())).collect();
    let stolen: Vec<u64> = round_lived.iter().map(|lived| lived.stolen_percent).collect();
    let least_asked = |lived: &Lived| {
        let asked = lived.judged(&tally, &kinds).map(|(_, cell)| cell.asked_percent());
        asked.min().map_or("-".to_owned(), |percent| percent.to_string())
    };
    let asked: Vec<String> = round_lived.iter().map(least_asked).collect();
    let table = format!(
        "{}\nwhat the host gave to others: {stolen:?} percent; least that callers asked of a judged rule: {} percent",
        tally.table(&kinds, &named),
        asked.join(", ")
    );
    tell(&table);
    let mut judged = Judged::default();
    for lived in &round_lived {
        for kind in &kinds {
            admits_no_more(&tally, *kind, lived, &table);
        }
        if lived.judged(&tally, &kinds).next().is_none() {
            continue;
        }
        admits_what_it_should(&tally, &kinds, lived, &table);
        if lived.judged(&tally, &kinds).any(|(_, cell)| lived.is_spoiled_for(&cell)) {
            judged.spoiled += 1;
            continue;
        }
        judged.whole += 1;
        if lived.weather == Weather::NodePaused {
            judged.node_paused += 1;
            only_spread_rules_missed_their_counters(&tally, &kinds, &scene.node_paused_ms, &table);
        }
    }
    scene.stop().await;
    judged
}

fn admits_no_more(tally: &Tally, kind: Kind, Lived { window, weather, .. }: &Lived, table: &str) {
    let Cell { admitted, admitted_untold, let_through, .. } = tally.cell(kind, *window);
    if kind.is_bounded() {
        let all = admitted + admitted_untold;
        assert!(all <= LIMIT, "{kind} admitted {all} of {LIMIT}: {weather:?}\n{table}");
        assert_eq!(let_through, 0, "{kind} let calls through that nobody counted: {weather:?}\n{table}");
    }
}

fn admits_what_it_should(tally: &Tally, kinds: &[Kind], lived: &Lived, table: &str) {
    for (kind, cell) in lived.judged(tally, kinds) {
        let is_spoiled = lived.is_spoiled_for(&cell);
        let percent_min = if is_spoiled { ADMITTED_SPOILED_PERCENT_MIN } else { ADMITTED_PERCENT_MIN };
        // What failed with a replica could be asked by no other then.
        let due = cell.due(is_spoiled && lived.follows_a_kill);
        let all = cell.admitted + cell.admitted_untold;
        let enough = all * 100 >= due * percent_min;
        assert!(enough, "{kind} admitted only {all} of {due}: {:?}\n{table}", lived.weather);
    }
}

fn only_spread_rules_missed_their_counters(
    tally: &Tally,
    kinds: &[Kind],
    paused_ms: &Range<i64>,
    table: &str,
) {
    for kind in kinds.iter().filter(|kind| !kind.spread) {
        let (decided, degraded) = tally.decided_in(*kind, paused_ms);
        let is_little = decided > 0 && degraded * 100 <= decided * DEGRADED_ELSEWHERE_PERCENT_MAX;
        assert!(is_little, "{kind} was decided without its counters {degraded} times of {decided}\n{table}");
    }
    let mut spread = kinds.iter().filter(|kind| kind.spread);
    assert!(spread.any(|kind| tally.decided_in(*kind, paused_ms).1 > 0), "nobody missed the node\n{table}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_fault_lets_a_bounded_limit_admit_more_than_it_may() {
    let _turn = TURN.lock().await;
    let mut judged = Judged::default();
    for _ in 0..rounds() {
        let redis = RedisServer::start(Keeping::Writes).await.unwrap();
        judged = judged.and(one_round(Counters::Alone(redis), &ROUND).await);
    }
    judged.says_enough(&ROUND);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_a_cluster_no_fault_of_a_replica_lets_a_limit_admit_more_than_it_may() {
    let _turn = TURN.lock().await;
    let mut judged = Judged::default();
    for _ in 0..rounds() {
        let cluster = RedisCluster::start().await.unwrap();
        judged = judged.and(one_round(Counters::Cluster(cluster), &CLUSTER_ROUND).await);
    }
    judged.says_enough(&CLUSTER_ROUND);
}
