//! `/health` and `/ready`.

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};

use super::readiness::Readiness;

/// `/health` answers while the process is up. `/ready` answers 200 while the server is ready and else 503,
/// and says how each store stands. Under
/// TLS it says when the certificate ends, which is no secret.
pub(super) fn probes(readiness: Readiness) -> Router {
    let ready = async |State(readiness): State<Readiness>| {
        let report = readiness.report();
        let status = if report.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        (status, Json(report.to_json()))
    };
    Router::new().route("/health", get(async || "ok\n")).route("/ready", get(ready)).with_state(readiness)
}
