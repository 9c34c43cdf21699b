//! Keys. Of a key itself only the first characters are known.

use rateguard_core::ids::{ApiId, DisplayName, KeyId};
use rateguard_core::matching::Glob;
use rateguard_engine::error::EngineError;
use rateguard_engine::manage::{KEY_OVERLAP_MS_DEFAULT, KEY_OVERLAP_MS_MAX};
use rateguard_engine::ports::Stored;
use rateguard_engine::resources::{Key, KeyLabel, PreviousSecret, Scope, Scopes};
use rateguard_proto::v1;

use super::limits::{ip_range, to_strings};
use super::usage::non_empty;
use super::{conflict, enumeration, etag, instant, list, missing, out_of_bounds, text, timestamp};

/// What a key has that its owner does not choose.
#[derive(Clone, Debug)]
pub struct KeyIdentity {
    /// Its id.
    pub id: KeyId,
    /// The hash of the key itself.
    pub secret_sha256: [u8; 32],
    /// Its first characters.
    pub prefix: String,
    /// The secret before, since a rotation.
    pub previous: Option<PreviousSecret>,
}

impl KeyIdentity {
    /// What stands in a draft until the engine draws the key.
    pub fn not_yet_drawn() -> Self {
        Self {
            id: KeyId::from_random([0; 16]),
            secret_sha256: [0; 32],
            prefix: String::new(),
            previous: None,
        }
    }
}

impl From<&Key> for KeyIdentity {
    fn from(key: &Key) -> Self {
        Self {
            id: key.id.clone(),
            secret_sha256: key.secret_sha256,
            prefix: key.prefix.clone(),
            previous: key.previous.clone(),
        }
    }
}

/// A key.
///
/// # Errors
/// Those of its fields.
pub fn key(message: v1::Key, identity: KeyIdentity) -> Result<Key, EngineError> {
    let bound_subject = non_empty(text("bound_subject", message.bound_subject)?);
    if bound_subject.is_some() && message.allow_subject_header {
        return Err(conflict("allow_subject_header", "must be false for a key that is bound to a subject"));
    }
    Ok(Key {
        id: identity.id,
        display_name: DisplayName::parse("display_name", &message.display_name)?,
        secret_sha256: identity.secret_sha256,
        prefix: identity.prefix,
        previous: identity.previous,
        label: label(message.label)?,
        scopes: scopes(&message.scopes)?,
        apis: list("api_ids", &message.api_ids, ApiId::parse)?,
        models: list("models", &message.models, Glob::parse)?,
        ip_ranges: list("ip_ranges", &message.ip_ranges, ip_range)?,
        bound_subject,
        allow_subject_header: message.allow_subject_header,
        expires_at: message.expire_time.as_ref().map(|at| instant("expire_time", at)).transpose()?,
        active: is_active(message.state)?,
    })
}

fn label(value: i32) -> Result<KeyLabel, EngineError> {
    Ok(match enumeration("label", value)? {
        v1::KeyLabel::Unspecified | v1::KeyLabel::Live => KeyLabel::Live,
        v1::KeyLabel::Test => KeyLabel::Test,
    })
}

fn is_active(state: i32) -> Result<bool, EngineError> {
    Ok(match enumeration("state", state)? {
        v1::KeyState::Unspecified | v1::KeyState::Active => true,
        v1::KeyState::Disabled => false,
    })
}

fn scopes(values: &[i32]) -> Result<Scopes, EngineError> {
    if values.is_empty() {
        return Err(missing("scopes"));
    }
    let mut scopes = Scopes::default();
    for (place, value) in values.iter().enumerate() {
        let field = format!("scopes[{place}]");
        let scope = scope(&field, *value)?;
        if scopes.contains(scope) {
            return Err(out_of_bounds(field, "must not be named twice"));
        }
        scopes = scopes.with(scope);
    }
    Ok(scopes)
}

fn scope(field: &str, value: i32) -> Result<Scope, EngineError> {
    specified(enumeration(field, value)?).ok_or_else(|| missing(field))
}

/// The scope that the contract names; `None` for the unspecified one.
pub fn specified(scope: v1::KeyScope) -> Option<Scope> {
    match scope {
        v1::KeyScope::Unspecified => None,
        v1::KeyScope::Quota => Some(Scope::Quota),
        v1::KeyScope::Usage => Some(Scope::Usage),
        v1::KeyScope::Gateway => Some(Scope::Gateway),
        v1::KeyScope::Manage => Some(Scope::Manage),
        v1::KeyScope::Read => Some(Scope::Read),
    }
}

/// How long the secret before goes on after a rotation, in milliseconds.
///
/// # Errors
/// [`rateguard_engine::error::Reason::FieldOutOfBounds`].
pub fn overlap_ms(value: Option<i64>) -> Result<i64, EngineError> {
    match value.unwrap_or(KEY_OVERLAP_MS_DEFAULT) {
        overlap @ 0..=KEY_OVERLAP_MS_MAX => Ok(overlap),
        _ => Err(out_of_bounds("overlap_ms", format!("must be 0 to {KEY_OVERLAP_MS_MAX}"))),
    }
}

/// A key for the wire, without its last use, which is no part of it.
pub fn key_message(stored: &Stored<Key>) -> v1::Key {
    let key = &stored.value;
    v1::Key {
        id: key.id.to_string(),
        display_name: key.display_name.to_string(),
        prefix: key.prefix.clone(),
        label: label_message(key.label).into(),
        scopes: key.scopes.iter().map(|scope| scope_message(scope).into()).collect(),
        state: state_message(key.active).into(),
        api_ids: to_strings(&key.apis),
        models: key.models.iter().map(|glob| glob.as_str().to_owned()).collect(),
        ip_ranges: to_strings(&key.ip_ranges),
        bound_subject: key.bound_subject.clone().unwrap_or_default(),
        allow_subject_header: key.allow_subject_header,
        expire_time: key.expires_at.map(timestamp),
        etag: etag(stored.version),
        create_time: Some(timestamp(stored.created_at)),
        update_time: Some(timestamp(stored.updated_at)),
        last_use_time: None,
        previous_prefix: key.previous.as_ref().map(|secret| secret.prefix.clone()).unwrap_or_default(),
        previous_expire_time: key.previous.as_ref().map(|secret| timestamp(secret.until)),
    }
}

fn label_message(label: KeyLabel) -> v1::KeyLabel {
    match label {
        KeyLabel::Live => v1::KeyLabel::Live,
        KeyLabel::Test => v1::KeyLabel::Test,
    }
}

fn state_message(active: bool) -> v1::KeyState {
    if active { v1::KeyState::Active } else { v1::KeyState::Disabled }
}

fn scope_message(scope: Scope) -> v1::KeyScope {
    match scope {
        Scope::Quota => v1::KeyScope::Quota,
        Scope::Usage => v1::KeyScope::Usage,
        Scope::Gateway => v1::KeyScope::Gateway,
        Scope::Manage => v1::KeyScope::Manage,
        Scope::Read => v1::KeyScope::Read,
    }
}
