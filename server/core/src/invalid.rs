//! The one error of validation: which field, and what it must be.

use thiserror::Error;

/// Input that is malformed or out of bounds. The field is named as the wire names it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{field}: {description}")]
pub struct Invalid {
    /// The field at fault, for example `amounts[2].amount`.
    pub field: String,
    /// What the field must be, including the bound.
    pub description: String,
}

impl Invalid {
    /// An error about one field.
    pub fn new(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self { field: field.into(), description: description.into() }
    }

    /// The same error seen from the message that holds the field: `prefix.field`.
    #[must_use]
    pub fn within(mut self, prefix: &str) -> Self {
        self.field = format!("{prefix}.{}", self.field);
        self
    }
}
