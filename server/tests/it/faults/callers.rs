//! Callers that ask more than any rule admits, at an even pace, on every replica.

use std::time::Duration;

use rateguard_proto::v1;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::rules::{AMOUNT, Kind, LIMIT, REPLICAS, WINDOW_MS};
use super::tally::Tally;
use crate::clients::{Clients, now};

/// How much more is asked for than a rule admits.
const OVERLOAD: i64 = 2;

/// The client of a replica, while there is one.
pub type Way = watch::Receiver<Option<Clients>>;

/// All of them.
pub struct Callers {
    calling: JoinSet<()>,
    stop: watch::Sender<bool>,
}

impl Callers {
    /// One for each rule on each replica.
    pub fn start(kinds: &[Kind], ways: &[Way], tally: &Tally) -> Self {
        let (stop, stopped) = watch::channel(false);
        let mut calling = JoinSet::new();
        for kind in kinds {
            for (place, way) in ways.iter().enumerate() {
                let caller = Caller { kind: *kind, place, way: way.clone(), tally: tally.clone() };
                calling.spawn(caller.call_until(stopped.clone()));
            }
        }
        Self { calling, stop }
    }

    /// Lets each end its call.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        self.calling.join_all().await;
    }
}

struct Caller {
    kind: Kind,
    place: usize,
    way: Way,
    tally: Tally,
}

impl Caller {
    async fn call_until(self, mut stopped: watch::Receiver<bool>) {
        let calls_a_window = LIMIT / AMOUNT * OVERLOAD / i64::try_from(REPLICAS).unwrap();
        let pace_ms = u64::try_from(WINDOW_MS / calls_a_window).unwrap();
        let mut ticks = interval(Duration::from_millis(pace_ms));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for number in 0_u64.. {
            tokio::select! {
                _ = stopped.changed() => return,
                _ = ticks.tick() => self.call(number).await,
            }
        }
    }

    async fn call(&self, number: u64) {
        let Some(client) = self.way.borrow().clone() else { return };
        let Self { kind, place, tally, .. } = self;
        let request = v1::CheckQuotaRequest {
            request_id: format!("{}-{place}-{number}", kind.subject()),
            subject: kind.subject(),
            amounts: vec![v1::UnitAmount { unit: "requests".to_owned(), amount: AMOUNT }],
            ..v1::CheckQuotaRequest::default()
        };
        let sent_ms = now_ms();
        match client.check(request).await {
            Ok(answer) => tally.decided(*kind, &answer, sent_ms, now_ms()),
            // A replica that is killed answers nothing, and one that starts refuses connections.
            Err(_) => tally.failed(*kind, now_ms()),
        }
    }
}

/// The instant of now, in milliseconds.
pub fn now_ms() -> i64 {
    let now = now();
    now.seconds * 1_000 + i64::from(now.nanos) / 1_000_000
}
