//! The real clients against real sockets: the guard is asked, and the pools are apart.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Full};
use hyper::service::service_fn;
use hyper_util::client::legacy::Error as ClientError;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use super::*;
use crate::proxy::connector::dial_error;
use crate::proxy::guard::AddressClass;

/// An upstream on a loopback address that counts the connections it accepts.
struct Upstream {
    address: SocketAddr,
    accepted: Arc<AtomicUsize>,
}

impl Upstream {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        tokio::spawn(serve(listener, Arc::clone(&accepted)));
        Self { address, accepted }
    }

    fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

async fn serve(listener: TcpListener, accepted: Arc<AtomicUsize>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        accepted.fetch_add(1, Ordering::SeqCst);
        tokio::spawn(async move {
            let hello = service_fn(|_| async {
                let answer =
                    Response::builder().status(StatusCode::FOUND).header("location", "http://[::1]/");
                Ok::<_, Infallible>(answer.body(Full::new(Bytes::from_static(b"hello"))).unwrap())
            });
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), hello).await
        });
    }
}

async fn get(client: &UpstreamClient, url: &str) -> Result<(StatusCode, Bytes), ClientError> {
    let body = UpstreamBody::new(Empty::new().map_err(|never| match never {}));
    let answer = client.request(Request::get(url).body(body).unwrap()).await?;
    let status = answer.status();
    Ok((status, answer.into_body().collect().await.unwrap().to_bytes()))
}

fn refused_class(error: &ClientError) -> Option<AddressClass> {
    match dial_error(error) {
        Some(DialError::Refused { class }) => Some(*class),
        _ => None,
    }
}

#[tokio::test]
async fn the_guarded_client_dials_no_spelling_of_the_machine_itself() {
    let upstream = Upstream::start().await;
    let clients = UpstreamClients::new().unwrap();
    let guarded = clients.for_policy(UpstreamPolicy::PublicOnly);
    let port = upstream.address.port();
    for host in ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "2130706433", "0x7f000001", "127.1"]
    {
        let url = format!("http://{host}:{port}/");
        let error = get(guarded, &url).await.unwrap_err();
        assert_eq!(refused_class(&error), Some(AddressClass::Loopback), "{url}");
        assert!(error.is_connect());
    }
    for host in ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]"] {
        let url = format!("https://{host}:{port}/");
        let error = get(guarded, &url).await.unwrap_err();
        assert_eq!(refused_class(&error), Some(AddressClass::Loopback), "{url}");
    }
    assert_eq!(upstream.accepted(), 0);
}

#[tokio::test]
async fn the_open_client_reaches_the_same_upstream_and_follows_no_redirect() {
    let upstream = Upstream::start().await;
    let clients = UpstreamClients::new().unwrap();
    let open = clients.for_policy(UpstreamPolicy::PrivateAllowed);
    let (status, body) = get(open, &format!("http://{}/", upstream.address)).await.unwrap();
    assert_eq!((status, body.as_ref()), (StatusCode::FOUND, b"hello".as_slice()));
}

#[tokio::test]
async fn a_pooled_connection_of_the_open_client_is_not_lent_to_the_guarded_one() {
    let upstream = Upstream::start().await;
    let clients = UpstreamClients::new().unwrap();
    let url = format!("http://{}/", upstream.address);
    let open = clients.for_policy(UpstreamPolicy::PrivateAllowed);
    get(open, &url).await.unwrap();
    get(open, &url).await.unwrap();
    assert_eq!(upstream.accepted(), 1, "the open client keeps its connection");
    let error = get(clients.for_policy(UpstreamPolicy::PublicOnly), &url).await.unwrap_err();
    assert_eq!(refused_class(&error), Some(AddressClass::Loopback));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_never_finishes_tls_meets_the_deadline() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let clients = UpstreamClients::new().unwrap();
    let url = format!("https://{}/", silent.local_addr().unwrap());
    let request = async { get(clients.for_policy(UpstreamPolicy::PrivateAllowed), &url).await };
    let hold = async { silent.accept().await.unwrap() };
    let (error, _held) = tokio::join!(request, hold);
    assert!(matches!(dial_error(&error.unwrap_err()), Some(DialError::Deadline)));
}
