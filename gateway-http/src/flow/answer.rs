//! The ways of an upstream's answer to the client: held back until it is whole, or passed on as it comes,
//! with or without anybody reading what was used.

use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::response::Parts;
use hyper::body::Incoming;
use tokio::time::{Instant, timeout_at};

use super::exchange::{Exchange, GivenUp, Head, abandoned, upstream_error, upstream_timeout};
use super::held::{Held, hold};
use super::meter::{self, EventMeter, Meter, WholeMeter};
use super::problem::Problem;
use super::settlement::{Ending, Figures, Priced};
use super::shown;
use super::stream::{Live, Progress, cost_fields};
use crate::problem::ProblemKind;
use crate::proxy::headers::{BodyLength, toward_client};
use crate::proxy::response_headers::{self, COST, COST_CENTS};
use crate::usage::Dialect;

impl Exchange {
    /// Answers the client with what the upstream has begun to answer.
    pub(crate) async fn answer(self, head: Head, given_up: GivenUp<'_>) -> Result<Response, Problem> {
        if head.parts.status.is_informational() {
            let floor = Figures::input_floor(&self.settlement.facts);
            self.settle_cut(&floor, Some(ProblemKind::UpstreamError));
            return Err(upstream_error("the upstream did not answer".to_owned()));
        }
        match &self.spoken {
            None => Ok(self.pass_unread(head).await),
            Some(spoken) if is_event_stream(&head.parts.headers) => {
                let meter = Meter::Events(EventMeter::new(spoken));
                let length =
                    if spoken.prepared.usage_asked { BodyLength::Kept } else { BodyLength::MayChange };
                Ok(self.pass(head, Bytes::new(), meter, length))
            }
            Some(spoken) => {
                let dialect = spoken.dialect;
                self.hold(head, dialect, given_up).await
            }
        }
    }

    async fn hold(
        self,
        head: Head,
        dialect: &'static dyn Dialect,
        given_up: GivenUp<'_>,
    ) -> Result<Response, Problem> {
        let config = &self.shared.config;
        let part_wait_max = self.settlement.facts.route.timeout;
        let mut lease = self.shared.slots.memory.lease();
        let holding = hold(head.body, config.held_answer_bytes_max, part_wait_max, &mut lease);
        let held = tokio::select! {
            biased;
            held = timeout_at(self.answer_deadline(), holding) => held.unwrap_or(Held::Slow),
            () = given_up => return Err(self.cut_while_held(None)),
        };
        match held {
            Held::Whole(body) => Ok(self.answer_whole(head.parts, body, dialect).await),
            Held::Broken => Err(self.cut_while_held(Some(ProblemKind::UpstreamError))),
            Held::Slow => Err(self.cut_while_held(Some(ProblemKind::UpstreamTimeout))),
            Held::Large(ahead, body) => {
                let mut meter = Meter::Whole(WholeMeter::new(dialect, config.read_answer_bytes_max, lease));
                let ahead = meter.feed(ahead);
                Ok(self.pass(Head { parts: head.parts, body }, ahead, meter, BodyLength::Kept))
            }
        }
    }

    /// The upstream began to answer, so it bills something that nobody will ever see.
    fn cut_while_held(self, kind: Option<ProblemKind>) -> Problem {
        let floor = Figures::input_floor(&self.settlement.facts);
        self.settle_cut(&floor, kind);
        match kind {
            None => abandoned(),
            Some(ProblemKind::UpstreamTimeout) => upstream_timeout(),
            Some(_) => upstream_error("the upstream broke off its answer".to_owned()),
        }
    }

    async fn answer_whole(self, parts: Parts, body: Bytes, dialect: &dyn Dialect) -> Response {
        let status = parts.status.as_u16();
        let upstream_latency = self.sent_at.elapsed();
        let figures = meter::of_whole(dialect, &body, status);
        let ending = Ending {
            status,
            upstream_latency: Some(upstream_latency),
            bytes_out: u64::try_from(body.len()).ok(),
            error_type: if status >= 400 { "upstream_error" } else { "" },
        };
        let mut headers = toward_client(&parts.headers, BodyLength::Kept);
        let priced = self.add_cost(&mut headers, &figures, &ending).await;
        self.add_own(&mut headers, upstream_latency);
        self.settlement.report(&figures, &ending, priced.as_ref());
        drop(self.place);
        respond(parts, headers, Body::from(body))
    }

    /// Forwards an answer of which nothing is read: what it costs is known with its status.
    async fn pass_unread(self, head: Head) -> Response {
        let status = head.parts.status.as_u16();
        let figures = Meter::Unread.figures(status, meter::Reach::Whole, None);
        let upstream_latency = self.sent_at.elapsed();
        let ending = Ending { status, upstream_latency: Some(upstream_latency), ..Ending::default() };
        let mut headers = toward_client(&head.parts.headers, BodyLength::Kept);
        let priced = self.add_cost(&mut headers, &figures, &ending).await;
        self.add_own(&mut headers, upstream_latency);
        let mut live = self.live(status, head.body, Bytes::new(), Meter::Unread);
        live.priced = priced;
        respond(head.parts, headers, live.into_body())
    }

    /// Forwards an answer that is read while it passes.
    fn pass(self, head: Head, ahead: Bytes, meter: Meter, length: BodyLength) -> Response {
        let facts = &self.settlement.facts;
        let mut headers = toward_client(&head.parts.headers, length);
        self.add_own(&mut headers, self.sent_at.elapsed());
        if let Some(reserved) = self.admitted.reserved.as_ref().filter(|_| facts.route.show_spend) {
            response_headers::add_cost_estimate(&mut headers, shown::money(reserved));
        }
        let is_chunked = !headers.contains_key(header::CONTENT_LENGTH);
        let tells_cost = facts.route.show_spend && facts.takes_trailers && is_chunked;
        if tells_cost {
            headers.append(header::TRAILER, announced());
        }
        let mut live = self.live(head.parts.status.as_u16(), head.body, ahead, meter);
        live.tells_cost = tells_cost;
        respond(head.parts, headers, live.into_body())
    }

    /// When an answer whose head is here has to have passed.
    fn answer_deadline(&self) -> Instant {
        self.deadline.min(Instant::now() + self.shared.config.answer_duration_max)
    }

    fn live(self, status: u16, upstream: Incoming, ahead: Bytes, meter: Meter) -> Live {
        Live {
            upstream,
            ahead,
            meter,
            status,
            sent_at: self.sent_at,
            part_wait_max: self.settlement.facts.route.timeout,
            deadline: self.answer_deadline(),
            settlement: self.settlement,
            priced: None,
            tells_cost: false,
            patience: self.patience,
            place: self.place,
            token: self.shared.tasks.token(),
            progress: Progress::default(),
        }
    }

    /// Adds what the call costs, where its client may know.
    async fn add_cost(&self, headers: &mut HeaderMap, figures: &Figures, ending: &Ending) -> Option<Priced> {
        if !self.settlement.facts.route.show_spend {
            return None;
        }
        let priced = self.settlement.price(figures, ending).await?;
        headers.extend(cost_fields(&priced));
        Some(priced)
    }

    /// The gateway's own headers that every forwarded answer has.
    fn add_own(&self, headers: &mut HeaderMap, upstream_latency: Duration) {
        let facts = &self.settlement.facts;
        shown::add_limits(headers, &self.admitted.limits, facts.route.show_spend);
        shown::add_degraded(headers, self.admitted.degraded);
        let added = facts.arrived.elapsed().saturating_sub(upstream_latency);
        response_headers::add_latencies(headers, added, Some(upstream_latency));
    }
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    let media_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = media_type.and_then(|media_type| media_type.split(';').next());
    essence.is_some_and(|essence| essence.trim().eq_ignore_ascii_case("text/event-stream"))
}

/// The fields that may stand behind a body, as HTTP/1.1 wants them announced.
fn announced() -> HeaderValue {
    HeaderValue::from_str(&format!("{COST}, {COST_CENTS}")).expect("names of headers are a header value")
}

fn respond(parts: Parts, headers: HeaderMap, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = parts.status;
    *response.headers_mut() = headers;
    response
}
