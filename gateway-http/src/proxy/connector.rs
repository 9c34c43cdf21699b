//! Dials upstreams, asking the guard about every address on the way.
//!
//! hyper-util's own connector hands names to a resolver but dials address literals without asking
//! anyone, so a guard in the resolver could be walked around; this one checks what it dials,
//! wherever the address came from.

use std::error::Error as StdError;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};
use tower::Service;

use super::guard::{AddressClass, UpstreamPolicy};

/// Longest a dial may take, from the name to the established connection, TLS aside.
pub const DIAL_DEADLINE: Duration = Duration::from_secs(5);

/// Most addresses of one name that are tried; the deadline is shared among them.
pub const DIAL_ADDRESSES_MAX: usize = 8;

/// Most names that are looked up at once; each blocks a thread, even past its deadline.
pub const LOOKUPS_AT_ONCE_MAX: usize = 64;

/// A boxed future, as the connector traits want it.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Turns a name into addresses.
pub trait Resolve: Clone + Send + Sync + 'static {
    /// All addresses of `host`, in the order to try them.
    fn resolve(&self, host: String, port: u16) -> BoxFuture<io::Result<Vec<SocketAddr>>>;
}

/// The machine's own resolver.
#[derive(Clone, Debug)]
pub struct SystemResolver {
    lookups: Arc<Semaphore>,
}

/// A connector that dials only what its policy allows, with `TCP_NODELAY` set.
#[derive(Clone, Debug)]
pub struct GuardedConnector<R = SystemResolver> {
    resolver: R,
    policy: UpstreamPolicy,
    deadline: Duration,
}

/// Why no connection came about. Nothing was sent to the upstream in any of these cases.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The URL names no host.
    #[error("the upstream's URL has no host")]
    NoHost,
    /// The name could not be looked up.
    #[error("the upstream's name could not be resolved")]
    Resolve(#[source] io::Error),
    /// The name has no addresses.
    #[error("the upstream's name has no addresses")]
    NoAddress,
    /// Every address is one that may not be dialled.
    #[error("the upstream's address is not allowed: {class:?}")]
    Refused {
        /// What the first refused address is.
        class: AddressClass,
    },
    /// No address answered.
    #[error("the upstream could not be reached")]
    Connect(#[source] io::Error),
    /// It took too long.
    #[error("the upstream could not be reached in time")]
    Deadline,
}

/// Finds the dial error behind an error of the client, if that is what it is about.
pub fn dial_error<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a DialError> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(dial_error) = error.downcast_ref() {
            return Some(dial_error);
        }
        cause = error.source();
    }
    None
}

impl Default for SystemResolver {
    fn default() -> Self {
        Self { lookups: Arc::new(Semaphore::new(LOOKUPS_AT_ONCE_MAX)) }
    }
}

impl Resolve for SystemResolver {
    /// A lookup runs on when its caller gives up, and holds its place until it is over.
    fn resolve(&self, host: String, port: u16) -> BoxFuture<io::Result<Vec<SocketAddr>>> {
        let lookups = Arc::clone(&self.lookups);
        Box::pin(async move {
            let place = lookups.acquire_owned().await.map_err(io::Error::other)?;
            let lookup = tokio::spawn(async move {
                let _place = place;
                Ok(tokio::net::lookup_host((host, port)).await?.collect())
            });
            lookup.await.map_err(io::Error::other)?
        })
    }
}

impl GuardedConnector {
    /// A connector over the machine's resolver.
    pub fn new(policy: UpstreamPolicy) -> Self {
        Self::with_resolver(policy, SystemResolver::default())
    }
}

impl<R: Resolve> GuardedConnector<R> {
    /// A connector over another resolver.
    pub fn with_resolver(policy: UpstreamPolicy, resolver: R) -> Self {
        Self { resolver, policy, deadline: DIAL_DEADLINE }
    }

    /// The same with another deadline.
    #[must_use]
    pub fn with_deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    async fn dial(self, target: Uri) -> Result<TcpStream, DialError> {
        let deadline = Instant::now() + self.deadline;
        let addresses = timeout_at(deadline, self.addresses(&target));
        let addresses = addresses.await.map_err(|_| DialError::Deadline)??;
        let allowed = self.allowed(addresses)?;
        connect_any(&allowed, deadline).await
    }

    async fn addresses(&self, target: &Uri) -> Result<Vec<SocketAddr>, DialError> {
        let host = target.host().filter(|host| !host.is_empty()).ok_or(DialError::NoHost)?;
        let default_port = if target.scheme_str() == Some("https") { 443 } else { 80 };
        let port = target.port_u16().unwrap_or(default_port);
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if let Ok(address) = bare.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        self.resolver.resolve(host.to_owned(), port).await.map_err(DialError::Resolve)
    }

    /// The addresses that may be dialled, in their order.
    fn allowed(&self, addresses: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, DialError> {
        let mut refused = None;
        let mut allowed = Vec::new();
        for address in addresses {
            match self.policy.check(address.ip()) {
                Ok(()) => allowed.push(address),
                Err(class) => refused = refused.or(Some(class)),
            }
        }
        allowed.truncate(DIAL_ADDRESSES_MAX);
        match refused {
            Some(class) if allowed.is_empty() => Err(DialError::Refused { class }),
            _ => Ok(allowed),
        }
    }
}

/// Tries the addresses in turn; each gets an equal share of the time that is left.
async fn connect_any(addresses: &[SocketAddr], deadline: Instant) -> Result<TcpStream, DialError> {
    let mut last = DialError::NoAddress;
    for (tried, address) in addresses.iter().enumerate() {
        let left = deadline.saturating_duration_since(Instant::now());
        let untried = u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
        last = match timeout(left / untried, connect(*address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => DialError::Connect(error),
            Err(_) => DialError::Deadline,
        };
    }
    Err(last)
}

async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    // Head and body leave in two writes; without this the second waits for the peer's delayed ACK.
    stream.set_nodelay(true)?;
    Ok(stream)
}

impl<R: Resolve> Service<Uri> for GuardedConnector<R> {
    type Response = TokioIo<TcpStream>;
    type Error = DialError;
    type Future = BoxFuture<Result<Self::Response, DialError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), DialError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, target: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move { connector.dial(target).await.map(TokioIo::new) })
    }
}

#[cfg(test)]
mod tests;
