//! What the configuration may not say in production.

use super::{Config, ConfigError, MailTransport, Mode};

/// Refuses in production what works and would be a hole.
///
/// # Errors
/// [`ConfigError::OutOfBounds`] naming the key and what it must be.
pub(super) fn check(config: &Config) -> Result<(), ConfigError> {
    if config.server.mode == Mode::Development {
        return Ok(());
    }
    if matches!(config.mail.transport, MailTransport::Log | MailTransport::File) {
        let description = "must be smtp or none: a log and a folder hold the tokens of invitations in clear \
                           (server.mode is production)"
            .to_owned();
        return Err(ConfigError::OutOfBounds { key: "mail.transport", description });
    }
    Ok(())
}
