//! The task of one call: check, forward, answer, settle.

use std::error::Error;
use std::iter;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::response::Parts;
use hyper::body::Incoming;
use hyper_util::client::legacy;
use tokio::time::{Instant, timeout_at};

use super::admission::{self, Admitted};
use super::counted::ByteCount;
use super::facts::Facts;
use super::held::{Held, hold};
use super::meter::{self, EventMeter, Meter, WholeMeter};
use super::outgoing::{Outgoing, Spoken};
use super::presence::{Client, Patience};
use super::problem::Problem;
use super::settlement::{Ending, Figures, Priced, Settlement, report_denied};
use super::shown;
use super::stream::{Live, Progress, cost_fields};
use crate::gateway::Shared;
use crate::gateway::slots::Place;
use crate::problem::ProblemKind;
use crate::proxy::client::UpstreamBody;
use crate::proxy::connector::{DialError, dial_error};
use crate::proxy::headers::{BodyLength, toward_client};
use crate::proxy::response_headers::{self, COST, COST_CENTS};
use crate::usage::Dialect;

/// A call that was read and not decided yet.
pub(crate) struct Call {
    shared: Arc<Shared>,
    outgoing: Outgoing,
    client: Client,
    place: Place,
    report_place: Place,
}

/// A call that was sent, or is about to be.
struct Exchange {
    shared: Arc<Shared>,
    admitted: Admitted,
    settlement: Settlement,
    spoken: Option<Spoken>,
    sent: ByteCount,
    sent_at: Instant,
    /// When the call is cut off, so that its reservation outlives it.
    deadline: Instant,
    patience: Patience,
    place: Place,
}

/// An answer's head, and the body that is still to come.
struct Head {
    parts: Parts,
    body: Incoming,
}

/// Why there is no head.
enum NoHead {
    Late,
    Failed(legacy::Error),
    GivenUp,
}

/// What the client has left and everybody has lost patience with.
type GivenUp<'a> = Pin<&'a mut (dyn Future<Output = ()> + Send)>;

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

/// Nobody reads this: the client has left.
fn abandoned() -> Problem {
    Problem::new(ProblemKind::InvalidRequest, "the client has left")
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

impl Exchange {
    async fn send(
        &self,
        request: http::Request<UpstreamBody>,
        given_up: GivenUp<'_>,
    ) -> Result<Head, NoHead> {
        let route = &self.settlement.facts.route;
        let sending = self.shared.upstreams.for_policy(route.policy).request(request);
        tokio::select! {
            biased;
            head = timeout_at(self.deadline.min(self.sent_at + route.timeout), sending) => match head {
                Ok(Ok(answer)) => {
                    let (parts, body) = answer.into_parts();
                    Ok(Head { parts, body })
                }
                Ok(Err(error)) => Err(NoHead::Failed(error)),
                Err(_) => Err(NoHead::Late),
            },
            () = given_up => Err(NoHead::GivenUp),
        }
    }

    /// Settles a call that got no answer, and says what to tell its client. What surely never left is
    /// given back; what may have arrived costs its input at least.
    fn without_head(self, no_head: &NoHead) -> Problem {
        let (problem, was_never_sent) = match no_head {
            NoHead::GivenUp => (abandoned(), self.nothing_was_sent()),
            NoHead::Late => (upstream_timeout(), self.nothing_was_sent()),
            NoHead::Failed(error) => match dial_error(error) {
                Some(DialError::Deadline) => (upstream_timeout(), true),
                Some(dial_error) => (upstream_error(dial_error.to_string()), true),
                None => (upstream_error("the upstream did not answer".to_owned()), error.is_connect()),
            },
        };
        let request_id = &self.settlement.facts.request_id;
        if let NoHead::Failed(error) = no_head {
            let cause = causes(error);
            tracing::warn!(request_id, cause, was_never_sent, "an upstream could not be asked");
        }
        if was_never_sent {
            self.settlement.release();
        } else {
            let is_given_up = matches!(no_head, NoHead::GivenUp);
            let floor = Figures::input_floor(&self.settlement.facts);
            self.settle_cut(&floor, if is_given_up { None } else { Some(problem.kind) });
        }
        problem
    }

    /// A body in a dialect is never empty: if no connection took a byte of it, nothing left.
    fn nothing_was_sent(&self) -> bool {
        self.spoken.is_some() && self.sent.get() == 0
    }

    /// Reports a call that was answered by the gateway with `kind`, or by nobody.
    fn settle_cut(self, figures: &Figures, kind: Option<ProblemKind>) {
        let ending = Ending {
            status: kind.map_or(0, |kind| kind.status().as_u16()),
            upstream_latency: Some(self.sent_at.elapsed()),
            bytes_out: None,
            error_type: kind.map_or("client_left", ProblemKind::code),
        };
        self.settlement.report(figures, &ending, None);
    }

    async fn answer(self, head: Head, given_up: GivenUp<'_>) -> Result<Response, Problem> {
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
        let added = facts.arrived.elapsed().saturating_sub(upstream_latency);
        response_headers::add_latencies(headers, added, Some(upstream_latency));
    }
}

/// An error and what lies behind it, which the error alone does not say.
fn causes(error: &dyn Error) -> String {
    let behind = iter::successors(error.source(), |&cause| cause.source());
    behind.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

fn upstream_timeout() -> Problem {
    Problem::new(ProblemKind::UpstreamTimeout, "the upstream did not answer in time")
}

fn upstream_error(message: String) -> Problem {
    Problem::new(ProblemKind::UpstreamError, message)
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
