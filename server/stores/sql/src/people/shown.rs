//! What the audit trail shows of people and what they hold, and writing it down.

use rateguard_core::ids::{UserId, WorkspaceId};
use rateguard_engine::audit::{AuditKind, Deed, Shown};
use rateguard_engine::ports::{
    ExternalIdentity, Invitation, Membership, SealedSigningKey, Session, StoreError, StoredWorkspace, User,
};
use serde_json::{Map, Value, json};

use crate::audit::{Fact, record};
use crate::config::shown_workspace;
use crate::database::Connection;

/// Something that the trail can show.
pub(super) trait Audited {
    /// What kind of thing it is.
    const KIND: AuditKind;

    /// Its id.
    fn id(&self) -> &str;

    /// How it looks.
    fn shown(&self) -> Shown;
}

/// Writes down what a change has done to one thing. One of both is there.
pub(super) async fn audit<T: Audited>(
    connection: &mut Connection,
    chain: Option<&WorkspaceId>,
    (before, after): (Option<&T>, Option<&T>),
    by: &Deed,
) -> Result<(), StoreError> {
    let Some(id) = after.or(before).map(T::id) else { return Ok(()) };
    let (before, after) = (before.map(T::shown), after.map(T::shown));
    record(connection, Fact { chain, kind: T::KIND, id, before, after }, by).await
}

impl Audited for User {
    const KIND: AuditKind = AuditKind::User;

    fn id(&self) -> &str {
        self.id.as_str()
    }

    fn shown(&self) -> Shown {
        let document = fields(json!({
            "id": self.id.as_str(),
            "email": self.email.as_str(),
            "display_name": self.display_name.as_str(),
        }));
        Shown { document, secret: Some(("password", self.password.as_str().as_bytes().to_vec())) }
    }
}

/// That an identity of a provider is linked to an account: a fact about the account.
pub(super) struct Linked<'a> {
    pub user: &'a UserId,
    pub identity: &'a ExternalIdentity,
}

impl Audited for Linked<'_> {
    const KIND: AuditKind = AuditKind::User;

    fn id(&self) -> &str {
        self.user.as_str()
    }

    fn shown(&self) -> Shown {
        Shown::plain(fields(json!({
            "id": self.user.as_str(),
            "external_identity": { "issuer": self.identity.issuer, "subject": self.identity.subject },
        })))
    }
}

impl Audited for StoredWorkspace {
    const KIND: AuditKind = AuditKind::Workspace;

    fn id(&self) -> &str {
        self.workspace.id.as_str()
    }

    fn shown(&self) -> Shown {
        shown_workspace(&self.workspace)
    }
}

impl Audited for Membership {
    const KIND: AuditKind = AuditKind::Member;

    fn id(&self) -> &str {
        self.user.as_str()
    }

    fn shown(&self) -> Shown {
        Shown::plain(fields(json!({ "user_id": self.user.as_str(), "role": self.role.as_str() })))
    }
}

impl Audited for Session {
    const KIND: AuditKind = AuditKind::Session;

    fn id(&self) -> &str {
        self.id.as_str()
    }

    fn shown(&self) -> Shown {
        Shown::plain(fields(json!({
            "id": self.id.as_str(),
            "user_id": self.user.as_str(),
            "workspace_id": self.workspace.as_ref().map(WorkspaceId::as_str),
            "user_agent": self.user_agent,
            "ip": self.ip.map(|ip| ip.to_string()),
            "created_at_ms": self.created_at.get(),
        })))
    }
}

impl Audited for Invitation {
    const KIND: AuditKind = AuditKind::Invitation;

    fn id(&self) -> &str {
        self.id.as_str()
    }

    fn shown(&self) -> Shown {
        Shown::plain(fields(json!({
            "id": self.id.as_str(),
            "email": self.email.as_ref().map(|email| email.as_str()),
            "role": self.role.as_str(),
            "inviter_id": self.inviter.as_str(),
            "expires_at_ms": self.expires_at.get(),
        })))
    }
}

impl Audited for SealedSigningKey {
    const KIND: AuditKind = AuditKind::SigningKey;

    fn id(&self) -> &str {
        self.id.as_str()
    }

    fn shown(&self) -> Shown {
        Shown::plain(fields(json!({ "id": self.id.as_str(), "signs_from_ms": self.signs_from.get() })))
    }
}

fn fields(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        value => [("value".to_owned(), value)].into_iter().collect(),
    }
}
