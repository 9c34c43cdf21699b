//! The hand-written part of [`SecretText`]: it can be logged by mistake and nothing is lost.

use std::fmt;

use crate::v1::SecretText;

impl fmt::Debug for SecretText {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SecretText([redacted])")
    }
}
