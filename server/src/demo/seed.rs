//! What the demo's workspace holds, made through the engine's own use cases.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use rateguard_core::counter::Refill;
use rateguard_core::ids::{ApiId, BudgetId, DisplayName, KeyId, RuleId, Slug};
use rateguard_core::matching::{Dimension, Match, OnMissing, Scope as CounterScope};
use rateguard_core::money::Nanos;
use rateguard_core::pricing::UnknownPricePolicy;
use rateguard_core::rule::{Algorithm, Budget, BudgetPeriod, Enforcement, Rule, RulePolicies};
use rateguard_core::time::CalendarPeriod;
use rateguard_core::unit::Unit;
use rateguard_engine::audit::Origin;
use rateguard_engine::caller::Identity;
use rateguard_engine::engine::Engine;
use rateguard_engine::manage::{ApiDraft, CredentialChange};
use rateguard_engine::people::FirstOwner;
use rateguard_engine::ports::Resource;
use rateguard_engine::resources::{Api, AuthScheme, Dialect, Scope, Scopes};
use rateguard_engine::secrets::{SecretText, random};

use super::{DemoKeys, UPSTREAM_CREDENTIAL, history};
use crate::setup::{Installed, plain_key};

/// What the audit trail calls the making of the demo.
const ORIGIN: &str = "Demo";
/// One dollar.
const DOLLAR: i64 = 1_000_000_000;
/// The demo's APIs: slug, name, dialect, path at the demo upstream, how it wants its credential.
const APIS: [(&str, &str, Dialect, &str); 2] = [
    ("demo-openai", "OpenAI (demo upstream)", Dialect::OpenAi, "openai"),
    ("demo-anthropic", "Anthropic (demo upstream)", Dialect::Anthropic, "anthropic"),
];
const UPSTREAM_TIMEOUT_MS: i64 = 60_000;

/// Fills the new workspace, and writes the keys down last.
pub(super) async fn fill(
    engine: &Arc<Engine>,
    installed: &Installed,
    folder: &Path,
    upstream: SocketAddr,
) -> anyhow::Result<DemoKeys> {
    let first = by_key(engine, installed.secret.expose())?;
    if *first.workspace()? != installed.workspace {
        bail!("the first key is another workspace's");
    }
    let keys = make_keys(engine, &first, &installed.owner).await?;
    make_apis(engine, &first, upstream).await?;
    let caller = |secret: &str| engine.authenticator().by_key(secret, engine.now());
    make_rules(engine, &first, &caller(&keys.tight)?.key.id).await?;
    make_budgets(engine, &first, &caller(&keys.broke)?.key.id).await?;
    history::report(engine, &caller(&keys.app)?).await?;
    keys.write(folder)?;
    Ok(keys)
}

/// The demo itself, with a key.
fn by_key(engine: &Engine, secret: &str) -> anyhow::Result<Identity> {
    let caller = engine.authenticator().by_key(secret, engine.now())?;
    Ok(Identity::from(caller).coming_from(Origin::server(ORIGIN)))
}

async fn make_keys(engine: &Engine, first: &Identity, owner: &FirstOwner) -> anyhow::Result<DemoKeys> {
    let every: Scopes = Scopes::ALL.into_iter().collect();
    let gateway: Scopes = [Scope::Gateway].into_iter().collect();
    let make = async |name: &str, scopes: Scopes| {
        let key = engine.create_key(first, plain_key(name, scopes)?).await?;
        Ok::<_, anyhow::Error>(key.secret.expose().to_owned())
    };
    Ok(DemoKeys {
        manage: make("back end", every).await?,
        app: make("app", gateway).await?,
        tight: make("app with a tight limit", gateway).await?,
        broke: make("app without money", gateway).await?,
        owner_email: owner.user.email.to_string(),
        owner_password: owner.password.expose().to_owned(),
    })
}

async fn make_apis(engine: &Engine, first: &Identity, upstream: SocketAddr) -> anyhow::Result<()> {
    for (slug, name, dialect, path) in APIS {
        let api = Api {
            id: ApiId::from_random(random()?),
            slug: Slug::parse("slug", slug)?,
            display_name: DisplayName::parse("display_name", name)?,
            base_url: base_url(upstream, path),
            dialect,
            auth: match dialect {
                Dialect::Anthropic => AuthScheme::Header("x-api-key".to_owned()),
                Dialect::OpenAi | Dialect::None => AuthScheme::Bearer,
            },
            credential: None,
            credential_reference: None,
            timeout_ms: UPSTREAM_TIMEOUT_MS,
            // The demo upstream listens on loopback.
            allow_private_upstream: true,
            price_per_request: None,
            unknown_price: UnknownPricePolicy::default(),
            output_tokens_default: None,
            show_spend: true,
            active: true,
        };
        let credential = CredentialChange::Set(SecretText::new(UPSTREAM_CREDENTIAL.to_owned()));
        let api = engine.seal(first.workspace()?, ApiDraft { api, credential })?;
        engine.create(first, Resource::Api(api)).await?;
    }
    Ok(())
}

fn base_url(upstream: SocketAddr, path: &str) -> String {
    format!("http://{upstream}/{path}")
}

/// The demo upstream takes a free port at each start: the APIs follow it.
pub(super) async fn point_apis_at(
    engine: &Engine,
    keys: &DemoKeys,
    upstream: SocketAddr,
) -> anyhow::Result<()> {
    let manager = by_key(engine, &keys.manage)?;
    let view = engine.directory().view(manager.workspace()?).context("the demo's workspace is gone")?;
    for (slug, _, _, path) in APIS {
        let Some(stored) = view.api(slug) else { continue };
        let base_url = base_url(upstream, path);
        if stored.value.base_url != base_url {
            let api = Api { base_url, ..stored.value.clone() };
            engine.update(&manager, Resource::Api(api), stored.version).await?;
        }
    }
    Ok(())
}

async fn make_rules(engine: &Engine, first: &Identity, tight: &KeyId) -> anyhow::Result<()> {
    let per_key = || CounterScope { dimensions: vec![Dimension::Key], on_missing: OnMissing::Shared };
    let capacity = 200;
    let refill = Refill::new(100, 1_000, capacity)?;
    let minute_ms = 60_000;
    let only_tight = Match { keys: vec![tight.clone()], ..Match::default() };
    let rules = [
        ("requests per key", Match::default(), Unit::Requests, Algorithm::TokenBucket { capacity, refill }),
        (
            "tokens per key and minute",
            Match::default(),
            Unit::Tokens,
            Algorithm::SlidingWindow { limit: 2_000_000, window_ms: minute_ms },
        ),
        (
            "two requests a minute",
            only_tight,
            Unit::Requests,
            Algorithm::FixedWindow { limit: 2, window_ms: minute_ms },
        ),
    ];
    for (name, matches, unit, algorithm) in rules {
        let rule = Rule {
            id: RuleId::from_random(random()?),
            name: DisplayName::parse("display_name", name)?,
            matches,
            scope: per_key(),
            unit,
            algorithm,
            enforcement: Enforcement::Enforced,
            priority: 0,
            override_group: None,
            policies: RulePolicies::default(),
            overrides: Vec::new(),
            last_reset_at: None,
            active: true,
        };
        engine.create(first, Resource::Rule(rule)).await?;
    }
    Ok(())
}

async fn make_budgets(engine: &Engine, first: &Identity, broke: &KeyId) -> anyhow::Result<()> {
    let month = BudgetPeriod::Calendar { period: CalendarPeriod::Month, zone: None };
    let only_broke = Match { keys: vec![broke.clone()], ..Match::default() };
    let budgets = [
        ("month of the workspace", Match::default(), 100 * DOLLAR, month),
        ("nothing left", only_broke, 0, BudgetPeriod::Prepaid),
    ];
    for (name, matches, nanos, period) in budgets {
        let budget = Budget {
            id: BudgetId::from_random(random()?),
            name: DisplayName::parse("display_name", name)?,
            matches,
            scope: CounterScope::default(),
            amount: Nanos::parse("amount", nanos)?,
            period,
            enforcement: Enforcement::Enforced,
            active: true,
            topped_up: Nanos::ZERO,
            opened_after: None,
        };
        engine.create(first, Resource::Budget(budget)).await?;
    }
    Ok(())
}
