//! The audit trail: who changed what, from where, and how it was before and is after.
//!
//! Each workspace has a chain of entries, and the installation has one for what belongs to no
//! workspace. An entry's hash covers its content and the hash of the entry before it, so that nothing
//! in the middle can be altered or taken out unseen; a second copy of every hash, in another store,
//! does the same for the end. A store writes the entry in the transaction of the change itself, which
//! is why every change takes a [`Deed`].

mod render;
mod verify;

use std::fmt;
use std::net::IpAddr;

use rateguard_core::ids::{KeyId, RequestId, UserId};
use rateguard_core::time::Millis;
use sha2::{Digest, Sha256};

pub use render::{MASKED, MASKED_CHANGED, Shown, render};
pub use verify::{Finding, Problem, Report, VerifiedChain, verify};

/// The hash that the first entry of a chain is chained to.
pub const GENESIS: [u8; 32] = [0; 32];
/// The chain of what belongs to no workspace.
pub const INSTALLATION_CHAIN: &str = "";
/// What a client calls itself is cut to this.
pub const USER_AGENT_BYTES_MAX: usize = 256;
/// What sets these hashes apart from any others.
const DOMAIN: &str = "rateguard audit v1";

/// Who makes a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Actor {
    /// A program, by its key.
    Key(KeyId),
    /// A person.
    Person(UserId),
    /// A gateway that acts for an app's key.
    Gateway(KeyId),
    /// The server by itself, or its operator at the command line.
    Server,
}

impl Actor {
    /// The kind, as entries have it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Key(_) => "key",
            Self::Person(_) => "person",
            Self::Gateway(_) => "gateway",
            Self::Server => "server",
        }
    }

    /// The id of the key or the person; empty for the server.
    pub fn id(&self) -> &str {
        match self {
            Self::Key(key) | Self::Gateway(key) => key.as_str(),
            Self::Person(user) => user.as_str(),
            Self::Server => "",
        }
    }
}

/// By which call and from where a change comes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The service that was called; empty where no call was.
    pub service: &'static str,
    /// Its method, or what the server does.
    pub method: &'static str,
    /// The peer's address, where it is known.
    pub ip: Option<IpAddr>,
    /// What the client calls itself, as [`user_agent`] leaves it.
    pub user_agent: Option<String>,
    /// What the caller calls the request.
    pub request_id: Option<RequestId>,
}

impl Origin {
    /// The server itself, doing this.
    pub fn server(method: &'static str) -> Self {
        Self { method, ..Self::default() }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.service.is_empty() {
            write!(f, "{}/", self.service)?;
        }
        f.write_str(self.method)
    }
}

/// What a client calls itself, without control characters and cut to [`USER_AGENT_BYTES_MAX`]; `None`
/// where nothing is left.
pub fn user_agent(text: &str) -> Option<String> {
    let mut kept = String::new();
    for character in text.chars().filter(|c| !c.is_control()) {
        if kept.len() + character.len_utf8() > USER_AGENT_BYTES_MAX {
            break;
        }
        kept.push(character);
    }
    (!kept.is_empty()).then_some(kept)
}

/// Who makes a change, from where, and when. No store changes anything without one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deed {
    /// Who.
    pub actor: Actor,
    /// From where.
    pub origin: Origin,
    /// When.
    pub at: Millis,
}

impl Deed {
    /// What the server does by itself.
    pub fn of_server(method: &'static str, at: Millis) -> Self {
        Self { actor: Actor::Server, origin: Origin::server(method), at }
    }
}

/// What was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AuditKind {
    /// A workspace.
    Workspace,
    /// An API.
    Api,
    /// A key.
    Key,
    /// A rule.
    Rule,
    /// A budget.
    Budget,
    /// A price of the workspace's own.
    PriceOverride,
    /// An account.
    User,
    /// A session of a person.
    Session,
    /// That a person belongs to the workspace; its id is the person's.
    Member,
    /// An invitation.
    Invitation,
    /// A key that signs access tokens.
    SigningKey,
}

impl AuditKind {
    /// Every kind.
    pub const ALL: [Self; 11] = [
        Self::Workspace,
        Self::Api,
        Self::Key,
        Self::Rule,
        Self::Budget,
        Self::PriceOverride,
        Self::User,
        Self::Session,
        Self::Member,
        Self::Invitation,
        Self::SigningKey,
    ];

    /// The kind, as entries have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Workspace => "workspace",
            Self::Api => "api",
            Self::Key => "key",
            Self::Rule => "rule",
            Self::Budget => "budget",
            Self::PriceOverride => "price_override",
            Self::User => "user",
            Self::Session => "session",
            Self::Member => "member",
            Self::Invitation => "invitation",
            Self::SigningKey => "signing_key",
        }
    }
}

/// One entry, as it is stored. Its texts are the very texts that its hash covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// The workspace whose chain it is in; [`INSTALLATION_CHAIN`] for the installation's.
    pub workspace: String,
    /// Its place in the chain, from 1 without gaps.
    pub sequence: u64,
    /// When.
    pub at: Millis,
    /// The kind of who did it: [`Actor::kind`].
    pub actor_kind: String,
    /// The id of who did it: [`Actor::id`].
    pub actor_id: String,
    /// By which method: [`Origin`] as text.
    pub method: String,
    /// What kind of thing: [`AuditKind::as_str`].
    pub kind: String,
    /// Which.
    pub id: String,
    /// How it was, as canonical JSON without secrets; `None` where it was not.
    pub before: Option<String>,
    /// How it is since; `None` where it is not any more.
    pub after: Option<String>,
    /// The address of the peer.
    pub ip: Option<String>,
    /// What the client called itself.
    pub user_agent: Option<String>,
    /// What the caller called the request.
    pub request_id: Option<String>,
    /// The hash of the entry before, [`GENESIS`] for the first.
    pub previous_hash: [u8; 32],
    /// The hash of this one.
    pub hash: [u8; 32],
}

impl AuditEntry {
    /// The hash that the entry must have: SHA-256 over a domain, the hash before, and every field, each
    /// with its length in front.
    pub fn chained_hash(&self) -> [u8; 32] {
        let mut hasher = Sha256::new();
        absorb(&mut hasher, Some(DOMAIN.as_bytes()));
        absorb(&mut hasher, Some(&self.previous_hash));
        absorb(&mut hasher, Some(self.workspace.as_bytes()));
        absorb(&mut hasher, Some(&self.sequence.to_be_bytes()));
        absorb(&mut hasher, Some(&self.at.get().to_be_bytes()));
        for text in [&self.actor_kind, &self.actor_id, &self.method, &self.kind, &self.id] {
            absorb(&mut hasher, Some(text.as_bytes()));
        }
        for text in [&self.before, &self.after, &self.ip, &self.user_agent, &self.request_id] {
            absorb(&mut hasher, text.as_ref().map(String::as_bytes));
        }
        hasher.finalize().into()
    }
}

/// An entry's place and hash, which is what has to be kept elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditHead {
    /// The chain.
    pub workspace: String,
    /// The place.
    pub sequence: u64,
    /// The hash.
    pub hash: [u8; 32],
}

fn absorb(hasher: &mut Sha256, part: Option<&[u8]>) {
    let Some(part) = part else { return hasher.update([0]) };
    hasher.update([1]);
    // A length always fits.
    hasher.update((part.len() as u64).to_be_bytes());
    hasher.update(part);
}

#[cfg(test)]
mod tests;
