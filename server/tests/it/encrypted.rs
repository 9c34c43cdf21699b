//! TLS from end to end: every face of the server, the commands, a gateway elsewhere, and a certificate
//! that is replaced meanwhile.

use std::io::ErrorKind;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Method, Request, Response, Version};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rateguard_proto::v1;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};

use crate::authority::{Authority, Files, write};
use crate::clients::{Clients, eventually};
use crate::http::{ChatCall, EMPTY_FRAME};
use crate::process::{Installation, PROGRAM, Server, command, gateway_program};
use crate::upstream;

/// Longest wait for an answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

const TOKEN: &str = "a-token-for-gateways-of-other-processes";

/// An installation that is served under TLS.
struct Scene {
    installation: Installation,
    server: Server,
    authority: Authority,
    files: Files,
}

type Https = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// A command whose server has this certificate.
fn under_tls(files: &Files) -> Command {
    let mut command = command(PROGRAM);
    command.env("RATEGUARD_SERVER__TLS__CERTIFICATE_FILE", &files.certificate);
    command.env("RATEGUARD_SERVER__TLS__KEY_FILE", &files.key);
    command
}

impl Scene {
    async fn set(configure: impl FnOnce(&mut Command)) -> Self {
        let authority = Authority::new();
        let files = authority.issue("server");
        let installation = Installation::make().await;
        let mut command = under_tls(&files);
        configure(&mut command);
        let server = installation.serve_under(command).await;
        assert!(server.address.starts_with("https://127.0.0.1:"), "{}", server.address);
        Self { installation, server, authority, files }
    }

    /// A client with the first key that trusts this authority, if it is let in.
    async fn clients(&self, trusted: &Authority) -> Option<Clients> {
        let pem = std::fs::read(trusted.file()).unwrap();
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem));
        let endpoint = Endpoint::from_shared(self.server.address.clone()).unwrap().timeout(ANSWER_WITHIN);
        let channel = endpoint.tls_config(tls).unwrap().connect().await.ok()?;
        Some(Clients::over(channel, &self.installation.first_key))
    }

    /// Runs a command against the server.
    async fn run(&self, arguments: &[&str], trusts: &Path) -> Output {
        let mut command = command(PROGRAM);
        command.args(arguments).args(["--address", &self.server.address]).arg("--ca-file").arg(trusts);
        command.output().await.unwrap()
    }
}

fn https(trusted: &Authority, versions: &[Version]) -> Https {
    let builder = HttpsConnectorBuilder::new().with_tls_config(trusted.trusted()).https_only();
    let connector = match versions {
        [Version::HTTP_11] => builder.enable_http1().build(),
        [Version::HTTP_2] => builder.enable_http2().build(),
        _ => builder.enable_http1().enable_http2().build(),
    };
    Client::builder(TokioExecutor::new()).build(connector)
}

async fn answer(https: &Https, request: Request<Full<Bytes>>) -> Response<Bytes> {
    let answered = tokio::time::timeout(ANSWER_WITHIN, https.request(request)).await.expect("no answer");
    let (head, body) = answered.unwrap().into_parts();
    Response::from_parts(head, body.collect().await.unwrap().to_bytes())
}

#[tokio::test]
async fn grpc_grpc_web_the_gateway_and_the_probes_are_served_under_tls() {
    let scene = Scene::set(|_| {}).await;
    let owner = scene.clients(&scene.authority).await.unwrap();
    owner.make_rule("some", 5).await;
    assert_eq!(owner.limits().await.len(), 1);

    let (_upstream, upstream_address) = upstream::start().await;
    upstream::make_api(&owner, upstream_address).await;
    let app_key = owner.make_key(&[v1::KeyScope::Gateway]).await;
    for (versions, expected) in [
        (&[Version::HTTP_11][..], Version::HTTP_11),
        (&[Version::HTTP_2], Version::HTTP_2),
        (&[Version::HTTP_11, Version::HTTP_2], Version::HTTP_2),
    ] {
        let https = https(&scene.authority, versions);
        let at = |path: &str| Request::builder().uri(format!("{}{path}", scene.server.address));
        let ready = answer(&https, at("/ready").body(Full::default()).unwrap()).await;
        assert_eq!((ready.status().as_u16(), ready.version()), (200, expected));
        let told = String::from_utf8_lossy(ready.body()).into_owned();
        assert!(told.contains(r#""certificate_ends_at":"4096-01-01T00:00:00Z""#), "{told}");

        let grpc_web = at("/rateguard.v1.QuotaService/GetQuota")
            .method(Method::POST)
            .header("content-type", "application/grpc-web+proto")
            .header("authorization", format!("Bearer {}", scene.installation.first_key))
            .body(Full::from(EMPTY_FRAME))
            .unwrap();
        let quota = answer(&https, grpc_web).await;
        assert!(String::from_utf8_lossy(quota.body()).contains("grpc-status:0"), "{quota:?}");

        let call = ChatCall::new(&scene.server.address, "chat", &app_key).request();
        let chat = answer(&https, call).await;
        assert_eq!((chat.status().as_u16(), chat.version()), (200, expected));
        assert!(chat.headers().contains_key("x-rateguard-request-id"), "{chat:?}");
    }
}

#[tokio::test]
async fn commands_speak_to_a_server_whose_authority_they_are_given() {
    let scene = Scene::set(|_| {}).await;
    let trusted = scene.authority.file();
    let served = scene.run(&["health"], &trusted).await;
    assert_eq!(String::from_utf8_lossy(&served.stdout), "serving\n", "{served:?}");
    let owner = scene.clients(&scene.authority).await.unwrap();
    let key = owner.make_key(&[v1::KeyScope::Quota]).await;
    let checked = scene.run(&["check", "--key", &key], &trusted).await;
    assert!(String::from_utf8_lossy(&checked.stdout).starts_with("ALLOWED"), "{checked:?}");
    let named = scene.run(&["health", "--server-name", "server.test"], &trusted).await;
    assert!(named.status.success(), "{named:?}");
    let misnamed = scene.run(&["health", "--server-name", "other.test"], &trusted).await;
    assert!(!misnamed.status.success());
    let untrusted = scene.run(&["health"], &Authority::new().file()).await;
    assert!(!untrusted.status.success());
    let said = String::from_utf8_lossy(&untrusted.stderr).into_owned();
    assert!(said.contains("cannot reach a server") && said.contains("UnknownIssuer"), "{said}");

    let mut in_clear = command(PROGRAM);
    in_clear.args(["health", "--address", &scene.server.address.replace("https", "http")]);
    let refused = in_clear.arg("--ca-file").arg(&trusted).output().await.unwrap();
    assert!(String::from_utf8_lossy(&refused.stderr).contains("is not https"), "{refused:?}");
}

#[tokio::test]
async fn commands_show_a_certificate_where_one_is_required() {
    let clients = Authority::new();
    let scene = Scene::set(|command| {
        command.env("RATEGUARD_SERVER__TLS__CLIENT_CA_FILE", clients.file());
    })
    .await;
    let trusted = scene.authority.file();
    let health = async |files: &Files| {
        let certificate = files.certificate.to_str().unwrap();
        let key = files.key.to_str().unwrap();
        let arguments = ["health", "--client-certificate-file", certificate, "--client-key-file", key];
        scene.run(&arguments, &trusted).await
    };
    let own = clients.issue("client");
    let let_in = health(&own).await;
    assert!(let_in.status.success(), "{let_in:?}");
    assert!(!scene.run(&["health"], &trusted).await.status.success());
    assert!(!health(&scene.authority.issue("foreign")).await.status.success());
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(&own.key, mode).unwrap();
    let careless = health(&own).await;
    assert!(String::from_utf8_lossy(&careless.stderr).contains("run: chmod 600"), "{careless:?}");
}

#[tokio::test]
async fn a_hangup_replaces_the_certificate_and_a_broken_one_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let scene = Scene::set(|command| {
        command.stderr(std::fs::File::create(&log).unwrap());
    })
    .await;
    let logged = || std::fs::read_to_string(&log).unwrap();
    let before = scene.clients(&scene.authority).await.unwrap();
    assert!(before.limits().await.is_empty());
    let successor = Authority::new();
    successor.issue_into(&scene.files);
    let key = std::fs::read_to_string(&scene.files.key).unwrap();
    scene.server.signal("HUP").await;
    eventually("the new certificate is shown", async || scene.clients(&successor).await.is_some()).await;
    assert!(scene.clients(&scene.authority).await.is_none());
    assert!(before.limits().await.is_empty(), "the connection from before goes on");

    write(&scene.files.key, &key.replace("-----END", "-----"));
    scene.server.signal("HUP").await;
    eventually("the broken key is refused", async || logged().contains("was refused")).await;
    assert!(scene.clients(&successor).await.is_some());
    assert!(scene.server.interrupt().await.success());
    assert!(logged().contains("holds no private key"), "{}", logged());
    let secret = key.lines().nth(1).unwrap();
    assert!(!logged().contains(&secret[..8]), "{}", logged());
}

#[tokio::test]
async fn a_key_that_others_can_read_keeps_the_server_from_starting() {
    let authority = Authority::new();
    let files = authority.issue("server");
    std::fs::set_permissions(&files.key, std::os::unix::fs::PermissionsExt::from_mode(0o640)).unwrap();
    let installation = Installation::make().await;
    let mut command = under_tls(&files);
    command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(installation.path());
    let refused = command.output().await.unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("server.key can be read by others"), "{said}");
}

/// A gateway in a process of its own, which shows a certificate if it is given one, and is under TLS
/// itself.
async fn start_gateway(server: &str, token: &Path, scene: &Scene, client: Option<&Files>) -> Server {
    let mut command = command(gateway_program().await);
    command.args(["--listen", "127.0.0.1:0", "--server", server, "--token-file"]).arg(token);
    command.arg("--server-ca-file").arg(scene.authority.file());
    command.arg("--certificate-file").arg(&scene.files.certificate).arg("--key-file").arg(&scene.files.key);
    if let Some(files) = client {
        command.arg("--client-certificate-file").arg(&files.certificate);
        command.arg("--client-key-file").arg(&files.key);
    }
    Server::started(command).await
}

/// What somebody gets who does not know of TLS, until the connection is closed.
async fn answer_in_clear(port: u16) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut received = Vec::new();
    let read = tokio::time::timeout(ANSWER_WITHIN, stream.read_to_end(&mut received)).await;
    // A connection that is closed on bytes that nobody has read is reset.
    let is_reset = read.expect("it stays open").is_err_and(|e| e.kind() == ErrorKind::ConnectionReset);
    assert!(is_reset || !received.is_empty(), "neither an alert nor a reset");
    String::from_utf8_lossy(&received).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_elsewhere_is_let_in_with_token_and_certificate_alone() {
    let gateways = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("gateway.token");
    write(&token, TOKEN);
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let scene = Scene::set(|command| {
        command.env("RATEGUARD_SERVER__TLS__CLIENT_CA_FILE", gateways.file());
        command.env("RATEGUARD_SERVER__TLS__CLIENT_CERTIFICATES", "optional");
        command.env("RATEGUARD_SERVER__GATEWAY_LISTEN", format!("0.0.0.0:{port}"));
        command.env("RATEGUARD_SERVER__GATEWAY_TOKEN_FILE", &token);
    })
    .await;
    let owner = scene.clients(&scene.authority).await.expect("apps need no certificate");
    let (_upstream, upstream_address) = upstream::start().await;
    upstream::make_api(&owner, upstream_address).await;
    let app_key = owner.make_key(&[v1::KeyScope::Gateway]).await;

    let server = format!("https://127.0.0.1:{port}");
    let (own, foreign) = (gateways.issue("gateway"), scene.authority.issue("foreign"));
    let https = https(&scene.authority, &[]);
    for (client, expected) in [(Some(&own), 200), (None, 503), (Some(&foreign), 503)] {
        let gateway = start_gateway(&server, &token, &scene, client).await;
        assert!(gateway.address.starts_with("https://"), "{}", gateway.address);
        let call = ChatCall::new(&gateway.address, "chat", &app_key).request();
        let answered = answer(&https, call).await;
        assert_eq!(answered.status().as_u16(), expected, "{answered:?}");
        assert!(gateway.interrupt().await.success());
    }
    assert!(!answer_in_clear(port).await.contains("HTTP/"), "nothing is answered in clear");
}
