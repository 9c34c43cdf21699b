//! The names of [`ErrorReason`] as they stand in `google.rpc.ErrorInfo`.

use crate::v1::ErrorReason;

/// Prefix of the enum's values in the proto, which `ErrorInfo` goes without.
const PREFIX: &str = "ERROR_REASON_";

impl ErrorReason {
    /// The reason as `google.rpc.ErrorInfo.reason` carries it, such as `"SCOPE_MISSING"`.
    pub fn as_error_info_reason(self) -> &'static str {
        let name = self.as_str_name();
        name.strip_prefix(PREFIX).unwrap_or(name)
    }

    /// Reads `google.rpc.ErrorInfo.reason`. `None` for a reason of a newer server, and for
    /// [`ErrorReason::Unspecified`], which no error carries.
    pub fn from_error_info_reason(reason: &str) -> Option<Self> {
        Self::from_str_name(&format!("{PREFIX}{reason}")).filter(|reason| *reason != Self::Unspecified)
    }
}
