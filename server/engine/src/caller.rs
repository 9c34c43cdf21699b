//! Who asks. Calls are checked and reported by a [`Caller`], who has a key; whatever else a use case
//! does is done for an [`Identity`], whatever the credential was.

use std::net::IpAddr;
use std::sync::Arc;

use rateguard_core::ids::{ApiId, KeyId, WorkspaceId};
use rateguard_core::time::Millis;
use subtle::ConstantTimeEq;

use crate::audit::{Actor, Deed, Origin};
use crate::directory::{Directory, KnownKey};
use crate::error::{EngineError, Reason};
use crate::key_uses::{KeyUses, LastUse};
use crate::people::{Person, role_missing};
use crate::ports::Principal;
use crate::resources::{Key, Scope};
use crate::secrets::{KEY_BYTES_MAX, key_hash};

/// Whoever has shown who they are, and from where they come.
#[derive(Clone, Debug)]
pub struct Identity {
    who: Who,
    origin: Origin,
}

#[derive(Clone, Debug)]
enum Who {
    /// Who has a key, or the gateway that acts for them.
    Key(Caller),
    /// Who is logged in.
    Person(Person),
}

impl Identity {
    /// The tenant in which they act.
    ///
    /// # Errors
    /// [`Reason::RoleMissing`] for a person who acts in none.
    pub fn workspace(&self) -> Result<&WorkspaceId, EngineError> {
        match &self.who {
            Who::Key(caller) => Ok(&caller.workspace),
            Who::Person(person) => person.workspace.as_ref().ok_or_else(role_missing),
        }
    }

    /// Whoever makes calls, and reports them: only keys do.
    ///
    /// # Errors
    /// [`Reason::RoleMissing`] for a person. What is charged is charged to a key, and a reservation
    /// belongs to the principal that took it: no role opens that.
    pub fn into_caller(self) -> Result<Caller, EngineError> {
        match self.who {
            Who::Key(caller) => Ok(caller),
            Who::Person(_) => Err(key_needed()),
        }
    }

    /// The person who is logged in; `None` where it is a key.
    pub fn into_person(self) -> Option<Person> {
        match self.who {
            Who::Key(_) => None,
            Who::Person(person) => Some(person),
        }
    }

    /// The key that is shown; `None` where a person is logged in.
    pub fn key(&self) -> Option<&Key> {
        match &self.who {
            Who::Key(caller) => Some(&caller.key),
            Who::Person(_) => None,
        }
    }

    /// Its id.
    pub fn key_id(&self) -> Option<&KeyId> {
        self.key().map(|key| &key.id)
    }

    /// Whether it is a person who is logged in.
    pub fn is_person(&self) -> bool {
        matches!(self.who, Who::Person(_))
    }

    /// The same, by this call and from there.
    #[must_use]
    pub fn coming_from(self, origin: Origin) -> Self {
        Self { origin, ..self }
    }

    /// What they do at an instant, for the audit trail.
    pub fn deed(&self, at: Millis) -> Deed {
        let actor = match &self.who {
            Who::Key(Caller { key, by_gateway: true, .. }) => Actor::Gateway(key.id.clone()),
            Who::Key(Caller { key, .. }) => Actor::Key(key.id.clone()),
            Who::Person(person) => Actor::Person(person.user.clone()),
        };
        Deed { actor, origin: self.origin.clone(), at }
    }
}

impl From<Caller> for Identity {
    fn from(caller: Caller) -> Self {
        Self { who: Who::Key(caller), origin: Origin::default() }
    }
}

impl From<Person> for Identity {
    fn from(person: Person) -> Self {
        Self { who: Who::Person(person), origin: Origin::default() }
    }
}

/// An authenticated caller.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The tenant.
    pub workspace: WorkspaceId,
    /// The key that is charged.
    pub key: Arc<Key>,
    /// Whether a gateway acts on the key's behalf.
    pub by_gateway: bool,
    /// When the key was last noted as used.
    last_use: LastUse,
}

impl Caller {
    /// Whoever holds a key of a workspace, by themselves.
    pub fn new(workspace: WorkspaceId, key: Arc<Key>) -> Self {
        Self { workspace, key, by_gateway: false, last_use: LastUse::default() }
    }

    /// The principal that reservations belong to.
    pub fn principal(&self) -> Principal {
        Principal { key: self.key.id.clone(), by_gateway: self.by_gateway }
    }

    /// Checks a call against the key's own restrictions.
    ///
    /// # Errors
    /// [`Reason::KeyRestricted`].
    pub fn check_restrictions(
        &self,
        api: Option<&ApiId>,
        model: &str,
        ip: Option<IpAddr>,
    ) -> Result<(), EngineError> {
        let key = &self.key;
        let api_fits = key.apis.is_empty() || api.is_some_and(|api| key.apis.contains(api));
        let model_fits = key.models.is_empty() || key.models.iter().any(|m| m.matches(model));
        // Whoever calls by themselves was tested by the address of their connection.
        let ip_fits = !self.by_gateway
            || key.ip_ranges.is_empty()
            || ip.is_some_and(|ip| key.ip_ranges.iter().any(|range| range.contains(&ip.to_canonical())));
        let checks = [(api_fits, "API"), (model_fits, "model"), (ip_fits, "IP address")];
        match checks.into_iter().find(|(fits, _)| !fits) {
            Some((_, what)) => Err(EngineError::new(
                Reason::KeyRestricted,
                format!("the key may not be used for this {what}"),
            )),
            None => Ok(()),
        }
    }

    /// The subject that a call counts for: the key's own, or the one named where that is allowed.
    ///
    /// # Errors
    /// [`Reason::SubjectNotAllowed`].
    pub fn subject<'a>(&'a self, named: &'a str) -> Result<&'a str, EngineError> {
        let bound = self.key.bound_subject.as_deref();
        let may_name = !self.by_gateway || self.key.allow_subject_header;
        match bound {
            _ if named.is_empty() => Ok(bound.unwrap_or("")),
            Some(bound) if bound == named => Ok(bound),
            None if may_name => Ok(named),
            _ => Err(EngineError::field(
                Reason::SubjectNotAllowed,
                "subject",
                "the key may not name this subject",
            )),
        }
    }
}

/// What a caller showed, without the secret itself.
#[derive(Clone, Copy, Debug)]
pub struct ShownKey {
    sha256: [u8; 32],
    by_gateway: bool,
}

impl ShownKey {
    /// A key by its secret, shown by its holder or by a gateway that acts for them.
    pub fn new(secret: &str, by_gateway: bool) -> Self {
        Self { sha256: key_hash(secret), by_gateway }
    }
}

/// Finds out who calls.
pub struct Authenticator {
    directory: Arc<Directory>,
    key_uses: Arc<KeyUses>,
    /// The hash of the token that the in-process gateway presents.
    gateway_token_sha256: Option<[u8; 32]>,
}

impl Authenticator {
    /// An authenticator over the keys in memory. A gateway is known by a token of its own.
    pub(crate) fn new(
        directory: Arc<Directory>,
        key_uses: Arc<KeyUses>,
        gateway_token: Option<&str>,
    ) -> Self {
        Self { directory, key_uses, gateway_token_sha256: gateway_token.map(key_hash) }
    }

    /// The caller behind an API key. Whether they may call what they do is another question: see
    /// [`Authenticator::note_use`].
    ///
    /// # Errors
    /// [`Reason::CredentialUnknown`], [`Reason::KeyDisabled`], [`Reason::KeyExpired`].
    pub fn by_key(&self, secret: &str, now: Millis) -> Result<Caller, EngineError> {
        if secret.len() > KEY_BYTES_MAX {
            return Err(unknown_key());
        }
        self.by_hash(&key_hash(secret), now)
    }

    /// The same caller as of now, for whoever was let in once and stays: by the hash of what they showed.
    ///
    /// # Errors
    /// As when they were let in.
    pub fn again(&self, shown: &ShownKey, now: Millis) -> Result<Caller, EngineError> {
        let caller = self.by_hash(&shown.sha256, now)?;
        if shown.by_gateway { for_gateway(caller) } else { Ok(caller) }
    }

    fn by_hash(&self, sha256: &[u8; 32], now: Millis) -> Result<Caller, EngineError> {
        let KnownKey { workspace, key, last_use } = self.directory.key(sha256).ok_or_else(unknown_key)?;
        check_usable(&key, now)?;
        if key.secret_until(sha256).is_some_and(|until| now >= until) {
            return Err(EngineError::new(Reason::KeyExpired, "the API key was rotated; use the new secret"));
        }
        Ok(Caller { workspace, key, by_gateway: false, last_use })
    }

    /// Notes that a key is used: a call was let in with it. One that is refused, for where it comes from or for
    /// what the key may not do, is no use of it.
    pub fn note_use(&self, caller: &Caller, now: Millis) {
        self.key_uses.note(&caller.last_use, &caller.workspace, &caller.key.id, now);
    }

    /// The caller behind a gateway's token and the app's key on whose behalf it acts.
    ///
    /// # Errors
    /// As [`Authenticator::by_key`], and [`Reason::ScopeMissing`] for a key without the scope
    /// `gateway`.
    pub fn by_gateway(&self, on_behalf_of: &str, now: Millis) -> Result<Caller, EngineError> {
        for_gateway(self.by_key(on_behalf_of, now)?)
    }

    /// The same for what follows a call that was admitted: it counts whatever became of the key
    /// since, be it disabled, expired, without the scope or deleted.
    ///
    /// # Errors
    /// [`Reason::CredentialUnknown`], also for a key deleted longer ago than a reservation may live
    /// or before this process began.
    pub fn by_gateway_after_call(&self, on_behalf_of: &str, now: Millis) -> Result<Caller, EngineError> {
        let KnownKey { workspace, key, last_use } =
            known(on_behalf_of, |hash| self.directory.key_after_call(hash, now))?;
        Ok(Caller { workspace, key, by_gateway: true, last_use })
    }

    /// Whether a token is the gateway's; compared in constant time.
    pub fn is_gateway(&self, token: &str) -> bool {
        self.gateway_token_sha256.is_some_and(|known| bool::from(key_hash(token).ct_eq(&known)))
    }
}

/// The error of a person who asks for what only a key may do.
pub fn key_needed() -> EngineError {
    EngineError::new(Reason::RoleMissing, "no role opens this; call it with an API key")
}

fn known(secret: &str, find: impl FnOnce(&[u8; 32]) -> Option<KnownKey>) -> Result<KnownKey, EngineError> {
    (secret.len() <= KEY_BYTES_MAX).then(|| find(&key_hash(secret))).flatten().ok_or_else(unknown_key)
}

fn unknown_key() -> EngineError {
    EngineError::new(Reason::CredentialUnknown, "the API key is not known")
}

/// An app, as a gateway acts for it.
fn for_gateway(app: Caller) -> Result<Caller, EngineError> {
    if !app.key.scopes.contains(Scope::Gateway) {
        return Err(EngineError::new(Reason::ScopeMissing, "the key lacks the scope \"gateway\""));
    }
    Ok(Caller { by_gateway: true, ..app })
}

fn check_usable(key: &Key, now: Millis) -> Result<(), EngineError> {
    if !key.active {
        return Err(EngineError::new(Reason::KeyDisabled, "the API key is disabled"));
    }
    if key.expires_at.is_some_and(|at| now >= at) {
        return Err(EngineError::new(Reason::KeyExpired, "the API key has expired"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use rateguard_core::ids::{DisplayName, SessionId, UserId};

    use super::*;
    use crate::people::Role;
    use crate::resources::Scopes;

    fn person(workspace: Option<WorkspaceId>) -> Identity {
        let (user, session) = (UserId::from_random([2; 16]), SessionId::from_random([3; 16]));
        Person { user, session, role: workspace.as_ref().map(|_| Role::Owner), workspace }.into()
    }

    #[test]
    fn a_person_acts_in_the_workspace_of_their_token_and_without_one_in_none() {
        let workspace = WorkspaceId::from_random([1; 16]);
        assert_eq!(person(Some(workspace.clone())).workspace().unwrap(), &workspace);
        assert_eq!(person(None).workspace().unwrap_err().reason, Reason::RoleMissing);
    }

    #[test]
    fn a_deed_is_of_whoever_asks_from_where_they_come() {
        let origin = Origin { service: "S", method: "M", ..Origin::default() };
        let of = |identity: Identity| identity.coming_from(origin.clone()).deed(Millis::new(7));
        let caller = crate::testing::caller();
        let id = caller.key.id.clone();
        let app = Caller { by_gateway: true, ..caller.clone() };
        let expected = |actor| Deed { actor, origin: origin.clone(), at: Millis::new(7) };
        assert_eq!(of(person(None)), expected(Actor::Person(UserId::from_random([2; 16]))));
        assert_eq!(of(caller.into()), expected(Actor::Key(id.clone())));
        assert_eq!(of(app.into()), expected(Actor::Gateway(id)));
    }

    #[test]
    fn only_a_key_makes_calls_whatever_a_persons_role() {
        let workspace = WorkspaceId::from_random([1; 16]);
        let refused = person(Some(workspace.clone())).into_caller().unwrap_err();
        assert_eq!(refused.reason, Reason::RoleMissing);
        let key = Arc::new(Key::plain(DisplayName::parse("name", "a key").unwrap(), Scopes::default()));
        let caller = Caller::new(workspace.clone(), key);
        assert_eq!(Identity::from(caller).into_caller().unwrap().workspace, workspace);
    }
}
