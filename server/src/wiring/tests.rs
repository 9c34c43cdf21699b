//! What a start makes of files that are missing and of another encryption key.

use std::path::Path;

use rateguard_core::amounts::Amounts;
use rateguard_core::ids::{ApiId, BudgetId, DisplayName, EventId, KeyId, WorkspaceId};
use rateguard_core::matching::{Dimension, Glob, Match, OnMissing, Scope};
use rateguard_core::money::{Currency, Nanos};
use rateguard_core::rule::{Budget, BudgetPeriod, Enforcement};
use rateguard_core::time::{CalendarPeriod, Millis, Zone};
use rateguard_core::usage::{CallOutcome, Exactness, TokenCounts};
use rateguard_engine::audit::Deed;
use rateguard_engine::caller::Caller;
use rateguard_engine::people::EmailAddress;
use rateguard_engine::report::{RecordOutcome, UsageRecord};
use rateguard_engine::resources::{Api, Workspace};
use rateguard_engine::secrets::SecretText;
use tempfile::TempDir;

use super::*;
use crate::running::Running;
use crate::setup::{FirstWorkspace, install};
use crate::testing::plain_api;

const BUDGET_NANOS: i64 = 1_000_000;

/// An installation, and the server on it while it runs.
struct World {
    folder: TempDir,
    secret: String,
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let name = DisplayName::parse("workspace", "tests").unwrap();
        let owner = EmailAddress::parse("owner", "owner@example.com").unwrap();
        let first = FirstWorkspace { name, zone: Zone::UTC, currency: Currency::USD, owner };
        let installed = install(&config(folder.path()), first).await.unwrap();
        Self { folder, secret: installed.secret.expose().to_owned() }
    }

    async fn start(&self) -> anyhow::Result<Running> {
        Running::start(&config(self.folder.path())).await
    }

    async fn refusal(&self) -> String {
        match self.start().await {
            Ok(_) => panic!("the start was not refused"),
            Err(error) => format!("{error:#}"),
        }
    }

    fn caller(&self, engine: &Engine) -> Caller {
        engine.authenticator().by_key(&self.secret, engine.now()).unwrap()
    }

    fn remove(&self, file: &str) {
        for suffix in ["", "-wal", "-shm"] {
            let path = self.folder.path().join(format!("{file}{suffix}"));
            if path.exists() {
                std::fs::remove_file(path).unwrap();
            }
        }
    }

    async fn spent(&self, engine: &Engine, budget: &Budget) -> i128 {
        engine.budget_standing(&self.caller(engine).into(), budget).await.unwrap().unwrap().reading.used
    }

    /// Reports calls of a given cost each.
    async fn report(&self, engine: &Engine, name: &str, calls: i64, nanos: i64) {
        let records = (0..calls).map(|call| record(&format!("{name}-{call}"), nanos)).collect();
        let outcomes = engine.report(&self.caller(engine), records).await.unwrap();
        assert!(outcomes.iter().all(|o| !matches!(o, RecordOutcome::Rejected { .. })), "{outcomes:?}");
    }

    async fn make(&self, engine: &Engine, budget: Budget) -> Budget {
        let stored = engine.create(&self.caller(engine).into(), Resource::Budget(budget)).await.unwrap();
        budget_of(stored.value)
    }
}

fn budget_of(resource: Resource) -> Budget {
    let Resource::Budget(budget) = resource else { panic!("{resource:?} is no budget") };
    budget
}

fn config(folder: &Path) -> Config {
    let flags = [("data.folder", folder.display().to_string()), ("server.listen", "127.0.0.1:0".to_owned())];
    Config::load(None, &[], &flags).unwrap()
}

fn budget(id: &str, period: BudgetPeriod) -> Budget {
    Budget {
        id: BudgetId::parse("id", id).unwrap(),
        name: DisplayName::parse("display_name", id).unwrap(),
        matches: Match::default(),
        scope: Scope::default(),
        amount: Nanos::parse("amount", BUDGET_NANOS).unwrap(),
        period,
        enforcement: Enforcement::Enforced,
        active: true,
        topped_up: Nanos::ZERO,
        opened_after: None,
    }
}

fn monthly() -> BudgetPeriod {
    BudgetPeriod::Calendar { period: CalendarPeriod::Month, zone: None }
}

fn record(event_id: &str, nanos: i64) -> UsageRecord {
    UsageRecord {
        event_id: EventId::parse("event_id", event_id).unwrap(),
        occurred_at: None,
        request_id: None,
        reservation: None,
        attempt: 1,
        is_final: true,
        api: String::new(),
        endpoint: String::new(),
        method: String::new(),
        subject: "acme".to_owned(),
        model: String::new(),
        service_tier: String::new(),
        outcome: CallOutcome { status_code: 200, ..CallOutcome::default() },
        tokens: TokenCounts::default(),
        amounts: Amounts::default(),
        cost: Some(Nanos::parse("cost", nanos).unwrap()),
        price: None,
        dimensions: Vec::new(),
        exactness: Exactness::Exact,
        already_consumed: Vec::new(),
        ip: None,
    }
}

#[tokio::test]
async fn a_server_does_not_begin_in_a_folder_without_an_installation() {
    let parent = tempfile::tempdir().unwrap();
    let wrong = parent.path().join("wrong");
    let refused = Running::start(&config(&wrong)).await.map(drop).unwrap_err().to_string();
    assert!(refused.contains("holds no installation") && refused.contains("rateguard init"), "{refused}");
    assert!(!wrong.exists());
}

/// Prepaid budgets have seen what came after them, calendar ones their period: also after their
/// counters were lost.
#[tokio::test]
async fn lost_counters_are_counted_again_exactly() {
    let world = World::new().await;
    let running = world.start().await.unwrap();
    let engine = running.engine.clone();
    world.report(&engine, "before", 5, 100).await;
    let month = world.make(&engine, budget("bud_month", monthly())).await;
    let first = world.make(&engine, budget("bud_first", BudgetPeriod::Prepaid)).await;
    world.report(&engine, "between", 7, 10).await;
    let second = world.make(&engine, budget("bud_second", BudgetPeriod::Prepaid)).await;
    let scope = Scope { dimensions: vec![Dimension::Subject], on_missing: OnMissing::Shared };
    let scoped = world.make(&engine, Budget { scope, ..budget("bud_scoped", BudgetPeriod::Prepaid) }).await;
    world.report(&engine, "after", 3, 1).await;
    let expected = [(&month, 573), (&first, 73), (&second, 3)];
    for (budget, spent) in expected {
        assert_eq!(world.spent(&engine, budget).await, spent, "{}", budget.id);
    }
    drop(engine);
    running.stop().await.unwrap();
    world.remove("counters.db");

    for round in 0..2 {
        let running = world.start().await.unwrap();
        let engine = running.engine.clone();
        for (budget, spent) in expected {
            assert_eq!(world.spent(&engine, budget).await, spent, "{} in round {round}", budget.id);
        }
        assert!(scoped.opened_after.is_some());
        drop(engine);
        running.stop().await.unwrap();
    }
}

/// Counters that are missing while Redis counts are missing still when it does no more.
#[tokio::test]
async fn what_was_spent_is_counted_again_after_redis_counted() {
    let world = World::new().await;
    let running = world.start().await.unwrap();
    let engine = running.engine.clone();
    let prepaid = world.make(&engine, budget("bud_prepaid", BudgetPeriod::Prepaid)).await;
    let month = world.make(&engine, budget("bud_month", monthly())).await;
    world.report(&engine, "spent", 5, 100).await;
    drop(engine);
    running.stop().await.unwrap();
    world.remove("counters.db");
    let urls = world.folder.path().join("redis-urls");
    keyfile::create(&urls, "redis://redis.invalid").unwrap();
    let flags = [
        ("data.folder", world.folder.path().display().to_string()),
        ("stores.redis.topology", "single".to_owned()),
        ("stores.redis.urls_file", urls.display().to_string()),
    ];
    let with_redis = Config::load(None, &[], &flags).unwrap();
    for _ in 0..2 {
        OpenStores::open(&with_redis, Opening::Existing, Recount::Exact).await.unwrap().close().await;
    }
    let running = world.start().await.unwrap();
    let engine = running.engine.clone();
    for budget in [&prepaid, &month] {
        assert_eq!(world.spent(&engine, budget).await, 500, "{}", budget.id);
    }
    drop(engine);
    running.stop().await.unwrap();
}

/// Whatever a budget matches by, and whether sums or events give it: what its period has seen.
#[tokio::test]
async fn a_new_budget_begins_with_what_its_period_has_seen_whatever_it_matches_by() {
    let world = World::new().await;
    let running = world.start().await.unwrap();
    let engine = running.engine.clone();
    let caller = world.caller(&engine);
    let mut records = Vec::new();
    for call in 0..60_i64 {
        let mut one = record(&format!("call-{call}"), 1 << (call % 12));
        one.subject = ["acme", "globex"][usize::from(call % 2 == 0)].to_owned();
        one.model = ["large-1", "large-2", "small"][usize::try_from(call % 3).unwrap()].to_owned();
        one.endpoint = ["/v1/chat", "/v1/embed"][usize::from(call % 5 == 0)].to_owned();
        one.method = ["GET", "POST"][usize::from(call % 4 == 0)].to_owned();
        records.push(one);
    }
    engine.report(&caller, records.clone()).await.unwrap();
    let glob = |text: &str| vec![Glob::parse("glob", text).unwrap()];
    let any = Match::default;
    type Counts = fn(&UsageRecord) -> bool;
    let cases: [(&str, Match, Counts); 7] = [
        ("bud_all", any(), |_| true),
        ("bud_subject", Match { subjects: vec!["acme".to_owned()], ..any() }, |r| r.subject == "acme"),
        ("bud_models", Match { models: glob("large-*"), ..any() }, |r| r.model != "small"),
        ("bud_endpoint", Match { endpoints: glob("/v1/chat"), ..any() }, |r| r.endpoint == "/v1/chat"),
        ("bud_key", Match { keys: vec![caller_key(&engine, &world)], ..any() }, |_| true),
        ("bud_method", Match { methods: vec!["post".to_owned()], ..any() }, |r| r.method == "POST"),
        ("bud_two", Match { subjects: vec!["acme".to_owned()], models: glob("small"), ..any() }, |r| {
            r.subject == "acme" && r.model == "small"
        }),
    ];
    for (id, matches, counts) in cases {
        let made = world.make(&engine, Budget { matches, ..budget(id, monthly()) }).await;
        let counted = records.iter().filter(|record| counts(record));
        let expected: i128 =
            counted.filter_map(|record| record.cost).map(|cost| i128::from(cost.get())).sum();
        assert_eq!(world.spent(&engine, &made).await, expected, "{id}");
        assert!(expected > 0);
    }
    drop(engine);
    running.stop().await.unwrap();
}

fn caller_key(engine: &Engine, world: &World) -> KeyId {
    world.caller(engine).key.id.clone()
}

#[tokio::test]
async fn a_prepaid_budget_that_was_changed_needs_its_counters_or_somebodys_word() {
    let world = World::new().await;
    let running = world.start().await.unwrap();
    let engine = running.engine.clone();
    let prepaid = world.make(&engine, budget("bud_changed", BudgetPeriod::Prepaid)).await;
    world.report(&engine, "one", 4, 25).await;
    let raised = Budget { amount: Nanos::parse("amount", 2 * BUDGET_NANOS).unwrap(), ..prepaid };
    let updated = engine.update(&world.caller(&engine).into(), Resource::Budget(raised), 2).await.unwrap();
    let raised = budget_of(updated.stored.value);
    drop(engine);
    running.stop().await.unwrap();
    world.remove("counters.db");

    for _ in 0..2 {
        let refused = world.refusal().await;
        assert!(refused.contains("counters.db is missing or empty"), "{refused}");
        assert!(refused.contains("bud_changed") && refused.contains("--recount-budgets"), "{refused}");
    }
    let config = config(world.folder.path());
    let running = Running::start_recounting(&config, Recount::AsTheyStand).await.unwrap();
    assert_eq!(world.spent(&running.engine, &raised).await, 100);
    running.stop().await.unwrap();
    world.start().await.unwrap().stop().await.unwrap();
}

#[tokio::test]
async fn a_missing_configuration_or_log_is_told_by_its_name() {
    for file in ["config.db", "events.db"] {
        let world = World::new().await;
        let running = world.start().await.unwrap();
        world.report(&running.engine.clone(), "one", 2, 5).await;
        running.stop().await.unwrap();
        world.remove(file);
        let refused = world.refusal().await;
        assert!(refused.contains(&format!("{file} is missing or empty")), "{refused}");
    }
}

#[tokio::test]
async fn a_wrong_encryption_key_is_told_at_the_start() {
    let world = World::new().await;
    world.start().await.unwrap().stop().await.unwrap();
    let file = config(world.folder.path()).encryption_key_file();
    let right = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    let refused = world.refusal().await;
    assert!(refused.contains("encryption.key; restore it from a backup"), "{refused}");
    keyfile::create_encryption_key(&file).unwrap();
    let refused = world.refusal().await;
    assert!(refused.contains("encryption.key holds another key"), "{refused}");
    std::fs::write(&file, right).unwrap();
    world.start().await.unwrap().stop().await.unwrap();
}

/// An installation of a version that kept neither marks nor a check tells a wrong key by what is
/// sealed, and takes the right one.
#[tokio::test]
async fn a_wrong_key_is_told_by_what_it_cannot_open_where_nothing_else_tells_it() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let data_folder = DataFolder::open(folder.path()).unwrap();
    let log = SqlEventLog::open(&data_folder).await.unwrap();
    let store = SqlConfigStore::open(&data_folder, &log).await.unwrap();
    SqlUsageStore::open(&data_folder, &log).await.unwrap().close().await;
    SqlCheckpointStore::open(&data_folder).await.unwrap().close().await;
    let file = config.encryption_key_file();
    keyfile::create_encryption_key(&file).unwrap();
    seal_something(&store, &keyfile::read_encryption_key(&file).unwrap()).await;
    store.close().await;
    log.close().await;
    drop((store, log, data_folder));

    let right = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    keyfile::create_encryption_key(&file).unwrap();
    for _ in 0..2 {
        let refused = Running::start(&config).await.map(drop).unwrap_err().to_string();
        assert!(refused.contains("holds another key"), "{refused}");
    }
    std::fs::write(&file, right).unwrap();
    for _ in 0..2 {
        Running::start(&config).await.unwrap().stop().await.unwrap();
    }
}

async fn seal_something(store: &SqlConfigStore, cipher: &CredentialCipher) {
    let id = WorkspaceId::parse("id", "ws_old").unwrap();
    let name = DisplayName::parse("name", "old").unwrap();
    let workspace = Workspace { id: id.clone(), name, zone: Zone::UTC, currency: Currency::USD };
    let deed = Deed::of_server("Test", Millis::ZERO);
    store.create_workspace(workspace, &deed).await.unwrap();
    let mut api = api();
    api.credential = Some(cipher.seal(&id, &api.id, &SecretText::new("upstream".to_owned())).unwrap());
    store.insert(&id, Resource::Api(api), 1, &deed).await.unwrap();
}

fn api() -> Api {
    plain_api(ApiId::parse("id", "api_old").unwrap(), "old")
}
