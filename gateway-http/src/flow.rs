//! One call, from its arrival to its settlement.
//!
//! [`arrival`] reads who asks for what; [`outgoing`] makes the request that goes upstream; [`call`]
//! is the task that checks and goes on to the [`exchange`] with the upstream; [`answer`] brings back what
//! comes of it, [`held`] until it is whole or as a [`stream`], with [`meter`] reading what was used on the
//! way; [`settlement`] turns all that into the record that is reported. [`problem`] is what the client gets
//! where no upstream answers.

mod admission;
mod answer;
mod arrival;
mod call;
mod counted;
mod exchange;
mod facts;
mod held;
mod meter;
mod outgoing;
mod presence;
mod problem;
mod settlement;
mod shown;
mod stream;
mod whole_body;

use std::sync::Arc;

use axum::extract::Request;
use axum::response::Response;

use self::arrival::Arrival;
use self::call::Call;
use self::outgoing::Outgoing;
use self::presence::Client;
use self::problem::Problem;
use crate::gateway::Shared;
use crate::problem::ProblemKind;
use crate::proxy::response_headers;
use crate::usage::dialect::envelope_of;
use crate::usage::{Dialect, dialect_for};

/// Answers one request to the proxy. Every answer names the id under which the call is reported.
pub(crate) async fn answer(shared: Arc<Shared>, request: Request) -> Response {
    let arrival = Arrival::read(&shared.config, request);
    let request_id = arrival.request_id.clone();
    // Before the route is known, the path is the best hint at whose SDK is asking.
    let mut envelope = dialect_for(arrival.method(), &arrival.rest);
    let mut response = match proxied(&shared, arrival, &mut envelope).await {
        Ok(response) => response,
        Err(problem) => problem.into_response(envelope, &request_id),
    };
    if response_headers::add_request_id(response.headers_mut(), &request_id).is_err() {
        tracing::error!("a request id of the gateway's own making is no header value");
    }
    response
}

async fn proxied(
    shared: &Arc<Shared>,
    arrival: Arrival,
    envelope: &mut Option<&'static dyn Dialect>,
) -> Result<Response, Problem> {
    if shared.stopping.is_cancelled() {
        return Err(Problem::stopping());
    }
    let app = arrival.app_key()?;
    let place = shared.slots.calls.take().ok_or_else(Problem::overloaded)?;
    let route = shared.routes.resolve(&shared.control, &app, &arrival.slug).await?;
    *envelope = route.vendor.and_then(envelope_of);
    let report_place = shared.slots.reports.take().ok_or_else(Problem::overloaded)?;
    let outgoing = Outgoing::read(shared, arrival, app, route).await?;
    let (client, guard) = Client::present();
    let call = Call::new(shared, outgoing, client, place, report_place);
    let finished = shared.tasks.spawn(call.run()).await;
    drop(guard.disarm());
    finished.unwrap_or_else(|error| {
        tracing::error!(%error, "the task of a call ended early");
        Err(Problem::new(ProblemKind::Internal, "internal error"))
    })
}
