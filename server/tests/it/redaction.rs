//! No secret is printed: not by the types that carry it, and not into the log at its most talkative.

use std::fmt::Debug;
use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Parser as _;
use parking_lot::Mutex;
use rateguard_core::ids::{ApiId, SigningKeyId, WorkspaceId};
use rateguard_engine::manage::CredentialChange;
use rateguard_engine::people::{EmailAddress, Mail, PasswordHash};
use rateguard_engine::ports::{RefreshHashes, SealedValue};
use rateguard_engine::secrets::{CredentialCipher, EncryptionKey, KeyRing, SealedPlace, SecretText};
use rateguard_gateway_http::Secret;
use rateguard_proto::v1;
use rateguard_server::cli::Cli;
use rateguard_server::demo::DemoKeys;
use rateguard_server::keyfile::KeyFile;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::clients::{Clients, eventually};
use crate::http::{ChatCall, Http};
use crate::process::{Installation, OWNER_EMAIL, PROGRAM, command};
use crate::upstream;

/// What is planted into types.
const PLANTED: &str = "planted-Secret-5e1f";
/// What is planted into the server's configuration.
const SMTP_PASSWORD: &str = "smtp-Password-77aa";
const SMTP_USER: &str = "mailer";
/// The password of a person who is invited.
const MEMBERS_PASSWORD: &str = "members Password 88bb";

fn planted() -> Option<v1::SecretText> {
    Some(v1::SecretText { value: PLANTED.to_owned() })
}

/// How the types of the engine and the program show what is planted in them.
fn shown_of_the_program() -> Vec<String> {
    let text = || SecretText::new(PLANTED.to_owned());
    let mut bytes = [0; 32];
    bytes[..PLANTED.len()].copy_from_slice(PLANTED.as_bytes());
    let key = EncryptionKey::new(&bytes).unwrap();
    let cipher = CredentialCipher::with_ring(KeyRing::new(key.clone(), Vec::new()));
    let (workspace, api) = (WorkspaceId::from_random([1; 16]), ApiId::from_random([1; 16]));
    let sealed = SealedValue {
        place: SealedPlace::SigningKey(SigningKeyId::from_random([1; 16])),
        sealed: PLANTED.as_bytes().to_vec(),
        version: 1,
    };
    let mail = Mail {
        to: EmailAddress::parse("to", OWNER_EMAIL).unwrap(),
        subject: "Invitation".to_owned(),
        text: text(),
    };
    let demo = || PLANTED.to_owned();
    let keys = DemoKeys {
        manage: demo(),
        app: demo(),
        tight: demo(),
        broke: demo(),
        owner_email: OWNER_EMAIL.to_owned(),
        owner_password: demo(),
    };
    let command = ["rateguard", "check", "--key", PLANTED];
    vec![
        format!("{:?}", text()),
        format!("{:?}", CredentialChange::Set(text())),
        format!("{mail:?}"),
        format!("{:?}", PasswordHash::stored(PLANTED)),
        format!("{:?}", RefreshHashes { family_sha256: bytes, secret_sha256: bytes }),
        format!("{key:?} {:?} {cipher:?} {:?}", cipher.ring(), key.to_hex()),
        format!("{:?}", cipher.seal(&workspace, &api, &text()).unwrap()),
        format!("{:?}", cipher.open(&workspace, &api, &cipher.seal(&workspace, &api, &text()).unwrap())),
        format!("{:?} {:?}", KeyFile::of(key.clone()), KeyFile::of(key.clone()).to_text()),
        format!("{sealed:?}"),
        format!("{keys:?}"),
        format!("{:?}", Cli::try_parse_from(command).unwrap()),
        format!("{:?} {}", Secret::new(PLANTED), Secret::new(PLANTED)),
    ]
}

/// How messages of the contract show what is planted in them.
fn shown_of_the_contract() -> Vec<String> {
    let grant =
        v1::AccessGrant { access_token: planted(), refresh_token: planted(), ..v1::AccessGrant::default() };
    let api = v1::Api { credential: planted(), ..v1::Api::default() };
    let register = v1::RegisterRequest { password: planted(), ..v1::RegisterRequest::default() };
    let change = v1::ChangePasswordRequest { current_password: planted(), new_password: planted() };
    let shown: [&dyn Debug; 8] = [
        &v1::LoginRequest { password: planted(), ..v1::LoginRequest::default() },
        &register,
        &change,
        &v1::RefreshTokenRequest { refresh_token: planted() },
        &v1::LoginResponse { grant: Some(grant), ..v1::LoginResponse::default() },
        &v1::CreateApiRequest { api: Some(api), ..Default::default() },
        &v1::CreateKeyResponse { secret: planted(), ..v1::CreateKeyResponse::default() },
        &v1::AcceptInvitationRequest { token: planted() },
    ];
    shown.iter().map(|value| format!("{value:?}")).collect()
}

#[test]
fn no_type_that_carries_a_secret_prints_it() {
    let as_bytes = PLANTED.bytes().map(|byte| byte.to_string()).collect::<Vec<_>>().join(", ");
    let as_hex = hex::encode(PLANTED);
    for shown in shown_of_the_program().into_iter().chain(shown_of_the_contract()) {
        for form in [PLANTED, &as_bytes, &as_hex] {
            assert!(!shown.contains(form), "{shown}");
        }
    }
}

/// A mail server that keeps what it is told.
async fn mail_server() -> (u16, Arc<Mutex<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let told = Arc::new(Mutex::new(String::new()));
    let keeps = told.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(take_mail(stream, keeps.clone()));
        }
    });
    (port, told)
}

async fn take_mail(stream: TcpStream, told: Arc<Mutex<String>>) -> std::io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut lines = BufReader::new(reader).lines();
    let mut in_data = false;
    writer.write_all(b"220 ready\r\n").await?;
    while let Some(line) = lines.next_line().await? {
        *told.lock() += &format!("{line}\n");
        let answer: &[u8] = match line.as_str() {
            "." => b"250 taken\r\n",
            _ if in_data => continue,
            "DATA" => b"354 go on\r\n",
            line if line.starts_with("EHLO") => b"250-tests\r\n250 AUTH PLAIN LOGIN\r\n",
            line if line.starts_with("AUTH") => b"235 welcome\r\n",
            _ => b"250 ok\r\n",
        };
        in_data = line == "DATA";
        writer.write_all(answer).await?;
    }
    Ok(())
}

fn talkative(folder: &Path, log: &Path, smtp_port: u16) -> tokio::process::Command {
    let password = folder.join("smtp-password");
    std::fs::write(&password, SMTP_PASSWORD).unwrap();
    std::fs::set_permissions(&password, Permissions::from_mode(0o600)).unwrap();
    let mut command = command(PROGRAM);
    command
        .env("RATEGUARD_LOG__FILTER", "trace")
        .env("RATEGUARD_LOG__FORMAT", "json")
        .env("RATEGUARD_MAIL__TRANSPORT", "smtp")
        .env("RATEGUARD_MAIL__FROM", "rateguard@example.com")
        .env("RATEGUARD_MAIL__SMTP_HOST", "127.0.0.1")
        .env("RATEGUARD_MAIL__SMTP_PORT", smtp_port.to_string())
        .env("RATEGUARD_MAIL__SMTP_TLS", "none")
        .env("RATEGUARD_MAIL__SMTP_USER", SMTP_USER)
        .env("RATEGUARD_MAIL__SMTP_PASSWORD_FILE", password)
        .stderr(File::create(log).unwrap());
    command
}

fn secret(text: &str) -> Option<v1::SecretText> {
    Some(v1::SecretText { value: text.to_owned() })
}

/// Logs in and refreshes; gives both access tokens and both refresh tokens.
async fn come_in(visitor: &Clients, email: &str, password: &str) -> Vec<String> {
    let login = |password: &str| v1::LoginRequest {
        email: email.to_owned(),
        password: secret(password),
        ..v1::LoginRequest::default()
    };
    visitor.auth().login(login(&format!("{password}-wrong"))).await.unwrap_err();
    let first = visitor.auth().login(login(password)).await.unwrap().into_inner().grant.unwrap();
    let refresh_token = first.refresh_token.clone();
    let refresh = v1::RefreshTokenRequest { refresh_token };
    let second = visitor.auth().refresh_token(refresh).await.unwrap().into_inner().grant.unwrap();
    let tokens = [second.access_token, second.refresh_token, first.access_token, first.refresh_token];
    tokens.into_iter().map(|token| token.unwrap().value).collect()
}

/// The token of the invitation in the one mail that was taken.
async fn invited(told: &Mutex<String>) -> String {
    let token = || {
        let told = told.lock();
        told.split_whitespace().find(|word| word.starts_with("rgi_")).map(str::to_owned)
    };
    eventually("the invitation is sent", || async { token().is_some() }).await;
    token().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_at_its_most_talkative_holds_no_secret_that_has_passed_through() {
    let installation = Installation::make().await;
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let (port, told) = mail_server().await;
    let server = installation.serve_under(talkative(folder.path(), &log, port)).await;
    let (_, upstream_address) = upstream::start().await;

    let manager = installation.administer(&server).await;
    upstream::make_api(&manager, upstream_address).await;
    let app_key = manager.make_key(&[v1::KeyScope::Gateway]).await;
    let http = Http::new();
    let chat = |key: &str| ChatCall::new(&server.address, "chat", key);
    assert_eq!(http.call(&chat(&app_key)).await.status, 200);
    assert_eq!(http.call(&chat(&app_key).streaming(3, 1)).await.status, 200);
    let unknown_key = app_key.chars().rev().collect::<String>();
    assert_eq!(http.call(&chat(&unknown_key)).await.status, 401);
    http.grpc_web_status(&format!("{}/rateguard.v1.ApiService/ListApis", server.address), Some(&app_key))
        .await;

    let visitor = Clients::connect(&server.address, "nobody").await;
    let tokens = come_in(&visitor, OWNER_EMAIL, &installation.owner_password).await;
    let owner = Clients::connect(&server.address, &tokens[0]).await;
    let invitation = v1::InviteMemberRequest {
        email: "bob@example.com".to_owned(),
        role: v1::Role::Viewer.into(),
        ..Default::default()
    };
    owner.members().invite_member(invitation).await.unwrap();
    let invitation = invited(&told).await;
    let registration = v1::RegisterRequest {
        email: "bob@example.com".to_owned(),
        password: secret(MEMBERS_PASSWORD),
        display_name: "Bob".to_owned(),
        invitation_token: secret(&invitation),
        ..v1::RegisterRequest::default()
    };
    visitor.auth().register(registration).await.unwrap();
    server.signal("HUP").await;
    assert!(server.interrupt().await.success());

    let mail_login = STANDARD.encode(format!("\0{SMTP_USER}\0{SMTP_PASSWORD}"));
    assert!(told.lock().contains(&mail_login), "the mail server saw no log-in");
    let encryption_key = std::fs::read_to_string(installation.path().join("encryption.key")).unwrap();
    let written = std::fs::read_to_string(&log).unwrap();
    for talks in
        [r#""level":"TRACE""#, r#""target":"h2::"#, r#""target":"hyper"#, r#""target":"sqlx::query""#]
    {
        assert!(written.contains(talks), "the log lacks {talks}");
    }
    let fixed = [SMTP_PASSWORD, MEMBERS_PASSWORD, upstream::CREDENTIAL, &installation.owner_password];
    let drawn = [&installation.first_key, &app_key, &unknown_key, &invitation, &mail_login];
    let fixed = fixed.into_iter().chain(drawn.into_iter().map(String::as_str));
    for secret in fixed.chain(tokens.iter().map(String::as_str)).chain([encryption_key.trim()]) {
        for form in [secret.to_owned(), STANDARD.encode(secret), hex::encode(secret)] {
            let line = written.lines().find(|line| line.contains(&form));
            assert!(line.is_none(), "{secret} stands in the log: {}", line.unwrap_or_default());
        }
    }
}
