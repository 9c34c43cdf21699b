//! `/health` and `/ready`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use rateguard_engine::engine::{CONFIGURATION_AGE_MS_MAX, Engine};
use rateguard_serving::tls::Certificates;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::tls::Encryption;

/// What readiness is told from.
#[derive(Clone)]
struct Readiness {
    engine: Arc<Engine>,
    made: CancellationToken,
    certificates: Option<Arc<Certificates>>,
}

/// `/health` answers while the process is up. `/ready` answers 200 while decisions are true and reports
/// are taken: once `made` is cancelled, while the configuration in memory is new enough to decide by and
/// the event log writes. Else it answers 503 and says what is missing. Under TLS it says when the
/// certificate ends, which is no secret.
pub(super) fn probes(
    engine: &Arc<Engine>,
    made: &CancellationToken,
    encryption: Option<&Encryption>,
) -> Router {
    let certificates = encryption.map(|it| Arc::clone(&it.certificates));
    let readiness = Readiness { engine: engine.clone(), made: made.clone(), certificates };
    let ready = async |State(readiness): State<Readiness>| {
        let (status, body) = readiness.tell();
        (status, Json(body))
    };
    Router::new().route("/health", get(async || "ok\n")).route("/ready", get(ready)).with_state(readiness)
}

impl Readiness {
    fn tell(&self) -> (StatusCode, Value) {
        let age_ms = self.engine.configuration_age_ms();
        let made = (!self.made.is_cancelled()).then(|| "demo: its data is still being made".to_owned());
        let configuration = (age_ms > CONFIGURATION_AGE_MS_MAX)
            .then(|| "configuration: too old to decide by, its store is away".to_owned());
        let log = self.engine.event_log_failure().map(|failure| format!("event log: {failure}"));
        let missing: Vec<String> = [made, configuration, log].into_iter().flatten().collect();
        let is_ready = missing.is_empty();
        let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        let mut told = json!({ "ready": is_ready, "missing": missing, "configuration_age_ms": age_ms });
        if let Some(certificates) = &self.certificates {
            told["certificate_ends_at"] = json!(certificates.ends_at().to_string());
        }
        (status, told)
    }
}
