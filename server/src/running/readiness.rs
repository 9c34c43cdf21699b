//! Whether the server is ready, and how each of its stores stands: told by `/ready` and by the health
//! service, by the same rules.
//!
//! * Ready is a server that answers checks: its start is done, and the configuration in memory is new
//!   enough to decide by.
//! * Where its stores are its own, it has to take reports too. Where they are shared with other
//!   servers it has not: those take none either, and to send calls elsewhere would only end the checks.

use std::sync::Arc;
use std::time::Duration;

use rateguard_engine::engine::{Engine, Standing};
use rateguard_engine::people::People;
use rateguard_engine::pulse::StoreState;
use rateguard_serving::tls::Certificates;
use serde_json::{Map, Value, json};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

/// The name under which the health service knows the server as a whole.
pub(super) const WHOLE_SERVER: &str = "";
/// The services that stand differently while a store is away.
const QUOTA_SERVICE: &str = "rateguard.v1.QuotaService";
const USAGE_SERVICE: &str = "rateguard.v1.UsageService";
/// How often the health service is told.
const TOLD_INTERVAL: Duration = Duration::from_secs(1);
/// What is told of notices of other replicas.
const NOTICES_HEARD: &str = "changes of other replicas are heard of at once";
const NOTICES_UNHEARD: &str = "changes of other replicas are found by asking";
/// A store that has not answered for longer is told to be stale, though nothing has failed.
const QUIET_MS_MAX: i64 = 5_000;

/// What readiness is told from.
#[derive(Clone)]
pub(super) struct Readiness {
    pub engine: Arc<Engine>,
    pub people: Arc<People>,
    /// Cancelled once everything is there that callers have to find.
    pub made: CancellationToken,
    /// Under TLS, what it is served with.
    pub certificates: Option<Arc<Certificates>>,
    /// Whether changes of other replicas are heard of at once; `None` where there are none.
    pub notices: Option<watch::Receiver<bool>>,
}

/// How the server stands.
#[derive(Clone, Debug)]
pub(super) struct Report {
    is_made: bool,
    standing: Standing,
    /// When the certificate ends, as RFC 3339 has it.
    certificate_ends_at: Option<String>,
    notices_heard: Option<bool>,
}

impl Readiness {
    pub(super) fn report(&self) -> Report {
        let mut standing = self.engine.standing();
        standing.stores.insert(1, self.people.store_state());
        let certificate_ends_at = self.certificates.as_ref().map(|served| served.ends_at().to_string());
        let notices_heard = self.notices.as_ref().map(|heard| *heard.borrow());
        Report { is_made: self.made.is_cancelled(), standing, certificate_ends_at, notices_heard }
    }

    /// Tells the health service how the server stands, again and again.
    pub(super) async fn keep_telling(self, health: HealthReporter) {
        let mut ticks = interval(TOLD_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let report = self.report();
            for (service, serves) in report.services() {
                let status = if serves { ServingStatus::Serving } else { ServingStatus::NotServing };
                health.set_service_status(service, status).await;
            }
            tokio::select! {
                _ = ticks.tick() => {}
                () = self.made.cancelled(), if !report.is_made => {}
            }
        }
    }
}

impl Report {
    pub(super) fn stores(&self) -> &[StoreState] {
        &self.standing.stores
    }

    pub(super) fn is_ready(&self) -> bool {
        self.missing().is_empty()
    }

    fn services(&self) -> [(&'static str, bool); 3] {
        let Standing { checks, reports, .. } = self.standing;
        [(WHOLE_SERVER, self.is_ready()), (QUOTA_SERVICE, checks), (USAGE_SERVICE, reports)]
    }

    /// Why the server is not ready.
    fn missing(&self) -> Vec<String> {
        let made = (!self.is_made).then(|| "demo: its data is still being made".to_owned());
        let config = (!self.standing.checks)
            .then(|| "config: what is in memory is too old to decide by, its store is away".to_owned());
        let log = self.standing.stores.iter().find(|store| store.store == "event log");
        let failure = log.and_then(|log| log.failure).filter(|_| !self.standing.shared);
        let log = failure.map(|failure| format!("event log: {failure}"));
        [made, config, log].into_iter().flatten().collect()
    }

    /// The report as `/ready` answers it.
    pub(super) fn to_json(&self) -> Value {
        let stores: Map<String, Value> =
            self.standing.stores.iter().map(|store| (store.store.to_owned(), self.store(store))).collect();
        let mut told = json!({
            "ready": self.is_ready(),
            "missing": self.missing(),
            "checks": if self.standing.checks { "checks are answered" } else { "checks are refused" },
            "reports": if self.standing.reports { "reports are taken" } else { "reports are refused" },
            "stores": stores,
        });
        if let Some(ends_at) = &self.certificate_ends_at {
            told["certificate_ends_at"] = json!(ends_at);
        }
        if let Some(heard) = self.notices_heard {
            told["notices"] = json!(if heard { NOTICES_HEARD } else { NOTICES_UNHEARD });
        }
        told
    }

    fn store(&self, state: &StoreState) -> Value {
        let StoreState { age_ms, failure, .. } = state;
        let failure = failure.map(|failure| failure.to_string());
        if failure.is_none() && *age_ms <= QUIET_MS_MAX {
            return json!({ "state": "answers", "age_ms": age_ms });
        }
        let answered = if self.standing.checks { "answered" } else { "refused" };
        let told = format!("stale for {} s, checks are {answered}", age_ms / 1_000);
        json!({ "state": told, "age_ms": age_ms, "failure": failure })
    }
}

#[cfg(test)]
mod tests {
    use rateguard_engine::pulse::StoreFailure;

    use super::*;

    fn store(store: &'static str, age_ms: i64, failure: Option<StoreFailure>) -> StoreState {
        StoreState { store, age_ms, failure }
    }

    /// A server that is made, with these stores.
    fn report(checks: bool, log_failure: Option<StoreFailure>, shared: bool) -> Report {
        let stores = vec![
            store("config", 12_300, Some(StoreFailure::Unavailable)),
            store("people", 10, None),
            store("event log", 20, log_failure),
            store("usage", 6_000, None),
        ];
        let reports = checks && log_failure.is_none();
        Report {
            is_made: true,
            standing: Standing { checks, reports, shared, stores },
            certificate_ends_at: None,
            notices_heard: None,
        }
    }

    #[test]
    fn each_store_is_told_with_its_age_or_its_failure() {
        let told = report(true, None, true).to_json();
        let away = json!({ "state": "stale for 12 s, checks are answered", "age_ms": 12_300, "failure": "unavailable" });
        assert_eq!(told["stores"]["config"], away);
        assert_eq!(told["stores"]["people"], json!({ "state": "answers", "age_ms": 10 }));
        assert_eq!(told["stores"]["event log"]["state"], "answers");
        assert_eq!(told["stores"]["usage"]["state"], "stale for 6 s, checks are answered");
        assert_eq!(
            (&told["checks"], &told["reports"]),
            (&json!("checks are answered"), &json!("reports are taken"))
        );
    }

    #[test]
    fn a_server_that_answers_checks_is_ready_while_the_stores_that_it_shares_are_away() {
        let away = report(true, Some(StoreFailure::Unavailable), true);
        assert!(away.is_ready());
        assert_eq!(away.services(), [(WHOLE_SERVER, true), (QUOTA_SERVICE, true), (USAGE_SERVICE, false)]);
        assert_eq!(away.to_json()["reports"], "reports are refused");
    }

    #[test]
    fn a_server_whose_own_log_refuses_is_not_ready() {
        let full = report(true, Some(StoreFailure::Full), false);
        assert_eq!(full.missing(), ["event log: full"]);
        assert_eq!(full.services(), [(WHOLE_SERVER, false), (QUOTA_SERVICE, true), (USAGE_SERVICE, false)]);
    }

    #[test]
    fn a_server_that_decides_by_nothing_or_is_not_made_is_not_ready() {
        let stale = report(false, None, true);
        assert!(!stale.is_ready());
        assert_eq!(stale.to_json()["stores"]["config"]["state"], "stale for 12 s, checks are refused");
        assert!(!Report { is_made: false, ..report(true, None, true) }.is_ready());
    }
    #[test]
    fn where_there_are_replicas_it_is_told_whether_their_notices_are_heard() {
        assert!(report(true, None, false).to_json().get("notices").is_none());
        for (heard, told) in [(true, NOTICES_HEARD), (false, NOTICES_UNHEARD)] {
            let report = Report { notices_heard: Some(heard), ..report(true, None, true) };
            assert_eq!(report.to_json()["notices"], told);
            assert!(report.is_ready());
        }
    }
}
