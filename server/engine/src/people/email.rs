//! E-mail addresses, as accounts are known by them.

use std::fmt;
use std::sync::Arc;

use rateguard_core::invalid::Invalid;

/// Longest address (RFC 5321, section 4.5.3.1.3: a path of 256 with its brackets), in bytes.
pub const EMAIL_BYTES_MAX: usize = 254;
/// Longest part in front of the `@` (RFC 5321, section 4.5.3.1.1), in bytes.
const LOCAL_BYTES_MAX: usize = 64;
/// Longest label of a domain (RFC 1035, section 2.3.4), in bytes.
const LABEL_BYTES_MAX: usize = 63;
/// What a local part may hold besides letters and digits (RFC 5322, section 3.2.3), unquoted.
const LOCAL_MARKS: &[u8] = b"!#$%&'*+-/=?^_`{|}~.";

/// An address in lower case: two that differ in case alone are one account. Quoted local parts,
/// literal addresses and other scripts than ASCII are not taken; domains of other scripts come in
/// their ASCII form.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EmailAddress(Arc<str>);

impl EmailAddress {
    /// Parses an address and writes it in lower case.
    ///
    /// # Errors
    /// [`Invalid`] naming `field`.
    pub fn parse(field: &'static str, text: &str) -> Result<Self, Invalid> {
        let malformed = || Invalid::new(field, "must be an e-mail address such as name@example.com");
        if text.len() > EMAIL_BYTES_MAX {
            return Err(Invalid::new(field, format!("must be at most {EMAIL_BYTES_MAX} bytes")));
        }
        let (local, domain) = text.rsplit_once('@').ok_or_else(malformed)?;
        if is_local_part(local) && is_domain(domain) {
            return Ok(Self(text.to_ascii_lowercase().into()));
        }
        Err(malformed())
    }

    /// The address.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for EmailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for EmailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_local_part(local: &str) -> bool {
    let plain = local.bytes().all(|b| b.is_ascii_alphanumeric() || LOCAL_MARKS.contains(&b));
    let dotted = local.starts_with('.') || local.ends_with('.') || local.contains("..");
    (1..=LOCAL_BYTES_MAX).contains(&local.len()) && plain && !dotted
}

fn is_domain(domain: &str) -> bool {
    domain.contains('.') && domain.split('.').all(is_label)
}

fn is_label(label: &str) -> bool {
    let plain = label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let hyphened = label.starts_with('-') || label.ends_with('-');
    (1..=LABEL_BYTES_MAX).contains(&label.len()) && plain && !hyphened
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_one_whatever_its_case() {
        let one = EmailAddress::parse("email", "Ada.Lovelace+x@Example.COM").unwrap();
        assert_eq!(one.as_str(), "ada.lovelace+x@example.com");
    }

    #[test]
    fn what_is_no_address_is_refused() {
        let long = format!("{}@example.com", "a".repeat(65));
        let endless = format!("a@{}.com", "b.".repeat(130));
        for text in [
            "",
            "a",
            "@example.com",
            "a@",
            "a@localhost",
            "a b@example.com",
            "a@exa mple.com",
            ".a@example.com",
            "a..b@example.com",
            "a@-x.com",
            "a@example..com",
            "a\r\nbcc:b@example.com",
            "a@example.com\n",
            "ä@example.com",
            &long,
            &endless,
        ] {
            assert!(EmailAddress::parse("email", text).is_err(), "{text:?}");
        }
    }
}
