//! Mail to people: the port, and what is written.

use async_trait::async_trait;
use rateguard_core::ids::DisplayName;
use thiserror::Error;

use super::EmailAddress;
use crate::secrets::SecretText;

/// One message in plain text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    /// To whom.
    pub to: EmailAddress,
    /// Its subject, one line.
    pub subject: String,
    /// What it says. It may hold a token, and does not print.
    pub text: SecretText,
}

/// Why a message was not sent.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the mail transport is unavailable: {0}")]
pub struct MailError(pub String);

/// Sends mail. It answers within a bounded time.
#[async_trait]
pub trait Mailer: Send + Sync + 'static {
    /// Hands a message over to whoever delivers it.
    ///
    /// # Errors
    /// [`MailError`] when it surely or perhaps was not taken.
    async fn send(&self, mail: Mail) -> Result<(), MailError>;
}

/// The message of an invitation. `page` is where a person pastes or clicks it; empty where there is
/// none.
pub(super) fn invitation(to: EmailAddress, workspace: &DisplayName, page: &str, token: &SecretText) -> Mail {
    // It goes to the one person who may have it.
    let token = token.expose();
    let way = if page.is_empty() {
        format!("Accept it with this token:\n\n    {token}\n")
    } else {
        format!("Accept it here:\n\n    {page}#token={token}\n")
    };
    let text = format!(
        "You are invited to the workspace \"{workspace}\" on RateGuard.\n\n{way}\nThe invitation is for \
         this address alone and good for 7 days. If you do not know what this is about, do nothing.\n"
    );
    Mail { to, subject: format!("Invitation to {workspace}"), text: SecretText::new(text) }
}
