//! Events to append: the plainest, one with every part set, and varied ones out of a seed.

use std::net::{IpAddr, Ipv6Addr};

use rateguard_core::amounts::Amounts;
use rateguard_core::counter::CounterId;
use rateguard_core::ids::{ApiId, EventId, KeyId, PriceId, RequestId, ReservationId, WorkspaceId};
use rateguard_core::money::{Nanos, Picos, Price};
use rateguard_core::time::Millis;
use rateguard_core::unit::Unit;
use rateguard_core::usage::{
    CallIdentity, CallOutcome, CostComponent, EventFlags, EventKind, Exactness, PriceRef, TokenCounts,
    UsageEvent,
};

/// 2026-03-28T00:00:00Z: the night after, clocks go forward in Europe.
pub const START_MS: i64 = 1_774_656_000_000;
/// Varied events lie within four days, so that a month of some zone ends among them.
const SPAN_MS: i64 = 4 * 24 * 60 * 60 * 1_000;
/// The workspaces of varied events.
pub const WORKSPACES: [&str; 3] = ["ws_a", "ws_b", "ws_c"];
/// The APIs of varied events.
pub const APIS: [&str; 2] = ["api_one", "api_two"];
/// The keys of varied events.
pub const KEYS: [&str; 3] = ["key_1", "key_2", "key_3"];
/// The subjects of varied events.
pub const SUBJECTS: [&str; 4] = ["", "anna", "bo", "anna's team; \"x\""];
/// The models of varied events.
pub const MODELS: [&str; 3] = ["", "small-1", "large-2"];
/// The endpoints of varied events.
pub const ENDPOINTS: [&str; 3] = ["/v1/chat/completions", "/v1/messages", "/ü"];
/// The statuses of varied events.
const STATUSES: [u16; 6] = [0, 200, 200, 399, 400, 529];
const ERRORS: [&str; 3] = ["", "", "timeout"];
const METHODS: [&str; 2] = ["POST", "GET"];

/// A workspace of that id.
pub fn workspace(id: &str) -> WorkspaceId {
    WorkspaceId::parse("workspace", id).expect("a sample is valid")
}

/// An event id.
pub fn event_id(id: &str) -> EventId {
    EventId::parse("event_id", id).expect("a sample is valid")
}

/// A reservation.
pub fn reservation(bits: u128) -> ReservationId {
    ReservationId::from_bits(bits)
}

/// The plainest event: a free call of no API, at the start.
pub fn event(owner: &str, id: &str) -> UsageEvent {
    UsageEvent {
        workspace: workspace(owner),
        event_id: event_id(id),
        kind: EventKind::Usage,
        corrects: None,
        request_id: None,
        reservation: None,
        attempt: 0,
        is_final: true,
        occurred_at: Millis::new(START_MS),
        accounted_at: Millis::new(START_MS),
        received_at: Millis::new(START_MS),
        call: call(),
        ip: None,
        outcome: CallOutcome::default(),
        tokens: TokenCounts::default(),
        amounts: Amounts::default(),
        already_consumed: Vec::new(),
        dimensions: Vec::new(),
        exactness: Exactness::Exact,
        cost: Nanos::ZERO,
        components: Vec::new(),
        price: None,
        flags: EventFlags::default(),
        captured_budgets: Vec::new(),
    }
}

/// An event that settles an attempt.
pub fn attempt_of(owner: &str, id: &str, reservation_bits: u128, attempt: u32) -> UsageEvent {
    UsageEvent { reservation: Some(reservation(reservation_bits)), attempt, ..event(owner, id) }
}

fn call() -> CallIdentity {
    CallIdentity {
        key: KeyId::parse("key", KEYS[0]).expect("a sample is valid"),
        api: None,
        api_name: String::new(),
        endpoint: String::new(),
        method: String::new(),
        model: String::new(),
        service_tier: String::new(),
        subject: String::new(),
    }
}

/// An event with every part set, to unusual values where there are any.
pub fn full_event(owner: &str, id: &str) -> UsageEvent {
    UsageEvent {
        kind: EventKind::Correction,
        corrects: Some(event_id("expired:rsv_1")),
        request_id: Some(RequestId::parse("request_id", "request-1").expect("a sample is valid")),
        is_final: false,
        occurred_at: Millis::new(START_MS + 1),
        accounted_at: Millis::new(START_MS + 2),
        received_at: Millis::new(START_MS + 3),
        call: full_call(),
        ip: Some(IpAddr::V6(Ipv6Addr::LOCALHOST)),
        outcome: full_outcome(),
        tokens: full_tokens(),
        amounts: amounts(),
        already_consumed: vec![Unit::Requests, Unit::Custom("pages".into())],
        dimensions: vec![("team".to_owned(), "\u{0}'\"; ü".to_owned()), ("team".to_owned(), String::new())],
        exactness: Exactness::Partial,
        cost: Nanos::from_stored(-1_000_000_000_000_000_000),
        components: vec![CostComponent {
            name: "input".to_owned(),
            amount: 1_000_000_000_000,
            price: Price::parse_picos("price", 1_000_000_000_000_000_000).expect("a sample is valid"),
            cost: Picos::new(1_000_000_000_000_000_000_000_000_000_000),
        }],
        price: Some(PriceRef {
            id: PriceId::parse("price", "price_x").expect("a sample is valid"),
            version: u32::MAX,
        }),
        flags: EventFlags(u32::MAX),
        captured_budgets: vec![CounterId(u128::MAX), CounterId(0)],
        ..attempt_of(owner, id, u128::MAX, 1_000)
    }
}

fn full_call() -> CallIdentity {
    CallIdentity {
        key: KeyId::parse("key", "key_full").expect("a sample is valid"),
        api: Some(ApiId::parse("api", "api_full").expect("a sample is valid")),
        api_name: "the api".to_owned(),
        endpoint: "/v1/ü".to_owned(),
        method: "PATCH".to_owned(),
        model: "model".to_owned(),
        service_tier: "priority".to_owned(),
        subject: "s".repeat(512),
    }
}

fn full_outcome() -> CallOutcome {
    CallOutcome {
        status_code: u16::MAX,
        latency_ms: Some(0),
        upstream_latency_ms: Some(86_400_000),
        bytes_in: Some(0),
        bytes_out: Some(i64::MAX),
        cache_hit: true,
        rate_limited: true,
        error_type: "overloaded".to_owned(),
    }
}

fn full_tokens() -> TokenCounts {
    TokenCounts {
        input_total: Some(1_000_000_000_000),
        cached_input: Some(0),
        cache_write_5m: Some(1),
        cache_write_1h: Some(2),
        output: Some(3),
        reasoning: Some(4),
        audio_input: Some(5),
        audio_output: Some(6),
    }
}

fn amounts() -> Amounts {
    let mut amounts = Amounts::default();
    for (unit, amount) in [(Unit::Requests, 0), (Unit::Custom("pages".into()), 7), (Unit::Cost, 1)] {
        amounts.insert("amounts", unit, amount).expect("a sample is valid");
    }
    amounts
}

/// Numbers out of a seed, the same each time (SplitMix64, Steele, Lea and Flood 2014).
pub struct Numbers(u64);

impl Numbers {
    /// Begins with a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below a bound.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    /// An instant within the span of varied events.
    pub fn instant_ms(&mut self) -> i64 {
        START_MS + self.below(SPAN_MS.unsigned_abs()).cast_signed()
    }

    /// One of some values.
    pub fn one_of<T: Copy>(&mut self, values: &[T]) -> T {
        let place = usize::try_from(self.below(values.len() as u64)).unwrap_or(0);
        values[place]
    }

    fn perhaps(&mut self, bound: u64) -> Option<i64> {
        (self.below(4) > 0).then(|| self.below(bound).cast_signed())
    }
}

/// Varied events with ids of their own, among them corrections, floors and late ones.
pub fn varied(seed: u64, count: usize) -> Vec<UsageEvent> {
    let mut numbers = Numbers::new(seed);
    (0..count).map(|place| varied_event(&mut numbers, place)).collect()
}

fn varied_event(numbers: &mut Numbers, place: usize) -> UsageEvent {
    let owner = numbers.one_of(&WORKSPACES);
    let accounted_at = Millis::new(numbers.instant_ms());
    let kind =
        numbers.one_of(&[EventKind::Usage, EventKind::Usage, EventKind::Expired, EventKind::Correction]);
    let cost = numbers.one_of(&[0, 1, 250_000, 999_999_999_999_999_999]);
    UsageEvent {
        kind,
        request_id: RequestId::parse("request_id", &format!("request-{}", numbers.below(20))).ok(),
        reservation: (numbers.below(2) == 0).then(|| reservation(place as u128 / 2)),
        occurred_at: accounted_at.plus(numbers.below(7_200_000).cast_signed() - 600_000),
        accounted_at,
        received_at: accounted_at.plus(numbers.below(86_400_000).cast_signed()),
        call: varied_call(numbers),
        outcome: varied_outcome(numbers),
        tokens: TokenCounts {
            input_total: numbers.perhaps(100_000),
            cached_input: numbers.perhaps(1_000),
            output: numbers.perhaps(1_000_000_000_000),
            ..TokenCounts::default()
        },
        cost: Nanos::from_stored(if kind == EventKind::Correction { -cost } else { cost }),
        ..event(owner, &format!("event-{place}"))
    }
}

fn varied_call(numbers: &mut Numbers) -> CallIdentity {
    let api = numbers.one_of(&[None, Some(APIS[0]), Some(APIS[1])]);
    CallIdentity {
        key: KeyId::parse("key", numbers.one_of(&KEYS)).expect("a sample is valid"),
        api: api.and_then(|id| ApiId::parse("api", id).ok()),
        endpoint: numbers.one_of(&ENDPOINTS).to_owned(),
        method: numbers.one_of(&METHODS).to_owned(),
        model: numbers.one_of(&MODELS).to_owned(),
        subject: numbers.one_of(&SUBJECTS).to_owned(),
        ..call()
    }
}

fn varied_outcome(numbers: &mut Numbers) -> CallOutcome {
    CallOutcome {
        status_code: numbers.one_of(&STATUSES),
        latency_ms: numbers.perhaps(100_000),
        cache_hit: numbers.below(3) == 0,
        rate_limited: numbers.below(5) == 0,
        error_type: numbers.one_of(&ERRORS).to_owned(),
        ..CallOutcome::default()
    }
}
