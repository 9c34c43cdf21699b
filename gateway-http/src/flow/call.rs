//! The task of one call: may it go ahead, and if so, onward to its exchange with the upstream.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::response::Response;
use tokio::time::Instant;

use super::admission::{self, Admitted};
use super::exchange::{Exchange, abandoned};
use super::facts::Facts;
use super::outgoing::Outgoing;
use super::presence::{Client, Patience};
use super::problem::Problem;
use super::settlement::{Settlement, report_denied};
use crate::gateway::Shared;
use crate::gateway::slots::Place;

/// A call that was read and not decided yet.
pub(crate) struct Call {
    shared: Arc<Shared>,
    outgoing: Outgoing,
    client: Client,
    place: Place,
    report_place: Place,
}

impl Call {
    pub(crate) fn new(
        shared: &Arc<Shared>,
        outgoing: Outgoing,
        client: Client,
        place: Place,
        report_place: Place,
    ) -> Self {
        Self { shared: Arc::clone(shared), outgoing, client, place, report_place }
    }

    pub(crate) async fn run(self) -> Result<Response, Problem> {
        let Self { shared, outgoing, client, place, report_place } = self;
        let Outgoing { facts, spoken, request, sent, lease } = outgoing;
        // The reservation is made later than this, and so outlives the call.
        let deadline = Instant::now() + admission::duration_max(&shared.config, facts.route.timeout);
        let (admitted, report_place) = admit(&shared, &facts, report_place).await?;
        let reservation_id = admitted.reservation_id.clone();
        let settlement = Settlement::new(Arc::clone(&shared), facts, reservation_id, report_place);
        if client.has_left() {
            settlement.release();
            return Err(abandoned());
        }
        let patience = patience(&shared, spoken.is_some());
        let sent_at = Instant::now();
        let exchange = Exchange {
            shared,
            admitted,
            settlement,
            spoken,
            sent,
            sent_at,
            deadline,
            place,
            patience: patience.clone(),
        };
        let mut given_up = pin!(client.given_up(&patience));
        let head = exchange.send(request, given_up.as_mut()).await;
        drop(lease);
        match head {
            Ok(head) => exchange.answer(head, given_up.as_mut()).await,
            Err(no_head) => Err(exchange.without_head(&no_head)),
        }
    }
}

/// Without a dialect nothing is read from an answer, so there is no use in waiting for it.
fn patience(shared: &Shared, reads_usage: bool) -> Patience {
    let duration_max = if reads_usage { shared.config.drain_duration_max } else { Duration::ZERO };
    Patience { places: shared.slots.drains.clone(), duration_max }
}

async fn admit(shared: &Shared, facts: &Facts, place: Place) -> Result<(Admitted, Place), Problem> {
    let question = admission::question(facts, &shared.config);
    let answer = match shared.control.check(&facts.app, question.clone()).await {
        Ok(answer) => answer,
        Err(error) => {
            let (request_id, cause) = (&facts.request_id, &error.cause);
            tracing::debug!(request_id, cause, "a call could not be decided");
            if error.may_be_done {
                shared.reports.take_back(&facts.app, question, place);
            }
            return Err(error.into());
        }
    };
    match admission::admitted(answer, &facts.route) {
        Ok(admitted) => Ok((admitted, place)),
        Err(problem) => {
            if shared.config.denials_reported {
                report_denied(shared, facts, problem.kind.status().as_u16(), problem.kind.code(), place);
            }
            Err(problem)
        }
    }
}
