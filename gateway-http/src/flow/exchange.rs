//! A call's exchange with its upstream, up to the head of the answer or to what came instead of it.

use std::error::Error;
use std::iter;
use std::pin::Pin;
use std::sync::Arc;

use http::response::Parts;
use hyper::body::Incoming;
use hyper_util::client::legacy;
use tokio::time::{Instant, timeout_at};

use super::admission::Admitted;
use super::counted::ByteCount;
use super::outgoing::Spoken;
use super::presence::Patience;
use super::problem::Problem;
use super::settlement::{Ending, Figures, Settlement};
use crate::gateway::Shared;
use crate::gateway::slots::Place;
use crate::problem::ProblemKind;
use crate::proxy::client::UpstreamBody;
use crate::proxy::connector::{DialError, dial_error};

/// A call that was sent, or is about to be.
pub(crate) struct Exchange {
    pub(crate) shared: Arc<Shared>,
    pub(crate) admitted: Admitted,
    pub(crate) settlement: Settlement,
    pub(crate) spoken: Option<Spoken>,
    pub(crate) sent: ByteCount,
    pub(crate) sent_at: Instant,
    /// When the call is cut off, so that its reservation outlives it.
    pub(crate) deadline: Instant,
    pub(crate) patience: Patience,
    pub(crate) place: Place,
}

/// An answer's head, and the body that is still to come.
pub(crate) struct Head {
    pub(crate) parts: Parts,
    pub(crate) body: Incoming,
}

/// Why there is no head.
pub(crate) enum NoHead {
    Late,
    Failed(legacy::Error),
    GivenUp,
}

/// What the client has left and everybody has lost patience with.
pub(crate) type GivenUp<'a> = Pin<&'a mut (dyn Future<Output = ()> + Send)>;

impl Exchange {
    /// Sends the request and waits for the head of its answer.
    pub(crate) async fn send(
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
    pub(crate) fn without_head(self, no_head: &NoHead) -> Problem {
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
    pub(crate) fn settle_cut(self, figures: &Figures, kind: Option<ProblemKind>) {
        let ending = Ending {
            status: kind.map_or(0, |kind| kind.status().as_u16()),
            upstream_latency: Some(self.sent_at.elapsed()),
            bytes_out: None,
            error_type: kind.map_or("client_left", ProblemKind::code),
        };
        self.settlement.report(figures, &ending, None);
    }
}

/// Nobody reads this: the client has left.
pub(crate) fn abandoned() -> Problem {
    Problem::new(ProblemKind::InvalidRequest, "the client has left")
}

/// An error and what lies behind it, which the error alone does not say.
fn causes(error: &dyn Error) -> String {
    let behind = iter::successors(error.source(), |&cause| cause.source());
    behind.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

pub(crate) fn upstream_timeout() -> Problem {
    Problem::new(ProblemKind::UpstreamTimeout, "the upstream did not answer in time")
}

pub(crate) fn upstream_error(message: String) -> Problem {
    Problem::new(ProblemKind::UpstreamError, message)
}
