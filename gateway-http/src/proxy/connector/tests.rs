//! Dialling: which addresses are tried, which never, and how long it may take.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::TcpListener;

use super::*;

/// Answers every name with the same addresses and counts the questions.
#[derive(Clone, Default)]
struct FixedResolver {
    addresses: Vec<SocketAddr>,
    asked: Arc<AtomicUsize>,
}

impl Resolve for FixedResolver {
    fn resolve(&self, _: String, _: u16) -> BoxFuture<io::Result<Vec<SocketAddr>>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let addresses = self.addresses.clone();
        Box::pin(async move { Ok(addresses) })
    }
}

/// Never answers.
#[derive(Clone)]
struct SilentResolver;

impl Resolve for SilentResolver {
    fn resolve(&self, _: String, _: u16) -> BoxFuture<io::Result<Vec<SocketAddr>>> {
        Box::pin(std::future::pending())
    }
}

fn resolving(addresses: &[&str]) -> FixedResolver {
    let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
    FixedResolver { addresses, ..FixedResolver::default() }
}

async fn dial<R: Resolve>(policy: UpstreamPolicy, resolver: R, url: &str) -> Result<TcpStream, DialError> {
    let mut connector = GuardedConnector::with_resolver(policy, resolver);
    connector.call(url.parse().unwrap()).await.map(TokioIo::into_inner)
}

fn refused_class(dialled: &Result<TcpStream, DialError>) -> Option<AddressClass> {
    match dialled {
        Err(DialError::Refused { class }) => Some(*class),
        _ => None,
    }
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

#[tokio::test]
async fn address_literals_are_checked_without_asking_the_resolver() {
    let literals = [
        ("http://127.0.0.1/", AddressClass::Loopback),
        ("http://[::1]/", AddressClass::Loopback),
        ("http://[::ffff:127.0.0.1]/", AddressClass::Loopback),
        ("https://169.254.169.254/latest/meta-data", AddressClass::Metadata),
        ("http://[fd00:ec2::254]/", AddressClass::Metadata),
        ("http://0.0.0.0:80/", AddressClass::Unspecified),
    ];
    for (url, class) in literals {
        let resolver = resolving(&["1.1.1.1:80"]);
        let dialled = dial(UpstreamPolicy::PublicOnly, resolver.clone(), url).await;
        assert_eq!(refused_class(&dialled), Some(class), "{url}");
        assert_eq!(resolver.asked.load(Ordering::Relaxed), 0);
    }
}

#[tokio::test]
async fn a_name_that_leads_to_a_private_address_is_refused() {
    let resolver = resolving(&["10.0.0.7:443", "169.254.169.254:443"]);
    let dialled = dial(UpstreamPolicy::PublicOnly, resolver, "https://rebound.example/").await;
    assert_eq!(refused_class(&dialled), Some(AddressClass::Private));
}

#[tokio::test]
async fn of_several_addresses_only_the_allowed_ones_are_kept() {
    let connector = GuardedConnector::with_resolver(UpstreamPolicy::PublicOnly, SilentResolver);
    let mixed = ["127.0.0.1:1", "1.1.1.1:1", "[::1]:1", "9.9.9.9:1"].map(|address| address.parse().unwrap());
    let allowed = connector.allowed(mixed.to_vec()).unwrap();
    assert_eq!(allowed, [mixed[1], mixed[3]]);
}

#[tokio::test]
async fn no_more_than_the_bound_of_addresses_is_tried() {
    let connector = GuardedConnector::with_resolver(UpstreamPolicy::PublicOnly, SilentResolver);
    let many: Vec<SocketAddr> = (0..100).map(|last| SocketAddr::from(([1, 1, 1, last], 1))).collect();
    assert_eq!(connector.allowed(many).unwrap().len(), DIAL_ADDRESSES_MAX);
}

#[tokio::test]
async fn the_system_resolver_finds_names_and_odd_spellings_and_the_guard_sees_through_them() {
    for url in ["http://localhost/", "http://2130706433/", "http://0x7f.1/"] {
        let dialled = dial(UpstreamPolicy::PublicOnly, SystemResolver::default(), url).await;
        assert_eq!(refused_class(&dialled), Some(AddressClass::Loopback), "{url}");
    }
}

#[tokio::test]
async fn the_dialled_socket_has_nodelay_set() {
    let (_listener, address) = listener().await;
    let url = format!("http://{address}/");
    let stream = dial(UpstreamPolicy::PrivateAllowed, SystemResolver::default(), &url).await.unwrap();
    assert!(stream.nodelay().unwrap());
}

#[tokio::test]
async fn the_next_address_is_tried_when_one_does_not_answer() {
    let (_listener, address) = listener().await;
    let (closed, refusing) = listener().await;
    drop(closed);
    let resolver = FixedResolver { addresses: vec![refusing, address], ..FixedResolver::default() };
    let stream = dial(UpstreamPolicy::PrivateAllowed, resolver, "http://upstream.example/").await.unwrap();
    assert_eq!(stream.peer_addr().unwrap(), address);
}

#[tokio::test]
async fn a_closed_port_is_a_connect_error() {
    let (closed, address) = listener().await;
    drop(closed);
    let dialled =
        dial(UpstreamPolicy::PrivateAllowed, SystemResolver::default(), &format!("http://{address}/")).await;
    assert!(matches!(dialled, Err(DialError::Connect(_))));
}

#[tokio::test]
async fn a_name_without_addresses_is_an_error_of_its_own() {
    let dialled = dial(UpstreamPolicy::PublicOnly, resolving(&[]), "http://empty.example/").await;
    assert!(matches!(dialled, Err(DialError::NoAddress)));
    let dialled = dial(UpstreamPolicy::PublicOnly, resolving(&[]), "/path-only").await;
    assert!(matches!(dialled, Err(DialError::NoHost)));
}

#[tokio::test(start_paused = true)]
async fn a_resolver_that_never_answers_meets_the_deadline() {
    let started = Instant::now();
    let dialled = dial(UpstreamPolicy::PublicOnly, SilentResolver, "http://slow.example/").await;
    assert!(matches!(dialled, Err(DialError::Deadline)));
    assert_eq!(started.elapsed().as_secs(), DIAL_DEADLINE.as_secs());
}

#[derive(Debug, thiserror::Error)]
#[error("wrapped")]
struct Wrapped<E: StdError + 'static>(#[source] E);

#[test]
fn a_dial_error_is_found_behind_the_errors_that_wrap_it() {
    let wrapped = Wrapped(Wrapped(DialError::Refused { class: AddressClass::Loopback }));
    assert!(matches!(dial_error(&wrapped), Some(DialError::Refused { class: AddressClass::Loopback })));
    assert!(dial_error(&Wrapped(io::Error::other("unrelated"))).is_none());
}
