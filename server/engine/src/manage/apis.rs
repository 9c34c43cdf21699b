//! APIs: their credential comes in clear and is kept sealed.

use rateguard_core::ids::WorkspaceId;

use crate::engine::Engine;
use crate::error::EngineError;
use crate::resources::{Api, SealedCredential};
use crate::secrets::{SecretText, key_hash};

/// What happens to an API's credential with a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CredentialChange {
    /// It stays.
    Keep,
    /// It is removed.
    Clear,
    /// It becomes this.
    Set(SecretText),
}

/// An API as its owner gives it, with the credential apart.
#[derive(Clone, Debug, PartialEq)]
pub struct ApiDraft {
    /// The API; its credential is the present one.
    pub api: Api,
    /// What happens to the credential.
    pub credential: CredentialChange,
}

impl Engine {
    /// Seals a draft's credential for its API.
    ///
    /// # Errors
    /// Without randomness.
    pub fn seal(&self, workspace: &WorkspaceId, draft: ApiDraft) -> Result<Api, EngineError> {
        let ApiDraft { mut api, credential } = draft;
        api.credential = match credential {
            CredentialChange::Keep => api.credential,
            CredentialChange::Clear => None,
            CredentialChange::Set(secret) => Some(
                self.cipher
                    .seal(workspace, &api.id, &secret)
                    .map_err(|error| EngineError::internal(&error.to_string()))?,
            ),
        };
        Ok(api)
    }

    /// The same, but a credential that is the stored one already stays as it is sealed, so that an API
    /// that has not changed is not changed.
    ///
    /// # Errors
    /// As [`Engine::seal`].
    pub fn seal_if_new(&self, workspace: &WorkspaceId, draft: ApiDraft) -> Result<Api, EngineError> {
        let ApiDraft { api, mut credential } = draft;
        if let (CredentialChange::Set(secret), Some(sealed)) = (&credential, &api.credential) {
            // One that was sealed under another key cannot be compared, and is sealed anew.
            let stored = self.cipher.open(workspace, &api.id, sealed);
            if stored.is_ok_and(|stored| key_hash(stored.expose()) == key_hash(secret.expose())) {
                credential = CredentialChange::Keep;
            }
        }
        self.seal(workspace, ApiDraft { api, credential })
    }

    /// Opens the credential of an API, for the gateway alone.
    ///
    /// # Errors
    /// When it was sealed under another key.
    pub fn open_credential(
        &self,
        workspace: &WorkspaceId,
        api: &Api,
    ) -> Result<Option<SecretText>, EngineError> {
        let open = |sealed: &SealedCredential| self.cipher.open(workspace, &api.id, sealed);
        api.credential
            .as_ref()
            .map(open)
            .transpose()
            .map_err(|error| EngineError::internal(&format!("the credential of API {}: {error}", api.id)))
    }
}
