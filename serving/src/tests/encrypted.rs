//! TLS on real sockets: what is agreed on, who is let in, and what slow or wrong peers cost the others.

use std::convert::Infallible;

use axum::body::Body;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use jiff::Timestamp;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ProtocolVersion, RootCertStore, SupportedProtocolVersion};
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::stalls::endless;
use super::*;
use crate::tls::tests::authority::{Authority, FAR_YEAR, Folder, Issued, NAME};
use crate::tls::{Certificates, ClientCertificates};

const HEAD: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";

/// A server with a certificate, and what else stands in its folder.
struct Encrypted {
    authority: Authority,
    folder: Folder,
    certificates: Arc<Certificates>,
    running: Running,
}

/// How a client goes about it.
struct Dialling<'test> {
    trusts: &'test Authority,
    shows: Option<&'test Issued>,
    speaks: &'test [&'static [u8]],
    versions: &'test [&'static SupportedProtocolVersion],
}

impl Encrypted {
    async fn start(
        router: Router,
        bounds: Bounds,
        clients: Option<(&Authority, ClientCertificates)>,
    ) -> Self {
        let authority = Authority::new();
        let folder = Folder::with(&authority);
        let certificates = Certificates::load(folder.files(clients.map(|(authority, _)| authority))).unwrap();
        let wanted = clients.map_or(ClientCertificates::NotAsked, |(_, wanted)| wanted);
        let tls = certificates.tls(wanted).unwrap();
        let running = start_with(router, bounds, Some(tls)).await;
        Self { authority, folder, certificates, running }
    }

    async fn telling_the_peer() -> Self {
        Self::start(telling_the_peer(), DEFAULT_BOUNDS, None).await
    }

    async fn silent(&self) -> TcpStream {
        TcpStream::connect(self.running.address).await.unwrap()
    }

    fn dialling(&self) -> Dialling<'_> {
        Dialling { trusts: &self.authority, shows: None, speaks: &[], versions: rustls::ALL_VERSIONS }
    }

    /// What a client gets that asks in HTTP/1.1.
    async fn answer(&self, dialling: Dialling<'_>) -> io::Result<String> {
        let mut stream = dialling.connect(self.running.address).await?;
        stream.write_all(HEAD).await?;
        let mut received = String::new();
        within(stream.read_to_string(&mut received)).await?;
        Ok(received)
    }

    async fn is_answered(&self, dialling: Dialling<'_>) -> bool {
        self.answer(dialling).await.is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
    }
}

impl Dialling<'_> {
    async fn connect(self, address: SocketAddr) -> io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.trusts.pem().as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(self.versions)
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match self.shows {
            None => builder.with_no_client_auth(),
            Some(issued) => {
                let chain = vec![CertificateDer::from_pem_slice(issued.certificate.as_bytes()).unwrap()];
                let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        config.alpn_protocols = self.speaks.iter().map(|name| name.to_vec()).collect();
        let stream = TcpStream::connect(address).await?;
        let name = ServerName::try_from(NAME).unwrap();
        within(TlsConnector::from(Arc::new(config)).connect(name, stream)).await
    }
}

fn get_root() -> http::Request<Empty<Bytes>> {
    http::Request::get("https://localhost/").body(Empty::new()).unwrap()
}

#[tokio::test]
async fn both_protocols_are_agreed_on_and_know_their_peer() {
    let server = Encrypted::telling_the_peer().await;
    for speaks in [&[][..], &[&b"http/1.1"[..]], &[b"spdy/3", b"http/1.1"]] {
        let answer = server.answer(Dialling { speaks, ..server.dialling() }).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\r\n\r\n127.0.0.1:"), "{answer}");
    }
    let both = Dialling { speaks: &[b"http/1.1", b"h2"], ..server.dialling() };
    let stream = both.connect(server.running.address).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let io = TokioIo::new(stream);
    let (mut client, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    let answer = within(client.send_request(get_root())).await.unwrap();
    let body = within(answer.into_body().collect()).await.unwrap().to_bytes();
    assert!(body.starts_with(b"127.0.0.1:"), "{body:?}");
    let neither = Dialling { speaks: &[b"spdy/3"], ..server.dialling() };
    assert!(neither.connect(server.running.address).await.is_err());
}

#[tokio::test]
async fn both_versions_of_tls_are_spoken() {
    let server = Encrypted::telling_the_peer().await;
    for (versions, expected) in [
        (&[&rustls::version::TLS12][..], ProtocolVersion::TLSv1_2),
        (&[&rustls::version::TLS13], ProtocolVersion::TLSv1_3),
    ] {
        let dialling = Dialling { versions, ..server.dialling() };
        let stream = dialling.connect(server.running.address).await.unwrap();
        assert_eq!(stream.get_ref().1.protocol_version(), Some(expected));
        assert!(server.is_answered(Dialling { versions, ..server.dialling() }).await);
    }
}

#[tokio::test]
async fn a_client_has_to_show_a_certificate_of_the_right_authority_where_one_is_required() {
    let (clients, foreign) = (Authority::new(), Authority::new());
    let asked = Some((&clients, ClientCertificates::Required));
    let server = Encrypted::start(telling_the_peer(), DEFAULT_BOUNDS, asked).await;
    let (own, others, ended) = (clients.issue(FAR_YEAR), foreign.issue(FAR_YEAR), clients.issue(2_000));
    let shown =
        async |shows| server.answer(Dialling { shows, ..server.dialling() }).await.map_err(|e| e.to_string());
    let answer = shown(Some(&own)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(shown(None).await.unwrap_err().contains("CertificateRequired"));
    assert!(shown(Some(&others)).await.unwrap_err().contains("UnknownCA"));
    assert!(shown(Some(&ended)).await.unwrap_err().contains("CertificateExpired"));
    let of_server = server.authority.issue(FAR_YEAR);
    assert!(shown(Some(&of_server)).await.unwrap_err().contains("UnknownCA"));
}

#[tokio::test]
async fn where_one_is_optional_a_client_may_show_none_but_not_a_wrong_one() {
    let (clients, foreign) = (Authority::new(), Authority::new());
    let asked = Some((&clients, ClientCertificates::Optional));
    let server = Encrypted::start(telling_the_peer(), DEFAULT_BOUNDS, asked).await;
    let (own, others) = (clients.issue(FAR_YEAR), foreign.issue(FAR_YEAR));
    assert!(server.is_answered(server.dialling()).await);
    assert!(server.is_answered(Dialling { shows: Some(&own), ..server.dialling() }).await);
    assert!(!server.is_answered(Dialling { shows: Some(&others), ..server.dialling() }).await);
}

/// A router with an answer that goes on as it is told to.
fn dictated() -> (Router, mpsc::Sender<&'static str>) {
    let (parts, received) = mpsc::channel(1);
    let received = Arc::new(parking_lot::Mutex::new(Some(received)));
    let answer = move || async move {
        let received = received.lock().take();
        Body::from_stream(futures::stream::unfold(received, async |received| {
            let mut received: mpsc::Receiver<&'static str> = received?;
            let part = received.recv().await?;
            Some((Ok::<_, Infallible>(part), Some(received)))
        }))
    };
    (Router::new().route("/stream", get(answer)).route("/", get(async || "whole")), parts)
}

#[tokio::test]
async fn a_new_certificate_is_shown_to_new_connections_and_an_open_stream_goes_on() {
    let (router, parts) = dictated();
    let server = Encrypted::start(router, DEFAULT_BOUNDS, None).await;
    let stream = server.dialling().connect(server.running.address).await.unwrap();
    let (mut client, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::get("/stream").header("host", "x").body(Empty::<Bytes>::new()).unwrap();
    let mut answer = within(client.send_request(request)).await.unwrap().into_body();
    parts.send("before").await.unwrap();
    assert_eq!(within(answer.frame()).await.unwrap().unwrap().into_data().unwrap(), "before");

    let successor = Authority::new();
    server.folder.put(&successor.issue(FAR_YEAR));
    server.certificates.reload(Timestamp::now()).unwrap();
    assert!(server.is_answered(Dialling { trusts: &successor, ..server.dialling() }).await);
    let refused = server.answer(server.dialling()).await.unwrap_err().to_string();
    assert!(refused.contains("UnknownIssuer"), "{refused}");

    parts.send("after").await.unwrap();
    drop(parts);
    assert_eq!(within(answer.collect()).await.unwrap().to_bytes(), "after");
}

#[tokio::test]
async fn a_broken_certificate_is_not_shown() {
    let server = Encrypted::telling_the_peer().await;
    server.folder.write("certificate.pem", "broken");
    assert!(server.certificates.reload(Timestamp::now()).is_err());
    assert!(server.is_answered(server.dialling()).await);
}

#[tokio::test]
async fn an_authority_of_clients_that_was_replaced_counts_no_more() {
    let (first, second) = (Authority::new(), Authority::new());
    let asked = Some((&first, ClientCertificates::Required));
    let server = Encrypted::start(telling_the_peer(), DEFAULT_BOUNDS, asked).await;
    let (former, present) = (first.issue(FAR_YEAR), second.issue(FAR_YEAR));
    assert!(server.is_answered(Dialling { shows: Some(&former), ..server.dialling() }).await);
    server.folder.write("clients.pem", &second.pem());
    server.certificates.reload(Timestamp::now()).unwrap();
    assert!(!server.is_answered(Dialling { shows: Some(&former), ..server.dialling() }).await);
    assert!(server.is_answered(Dialling { shows: Some(&present), ..server.dialling() }).await);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_begins_no_handshake_is_closed_when_its_time_is_over() {
    let server = Encrypted::telling_the_peer().await;
    let begun = time::Instant::now();
    assert_eq!(rest_of(server.silent().await).await, b"");
    assert_eq!(begun.elapsed().as_secs(), HANDSHAKE_WAIT_MAX.as_secs());
    // The beginning of a first message, and no more.
    let begun = time::Instant::now();
    let stream = connect_and_send(server.running.address, &[22, 3, 1, 2, 0, 1]).await;
    rest_of(stream).await;
    assert_eq!(begun.elapsed().as_secs(), HANDSHAKE_WAIT_MAX.as_secs());
}

#[tokio::test]
async fn silent_clients_end_each_other_and_keep_nobody_out() {
    // Two handshakes at once.
    let bounds = Bounds { connections_max: 4, ..DEFAULT_BOUNDS };
    let server = Encrypted::start(telling_the_peer(), bounds, None).await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(server.silent().await);
    }
    assert!(server.is_answered(server.dialling()).await);
    let newest = silent.pop().unwrap();
    for stream in silent {
        assert_eq!(within(rest_of(stream)).await, b"");
    }
    drop(newest);
}

#[tokio::test]
async fn a_client_without_tls_is_closed_and_gets_no_answer() {
    let server = Encrypted::telling_the_peer().await;
    for sent in [HEAD, HTTP2_BEGINNING] {
        let received = within(rest_of(connect_and_send(server.running.address, sent).await)).await;
        let text = String::from_utf8_lossy(&received);
        assert!(!text.contains("HTTP/1.1") && !text.contains("127.0.0.1"), "{text}");
    }
    assert!(server.is_answered(server.dialling()).await);
}

#[tokio::test]
async fn a_connection_that_is_not_read_is_closed_under_tls_too() {
    let (router, dropped) = endless();
    let waits = Waits { write_stall: Duration::from_millis(50), ..Waits::DEFAULT };
    let server = Encrypted::start(router, Bounds { waits, ..DEFAULT_BOUNDS }, None).await;
    let mut stream = server.dialling().connect(server.running.address).await.unwrap();
    stream.write_all(b"GET /endless HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    assert!(within(dropped).await.is_err(), "the body was dropped");
}

#[tokio::test]
async fn a_stop_waits_for_no_handshake_and_for_no_connection_that_idles() {
    let server = Encrypted::telling_the_peer().await;
    let _silent = server.silent().await;
    let _idle = server.dialling().connect(server.running.address).await.unwrap();
    assert!(server.is_answered(server.dialling()).await);
    time::pause();
    let asked = time::Instant::now();
    server.running.stop.cancel();
    server.running.served.await.unwrap().unwrap();
    assert!(asked.elapsed() <= LEAVE_WAIT_MAX + Duration::from_millis(100), "{:?}", asked.elapsed());
}
