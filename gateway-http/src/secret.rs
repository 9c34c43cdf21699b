//! A credential in memory: never printed, wiped when dropped.

use std::fmt;

use http::HeaderValue;
use http::header::InvalidHeaderValue;
use zeroize::Zeroizing;

/// A credential. `Debug` and `Display` print `[redacted]`; the bytes are zeroed on drop.
///
/// A header value made from it is a copy that the HTTP stack owns and does not wipe.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes the credential over.
    pub fn new(value: impl Into<String>) -> Self {
        Self(Zeroizing::new(value.into()))
    }

    /// The credential itself, to be sent or hashed and never logged.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// A header value `prefix` + credential, marked sensitive so that header maps print it as such.
    ///
    /// # Errors
    /// Fails if the credential holds bytes that no header may carry.
    pub fn header_value(&self, prefix: &str) -> Result<HeaderValue, InvalidHeaderValue> {
        let text = Zeroizing::new(format!("{prefix}{}", self.expose()));
        let mut value = HeaderValue::from_str(&text)?;
        value.set_sensitive(true);
        Ok(value)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[redacted]")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_never_prints_itself() {
        let secret = Secret::new("sk-very-private");
        assert_eq!(format!("{secret} {secret:?}"), "[redacted] [redacted]");
        let value = secret.header_value("Bearer ").unwrap();
        assert!(value.is_sensitive());
        assert!(!format!("{value:?}").contains("private"));
        assert_eq!(value.to_str().unwrap(), "Bearer sk-very-private");
    }

    #[test]
    fn a_secret_with_a_line_break_cannot_become_a_header() {
        assert!(Secret::new("a\r\nX-Evil: 1").header_value("").is_err());
    }
}
