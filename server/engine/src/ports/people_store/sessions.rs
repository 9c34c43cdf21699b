//! Sessions, and the refresh tokens that they go on by.

use std::net::IpAddr;

use rateguard_core::ids::{SessionId, UserId, WorkspaceId};
use rateguard_core::time::Millis;

/// A live session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// Whose.
    pub user: UserId,
    /// Where it works; `None` for nowhere.
    pub workspace: Option<WorkspaceId>,
    /// What the client called itself.
    pub user_agent: String,
    /// From where it began, where that is known.
    pub ip: Option<IpAddr>,
    /// When it began.
    pub created_at: Millis,
    /// When it was refreshed last.
    pub refreshed_at: Millis,
    /// When it ends unless it is refreshed.
    pub expires_at: Millis,
}

/// What a store knows of a session's refresh token. All tokens of one session have the first hash in
/// common, and only the present one has the second.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RefreshHashes {
    /// SHA-256 of the part that names the family.
    pub family_sha256: [u8; 32],
    /// SHA-256 of the part that is drawn anew with each use.
    pub secret_sha256: [u8; 32],
}

impl std::fmt::Debug for RefreshHashes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RefreshHashes([redacted])")
    }
}

/// A refresh token that was presented, and the one that is to follow it.
#[derive(Clone, Copy, Debug)]
pub struct Refreshing {
    /// The one presented.
    pub presented: RefreshHashes,
    /// The changing part of the next one.
    pub next_secret_sha256: [u8; 32],
    /// Until when the next one is good.
    pub expires_at: Millis,
}

/// What became of a refresh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refreshed {
    /// The session goes on with the next token.
    Goes(Session),
    /// No live session has this family.
    Unknown,
    /// The family is known and the token is not its present one: somebody uses an old one. The session
    /// has ended.
    Reused(SessionId),
}
