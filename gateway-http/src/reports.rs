//! Reports on their way to the server, behind the answers that they are about.
//!
//! Records of one app's key share a lane: while one report is under way the next records gather, and
//! go together. A lane that is empty is no task. Every record brings the place that its call took
//! before it began, so that what is pending here is bounded and no call begins for whose report
//! there would be no room. A report is repeated unchanged, with the same event ids, until the server
//! has taken it; what it has taken twice counts once.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use rateguard_proto::v1::{CheckQuotaRequest, RecordResult, RecordStatus, UsageRecord};
use tokio_util::task::TaskTracker;

use crate::backoff::Backoff;
use crate::config::GatewayConfig;
use crate::control::{AppKey, Control, KeyDigest};
use crate::gateway::slots::Place;

/// Takes records and sees to it that they arrive.
#[derive(Clone)]
pub(crate) struct Reporter(Arc<Shared>);

/// How a batch is sent.
#[derive(Clone, Copy, Debug)]
struct Limits {
    records_max: usize,
    attempts_max: u32,
    lost_check_repeats_max: u32,
    backoff: Backoff,
}

struct Shared {
    control: Control,
    limits: Limits,
    tasks: TaskTracker,
    lanes: Mutex<HashMap<KeyDigest, VecDeque<Pending>>>,
}

/// A record that waits, in its place.
struct Pending {
    record: UsageRecord,
    _place: Place,
}

impl Reporter {
    pub(crate) fn new(control: Control, config: &GatewayConfig, tasks: TaskTracker) -> Self {
        let limits = Limits {
            records_max: config.report_records_max.max(1),
            attempts_max: config.report_attempts_max,
            lost_check_repeats_max: config.lost_check_repeats_max,
            backoff: config.report_backoff,
        };
        Self(Arc::new(Shared { control, limits, tasks, lanes: Mutex::default() }))
    }

    /// Takes a record. Must be called on the gateway's runtime.
    pub(crate) fn send(&self, app: &AppKey, record: UsageRecord, place: Place) {
        let pending = Pending { record, _place: place };
        let mut lanes = self.0.lanes.lock();
        match lanes.entry(app.digest()) {
            // Whoever sends for this lane looks here again before it ends.
            Entry::Occupied(mut lane) => lane.get_mut().push_back(pending),
            Entry::Vacant(vacant) => {
                vacant.insert(VecDeque::from([pending]));
                self.0.tasks.spawn(send_lane(Arc::clone(&self.0), app.clone()));
            }
        }
    }

    /// How many records no report has begun to carry.
    pub(crate) fn waiting(&self) -> usize {
        self.0.lanes.lock().values().map(VecDeque::len).sum()
    }

    /// Gives a reservation back in the background.
    pub(crate) fn release(&self, app: &AppKey, reservation_id: String, place: Place) {
        let (shared, app) = (Arc::clone(&self.0), app.clone());
        self.0.tasks.spawn(async move {
            release(&shared, &app, &reservation_id).await;
            drop(place);
        });
    }

    /// Gives back in the background what a check may have reserved whose answer was lost.
    pub(crate) fn take_back(&self, app: &AppKey, check: CheckQuotaRequest, place: Place) {
        let (shared, app) = (Arc::clone(&self.0), app.clone());
        self.0.tasks.spawn(async move {
            take_back(&shared, &app, &check).await;
            drop(place);
        });
    }
}

/// Asks again what a check came to, under the same request's id, by which it happens once.
async fn take_back(shared: &Shared, app: &AppKey, check: &CheckQuotaRequest) {
    let request_id = &check.request_id;
    for failed in 1..=shared.limits.lost_check_repeats_max {
        tokio::time::sleep(shared.limits.backoff.wait(failed)).await;
        match shared.control.check(app, check.clone()).await {
            // A denial names none: nothing was reserved.
            Ok(answer) if answer.reservation_id.is_empty() => return,
            Ok(answer) => return release(shared, app, &answer.reservation_id).await,
            Err(error) if error.is_retryable => {}
            Err(error) => {
                tracing::error!(request_id, cause = error.cause, "what a check reserved is not known");
                return;
            }
        }
    }
    tracing::error!(request_id, "what a lost check may have reserved will expire");
}

async fn send_lane(shared: Arc<Shared>, app: AppKey) {
    while let Some(batch) = shared.next_batch(&app) {
        send_batch(&shared, &app, &batch).await;
    }
}

impl Shared {
    /// What waits in a lane, or the end of the lane.
    fn next_batch(&self, app: &AppKey) -> Option<Vec<Pending>> {
        let mut lanes = self.lanes.lock();
        let lane = lanes.get_mut(&app.digest())?;
        if lane.is_empty() {
            lanes.remove(&app.digest());
            return None;
        }
        let records = lane.len().min(self.limits.records_max);
        Some(lane.drain(..records).collect())
    }
}

async fn send_batch(shared: &Shared, app: &AppKey, batch: &[Pending]) {
    let mut failed = 0;
    loop {
        let records = batch.iter().map(|pending| pending.record.clone()).collect();
        let error = match shared.control.report(app, records).await {
            Ok(results) => return note_rejected(&results),
            Err(error) => error,
        };
        failed += 1;
        if !error.is_retryable || failed >= shared.limits.attempts_max {
            return note_lost(batch, failed, &error.cause);
        }
        tracing::warn!(cause = error.cause, failed, records = batch.len(), "a usage report is sent again");
        tokio::time::sleep(shared.limits.backoff.wait(failed)).await;
    }
}

fn note_rejected(results: &[RecordResult]) {
    for result in results.iter().filter(|result| result.status() == RecordStatus::Rejected) {
        tracing::error!(
            event_id = result.event_id,
            reason = result.reason().as_error_info_reason(),
            field = result.field,
            "the server refused a usage record"
        );
    }
}

/// The reservations of these calls expire into their floors; the ids are what an operator can look for.
fn note_lost(batch: &[Pending], attempts: u32, cause: &str) {
    for Pending { record, .. } in batch {
        tracing::error!(
            event_id = record.event_id,
            reservation_id = record.reservation_id,
            attempts,
            cause,
            "a usage report was given up; its reservation will expire"
        );
    }
}

async fn release(shared: &Shared, app: &AppKey, reservation_id: &str) {
    for failed in 1..=shared.limits.attempts_max {
        let Err(error) = shared.control.release(app, reservation_id).await else { return };
        if !error.is_retryable {
            tracing::error!(reservation_id, cause = error.cause, "a reservation could not be released");
            return;
        }
        tokio::time::sleep(shared.limits.backoff.wait(failed)).await;
    }
    tracing::error!(reservation_id, "a reservation was not released and will expire");
}
