//! What the configuration may not say in production.

use toml::{Table, Value};

use super::{Config, ConfigError, MailTransport, Mode};

/// Whether somebody has seen to what passes over the listener: it is encrypted, or they have said that
/// something in front of it does that.
pub(super) fn clear_text_is_meant(tree: &Table) -> bool {
    let server = tree.get("server").and_then(Value::as_table);
    let tls = server.and_then(|server| server.get("tls")).and_then(Value::as_table);
    let certificate = tls.and_then(|tls| tls.get("certificate_file")).and_then(Value::as_str);
    let is_allowed = server.and_then(|server| server.get("allow_clear_text")).and_then(Value::as_bool);
    certificate.is_some_and(|file| !file.is_empty()) || is_allowed == Some(true)
}

/// Refuses in production what works and would be a hole.
///
/// # Errors
/// [`ConfigError::OutOfBounds`] naming the key and what it must be.
pub(super) fn check(config: &Config, clear_text_is_meant: bool) -> Result<(), ConfigError> {
    if config.server.mode == Mode::Development {
        return Ok(());
    }
    let listen = config.server.listen;
    if !listen.ip().to_canonical().is_loopback() && !clear_text_is_meant {
        let description = format!(
            "is {listen}, which other machines reach, and what passes there is not encrypted: give the listener \
             a certificate (server.tls), or listen on 127.0.0.1 behind a proxy that encrypts (server.mode is \
             production)"
        );
        return Err(ConfigError::OutOfBounds { key: "server.listen", description });
    }
    if matches!(config.mail.transport, MailTransport::Log | MailTransport::File) {
        let description = "must be smtp or none: a log and a folder hold the tokens of invitations in clear \
                           (server.mode is production)"
            .to_owned();
        return Err(ConfigError::OutOfBounds { key: "mail.transport", description });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_or_somebodys_word_stands_for_what_passes_in_clear() {
        let meant = |text: &str| clear_text_is_meant(&text.parse().unwrap());
        for text in
            ["", "[server]", "[server.tls]\ncertificate_file = \"\"", "[server]\nallow_clear_text = false"]
        {
            assert!(!meant(text), "{text}");
        }
        for text in ["[server.tls]\ncertificate_file = \"a.pem\"", "[server]\nallow_clear_text = true"] {
            assert!(meant(text), "{text}");
        }
    }
}
