//! The gateway as its owner sees it: made once, mounted as a router, drained at the end.

pub(crate) mod slots;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::{MethodFilter, on};
use rateguard_serving::LEAVE_WAIT_MAX;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::slots::Slots;
use crate::config::GatewayConfig;
use crate::control::{Control, Transport, UnsendableCredential};
use crate::flow;
use crate::proxy::client::UpstreamClients;
use crate::proxy::hops::Marker;
use crate::reports::Reporter;
use crate::routes::{RouteCache, watch};

/// The proxy. Clones are the same gateway.
#[derive(Clone)]
pub struct Gateway {
    shared: Arc<Shared>,
}

/// Why no gateway could be made.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// The token cannot be sent.
    #[error("the gateway's token cannot be sent: {0}")]
    Token(#[from] UnsendableCredential),
    /// The TLS library refused its own defaults.
    #[error("tls could not be set up")]
    Tls(#[from] rustls::Error),
}

/// How a drain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// Every call is answered and every report taken.
    Whole,
    /// Time ran out; the reservations of what was cut will expire.
    Cut {
        /// Calls, drains and reports that were still under way.
        unfinished: usize,
        /// Records that no report had begun to carry.
        records_waiting: usize,
    },
}

/// What all calls share.
pub(crate) struct Shared {
    pub(crate) config: GatewayConfig,
    pub(crate) control: Control,
    pub(crate) routes: Arc<RouteCache>,
    pub(crate) upstreams: UpstreamClients,
    pub(crate) reports: Reporter,
    pub(crate) slots: Slots,
    /// By which calls are known that come back.
    pub(crate) marker: Marker,
    /// Calls, drains and reports; what a shutdown waits for.
    pub(crate) tasks: TaskTracker,
    /// Where work is begun from outside a task.
    pub(crate) runtime: Handle,
    /// Cancelled when a stop begins.
    pub(crate) leaving: CancellationToken,
    /// Cancelled when the gateway takes no more calls.
    pub(crate) stopping: CancellationToken,
}

impl Gateway {
    /// Makes a gateway that asks its questions through `transport`, and begins to watch for changes
    /// of routes. Must be called within a Tokio runtime, on which all its work is done.
    ///
    /// # Errors
    /// Fails if the token cannot be sent or TLS cannot be set up.
    pub fn new(transport: Transport, config: GatewayConfig) -> Result<Self, GatewayError> {
        let control = Control::new(transport, &config.token, config.control_deadline)?;
        let tasks = TaskTracker::new();
        let shared = Shared {
            routes: Arc::new(RouteCache::new(config.route_lifetime, config.routes_max)),
            upstreams: UpstreamClients::new()?,
            reports: Reporter::new(control.clone(), &config, tasks.clone()),
            slots: Slots::new(&config),
            marker: Marker::draw(),
            leaving: CancellationToken::new(),
            stopping: CancellationToken::new(),
            runtime: Handle::current(),
            control,
            config,
            tasks,
        };
        shared.watch_routes();
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Says that the process is about to stop, while its listener still serves what has come: requests
    /// whose body is not whole [`LEAVE_WAIT_MAX`] later are answered with 503, having reserved nothing.
    pub fn begin_stop(&self) {
        self.shared.leaving.cancel();
    }

    /// Takes no more calls, then waits for calls in flight, for drains and for reports, at most `wait_max`.
    /// To be called once the listener no longer accepts; may be called again to wait longer.
    pub async fn drain(&self, wait_max: Duration) -> Drained {
        self.begin_stop();
        self.shared.stopping.cancel();
        self.shared.tasks.close();
        match tokio::time::timeout(wait_max, self.shared.tasks.wait()).await {
            Ok(()) => Drained::Whole,
            Err(_) => Drained::Cut {
                unfinished: self.shared.tasks.len(),
                records_waiting: self.shared.reports.waiting(),
            },
        }
    }
}

impl Shared {
    /// Completes when what a stop has found half arrived is waited for no longer.
    pub(crate) async fn left(&self) {
        self.leaving.cancelled().await;
        tokio::time::sleep(LEAVE_WAIT_MAX).await;
    }

    fn watch_routes(&self) {
        let (routes, control) = (Arc::clone(&self.routes), self.control.clone());
        let (backoff, stopping) = (self.config.watch_backoff, self.stopping.clone());
        let watching = watch::watch(routes, control, backoff);
        tokio::spawn(async move { stopping.run_until_cancelled_owned(watching).await });
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.stopping.cancel();
    }
}

/// The routes of the proxy: what may be forwarded of `/proxy/{api}` and everything below it. The peer's address
/// is read from axum's `ConnectInfo<SocketAddr>`, which `rateguard_serving::serve` sets.
pub fn router(gateway: Gateway) -> Router {
    Router::new()
        .route("/proxy/{api}", on(forwarded(), proxy))
        .route("/proxy/{api}/", on(forwarded(), proxy))
        .route("/proxy/{api}/{*rest}", on(forwarded(), proxy))
        .with_state(gateway)
}

/// The methods that are forwarded. TRACE would send the upstream's credential back to its caller, and
/// CONNECT asks for a tunnel: both are answered with 405.
fn forwarded() -> MethodFilter {
    MethodFilter::GET
        .or(MethodFilter::HEAD)
        .or(MethodFilter::POST)
        .or(MethodFilter::PUT)
        .or(MethodFilter::PATCH)
        .or(MethodFilter::DELETE)
        .or(MethodFilter::OPTIONS)
}

async fn proxy(State(gateway): State<Gateway>, request: Request) -> Response {
    flow::answer(gateway.shared, request).await
}
