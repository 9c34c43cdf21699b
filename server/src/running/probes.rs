//! `/health`, `/ready` and `/metrics`.

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use axum::{Json, Router};

use super::metrics;
use super::readiness::Readiness;

/// `/health` answers while the process is up. `/ready` answers 200 while the server is ready and else 503,
/// and says how each store stands. Under
/// TLS it says when the certificate ends, which is no secret. `/metrics` is there where it is configured.
pub(super) fn probes(readiness: Readiness, with_metrics: bool) -> Router {
    let ready = async |State(readiness): State<Readiness>| {
        let report = readiness.report();
        let status = if report.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        (status, Json(report.to_json()))
    };
    let metrics = async |State(readiness): State<Readiness>| {
        let text = metrics::text(&readiness.engine, &readiness.report());
        text.map(|text| ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text))
            .map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
    };
    let router = Router::new().route("/health", get(async || "ok\n")).route("/ready", get(ready));
    let router = if with_metrics { router.route("/metrics", get(metrics)) } else { router };
    router.with_state(readiness)
}
