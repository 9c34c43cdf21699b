//! People to store.

use rateguard_core::ids::{DisplayName, InvitationId, SessionId, SigningKeyId, UserId, WorkspaceId};
use rateguard_core::money::Currency;
use rateguard_core::time::{Millis, Zone};
use rateguard_engine::audit::{Actor, Deed, Origin};
use rateguard_engine::people::{EmailAddress, PasswordHash, Role};
use rateguard_engine::ports::{
    Invitation, Joining, RefreshHashes, Refreshing, SealedSigningKey, Session, User,
};
use rateguard_engine::resources::Workspace;

/// An instant.
pub fn at(ms: i64) -> Millis {
    Millis::new(ms)
}

/// What somebody does at an instant.
pub fn by(ms: i64) -> Deed {
    Deed { actor: Actor::Person(user_id("ada")), origin: Origin::server("Suite"), at: at(ms) }
}

/// A person's id.
pub fn user_id(name: &str) -> UserId {
    UserId::parse("id", &format!("user_{name}")).expect("a sample is valid")
}

/// A workspace's id.
pub fn ws(id: &str) -> WorkspaceId {
    WorkspaceId::parse("id", id).expect("a sample is valid")
}

/// A session's id.
pub fn session_id(number: u8) -> SessionId {
    SessionId::from_random([number; 16])
}

/// An account.
pub fn user(name: &str) -> User {
    User {
        id: user_id(name),
        email: EmailAddress::parse("email", &format!("{name}@example.com")).expect("a sample is valid"),
        display_name: DisplayName::parse("name", name).expect("a sample is valid"),
        password: PasswordHash::stored(&format!("hash of {name}")),
        created_at: at(1),
    }
}

/// A workspace.
pub fn workspace(id: &str) -> Workspace {
    Workspace {
        id: ws(id),
        name: DisplayName::parse("name", id).expect("a sample is valid"),
        zone: Zone::parse("zone", "Europe/Berlin").expect("a sample is valid"),
        currency: Currency::parse("currency", "EUR").expect("a sample is valid"),
    }
}

/// To a workspace of one's own.
pub fn own(id: &str) -> Joining {
    Joining::Own(workspace(id))
}

/// A session that lives from 10 to 1,010.
pub fn session(number: u8, owner: &str) -> Session {
    Session {
        id: session_id(number),
        user: user_id(owner),
        workspace: None,
        user_agent: "a browser".to_owned(),
        ip: Some("2001:db8::1".parse().expect("a sample is valid")),
        created_at: at(10),
        refreshed_at: at(10),
        expires_at: at(1_010),
    }
}

/// The hashes of a family's token.
pub fn hashes(family: u8, secret: u8) -> RefreshHashes {
    RefreshHashes { family_sha256: [family; 32], secret_sha256: [secret; 32] }
}

/// A refresh of one token into the next.
pub fn refreshing(family: u8, presented: u8, next: u8) -> Refreshing {
    Refreshing { presented: hashes(family, presented), next_secret_sha256: [next; 32], expires_at: at(2_000) }
}

/// An invitation, open from 10 to 1,010.
pub fn invitation(number: u8, workspace: &str, email: Option<&str>, role: Role) -> Invitation {
    Invitation {
        id: InvitationId::from_random([number; 16]),
        workspace: ws(workspace),
        email: email.map(|email| EmailAddress::parse("email", email).expect("a sample is valid")),
        role,
        inviter: user_id("ada"),
        created_at: at(10),
        expires_at: at(1_010),
    }
}

/// A signing key.
pub fn signing_key(number: u8) -> SealedSigningKey {
    SealedSigningKey {
        id: SigningKeyId::from_random([number; 16]),
        sealed: vec![number; 48],
        created_at: at(i64::from(number)),
        signs_from: at(i64::from(number) + 5),
    }
}
