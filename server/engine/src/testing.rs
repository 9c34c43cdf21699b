//! What tests of the engine share: an engine on stores in memory, and short forms of what goes in.

mod shared;
mod stores;
mod trail;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use rateguard_core::amounts::Amounts;
use rateguard_core::counter::{CounterId, Mark, Position};
use rateguard_core::ids::{DisplayName, EventId, KeyId, ReservationId, WorkspaceId};
use rateguard_core::money::Nanos;
use rateguard_core::pricing::PriceBook;
use rateguard_core::reservation::{Captured, Reservation, ReservationState};
use rateguard_core::time::Millis;
use rateguard_core::unit::Unit;
use rateguard_core::usage::{
    CallIdentity, CallOutcome, EventFlags, EventKind, Exactness, TokenCounts, UsageEvent,
};
use smallvec::smallvec;

use crate::audit::Deed;
use crate::caller::Caller;
use crate::clock::ManualClock;
use crate::engine::{Background, CONFIG_STALE_MS_MAX, Engine, Setup, Stores};
use crate::gate::COUNTERS_DEADLINE;
use crate::ports::RESERVATION_RANDOM_BYTES;
use crate::report::UsageRecord;
use crate::resources::{Key, Scope};
use crate::secrets::{CredentialCipher, key_hash};

pub(crate) use trail::EmptyTrail;

pub(crate) use shared::{Road, SharedCounters};
pub(crate) use stores::{FakeConfig, FakeCounters, FakeLog, FakeUsage, Fault};

/// What a reservation of these tests holds.
pub(crate) const HELD_NANOS: i64 = 1_000;
/// The budget that it holds it of.
pub(crate) const CAPTURED: CounterId = CounterId(7);

/// An engine on these stores, with the one caller of its one workspace.
pub(crate) struct World {
    pub(crate) log: Arc<FakeLog>,
    pub(crate) counters: Arc<FakeCounters>,
    pub(crate) config: Arc<FakeConfig>,
    pub(crate) usage: Arc<FakeUsage>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) engine: Arc<Engine>,
    pub(crate) caller: Caller,
    pub(crate) background: Background,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::on(Arc::new(FakeLog::default()), Arc::new(FakeConfig::default()), false).await
    }

    /// Two processes on the same stores, each with counters of its own. The first one rolls up.
    pub(crate) async fn pair() -> [Self; 2] {
        let (log, config) = (Arc::new(FakeLog::default()), Arc::new(FakeConfig::default()));
        let first = Self::on(log.clone(), config.clone(), true).await;
        let second = Self::on(log, config, true).await;
        second.usage.follows.store(true, Ordering::SeqCst);
        [first, second]
    }

    /// An engine on these stores, which are other processes' too if they are `shared`.
    pub(crate) async fn on(log: Arc<FakeLog>, config: Arc<FakeConfig>, shared: bool) -> Self {
        let usage = Arc::new(FakeUsage::of(log.clone()));
        let counters = Arc::new(FakeCounters::default());
        let clock = Arc::new(ManualClock::at(start()));
        let stores = Stores {
            audit: Arc::new(EmptyTrail),
            config: config.clone(),
            counters: counters.clone(),
            log: log.clone(),
            usage: usage.clone(),
            shared,
        };
        let (engine, background) = engine_on(stores, clock.clone()).await;
        let caller = caller();
        Self { log, counters, config, usage, clock, engine, caller, background }
    }
}

/// An engine on these stores.
pub(crate) async fn engine_on(stores: Stores, clock: Arc<ManualClock>) -> (Arc<Engine>, Background) {
    let setup = Setup {
        clock,
        catalogue: Arc::new(PriceBook::default()),
        cipher: CredentialCipher::new(&[7; 32]).expect("a key of 32 bytes"),
        gateway_token: None,
        config_stale_ms_max: CONFIG_STALE_MS_MAX,
        counters_deadline: COUNTERS_DEADLINE,
    };
    Engine::start(stores, setup).await.expect("the stores answer")
}

/// When tests begin: a moment in 2027.
pub(crate) fn start() -> Millis {
    Millis::new(1_800_000_000_000)
}

/// What the server itself does then.
pub(crate) fn deed() -> Deed {
    Deed::of_server("Test", start())
}

pub(crate) fn workspace() -> WorkspaceId {
    WorkspaceId::from_random([1; 16])
}

/// A key with a secret, that may do everything.
pub(crate) fn key(secret: &str) -> Key {
    let name = DisplayName::parse("name", "test").expect("a plain name");
    Key {
        id: KeyId::from_random([2; 16]),
        secret_sha256: key_hash(secret),
        previous: None,
        allow_subject_header: true,
        ..Key::plain(name, [Scope::Quota, Scope::Usage, Scope::Gateway].into_iter().collect())
    }
}

/// The holder of the key by itself.
pub(crate) fn caller() -> Caller {
    Caller::new(workspace(), Arc::new(key("secret")))
}

pub(crate) fn event_id(text: &str) -> EventId {
    EventId::parse("event_id", text).expect("a plain id")
}

pub(crate) fn reservation_id(number: u8) -> ReservationId {
    caller().principal().reservation_id([number; RESERVATION_RANDOM_BYTES], None)
}

/// A reservation of the caller that holds money of one budget, of which half is its input's.
pub(crate) fn reservation(number: u8, state: ReservationState) -> Reservation {
    let mark = Mark::Budget { start: Millis::ZERO, end: Millis::ZERO };
    let taken = if state == ReservationState::Released { 0 } else { HELD_NANOS };
    Reservation {
        id: reservation_id(number),
        key: caller().key.id.clone(),
        by_gateway: false,
        state,
        decided_at: start().plus(number.into()),
        expires_at: start().plus(1_000),
        floor: Nanos::from_stored(HELD_NANOS / 2),
        included: Position::default(),
        call: Arc::new(call()),
        request_id: None,
        captured: smallvec![Captured { counter: CAPTURED, unit: Unit::Cost, taken, used: None, mark }],
    }
}

fn call() -> CallIdentity {
    CallIdentity {
        key: caller().key.id.clone(),
        api: None,
        api_name: String::new(),
        endpoint: String::new(),
        method: String::new(),
        model: String::new(),
        service_tier: String::new(),
        subject: String::new(),
    }
}

/// A record of a known cost.
pub(crate) fn record(id: &str, nanos: i64) -> UsageRecord {
    UsageRecord {
        event_id: event_id(id),
        occurred_at: None,
        request_id: None,
        reservation: None,
        attempt: 1,
        is_final: true,
        api: String::new(),
        endpoint: String::new(),
        method: String::new(),
        subject: String::new(),
        model: String::new(),
        service_tier: String::new(),
        outcome: CallOutcome::default(),
        tokens: TokenCounts::default(),
        amounts: Amounts::default(),
        cost: Some(Nanos::from_stored(nanos)),
        price: None,
        dimensions: Vec::new(),
        exactness: Exactness::Exact,
        already_consumed: Vec::new(),
        ip: None,
    }
}

/// An event of a known cost, as a report appends it.
pub(crate) fn event(id: &str, nanos: i64) -> UsageEvent {
    UsageEvent {
        workspace: workspace(),
        event_id: event_id(id),
        kind: EventKind::Usage,
        corrects: None,
        request_id: None,
        reservation: None,
        attempt: 1,
        is_final: true,
        occurred_at: start(),
        accounted_at: start(),
        received_at: start(),
        call: call(),
        ip: None,
        outcome: CallOutcome::default(),
        tokens: TokenCounts::default(),
        amounts: Amounts::default(),
        already_consumed: Vec::new(),
        dimensions: Vec::new(),
        exactness: Exactness::Exact,
        cost: Nanos::from_stored(nanos),
        components: Vec::new(),
        price: None,
        flags: EventFlags::default(),
        captured_budgets: Vec::new(),
    }
}
