//! Transports of mail: a mail server, and a log and a folder for development.

use std::fs::{DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use async_trait::async_trait;
use lettre::message::header::ContentType;
use lettre::message::{Mailbox, Message};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::{AsyncSmtpTransport, AsyncSmtpTransportBuilder};
use lettre::{AsyncTransport, Tokio1Executor};
use rateguard_engine::people::{Mail, MailError, Mailer};
use rateguard_engine::secrets::random;

use crate::config::{Config, MailTransport, SmtpTls};
use crate::keyfile;

/// Longest wait for one step of the conversation with a mail server.
const SMTP_STEP_MAX: Duration = Duration::from_secs(5);
/// Longest wait for the whole of it, below the longest deadline of a call.
const SMTP_MAX: Duration = Duration::from_secs(20);
/// Owner reads and writes, nobody else: mail holds tokens.
const FILE_MODE: u32 = 0o600;
const FOLDER_MODE: u32 = 0o700;

/// The configured transport; `None` where nobody takes mail.
///
/// # Errors
/// When the sender's address, the password's file or the folder cannot be used.
pub fn mailer(config: &Config) -> anyhow::Result<Option<Arc<dyn Mailer>>> {
    let mail = &config.mail;
    if mail.transport == MailTransport::None {
        return Ok(None);
    }
    let from: Mailbox = mail.from.parse().with_context(|| format!("mail.from {:?}", mail.from))?;
    Ok(Some(match mail.transport {
        MailTransport::None | MailTransport::Log => Arc::new(LogMailer),
        MailTransport::File => Arc::new(FileMailer::new(config.data.folder.join(&mail.folder), from)?),
        MailTransport::Smtp => Arc::new(SmtpMailer { from, transport: smtp(config)? }),
    }))
}

/// Writes mail to the log, tokens and all: for development.
struct LogMailer;

#[async_trait]
impl Mailer for LogMailer {
    async fn send(&self, mail: Mail) -> Result<(), MailError> {
        let Mail { to, subject, text } = mail;
        // The operator has asked for it.
        tracing::info!(%to, subject, text = text.expose(), "mail");
        Ok(())
    }
}

/// Writes each message to a file of its own: for development.
struct FileMailer {
    folder: PathBuf,
    from: Mailbox,
}

impl FileMailer {
    fn new(folder: PathBuf, from: Mailbox) -> anyhow::Result<Self> {
        DirBuilder::new()
            .recursive(true)
            .mode(FOLDER_MODE)
            .create(&folder)
            .with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(Self { folder, from })
    }
}

#[async_trait]
impl Mailer for FileMailer {
    async fn send(&self, mail: Mail) -> Result<(), MailError> {
        let message = message(&self.from, &mail)?.formatted();
        let name = hex::encode(random::<16>().map_err(failed)?);
        let path = self.folder.join(format!("{name}.eml"));
        tokio::task::spawn_blocking(move || write(&path, &message)).await.map_err(failed)?.map_err(failed)
    }
}

fn write(path: &Path, message: &[u8]) -> std::io::Result<()> {
    OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path)?.write_all(message)
}

/// Hands messages to a mail server.
struct SmtpMailer {
    from: Mailbox,
    transport: AsyncSmtpTransport<Tokio1Executor>,
}

#[async_trait]
impl Mailer for SmtpMailer {
    async fn send(&self, mail: Mail) -> Result<(), MailError> {
        let sending = self.transport.send(message(&self.from, &mail)?);
        let sent = tokio::time::timeout(SMTP_MAX, sending).await;
        sent.map_err(|_| MailError("the mail server did not answer in time".to_owned()))?.map_err(failed)?;
        Ok(())
    }
}

fn smtp(config: &Config) -> anyhow::Result<AsyncSmtpTransport<Tokio1Executor>> {
    let mail = &config.mail;
    let host = mail.smtp_host.as_str();
    let builder: AsyncSmtpTransportBuilder = match mail.smtp_tls {
        SmtpTls::Implicit => AsyncSmtpTransport::<Tokio1Executor>::relay(host)?,
        SmtpTls::Starttls => AsyncSmtpTransport::<Tokio1Executor>::starttls_relay(host)?,
        SmtpTls::None => AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(host),
    };
    let builder = builder.port(mail.smtp_port).timeout(Some(SMTP_STEP_MAX));
    if mail.smtp_user.is_empty() {
        return Ok(builder.build());
    }
    let file = &mail.smtp_password_file;
    let password = keyfile::read_secret(file).context("mail.smtp_password_file")?;
    // It goes to the mail server alone.
    let credentials = Credentials::new(mail.smtp_user.clone(), password.expose().to_owned());
    Ok(builder.credentials(credentials).build())
}

fn message(from: &Mailbox, mail: &Mail) -> Result<Message, MailError> {
    let to: Mailbox = mail.to.as_str().parse().map_err(failed)?;
    Message::builder()
        .from(from.clone())
        .to(to)
        .subject(mail.subject.as_str())
        .header(ContentType::TEXT_PLAIN)
        // It goes to the one it is for.
        .body(mail.text.expose().to_owned())
        .map_err(failed)
}

fn failed(error: impl std::fmt::Display) -> MailError {
    MailError(error.to_string())
}

#[cfg(test)]
mod tests;
