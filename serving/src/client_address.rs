//! Who calls, where proxies stand in front: a balancer that ends TLS is the peer of every connection, and
//! what is counted, allowed or noted by address would be the balancer's.
//!
//! A proxy that is trusted says in a header from whom it took a call. Nobody else is believed: whoever
//! reaches the listener by another way could write anything there.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::extract::ConnectInfo;
use http::{HeaderMap, HeaderName, Request};
use ipnet::IpNet;
use tower::Service;

/// Addresses read of one header: no call passes through more proxies, and what is further back is not
/// believed.
pub const PROXIES_MAX: usize = 32;

/// The proxies in front of a server, and where they say who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedProxies {
    /// The header: a list of addresses to which every proxy adds the one that it was called from, or the
    /// one address, set anew.
    pub header: HeaderName,
    /// From where the proxies connect.
    pub ranges: Vec<IpNet>,
}

/// A service for which the peer of a call is who called the first of the proxies: what it finds among a
/// request's extensions as axum's `ConnectInfo`. The port of such a peer is not known, and 0.
#[derive(Clone, Debug)]
pub struct SeenThrough<S> {
    inner: S,
    /// `None` where none stand in front: then it is the peer of the connection.
    proxies: Option<Arc<TrustedProxies>>,
}

impl<S> SeenThrough<S> {
    /// The service as these proxies show it.
    pub fn new(proxies: Option<TrustedProxies>, inner: S) -> Self {
        Self { inner, proxies: proxies.map(Arc::new) }
    }
}

impl<S: Service<Request<B>>, B> Service<Request<B>> for SeenThrough<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> S::Future {
        if let Some(proxies) = &self.proxies {
            proxies.show_client(&mut request);
        }
        self.inner.call(request)
    }
}

impl TrustedProxies {
    /// The address of whoever called the first of the trusted proxies: the last one of the header that is
    /// not itself a trusted proxy's. The peer, where it is no trusted proxy or has said nothing that can be
    /// read.
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer.to_canonical();
        for said in last_first(headers, &self.header).take(PROXIES_MAX) {
            if !self.trusts(client) {
                break;
            }
            let Some(address) = address(said) else { break };
            client = address;
        }
        client
    }

    fn show_client<B>(&self, request: &mut Request<B>) {
        let Some(ConnectInfo(peer)) = request.extensions().get::<ConnectInfo<SocketAddr>>().copied() else {
            return;
        };
        let client = self.client(peer.ip(), request.headers());
        if client != peer.ip().to_canonical() {
            request.extensions_mut().insert(ConnectInfo(SocketAddr::new(client, 0)));
        }
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.ranges.iter().any(|range| range.contains(&address))
    }
}

/// The members of a header that is a list, the last one first. One that is no text stands as itself, so
/// that what is before it is not taken for what a proxy has said.
fn last_first<'h>(headers: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'h str> {
    let mut lines: Vec<&str> =
        headers.get_all(name).iter().map(|line| line.to_str().unwrap_or_default()).collect();
    lines.reverse();
    lines.into_iter().flat_map(|line| line.rsplit(',')).map(str::trim)
}

/// An address, with or without a port.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.parse().ok();
    let address = bare.or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()));
    address.map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests;
