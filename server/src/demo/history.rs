//! A month of usage before the demo began, reported like any other.

use rateguard_core::amounts::Amounts;
use rateguard_core::ids::EventId;
use rateguard_core::limits::BATCH_RECORDS_MAX;
use rateguard_core::time::Millis;
use rateguard_core::usage::{CallOutcome, Exactness, TokenCounts};
use rateguard_engine::caller::Caller;
use rateguard_engine::engine::Engine;
use rateguard_engine::report::{RecordOutcome, UsageRecord};

/// How far back it goes.
const DAYS: i64 = 30;
const DAY_MS: i64 = 24 * 60 * 60 * 1_000;
/// Calls of a quiet day; a busy one has up to three times as many.
const CALLS_PER_DAY_MIN: u64 = 40;

/// What is called: API, endpoint, model, how often of ten.
const MIX: [(&str, &str, &str, u64); 4] = [
    ("demo-openai", "/v1/chat/completions", "gpt-4o-mini", 4),
    ("demo-openai", "/v1/chat/completions", "gpt-4o", 2),
    ("demo-anthropic", "/v1/messages", "claude-haiku-4-5", 3),
    ("demo-anthropic", "/v1/messages", "claude-sonnet-4-5", 1),
];
const SUBJECTS: [&str; 5] = ["acme", "globex", "initech", "umbrella", "hooli"];

/// A small generator with a fixed beginning: every demo has the same month.
struct Dice(u64);

impl Dice {
    /// A number below `bound`, by SplitMix64 (Steele, Lea and Flood, 2014).
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound.max(1)
    }

    fn amount(&mut self, least: i64, spread: u64) -> i64 {
        least + i64::try_from(self.below(spread)).unwrap_or(0)
    }
}

/// Reports the month that ends now.
pub(super) async fn report(engine: &Engine, caller: &Caller) -> anyhow::Result<()> {
    let mut dice = Dice(1);
    let now = engine.now();
    let mut records = Vec::new();
    for day in (1..=DAYS).rev() {
        let start = now.plus(-day * DAY_MS);
        let calls = CALLS_PER_DAY_MIN + dice.below(2 * CALLS_PER_DAY_MIN);
        for call in 0..calls {
            let at = start.plus(dice.amount(0, DAY_MS.unsigned_abs()));
            records.push(record(&mut dice, &format!("demo-{day}-{call}"), at)?);
        }
    }
    while !records.is_empty() {
        let batch: Vec<UsageRecord> = records.drain(..records.len().min(BATCH_RECORDS_MAX)).collect();
        let outcomes = engine.report(caller, batch).await?;
        let refused = outcomes.iter().filter(|o| matches!(o, RecordOutcome::Rejected { .. })).count();
        anyhow::ensure!(refused == 0, "{refused} records of the demo's month were refused");
    }
    Ok(())
}

fn record(dice: &mut Dice, event_id: &str, at: Millis) -> anyhow::Result<UsageRecord> {
    let (api, endpoint, model) = pick(dice);
    let outcome = outcome(dice);
    let succeeded = outcome.status_code == 200;
    Ok(UsageRecord {
        event_id: EventId::parse("event_id", event_id)?,
        occurred_at: Some(at),
        request_id: None,
        reservation: None,
        attempt: 1,
        is_final: true,
        api: api.to_owned(),
        endpoint: endpoint.to_owned(),
        method: "POST".to_owned(),
        subject: SUBJECTS[usize::try_from(dice.below(5)).unwrap_or(0)].to_owned(),
        model: model.to_owned(),
        service_tier: String::new(),
        outcome,
        tokens: if succeeded { tokens(dice) } else { no_tokens() },
        amounts: Amounts::default(),
        cost: None,
        price: None,
        dimensions: Vec::new(),
        exactness: Exactness::Exact,
        already_consumed: Vec::new(),
        ip: None,
    })
}

fn pick(dice: &mut Dice) -> (&'static str, &'static str, &'static str) {
    let mut left = dice.below(MIX.iter().map(|(.., weight)| weight).sum());
    for (api, endpoint, model, weight) in MIX {
        if left < weight {
            return (api, endpoint, model);
        }
        left -= weight;
    }
    let (api, endpoint, model, _) = MIX[0];
    (api, endpoint, model)
}

fn outcome(dice: &mut Dice) -> CallOutcome {
    let (status_code, error_type) = match dice.below(50) {
        0 => (500, "api_error"),
        1 => (429, "rate_limit_error"),
        _ => (200, ""),
    };
    let upstream_latency_ms = dice.amount(180, 1_800);
    CallOutcome {
        status_code,
        latency_ms: Some(upstream_latency_ms + dice.amount(1, 3)),
        upstream_latency_ms: Some(upstream_latency_ms),
        bytes_in: Some(dice.amount(400, 8_000)),
        bytes_out: Some(dice.amount(300, 6_000)),
        cache_hit: false,
        rate_limited: false,
        error_type: error_type.to_owned(),
    }
}

fn tokens(dice: &mut Dice) -> TokenCounts {
    let input = dice.amount(100, 4_000);
    TokenCounts {
        input_total: Some(input),
        cached_input: Some(if dice.below(3) == 0 { input / 2 } else { 0 }),
        output: Some(dice.amount(20, 1_200)),
        ..TokenCounts::default()
    }
}

/// A call that failed used nothing, and says so.
fn no_tokens() -> TokenCounts {
    TokenCounts { input_total: Some(0), output: Some(0), ..TokenCounts::default() }
}
