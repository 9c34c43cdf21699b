//! What callers ask of replicas, and the way there and back.

use std::sync::Arc;

use rateguard_core::amounts::Amounts;
use rateguard_core::decision::Mode;
use rateguard_core::ids::ReservationId;
use rateguard_engine::check::{CheckRequest, CheckResponse};
use rateguard_engine::report::{RecordOutcome, UsageRecord};
use tokio::time::sleep;

use crate::network::{World, millis};
use crate::replica::{Replica, Servers, Serving};
use crate::steps::{Answered, Step};

/// What a caller asks.
#[derive(Clone, Debug)]
pub enum Ask {
    /// To decide.
    Check(CheckRequest),
    /// To take a record.
    Report(UsageRecord),
    /// To give a reservation back.
    Release(ReservationId),
    /// To let a reservation go on for so many milliseconds.
    Renew(ReservationId, i64),
}

/// What it hears.
#[derive(Clone, Debug)]
pub enum Answer {
    /// The decision.
    Checked(CheckResponse),
    /// What was asked is done, or was before.
    Done,
}

/// Sends a call to a replica. Request and answer take their time and are lost; nothing is heard then,
/// nor of a call that nobody could answer.
pub async fn send(world: Arc<World>, servers: Servers, replica: Arc<Replica>, ask: Ask) -> Option<Answer> {
    let fate = world.faults().fate(&world.dice, false);
    sleep(millis(fate.there_ms?)).await;
    let answer = replica.call(move |serving| Box::pin(serve(serving, servers, ask))).await?;
    sleep(millis(fate.back_ms?)).await;
    answer
}

async fn serve(serving: Serving, servers: Servers, ask: Ask) -> Option<Answer> {
    match ask {
        Ask::Check(request) => check(&serving, &servers, request).await.map(Answer::Checked),
        Ask::Report(record) => report(&serving, record).await,
        Ask::Renew(id, ttl_ms) => {
            serving.engine.renew(&serving.caller, &id, ttl_ms).await.ok().map(|_| Answer::Done)
        }
        Ask::Release(id) => serving.engine.release(&serving.caller, &id).await.ok().map(|_| Answer::Done),
    }
}

async fn check(serving: &Serving, servers: &Servers, request: CheckRequest) -> Option<CheckResponse> {
    let from = servers.counters.earliest().await;
    let response = serving.engine.check(&serving.caller, &request).await.ok()?;
    if request.mode == Mode::Peek {
        return Some(response);
    }
    let to = servers.counters.now().await;
    let answered = Answered {
        replica: serving.life.replica,
        request_id: request.request_id,
        subject: request.call.subject,
        amounts: named(&request.amounts),
        from,
        to,
        response: response.clone(),
    };
    tell(serving, &Step::Answered(Box::new(answered)));
    Some(response)
}

fn named(amounts: &Amounts) -> Vec<(String, i64)> {
    amounts.iter().map(|(unit, amount)| (unit.to_string(), *amount)).collect()
}

async fn report(serving: &Serving, record: UsageRecord) -> Option<Answer> {
    let event = record.event_id.clone();
    let outcomes = serving.engine.report(&serving.caller, vec![record]).await.ok()?;
    if let Some(RecordOutcome::Accepted { .. }) = outcomes.first() {
        tell(serving, &Step::Accepted(event));
    }
    Some(Answer::Done)
}

/// What a process does that has crashed, nobody sees.
fn tell(serving: &Serving, step: &Step) {
    if serving.life.is_alive() {
        let world = serving.life.world();
        world.history.lock().record(world.time.elapsed_ms(), step);
    }
}
