//! An answer that passes while it is read: every part goes on as soon as it is here.
//!
//! The stream owns its call's settlement. When it ends, it settles; when it is dropped before its end,
//! because the client has left, what is left of it becomes a task that reads the upstream on to its
//! usage, within bounds, and settles then.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures::stream;
use http::HeaderMap;
use http_body::{Body as _, Frame};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Incoming;
use tokio::time::{Instant, timeout_at};
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::meter::{Meter, Reach};
use super::presence::Patience;
use super::settlement::{Ending, Figures, Priced, Settlement};
use super::shown;
use crate::gateway::slots::Place;
use crate::proxy::response_headers;

/// An answer on its way.
pub(crate) struct Live {
    pub(crate) upstream: Incoming,
    /// Bytes that were read, and metered, before the answer began to pass.
    pub(crate) ahead: Bytes,
    pub(crate) meter: Meter,
    pub(crate) settlement: Settlement,
    pub(crate) status: u16,
    pub(crate) sent_at: Instant,
    /// Longest wait for the next part.
    pub(crate) part_wait_max: Duration,
    /// When it has to have passed.
    pub(crate) deadline: Instant,
    /// What the client was told that it costs.
    pub(crate) priced: Option<Priced>,
    /// Whether the client is told behind the body.
    pub(crate) tells_cost: bool,
    pub(crate) patience: Patience,
    pub(crate) place: Place,
    /// Makes a shutdown wait for the answer.
    pub(crate) token: TaskTrackerToken,
    pub(crate) progress: Progress,
}

/// How far an answer has come.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Progress {
    bytes_out: u64,
    ended: bool,
}

/// Why an answer was cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum Cut {
    #[error("the upstream broke off its answer")]
    Broken,
    #[error("the upstream's answer did not go on in time")]
    Slow,
}

/// Sees to it that a stream is settled whatever becomes of it.
struct Relay {
    live: Option<Live>,
}

impl Live {
    /// The answer's body for the client.
    pub(crate) fn into_body(self) -> Body {
        let relay = Relay { live: Some(self) };
        Body::new(StreamBody::new(stream::unfold(relay, Relay::next)))
    }

    /// The next bytes for the client; `None` at the end. Loses nothing when it is dropped.
    async fn next_bytes(&mut self) -> Result<Option<Bytes>, Cut> {
        if !self.ahead.is_empty() {
            return Ok(Some(std::mem::take(&mut self.ahead)));
        }
        while !self.progress.ended {
            let until = self.deadline.min(Instant::now() + self.part_wait_max);
            let bytes = match timeout_at(until, self.upstream.frame()).await {
                Err(_) => return Err(Cut::Slow),
                Ok(Some(Err(_))) => return Err(Cut::Broken),
                Ok(Some(Ok(frame))) => {
                    frame.into_data().map(|data| self.meter.feed(data)).unwrap_or_default()
                }
                Ok(None) => self.end(),
            };
            if !bytes.is_empty() {
                return Ok(Some(bytes));
            }
        }
        Ok(None)
    }

    fn end(&mut self) -> Bytes {
        self.progress.ended = true;
        self.meter.finish()
    }

    /// Whether the upstream's end is known already, so that no further part has to be asked for. Where
    /// its length was declared, the client's connection does not ask for one.
    fn has_ended_early(&self) -> bool {
        self.upstream.is_end_stream() && self.ahead.is_empty() && !self.tells_cost && !self.meter.holds_back()
    }

    /// Reads on for the usage alone, until nothing that comes can change it.
    async fn read_on(&mut self) {
        while !self.meter.is_complete() {
            match self.next_bytes().await {
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => return,
            }
        }
    }

    fn reach(&self) -> Reach {
        let whole =
            self.progress.ended || (self.meter.is_complete() && matches!(self.meter, Meter::Events(_)));
        if whole { Reach::Whole } else { Reach::Cut }
    }

    fn figures(&self) -> Figures {
        self.meter.figures(self.status, self.reach(), self.settlement.facts.expected.as_ref())
    }

    fn ending(&self, error_type: &'static str) -> Ending {
        let is_refusal = self.status >= 400 && error_type.is_empty();
        Ending {
            status: self.status,
            upstream_latency: Some(self.sent_at.elapsed()),
            bytes_out: Some(self.progress.bytes_out),
            error_type: if is_refusal { "upstream_error" } else { error_type },
        }
    }

    fn settle(self, error_type: &'static str) {
        let (figures, ending) = (self.figures(), self.ending(error_type));
        self.settlement.report(&figures, &ending, self.priced.as_ref());
        drop((self.place, self.token));
    }
}

impl Relay {
    async fn next(mut self) -> Option<(Result<Frame<Bytes>, Cut>, Self)> {
        let live = self.live.as_mut()?;
        let frame = match live.next_bytes().await {
            Ok(Some(bytes)) => {
                let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                live.progress.bytes_out = live.progress.bytes_out.saturating_add(length);
                if live.has_ended_early() {
                    live.end();
                    self.finish().await;
                }
                Ok(Frame::data(bytes))
            }
            Ok(None) => Ok(Frame::trailers(self.finish().await?)),
            Err(cut) => Err(self.cut_off(cut)),
        };
        Some((frame, self))
    }

    /// Settles a stream that came to its end, and gives what is told behind it.
    async fn finish(&mut self) -> Option<HeaderMap> {
        if let Some(live) = self.live.as_mut().filter(|live| live.tells_cost) {
            live.priced = live.settlement.price(&live.figures(), &live.ending("")).await;
        }
        let live = self.live.take()?;
        let told = live.priced.as_ref().filter(|_| live.tells_cost).map(cost_fields);
        live.settle("");
        told
    }

    fn cut_off(&mut self, cut: Cut) -> Cut {
        let error_type = match cut {
            Cut::Broken => "upstream_error",
            Cut::Slow => "upstream_timeout",
        };
        if let Some(live) = self.live.take() {
            let request_id = &live.settlement.facts.request_id;
            tracing::warn!(request_id, %cut, "an answer was cut off");
            live.settle(error_type);
        }
        cut
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let Some(live) = self.live.take() else { return };
        let shared = live.settlement.shared();
        shared.tasks.spawn_on(drain(live), &shared.runtime);
    }
}

/// What is left to do when nobody asks for more: the client has left, or an answer without a body has
/// nothing to be asked for.
async fn drain(mut live: Live) {
    if live.upstream.is_end_stream() && live.ahead.is_empty() {
        live.end();
        return live.settle("");
    }
    if let Some(_place) = live.patience.places.take() {
        let until = Instant::now() + live.patience.duration_max;
        if timeout_at(until, live.read_on()).await.is_err() {
            let request_id = &live.settlement.facts.request_id;
            tracing::warn!(request_id, "an upstream was not read on to its usage: it takes too long");
        }
    }
    live.settle("client_left");
}

/// The cost as fields of a head or behind a body.
pub(crate) fn cost_fields(priced: &Priced) -> HeaderMap {
    let mut fields = HeaderMap::new();
    if priced.is_known {
        response_headers::add_cost(&mut fields, shown::money(&priced.cost));
    }
    fields
}
