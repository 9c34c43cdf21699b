use std::os::unix::fs::PermissionsExt;

use rateguard_engine::people::EmailAddress;
use rateguard_engine::secrets::SecretText;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

use super::*;

fn mail() -> Mail {
    Mail {
        to: EmailAddress::parse("to", "bob@example.com").unwrap(),
        subject: "Invitation to Ä".to_owned(),
        text: SecretText::new("Accept it with rgi_token\n".to_owned()),
    }
}

fn config(folder: &Path, pairs: &[(&str, &str)]) -> Config {
    let mut environment =
        vec![("RATEGUARD_MAIL__FROM".to_owned(), "RateGuard <rateguard@example.com>".to_owned())];
    environment.extend(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    Config::load(None, &environment, &[("data.folder", folder.display().to_string())]).unwrap()
}

#[tokio::test]
async fn a_message_is_written_to_a_file_for_its_owner_alone() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), &[("RATEGUARD_MAIL__TRANSPORT", "file")]);
    mailer(&config).unwrap().unwrap().send(mail()).await.unwrap();
    let entry = folder.path().join("mail").read_dir().unwrap().next().unwrap().unwrap();
    assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, FILE_MODE);
    let text = std::fs::read_to_string(entry.path()).unwrap();
    for line in ["To: bob@example.com", "From: RateGuard <rateguard@example.com>", "Accept it with rgi_token"]
    {
        assert!(text.contains(line), "{text}");
    }
}

#[tokio::test]
async fn a_message_is_handed_to_a_mail_server() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let server = tokio::spawn(take_one_message(listener));
    let folder = tempfile::tempdir().unwrap();
    let config = config(
        folder.path(),
        &[
            ("RATEGUARD_MAIL__TRANSPORT", "smtp"),
            ("RATEGUARD_MAIL__SMTP_HOST", "127.0.0.1"),
            ("RATEGUARD_MAIL__SMTP_PORT", &port),
            ("RATEGUARD_MAIL__SMTP_TLS", "none"),
        ],
    );
    mailer(&config).unwrap().unwrap().send(mail()).await.unwrap();
    let taken = server.await.unwrap();
    assert!(taken.contains("RCPT TO:<bob@example.com>") && taken.contains("rgi_token"), "{taken}");
}

#[tokio::test]
async fn a_mail_server_that_is_away_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let pairs = [
        ("RATEGUARD_MAIL__TRANSPORT", "smtp"),
        ("RATEGUARD_MAIL__SMTP_HOST", "127.0.0.1"),
        ("RATEGUARD_MAIL__SMTP_PORT", "1"),
        ("RATEGUARD_MAIL__SMTP_TLS", "none"),
    ];
    mailer(&config(folder.path(), &pairs)).unwrap().unwrap().send(mail()).await.unwrap_err();
}

#[test]
fn a_password_that_others_can_read_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    crate::keyfile::create(&file, "hidden\n").unwrap();
    let pairs = [
        ("RATEGUARD_MAIL__TRANSPORT", "smtp"),
        ("RATEGUARD_MAIL__SMTP_HOST", "mail.example.com"),
        ("RATEGUARD_MAIL__SMTP_USER", "rateguard"),
        ("RATEGUARD_MAIL__SMTP_PASSWORD_FILE", file.to_str().unwrap()),
    ];
    let config = config(folder.path(), &pairs);
    assert!(mailer(&config).unwrap().is_some());
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
    let refused = format!("{:#}", mailer(&config).err().unwrap());
    assert!(refused.contains("mail.smtp_password_file") && refused.contains("chmod 600"), "{refused}");
    assert!(!refused.contains("hidden"), "{refused}");
}

#[test]
fn nobody_takes_mail_by_default() {
    let folder = tempfile::tempdir().unwrap();
    assert!(mailer(&config(folder.path(), &[])).unwrap().is_none());
}

/// A mail server for one message; gives all that it was told.
async fn take_one_message(listener: TcpListener) -> String {
    let (stream, _) = listener.accept().await.unwrap();
    let (reader, mut writer) = stream.into_split();
    let mut lines = BufReader::new(reader).lines();
    let (mut told, mut in_data) = (String::new(), false);
    writer.write_all(b"220 ready\r\n").await.unwrap();
    while let Some(line) = lines.next_line().await.unwrap() {
        told += &line;
        told.push('\n');
        let answer: &[u8] = match line.as_str() {
            "." => b"250 taken\r\n",
            _ if in_data => continue,
            "DATA" => b"354 go on\r\n",
            "QUIT" => break,
            _ => b"250 ok\r\n",
        };
        in_data = line == "DATA";
        writer.write_all(answer).await.unwrap();
        if line == "." {
            break;
        }
    }
    told
}
