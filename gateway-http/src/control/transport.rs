//! Whatever carries gRPC requests, with its type forgotten.

use std::task::{Context, Poll};

use bytes::Bytes;
use tonic::body::Body;
use tower::util::BoxCloneSyncService;
use tower::{Service, ServiceExt as _};

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Boxed = BoxCloneSyncService<http::Request<Body>, http::Response<Body>, BoxError>;

/// A service that the generated clients speak through: the server's own router in the same process,
/// or a channel to a remote one. Forgetting its type costs one allocation a question and keeps the
/// rest of the gateway free of type parameters.
#[derive(Clone)]
pub struct Transport(Boxed);

impl Transport {
    /// Takes any service that a generated client takes, if it can be shared among tasks.
    pub fn new<S, B>(service: S) -> Self
    where
        S: Service<http::Request<Body>, Response = http::Response<B>> + Clone + Send + Sync + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
        B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        let unified =
            service.map_response(|response| response.map(Body::new)).map_err(Into::<BoxError>::into);
        Self(BoxCloneSyncService::new(unified))
    }
}

impl Service<http::Request<Body>> for Transport {
    type Response = http::Response<Body>;
    type Error = BoxError;
    type Future = <Boxed as Service<http::Request<Body>>>::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        self.0.call(request)
    }
}
