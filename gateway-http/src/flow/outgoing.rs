//! The request that goes upstream, made before anything is reserved: what cannot be sent need not be
//! checked.

use std::sync::Arc;

use axum::body::Body;
use http::header;
use http::request::Parts;
use http::{HeaderMap, Request, Uri, Version};

use super::arrival::Arrival;
use super::counted::{ByteCount, Counted};
use super::facts::{Expected, Facts};
use super::problem::Problem;
use super::whole_body;
use crate::control::AppKey;
use crate::gateway::Shared;
use crate::gateway::slots::Lease;
use crate::problem::ProblemKind;
use crate::proxy::client::UpstreamBody;
use crate::proxy::headers::{AnswerUse, check_carried, toward_upstream};
use crate::proxy::hops::HOPS;
use crate::proxy::target::UpstreamTarget;
use crate::routes::Route;
use crate::usage::{Dialect, Prepared, RequestView};

/// A call that is ready to be made.
pub(crate) struct Outgoing {
    pub(crate) facts: Facts,
    pub(crate) spoken: Option<Spoken>,
    pub(crate) request: Request<UpstreamBody>,
    /// Bytes of the body that a connection has taken.
    pub(crate) sent: ByteCount,
    /// The memory that the request's body takes.
    pub(crate) lease: Option<Lease>,
}

/// The dialect of a call, and what it made of the request.
pub(crate) struct Spoken {
    pub(crate) dialect: &'static dyn Dialect,
    pub(crate) prepared: Prepared,
}

impl Outgoing {
    /// Reads as much of the request as has to be known: on a dialect all of it.
    pub(crate) async fn read(
        shared: &Shared,
        arrival: Arrival,
        app: AppKey,
        route: Arc<Route>,
    ) -> Result<Self, Problem> {
        check_carried(&arrival.head.headers)
            .map_err(|error| Problem::new(ProblemKind::InvalidRequest, error.to_string()))?;
        let hops = shared.marker.add_to(&arrival.head.headers)?;
        let target = route.target(&arrival.rest, arrival.head.uri.query());
        let target = target.map_err(|error| Problem::new(ProblemKind::InvalidRequest, error.to_string()))?;
        let facts = facts(&arrival, app, route, &target)?;
        let mut outgoing = match facts.route.dialect(&facts.method, target.path()) {
            Some(dialect) => Self::spoken(shared, arrival, facts, target, dialect).await,
            None => Self::unread(arrival, facts, target),
        }?;
        outgoing.request.headers_mut().insert(HOPS, hops);
        Ok(outgoing)
    }

    fn unread(arrival: Arrival, facts: Facts, target: UpstreamTarget) -> Result<Self, Problem> {
        let sent = facts.bytes_in.clone();
        let body = UpstreamBody::new(Counted::new(arrival.body, sent.clone()));
        let request = upstream_request(&facts.route, &arrival.head, target, AnswerUse::PassThrough, body)?;
        Ok(Self { facts, spoken: None, request, sent, lease: None })
    }

    async fn spoken(
        shared: &Shared,
        arrival: Arrival,
        mut facts: Facts,
        target: UpstreamTarget,
        dialect: &'static dyn Dialect,
    ) -> Result<Self, Problem> {
        let body = whole_body::read(shared, &arrival.head, arrival.body).await?;
        facts.bytes_in.add(body.bytes.len());
        let view = RequestView { method: &facts.method, path: target.path(), body: &body.bytes };
        let mut prepared = dialect.prepare_request(&view)?;
        facts.expected = Some(Expected::of(&prepared, &facts.route));
        let sent = ByteCount::default();
        let bytes = std::mem::take(&mut prepared.body);
        let upstream_body = UpstreamBody::new(Counted::new(Body::from(bytes), sent.clone()));
        let request = upstream_request(&facts.route, &arrival.head, target, AnswerUse::Read, upstream_body)?;
        let spoken = Some(Spoken { dialect, prepared });
        Ok(Self { facts, spoken, request, sent, lease: Some(body.lease) })
    }
}

fn facts(
    arrival: &Arrival,
    app: AppKey,
    route: Arc<Route>,
    target: &UpstreamTarget,
) -> Result<Facts, Problem> {
    Ok(Facts {
        request_id: arrival.request_id.clone(),
        arrived: arrival.arrived,
        occurred_at: arrival.occurred_at,
        app,
        route,
        endpoint: target.endpoint().to_owned(),
        method: arrival.head.method.clone(),
        subject: arrival.subject()?,
        ip: arrival.ip,
        bytes_in: ByteCount::default(),
        expected: None,
        takes_trailers: takes_trailers(&arrival.head),
    })
}

/// The request with the client's headers that may pass, and the operator's credential.
fn upstream_request(
    route: &Route,
    head: &Parts,
    target: UpstreamTarget,
    answer: AnswerUse,
    body: UpstreamBody,
) -> Result<Request<UpstreamBody>, Problem> {
    let mut headers = toward_upstream(&head.headers, answer);
    let target = route.credential.inject(&mut headers, target);
    let target = target.map_err(|error| Problem::new(ProblemKind::UpstreamError, error.to_string()))?;
    let mut request = Request::new(body);
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = Uri::clone(target.uri());
    *request.headers_mut() = headers;
    Ok(request)
}

/// HTTP/2 always carries trailers, HTTP/1.1 to those who ask for them.
fn takes_trailers(head: &Parts) -> bool {
    head.version >= Version::HTTP_2 || (head.version == Version::HTTP_11 && asks_for_trailers(&head.headers))
}

fn asks_for_trailers(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::TE).iter().filter_map(|value| value.to_str().ok());
    let mut codings = values.flat_map(|value| value.split(','));
    codings.any(|coding| coding.trim().eq_ignore_ascii_case("trailers"))
}
