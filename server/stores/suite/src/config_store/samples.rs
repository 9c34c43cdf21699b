//! Resources to store: of each kind one with every field set and one as bare as it may be.

use rateguard_core::counter::{Position, Refill};
use rateguard_core::ids::{ApiId, BudgetId, DisplayName, KeyId, PriceId, RuleId, Slug, WorkspaceId};
use rateguard_core::invalid::Invalid;
use rateguard_core::matching::{Dimension, Glob, Match, OnMissing, Scope};
use rateguard_core::money::{Currency, Nanos, Price};
use rateguard_core::pricing::{PriceSheet, PriceSource, TokenRates, UnknownPricePolicy};
use rateguard_core::rule::{
    Algorithm, Budget, BudgetPeriod, Consistency, Enforcement, FailurePolicy, Override, OverrideAmount,
    OverrideOf, Rule, RulePolicies,
};
use rateguard_core::time::{CalendarPeriod, Millis, Zone};
use rateguard_core::unit::Unit;
use rateguard_core::usage::PriceRef;
use rateguard_engine::ports::Resource;
use rateguard_engine::resources::{
    Api, AuthScheme, Dialect, Key, KeyLabel, PreviousSecret, PriceOverride, Scope as KeyScope, Scopes,
    SealedCredential, Workspace,
};

/// A workspace with this id.
pub fn workspace(id: &str) -> Workspace {
    valid(|| {
        Ok(Workspace {
            id: WorkspaceId::parse("id", id)?,
            name: DisplayName::parse("name", "Ada's shop – Zürich")?,
            zone: Zone::parse("zone", "Europe/Zurich")?,
            currency: Currency::parse("currency", "CHF")?,
        })
    })
}

/// One of each kind, `number` making ids, slugs and secrets different.
pub fn one_of_each(number: u8) -> Vec<Resource> {
    vec![
        Resource::Api(api(&format!("api_{number}"), &format!("slug-{number}"))),
        Resource::Key(key(&format!("key_{number}"), number)),
        Resource::Rule(rule(&format!("rule_{number}"))),
        Resource::Budget(budget(&format!("bud_{number}"))),
        Resource::PriceOverride(price(&format!("price_{number}"))),
    ]
}

/// Resources that differ in every field that has a shape, so that a lost one is noticed.
pub fn varied() -> Vec<Resource> {
    let mut all = one_of_each(1);
    all.extend(naming("named"));
    all.push(Resource::Api(bare_api("api_bare", "bare")));
    all.push(Resource::Key(bare_key("key_bare", 99)));
    all.push(Resource::PriceOverride(bare_price("price_bare")));
    for (place, algorithm) in algorithms().into_iter().enumerate() {
        all.push(Resource::Rule(Rule { algorithm, ..bare_rule(&format!("rule_bare{place}")) }));
    }
    for (place, period) in periods().into_iter().enumerate() {
        all.push(Resource::Budget(Budget { period, ..bare_budget(&format!("bud_bare{place}")) }));
    }
    all
}

/// A key, a rule and a budget that name the API `api_1`, the last two also the key `key_1`.
pub fn naming(suffix: &str) -> Vec<Resource> {
    valid(|| {
        let apis = vec![ApiId::parse("apis", "api_1")?];
        let keys = vec![KeyId::parse("keys", "key_1")?];
        let matches = Match { apis: apis.clone(), keys, ..full_match()? };
        let secret = suffix.bytes().fold(100, |sum: u8, byte| sum.wrapping_add(byte));
        Ok(vec![
            Resource::Key(Key { apis, ..key(&format!("key_{suffix}"), secret) }),
            Resource::Rule(Rule { matches: matches.clone(), ..rule(&format!("rule_{suffix}")) }),
            Resource::Budget(Budget { matches, ..budget(&format!("bud_{suffix}")) }),
        ])
    })
}

/// An API with every field set.
pub fn api(id: &str, slug: &str) -> Api {
    valid(|| {
        Ok(Api {
            display_name: DisplayName::parse("display_name", "OpenAI \"prod\"")?,
            base_url: "https://api.openai.com/v1".to_owned(),
            dialect: Dialect::OpenAi,
            auth: AuthScheme::Header("x-api-key".to_owned()),
            credential: Some(SealedCredential((0..=255).collect())),
            credential_reference: Some("env:OPENAI_KEY".to_owned()),
            timeout_ms: 30_000,
            allow_private_upstream: true,
            price_per_request: Some(Price::parse_picos("price", 1_500)?),
            unknown_price: UnknownPricePolicy::ChargeDefault(Nanos::parse("default", 2_000_000)?),
            output_tokens_default: Some(2_048),
            show_spend: true,
            active: true,
            ..bare_api(id, slug)
        })
    })
}

/// A key with every field set; `secret` makes its hash.
pub fn key(id: &str, secret: u8) -> Key {
    valid(|| {
        Ok(Key {
            previous: Some(PreviousSecret {
                secret_sha256: [!secret; 32],
                prefix: "rg_test_wxyz".to_owned(),
                until: Millis::new(1_850_000_000_000),
            }),
            label: KeyLabel::Test,
            scopes: Scopes::ALL.into_iter().collect(),
            models: vec![Glob::parse("models", "gpt-4*")?],
            ip_ranges: vec![ip_range("10.0.0.0/8")?, ip_range("2001:db8::/32")?],
            bound_subject: Some("customer:42".to_owned()),
            allow_subject_header: true,
            expires_at: Some(Millis::new(1_900_000_000_000)),
            active: true,
            ..bare_key(id, secret)
        })
    })
}

/// A rule with every field set.
pub fn rule(id: &str) -> Rule {
    valid(|| {
        Ok(Rule {
            matches: full_match()?,
            scope: full_scope(),
            unit: Unit::parse("unit", "images")?,
            enforcement: Enforcement::Shadow,
            priority: -7,
            override_group: Some("tiers".to_owned()),
            policies: RulePolicies {
                consistency: Consistency::Leased,
                failure: FailurePolicy::Local { share_percent: 20, replicas_max: 8 },
                counts_denied: false,
                spread_by_subject: true,
            },
            overrides: overrides()?,
            last_reset_at: Some(Millis::new(1_800_000_000_000)),
            active: true,
            ..bare_rule(id)
        })
    })
}

/// A budget with every field set.
pub fn budget(id: &str) -> Budget {
    valid(|| {
        Ok(Budget {
            matches: full_match()?,
            scope: full_scope(),
            amount: Nanos::parse("amount", 1_000_000_000_000_000_000)?,
            enforcement: Enforcement::Soft,
            active: true,
            topped_up: Nanos::parse("topped_up", -5)?,
            opened_after: Some(Position(7)),
            ..bare_budget(id)
        })
    })
}

/// A price with every field set, of a model of its own.
pub fn price(id: &str) -> PriceOverride {
    valid(|| {
        let rate = |picos| Price::parse_picos("rate", picos).map(Some);
        let mut price = bare_price(id);
        price.sheet.token_rates = TokenRates {
            input: rate(1)?,
            output: rate(2)?,
            cached_input: rate(3)?,
            cache_write_5m: rate(4)?,
            cache_write_1h: rate(5)?,
            reasoning: rate(6)?,
            audio_input: rate(7)?,
            audio_output: rate(0)?,
        };
        price.sheet.per_request = rate(1_000_000_000_000_000_000)?;
        price.sheet.per_unit = vec![(Unit::parse("unit", "images")?, Price::parse_picos("rate", 40)?)];
        price.sheet.input_tokens_max = Some(128_000);
        price.sheet.output_tokens_max = Some(16_384);
        price.sheet.priced_input_tokens_max = Some(64_000);
        Ok(price)
    })
}

fn bare_api(id: &str, slug: &str) -> Api {
    valid(|| {
        Ok(Api {
            id: ApiId::parse("id", id)?,
            slug: Slug::parse("slug", slug)?,
            display_name: DisplayName::parse("display_name", "A")?,
            base_url: String::new(),
            dialect: Dialect::None,
            auth: AuthScheme::None,
            credential: None,
            credential_reference: None,
            timeout_ms: 1,
            allow_private_upstream: false,
            price_per_request: None,
            unknown_price: UnknownPricePolicy::Deny,
            output_tokens_default: None,
            show_spend: false,
            active: false,
        })
    })
}

fn bare_key(id: &str, secret: u8) -> Key {
    valid(|| {
        Ok(Key {
            id: KeyId::parse("id", id)?,
            display_name: DisplayName::parse("display_name", "K")?,
            secret_sha256: [secret; 32],
            prefix: "rg_live_abcd".to_owned(),
            previous: None,
            label: KeyLabel::Live,
            scopes: Scopes::default().with(KeyScope::Read),
            apis: Vec::new(),
            models: Vec::new(),
            ip_ranges: Vec::new(),
            bound_subject: None,
            allow_subject_header: false,
            expires_at: None,
            active: false,
        })
    })
}

fn bare_rule(id: &str) -> Rule {
    valid(|| {
        Ok(Rule {
            id: RuleId::parse("id", id)?,
            name: DisplayName::parse("name", "R")?,
            matches: Match::default(),
            scope: Scope::default(),
            unit: Unit::Requests,
            algorithm: Algorithm::FixedWindow { limit: 0, window_ms: 100 },
            enforcement: Enforcement::Enforced,
            priority: 0,
            override_group: None,
            policies: RulePolicies::default(),
            overrides: Vec::new(),
            last_reset_at: None,
            active: false,
        })
    })
}

fn bare_budget(id: &str) -> Budget {
    valid(|| {
        Ok(Budget {
            id: BudgetId::parse("id", id)?,
            name: DisplayName::parse("name", "B")?,
            matches: Match::default(),
            scope: Scope::default(),
            amount: Nanos::ZERO,
            period: BudgetPeriod::Prepaid,
            enforcement: Enforcement::Enforced,
            active: false,
            topped_up: Nanos::ZERO,
            opened_after: None,
        })
    })
}

fn bare_price(id: &str) -> PriceOverride {
    valid(|| {
        Ok(PriceOverride {
            sheet: PriceSheet {
                reference: PriceRef { id: PriceId::parse("id", id)?, version: 3 },
                provider: "openai".to_owned(),
                model: format!("model-of-{id}"),
                token_rates: TokenRates::default(),
                per_request: None,
                per_unit: Vec::new(),
                input_tokens_max: None,
                output_tokens_max: None,
                priced_input_tokens_max: None,
                effective_from: Millis::new(1_750_000_000_000),
                source: PriceSource::Override,
            },
        })
    })
}

fn overrides() -> Result<Vec<Override>, Invalid> {
    let subject = |name: &str| OverrideOf::Subject(name.to_owned());
    let refill = Refill::new(7, 1_000, 70)?;
    Ok(vec![
        Override { whose: subject("customer:1"), amount: OverrideAmount::Limit(0) },
        Override {
            whose: subject("customer:42"),
            amount: OverrideAmount::TokenBucket { capacity: 70, refill },
        },
        Override { whose: subject("Zürich"), amount: OverrideAmount::Unlimited },
    ])
}

fn algorithms() -> Vec<Algorithm> {
    valid(|| {
        Ok(vec![
            Algorithm::TokenBucket { capacity: 1_000, refill: Refill::new(50, 60_000, 1_000)? },
            Algorithm::FixedWindow { limit: 1 << 53, window_ms: 60_000 },
            Algorithm::SlidingWindow { limit: 10, window_ms: 86_400_000 },
            Algorithm::CalendarWindow { limit: 5, period: CalendarPeriod::Hour, zone: None },
            Algorithm::Concurrency { limit: 20 },
            Algorithm::CalendarWindow {
                limit: 5,
                period: CalendarPeriod::Week,
                zone: Some(Zone::parse("zone", "America/New_York")?),
            },
        ])
    })
}

fn periods() -> Vec<BudgetPeriod> {
    vec![
        BudgetPeriod::Calendar { period: CalendarPeriod::Day, zone: None },
        BudgetPeriod::Calendar { period: CalendarPeriod::Month, zone: Some(Zone::UTC) },
        BudgetPeriod::Prepaid,
    ]
}

fn full_match() -> Result<Match, Invalid> {
    Ok(Match {
        apis: Vec::new(),
        endpoints: vec![Glob::parse("endpoints", "/v1/chat/**")?],
        methods: vec!["POST".to_owned(), "get".to_owned()],
        models: vec![Glob::parse("models", "gpt-*")?],
        keys: Vec::new(),
        ip_ranges: vec![ip_range("192.168.0.0/16")?],
        subjects: vec!["a 'quoted' subject".to_owned()],
        attributes: vec![("plan".to_owned(), "free".to_owned()), ("region".to_owned(), String::new())],
    })
}

fn full_scope() -> Scope {
    Scope {
        dimensions: vec![
            Dimension::Key,
            Dimension::Subject,
            Dimension::Ip,
            Dimension::Api,
            Dimension::Endpoint,
            Dimension::Model,
            Dimension::Attribute("plan".into()),
        ],
        on_missing: OnMissing::Deny,
    }
}

fn ip_range(text: &str) -> Result<ipnet::IpNet, Invalid> {
    text.parse().map_err(|_| Invalid::new("ip_ranges", "is no IP range"))
}

/// Samples are constants: one that is not valid is a mistake in this file.
fn valid<T>(make: impl FnOnce() -> Result<T, Invalid>) -> T {
    make().expect("a sample is valid")
}
