//! The keys about people and mail.

mod oidc;

use std::path::PathBuf;

use rateguard_engine::people::{Policy, Registration};
use serde::Deserialize;

use super::ConfigError;

pub use oidc::Oidc;

/// Accounts and sessions.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct People {
    registration: RegistrationKey,
    /// Life of an access token.
    pub(super) access_token_seconds: u32,
    /// Life of a refresh token.
    pub(super) refresh_token_seconds: u32,
    invitation_page: String,
    /// Logging in through a provider.
    pub oidc: Oidc,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum RegistrationKey {
    Open,
    InviteOnly,
    Closed,
}

impl People {
    /// How people are let in.
    pub fn policy(&self) -> Policy {
        Policy {
            registration: match self.registration {
                RegistrationKey::Open => Registration::Open,
                RegistrationKey::InviteOnly => Registration::InviteOnly,
                RegistrationKey::Closed => Registration::Closed,
            },
            access_token_ms: i64::from(self.access_token_seconds) * 1_000,
            refresh_token_ms: i64::from(self.refresh_token_seconds) * 1_000,
            invitation_page: self.invitation_page.clone(),
        }
    }
}

/// How mail is sent.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mail {
    /// By whom.
    pub transport: MailTransport,
    /// The sender's address.
    pub from: String,
    /// Where mail is written to, with the transport `file`.
    pub folder: PathBuf,
    /// The mail server.
    pub smtp_host: String,
    /// Its port.
    pub smtp_port: u16,
    /// How the connection to it is kept private.
    pub smtp_tls: SmtpTls,
    /// The name to log in with; empty for no log-in.
    pub smtp_user: String,
    /// The file with the password.
    pub smtp_password_file: PathBuf,
}

/// Who takes mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MailTransport {
    /// Nobody.
    None,
    /// The log, for development.
    Log,
    /// A folder, for development.
    File,
    /// A mail server.
    Smtp,
}

/// How the connection to a mail server is kept private.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SmtpTls {
    /// TLS from the first byte.
    Implicit,
    /// TLS after STARTTLS, which the server must offer.
    Starttls,
    /// Not at all: for a server on this machine.
    None,
}

/// Names of this machine.
const LOCAL_HOSTS: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

impl Mail {
    /// Checks what must stand together.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if self.transport == MailTransport::None {
            return Ok(());
        }
        let out_of_bounds = |key, description: &str| {
            Err(ConfigError::OutOfBounds { key, description: description.to_owned() })
        };
        if !self.from.contains('@') {
            return out_of_bounds("mail.from", "must be the sender's address");
        }
        let is_smtp = self.transport == MailTransport::Smtp;
        if is_smtp && self.smtp_host.is_empty() {
            return out_of_bounds("mail.smtp_host", "must name the mail server");
        }
        if is_smtp && self.smtp_tls == SmtpTls::None && !LOCAL_HOSTS.contains(&self.smtp_host.as_str()) {
            return out_of_bounds("mail.smtp_tls", "must not be none: the mail server is another machine");
        }
        Ok(())
    }
}
