//! The short way of calls that programs make all the time: checks, reports, and Envoy's questions.
//!
//! A router looks a path up among many and holds every service in a box, and what browsers need stands before
//! it. A plain gRPC call of one of these services needs neither: it is told apart by its path alone and goes
//! past both. Whatever else comes takes the long way, and so does every call of these services that is not
//! plain gRPC, so that there is one place that answers it. The layers that a call has to pass are the same
//! ones on both ways.

use std::convert::Infallible;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use futures::TryFutureExt;
use futures::future::{BoxFuture, Either, MapOk, Ready};
use http::{Request, Response};
use rateguard_proto::envoy::service::ratelimit::v3::rate_limit_service_server::{
    RateLimitServiceServer, SERVICE_NAME as ENVOY,
};
use rateguard_proto::v1::quota_service_server::{QuotaServiceServer, SERVICE_NAME as QUOTA};
use rateguard_proto::v1::usage_service_server::{SERVICE_NAME as USAGE, UsageServiceServer};
use tower::{Layer, Service};

use crate::auth::{AuthLayer, Authenticated};
use crate::deadline::{DeadlineLayer, InTime, Timed};
use crate::details::{Detailed, DetailsLayer};
use crate::front::is_plain_call;
use crate::services::envoy::EnvoyRateLimits;
use crate::services::quota::Quota;
use crate::services::usage::Usage;

/// The services that are called directly, behind the layers that every call passes. None of their methods is
/// open to everybody, so that nobody sends them a message without a credential.
#[derive(Clone)]
pub struct DirectCalls(Timed<Detailed<Authenticated<Called>>>);

/// The same before whatever answers all other requests.
#[derive(Clone)]
pub struct Direct<R> {
    calls: DirectCalls,
    rest: R,
}

/// The services themselves.
#[derive(Clone)]
pub struct Called {
    /// Checks.
    pub quota: QuotaServiceServer<Quota>,
    /// Reports.
    pub usage: UsageServiceServer<Usage>,
    /// Envoy's questions; `None` where no Envoy calls.
    pub envoy: Option<RateLimitServiceServer<EnvoyRateLimits>>,
}

/// What tonic's services answer, on its way.
type Boxed = BoxFuture<'static, Result<Response<tonic::body::Body>, Infallible>>;
type Answered = MapOk<Boxed, fn(Response<tonic::body::Body>) -> Response<Body>>;
type Answer = Ready<Result<Response<Body>, Infallible>>;
type Admitted = MapOk<Either<Answered, Answer>, fn(Response<Body>) -> Response<Body>>;

/// Which of the services a call is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Quota,
    Usage,
    Envoy,
}

impl DirectCalls {
    /// The services, for those whom `auth` lets in.
    pub fn new(called: Called, auth: &AuthLayer) -> Self {
        Self((DeadlineLayer, DetailsLayer, auth).layer(called))
    }

    /// Puts the services before whatever answers all other requests.
    pub fn before<R>(self, rest: R) -> Direct<R> {
        Direct { calls: self, rest }
    }
}

impl<R, B> Service<Request<B>> for Direct<R>
where
    R: Service<Request<B>, Response = Response<Body>, Error = Infallible>,
    B: http_body::Body<Data = Bytes, Error: Into<axum::BoxError> + Send> + Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<InTime<Admitted>, R::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.rest.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        if place(request.uri().path()).is_some() && is_plain_call(&request) {
            Either::Left(self.calls.0.call(request))
        } else {
            Either::Right(self.rest.call(request))
        }
    }
}

impl<B> Service<Request<B>> for Called
where
    B: http_body::Body<Data = Bytes, Error: Into<axum::BoxError> + Send> + Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answered;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let answer = match (place(request.uri().path()), &mut self.envoy) {
            (Some(Place::Usage), _) => self.usage.call(request),
            (Some(Place::Envoy), Some(envoy)) => envoy.call(request),
            // It has an answer also for a path that is not its own: that there is no such method.
            _ => self.quota.call(request),
        };
        answer.map_ok(|answer| answer.map(Body::new))
    }
}

/// For which of the services a call is, by its path.
fn place(path: &str) -> Option<Place> {
    match path.strip_prefix('/')?.split_once('/')?.0 {
        QUOTA => Some(Place::Quota),
        USAGE => Some(Place::Usage),
        ENVOY => Some(Place::Envoy),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use rateguard_proto::access::{Access, METHODS};

    use super::*;

    #[test]
    fn no_method_that_is_called_directly_is_open_to_everybody() {
        let direct: Vec<_> = METHODS.iter().filter(|method| place(method.path).is_some()).collect();
        assert!(direct.len() > 3, "{direct:?}");
        assert!(direct.iter().all(|method| method.access != Access::Everybody), "{direct:?}");
    }

    #[test]
    fn a_path_is_told_by_its_whole_service() {
        assert_eq!(place("/rateguard.v1.QuotaService/CheckQuota"), Some(Place::Quota));
        for other in
            ["", "/", "/rateguard.v1.QuotaService", "/rateguard.v1.QuotaServices/CheckQuota", "/health"]
        {
            assert_eq!(place(other), None, "{other}");
        }
    }
}
