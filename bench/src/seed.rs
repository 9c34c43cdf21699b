//! What the measured workspace holds: an API, a key, and three limits that never deny.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use rateguard_core::counter::{Position, Refill};
use rateguard_core::descriptor::DOMAIN_ATTRIBUTE;
use rateguard_core::ids::{ApiId, BudgetId, DisplayName, RuleId, Slug, WorkspaceId};
use rateguard_core::matching::{Dimension, Glob, Match, OnMissing, Scope as CounterScope};
use rateguard_core::money::{Currency, Nanos};
use rateguard_core::pricing::UnknownPricePolicy;
use rateguard_core::rule::{Algorithm, Budget, BudgetPeriod, Consistency, Enforcement, Rule, RulePolicies};
use rateguard_core::time::{CalendarPeriod, Zone};
use rateguard_core::unit::Unit;
use rateguard_engine::audit::Deed;
use rateguard_engine::clock::{Clock, SystemClock};
use rateguard_engine::manage::{KEYS_PER_WORKSPACE_MAX, equip};
use rateguard_engine::ports::{ConfigStore, Resource, ResourceChange};
use rateguard_engine::resources::{Api, AuthScheme, Dialect, Key, Scope, Workspace};
use rateguard_engine::secrets::random;
use rateguard_store_sql::{DataFolder, SqlConfigStore, SqlEventLog};

use crate::process::server_program;

/// The API's name in calls.
pub const API: &str = "bench";
/// Limits of [`Limits::Usual`], all of which match.
pub const RULES_MATCHING: usize = 3;
/// Subjects that calls are made for.
pub const SUBJECTS: u64 = 10_000;
/// The model that calls ask for; it has a list price.
pub const MODEL: &str = "gpt-4o-mini";

/// The limit by which it is counted how many calls pass.
pub const ADMITTED_MAX: i64 = 25_000;
/// The domain of descriptors.
pub const DOMAIN: &str = "bench";

/// Above what a run uses, so that every call passes, in Redis: its scripts reckon with doubles as long as
/// nothing exceeds 2^53, and limits of a size that people have stay below.
pub const SHARED_REQUESTS_MAX: i64 = 1_000_000;
/// Far above what a run uses.
const REQUESTS_MAX: i64 = 1_000_000_000;
const WINDOW_MS: i64 = 60_000;
const DAY_MS: i64 = 24 * 60 * 60 * 1_000;
const MONTH_NANOS: i64 = 1_000_000_000_000_000;
const RESOURCES_MAX: usize = 1_001;
const TIMEOUT_MS: i64 = 60_000;
/// Resources that are written in one transaction.
const WRITTEN_AT_ONCE: usize = 500;
/// Nobody else changes what is being made.
const SEEN_ALL: u64 = i64::MAX.unsigned_abs();

/// Which limits a workspace has.
#[derive(Clone, Copy, Debug)]
pub enum Limits {
    /// A token bucket of the key, a sliding minute of each subject, a month's budget of the workspace.
    Usual,
    /// The same with a fixed minute.
    Strict,
    /// A token bucket of the key and a day of each subject with this limit, both by leases.
    Leased {
        /// Requests of a subject in a day.
        limit: i64,
    },
    /// The usual ones among so many rules for other endpoints.
    Among {
        /// How many.
        others: usize,
    },
    /// A day of each subject.
    Daily,
    /// A minute for each value of `user` and a day of [`ADMITTED_MAX`] for each of `counted`, as a proxy
    /// tells them.
    Descriptors {
        /// By which counters it is decided.
        consistency: Consistency,
    },
}

/// Makes an installation in an empty folder and fills it; gives the key's secret.
///
/// # Errors
/// When it cannot be written.
pub fn install(folder: &Path, limits: Limits) -> anyhow::Result<String> {
    let mut command = Command::new(server_program()?);
    let made = command.args(["init", "--data-dir"]).arg(folder).stdout(Stdio::null()).status()?;
    ensure!(made.success(), "rateguard init failed");
    crate::load::runtime()?.block_on(fill(folder, limits))
}

async fn fill(folder: &Path, limits: Limits) -> anyhow::Result<String> {
    let folder = DataFolder::open(folder)?;
    let log = SqlEventLog::open(&folder).await?;
    let store = SqlConfigStore::open(&folder, &log).await?;
    let workspaces = store.snapshot().await?.workspaces;
    let workspace = workspaces.into_iter().next().context("init makes a workspace")?.id;
    let (key, secret) = equip(key()?)?;
    let mut resources = vec![Resource::Key(key), Resource::Api(api()?)];
    resources.extend(limits.resources()?);
    for resource in resources {
        insert(&store, &workspace, resource).await?;
    }
    store.close().await;
    log.close().await;
    Ok(secret.expose().to_owned())
}

/// Makes an installation of so many workspaces with the usual limits, each with so many keys; gives these.
///
/// # Errors
/// When it cannot be written.
pub fn install_many(folder: &Path, workspaces: usize, keys_each: usize) -> anyhow::Result<Vec<String>> {
    install(folder, Limits::Usual)?;
    crate::load::runtime()?.block_on(fill_many(folder, workspaces, keys_each))
}

async fn fill_many(folder: &Path, workspaces: usize, keys_each: usize) -> anyhow::Result<Vec<String>> {
    let folder = DataFolder::open(folder)?;
    let log = SqlEventLog::open(&folder).await?;
    let store = SqlConfigStore::open(&folder, &log).await?;
    let deed = Deed::of_server("Benchmark", SystemClock::default().now());
    let mut secrets = Vec::with_capacity(workspaces * keys_each);
    for _ in 0..workspaces {
        let id = WorkspaceId::from_random(random()?);
        let (zone, currency) = (Zone::UTC, Currency::USD);
        let workspace = Workspace { id: id.clone(), name: name("one of many")?, zone, currency };
        store.create_workspace(workspace, &deed).await?;
        let mut resources = vec![Resource::Api(api()?)];
        resources.extend(Limits::Usual.resources()?);
        for _ in 0..keys_each {
            let (key, secret) = equip(key()?)?;
            secrets.push(secret.expose().to_owned());
            resources.push(Resource::Key(key));
        }
        for some in resources.chunks(WRITTEN_AT_ONCE) {
            let made = some.iter().cloned().map(made).collect();
            store.apply_all(&id, made, SEEN_ALL, &deed).await?;
        }
    }
    store.close().await;
    log.close().await;
    Ok(secrets)
}

fn made(resource: Resource) -> ResourceChange {
    ResourceChange::Insert { resource, limit: KEYS_PER_WORKSPACE_MAX }
}

async fn insert(store: &SqlConfigStore, workspace: &WorkspaceId, resource: Resource) -> anyhow::Result<()> {
    let deed = Deed::of_server("Benchmark", SystemClock::default().now());
    store.insert(workspace, resource, RESOURCES_MAX, &deed).await?;
    Ok(())
}

fn name(text: &str) -> anyhow::Result<DisplayName> {
    Ok(DisplayName::parse("display_name", text)?)
}

fn key() -> anyhow::Result<Key> {
    Ok(Key::plain(name("benchmarks")?, [Scope::Quota, Scope::Usage].into_iter().collect()))
}

fn api() -> anyhow::Result<Api> {
    Ok(Api {
        id: ApiId::from_random(random()?),
        slug: Slug::parse("slug", API)?,
        display_name: name("benchmarks")?,
        base_url: "https://upstream.invalid".to_owned(),
        dialect: Dialect::OpenAi,
        auth: AuthScheme::None,
        credential: None,
        credential_reference: None,
        timeout_ms: TIMEOUT_MS,
        allow_private_upstream: false,
        price_per_request: None,
        unknown_price: UnknownPricePolicy::default(),
        output_tokens_default: None,
        show_spend: true,
        active: true,
    })
}

impl Limits {
    fn resources(self) -> anyhow::Result<Vec<Resource>> {
        let minute = Algorithm::FixedWindow { limit: SHARED_REQUESTS_MAX, window_ms: WINDOW_MS };
        Ok(match self {
            Self::Usual => {
                let window = Algorithm::SlidingWindow { limit: REQUESTS_MAX, window_ms: WINDOW_MS };
                vec![of_key(REQUESTS_MAX)?, of_subject(window)?, Resource::Budget(month()?)]
            }
            Self::Among { others } => {
                let mut all = Self::Usual.resources()?;
                for number in 0..others {
                    all.push(elsewhere(number)?);
                }
                all
            }
            Self::Daily => {
                vec![of_subject(Algorithm::FixedWindow { limit: REQUESTS_MAX, window_ms: DAY_MS })?]
            }
            Self::Strict => {
                vec![of_key(SHARED_REQUESTS_MAX)?, of_subject(minute)?, Resource::Budget(month()?)]
            }
            Self::Leased { limit } => {
                let day = Algorithm::FixedWindow { limit, window_ms: DAY_MS };
                vec![leased(of_key(SHARED_REQUESTS_MAX)?), leased(of_subject(day)?)]
            }
            Self::Descriptors { consistency } => {
                let small = Algorithm::FixedWindow { limit: ADMITTED_MAX, window_ms: DAY_MS };
                let rules = [of_descriptor("/user=*", minute)?, of_descriptor("/counted=*", small)?];
                rules
                    .into_iter()
                    .map(|rule| if consistency == Consistency::Leased { leased(rule) } else { rule })
                    .collect()
            }
        })
    }
}

fn leased(rule: Resource) -> Resource {
    match rule {
        Resource::Rule(mut rule) => {
            rule.policies.consistency = Consistency::Leased;
            Resource::Rule(rule)
        }
        other => other,
    }
}

/// So many at once, and as many again each second.
fn of_key(requests: i64) -> anyhow::Result<Resource> {
    let refill = Refill::new(requests, 1_000, requests)?;
    let bucket = Algorithm::TokenBucket { capacity: requests, refill };
    Ok(Resource::Rule(rule("requests of a key", Dimension::Key, bucket)?))
}

fn of_subject(algorithm: Algorithm) -> anyhow::Result<Resource> {
    Ok(Resource::Rule(rule("requests of a subject in a window", Dimension::Subject, algorithm)?))
}

/// A rule for an endpoint that nobody calls.
fn elsewhere(number: usize) -> anyhow::Result<Resource> {
    let window = Algorithm::FixedWindow { limit: REQUESTS_MAX, window_ms: WINDOW_MS };
    let endpoint = Glob::parse("endpoints", &format!("/v2/resources/{number}/**"))?;
    let matches = Match { endpoints: vec![endpoint], ..Match::default() };
    Ok(Resource::Rule(Rule { matches, ..rule("requests of another endpoint", Dimension::Subject, window)? }))
}

/// A rule for what a proxy tells of a call by one key and its value.
fn of_descriptor(pattern: &str, algorithm: Algorithm) -> anyhow::Result<Resource> {
    let matches = Match {
        endpoints: vec![Glob::parse("endpoints", pattern)?],
        attributes: vec![(DOMAIN_ATTRIBUTE.to_owned(), DOMAIN.to_owned())],
        ..Match::default()
    };
    Ok(Resource::Rule(Rule { matches, ..rule(pattern, Dimension::Endpoint, algorithm)? }))
}

fn rule(text: &str, dimension: Dimension, algorithm: Algorithm) -> anyhow::Result<Rule> {
    Ok(Rule {
        id: RuleId::from_random(random()?),
        name: name(text)?,
        matches: Match::default(),
        scope: CounterScope { dimensions: vec![dimension], on_missing: OnMissing::Shared },
        unit: Unit::Requests,
        algorithm,
        enforcement: Enforcement::Enforced,
        priority: 0,
        override_group: None,
        policies: RulePolicies::default(),
        overrides: Vec::new(),
        last_reset_at: None,
        active: true,
    })
}

fn month() -> anyhow::Result<Budget> {
    Ok(Budget {
        id: BudgetId::from_random(random()?),
        name: name("month of the workspace")?,
        matches: Match::default(),
        scope: CounterScope::default(),
        amount: Nanos::parse("amount", MONTH_NANOS)?,
        period: BudgetPeriod::Calendar { period: CalendarPeriod::Month, zone: None },
        enforcement: Enforcement::Enforced,
        active: true,
        // The log is empty: the budget counts from its beginning.
        topped_up: Nanos::ZERO,
        opened_after: Some(Position::default()),
    })
}
