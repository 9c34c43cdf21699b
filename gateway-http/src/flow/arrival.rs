//! A request to the proxy as it came in.

use std::net::{IpAddr, SocketAddr};
use std::time::SystemTime;

use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{HeaderMap, HeaderName, Method};
use tokio::time::Instant;

use super::problem::Problem;
use crate::config::{ClientAddress, GatewayConfig};
use crate::control::AppKey;
use crate::problem::ProblemKind;
use crate::proxy::credentials::presented;

/// Where the router mounts the proxy.
const PREFIX: &str = "/proxy/";

/// The header that names who is charged.
const SUBJECT: &str = "x-rateguard-subject";

/// Random bytes in a request's id: enough that two never meet.
const ID_BYTES: usize = 16;

/// A request, its path taken apart.
pub(crate) struct Arrival {
    /// Made here, whatever the client sends: an id is also what makes a check happen once, and a
    /// client that chose it could have its next call ride on the reservation of the one before.
    pub(crate) request_id: String,
    pub(crate) arrived: Instant,
    pub(crate) occurred_at: SystemTime,
    pub(crate) slug: String,
    /// The path behind the slug, as the client wrote it: empty, or with a slash at its start.
    pub(crate) rest: String,
    pub(crate) ip: Option<IpAddr>,
    pub(crate) head: Parts,
    pub(crate) body: Body,
}

impl Arrival {
    pub(crate) fn read(config: &GatewayConfig, request: Request) -> Self {
        let (head, body) = request.into_parts();
        let (slug, rest) = slug_and_rest(head.uri.path());
        Self {
            request_id: new_request_id(),
            arrived: Instant::now(),
            occurred_at: SystemTime::now(),
            slug: slug.to_owned(),
            rest: rest.to_owned(),
            ip: client_address(&config.client_address, &head),
            head,
            body,
        }
    }

    pub(crate) fn method(&self) -> &Method {
        &self.head.method
    }

    /// The key of the app that asks.
    pub(crate) fn app_key(&self) -> Result<AppKey, Problem> {
        if self.head.headers.get_all(AUTHORIZATION).iter().nth(1).is_some() {
            // Whoever stands in front may have judged by the other one.
            return Err(Problem::new(ProblemKind::InvalidRequest, "authorization must not stand twice"));
        }
        let credential = presented(&self.head.headers, self.head.uri.query());
        let credential = credential.ok_or_else(|| no_key("an API key is required"))?;
        AppKey::new(&credential.secret).map_err(|_| no_key("the API key is not known"))
    }

    /// Who is charged; empty where the client does not say.
    pub(crate) fn subject(&self) -> Result<String, Problem> {
        let mut values = self.head.headers.get_all(SUBJECT).iter();
        let Some(value) = values.next() else { return Ok(String::new()) };
        if values.next().is_some() {
            return Err(bad_subject("x-rateguard-subject must not stand twice"));
        }
        let text = std::str::from_utf8(value.as_bytes());
        text.map(str::to_owned).map_err(|_| bad_subject("x-rateguard-subject must be UTF-8"))
    }
}

fn no_key(message: &'static str) -> Problem {
    Problem::new(ProblemKind::InvalidApiKey, message)
}

fn bad_subject(message: &'static str) -> Problem {
    Problem::new(ProblemKind::InvalidRequest, message)
}

/// Takes `/proxy/{slug}{rest}` apart without decoding anything.
fn slug_and_rest(path: &str) -> (&str, &str) {
    let behind = path.strip_prefix(PREFIX).unwrap_or_default();
    let end = behind.find('/').unwrap_or(behind.len());
    behind.split_at(end)
}

/// `req_` and 32 hexadecimal digits.
fn new_request_id() -> String {
    let mut bytes = [0; ID_BYTES];
    getrandom::fill(&mut bytes).expect("the system has randomness, without which no TLS works either");
    format!("req_{}", hex::encode(bytes))
}

fn client_address(source: &ClientAddress, head: &Parts) -> Option<IpAddr> {
    let told = match source {
        ClientAddress::Peer => None,
        ClientAddress::Header(name) => last_address(&head.headers, name),
    };
    let peer = head.extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip());
    told.or(peer).map(|address| address.to_canonical())
}

/// The last address of a list: those before it were written by whoever came before the trusted proxy.
fn last_address(headers: &HeaderMap, name: &HeaderName) -> Option<IpAddr> {
    let last = headers.get_all(name).iter().next_back()?.to_str().ok()?;
    let last = last.rsplit(',').next()?.trim();
    last.parse().ok().or_else(|| last.parse::<SocketAddr>().ok().map(|address| address.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_taken_apart_and_not_decoded() {
        assert_eq!(slug_and_rest("/proxy/openai/v1/a%2Fb"), ("openai", "/v1/a%2Fb"));
        assert_eq!(slug_and_rest("/proxy/openai"), ("openai", ""));
        assert_eq!(slug_and_rest("/proxy/openai/"), ("openai", "/"));
        assert_eq!(slug_and_rest("/proxy//x"), ("", "/x"));
    }

    #[test]
    fn every_request_has_an_id_of_its_own() {
        let (one, other) = (new_request_id(), new_request_id());
        assert_ne!(one, other);
        assert_eq!((one.len(), &one[..4]), (36, "req_"));
    }

    #[test]
    fn only_the_address_that_the_trusted_proxy_wrote_counts() {
        let name = HeaderName::from_static("x-forwarded-for");
        let mut headers = HeaderMap::new();
        let read = |headers: &HeaderMap| last_address(headers, &name).map(|address| address.to_string());
        assert_eq!(read(&headers), None);
        headers.append(&name, "198.51.100.1".parse().unwrap());
        headers.append(&name, "198.51.100.2, 203.0.113.7".parse().unwrap());
        assert_eq!(read(&headers).as_deref(), Some("203.0.113.7"));
        headers.append(&name, "[2001:db8::1]:443".parse().unwrap());
        assert_eq!(read(&headers).as_deref(), Some("2001:db8::1"));
        headers.append(&name, "unknown".parse().unwrap());
        assert_eq!(read(&headers), None);
    }

    #[test]
    fn the_peer_counts_where_no_proxy_is_trusted() {
        let mut request = Request::builder().header("x-forwarded-for", "203.0.113.7").body(()).unwrap();
        let peer: SocketAddr = "[::ffff:192.0.2.1]:4000".parse().unwrap();
        request.extensions_mut().insert(ConnectInfo(peer));
        let (head, ()) = request.into_parts();
        let address = client_address(&ClientAddress::Peer, &head).unwrap();
        assert_eq!(address.to_string(), "192.0.2.1");
        let trusted = ClientAddress::Header(HeaderName::from_static("x-forwarded-for"));
        assert_eq!(client_address(&trusted, &head).unwrap().to_string(), "203.0.113.7");
    }
}
