//! The port to an identity provider, which speaks OpenID Connect with whoever implements it.

use async_trait::async_trait;
use rateguard_core::time::Millis;
use thiserror::Error;

use crate::ports::ExternalIdentity;
use crate::secrets::SecretText;

/// What a log-in at the provider is begun with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorizationRequest {
    /// Comes back with the person.
    pub state: SecretText,
    /// Comes back in the provider's word for the person.
    pub nonce: SecretText,
    /// The S256 challenge of the verifier (RFC 7636).
    pub challenge: String,
}

/// What a log-in at the provider is ended with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorizationAnswer {
    /// What the person came back with.
    pub code: SecretText,
    /// Shows that whoever has the code began the log-in.
    pub verifier: SecretText,
    /// What the provider's word must hold.
    pub nonce: SecretText,
}

/// A person as the provider vouches for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vouched {
    /// Who.
    pub identity: ExternalIdentity,
    /// Their address, where the provider tells it.
    pub email: Option<String>,
    /// Whether the provider has seen that it is theirs.
    pub email_is_verified: bool,
    /// Their name for people, where the provider tells it.
    pub name: Option<String>,
}

/// Why there is no word of the provider.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ProviderError {
    /// It does not answer, or not as the standard has it.
    #[error("the identity provider is unavailable: {0}")]
    Unavailable(String),
    /// It refuses the code, or its word does not stand.
    #[error("the log-in is refused: {0}")]
    Refused(String),
}

/// An OpenID Connect provider. It answers within a bounded time.
#[async_trait]
pub trait IdentityProvider: Send + Sync + 'static {
    /// Where a person goes to log in.
    ///
    /// # Errors
    /// [`ProviderError::Unavailable`].
    async fn authorization_url(
        &self,
        request: AuthorizationRequest,
        now: Millis,
    ) -> Result<String, ProviderError>;

    /// Whom the provider vouches for, with a token that has been checked in full.
    ///
    /// # Errors
    /// [`ProviderError`].
    async fn vouch(&self, answer: AuthorizationAnswer, now: Millis) -> Result<Vouched, ProviderError>;
}
