//! What a limit counts.

use std::fmt;
use std::sync::Arc;

use crate::invalid::Invalid;
use crate::limits::NAME_BYTES_MAX;

/// A unit of consumption.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Unit {
    /// Calls. A check takes one unless it says otherwise.
    Requests,
    /// Tokens of input and output together.
    Tokens,
    /// Money, in nano-units of the workspace's currency.
    Cost,
    /// A meter of the workspace's own.
    Custom(Arc<str>),
}

impl Unit {
    /// Parses a unit: `requests`, `tokens`, `cost`, or a name of `[a-z][a-z0-9_]*`.
    ///
    /// # Errors
    /// [`Invalid`] naming `field` when the name is malformed or longer than 64 bytes.
    pub fn parse(field: &'static str, text: &str) -> Result<Self, Invalid> {
        match text {
            "requests" => Ok(Self::Requests),
            "tokens" => Ok(Self::Tokens),
            "cost" => Ok(Self::Cost),
            name if is_name(name) => Ok(Self::Custom(name.into())),
            _ => Err(Invalid::new(
                field,
                format!("must be 1 to {NAME_BYTES_MAX} characters of [a-z0-9_], beginning with a letter"),
            )),
        }
    }

    /// The unit's name.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Requests => "requests",
            Self::Tokens => "tokens",
            Self::Cost => "cost",
            Self::Custom(name) => name,
        }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

fn is_name(text: &str) -> bool {
    let starts = text.bytes().next().is_some_and(|b| b.is_ascii_lowercase());
    let plain = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    starts && plain && text.len() <= NAME_BYTES_MAX
}
