//! Requests that clients name, so that sending one again makes nothing twice.

use rateguard_core::ids::RequestId;
use sha2::{Digest, Sha256};

use super::{Resource, Stored};

/// How long a request is known again: a day.
pub const CLIENT_REQUEST_LIFE_MS: i64 = 86_400_000;
/// Requests past that which one change drops.
pub const CLIENT_REQUESTS_DROPPED_MAX: usize = 100;

/// A change that its client has named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientRequest {
    /// The name, unique in the workspace for [`CLIENT_REQUEST_LIFE_MS`].
    pub id: RequestId,
    /// Tells other content under the same name.
    pub content_sha256: [u8; 32],
}

impl ClientRequest {
    /// A request of a method with this content.
    pub fn new(id: RequestId, method: &str, content: &[u8]) -> Self {
        let hash = Sha256::new().chain_update(method).chain_update([0]).chain_update(content);
        Self { id, content_sha256: hash.finalize().into() }
    }

    /// The same, where its content is meant for one place among those that know the name.
    pub fn within(self, place: &str) -> Self {
        let hash = Sha256::new().chain_update(self.content_sha256).chain_update(place);
        Self { id: self.id, content_sha256: hash.finalize().into() }
    }
}

/// What became of a change that must be made once.
#[derive(Clone, Debug, PartialEq)]
pub enum Once {
    /// It was made now.
    Made(Box<Stored<Resource>>),
    /// It was made before: the resource as it is now, or `None` where it is gone since.
    Before(Option<Box<Stored<Resource>>>),
}
