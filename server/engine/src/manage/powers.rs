//! What a key that manages may not do to keys: make itself more than it was made, or hand out what it has
//! not.
//!
//! Somebody has decided what a key may do, until when and from where. One that could change itself would
//! be bound by none of that, and one that could make a key of any scope, or give itself the secret of one, would
//! have every scope. People are bound by their role instead, which alone opens these methods to them.

use crate::caller::Identity;
use crate::error::{EngineError, Reason};
use crate::ports::Resource;
use crate::resources::{Key, Scope, Scopes};

/// Checks what somebody makes of a key; `before` is `None` for a new one.
///
/// # Errors
/// [`Reason::KeyRestricted`] for a change of the key that asks, [`Reason::ScopeMissing`] for a scope handed
/// out that it lacks.
pub(super) fn check_powers(
    identity: &Identity,
    before: Option<&Resource>,
    after: &Resource,
) -> Result<(), EngineError> {
    let (Some(own), Resource::Key(after)) = (identity.key(), after) else { return Ok(()) };
    let before = before.and_then(|before| if let Resource::Key(key) = before { Some(key) } else { None });
    if before.is_some_and(|before| before.id == own.id && !has_only_another_secret(before, after)) {
        let message = "a key cannot change itself; another key that manages, or an admin, can";
        return Err(EngineError::new(Reason::KeyRestricted, message));
    }
    let missing = handed_out(before, after).find(|scope| !own.scopes.contains(*scope));
    match missing {
        Some(scope) => {
            let scope = format!("{scope:?}").to_lowercase();
            let message = format!("the key lacks the scope {scope}, and so cannot hand it out");
            Err(EngineError::field(Reason::ScopeMissing, "key.scopes", message))
        }
        None => Ok(()),
    }
}

/// Whether a key is what it was, but perhaps for a rotation, which adds to nothing that it may do.
fn has_only_another_secret(before: &Key, after: &Key) -> bool {
    let Key { secret_sha256, prefix, previous, .. } = before.clone();
    *before == Key { secret_sha256, prefix, previous, ..after.clone() }
}

/// The scopes that somebody gets who did not have them: those that are new, and with a new secret all of
/// them, since whoever asks is told it.
fn handed_out(before: Option<&Key>, after: &Key) -> impl Iterator<Item = Scope> {
    let had = match before {
        Some(before) if before.secret_sha256 == after.secret_sha256 => before.scopes,
        _ => Scopes::default(),
    };
    after.scopes.iter().filter(move |scope| !had.contains(*scope))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rateguard_core::ids::{DisplayName, KeyId};
    use rateguard_core::time::Millis;

    use super::*;
    use crate::caller::Caller;

    fn key(number: u8, scopes: &[Scope]) -> Key {
        let name = DisplayName::parse("display_name", "a key").unwrap();
        let key = Key::plain(name, scopes.iter().copied().collect());
        Key { id: KeyId::from_random([number; 16]), secret_sha256: [number; 32], ..key }
    }

    fn refusal(own: &Key, before: Option<&Key>, after: &Key) -> Option<Reason> {
        let identity = Identity::from(Caller::new(crate::testing::workspace(), Arc::new(own.clone())));
        let before = before.cloned().map(Resource::Key);
        check_powers(&identity, before.as_ref(), &Resource::Key(after.clone()))
            .err()
            .map(|error| error.reason)
    }

    #[test]
    fn a_key_does_not_lift_what_it_is_bound_by() {
        let own = Key { expires_at: Some(Millis::new(9)), ..key(1, &[Scope::Manage]) };
        assert_eq!(refusal(&own, Some(&own), &own), None);
        for changed in [
            Key { expires_at: None, ..own.clone() },
            Key { scopes: own.scopes.with(Scope::Gateway), ..own.clone() },
            Key { active: false, ..own.clone() },
        ] {
            assert_eq!(refusal(&own, Some(&own), &changed), Some(Reason::KeyRestricted));
            let other = key(2, &[Scope::Manage, Scope::Gateway]);
            assert_eq!(refusal(&other, Some(&own), &changed), None);
        }
    }

    #[test]
    fn a_key_may_give_itself_a_new_secret() {
        let own = key(1, &[Scope::Manage]);
        assert_eq!(refusal(&own, Some(&own), &Key { secret_sha256: [7; 32], ..own.clone() }), None);
    }

    #[test]
    fn a_key_hands_out_no_scope_that_it_lacks() {
        let own = key(1, &[Scope::Manage, Scope::Read]);
        assert_eq!(refusal(&own, None, &key(2, &[Scope::Read])), None);
        assert_eq!(refusal(&own, None, &key(2, &[Scope::Gateway])), Some(Reason::ScopeMissing));
        let (narrow, wide) = (key(2, &[Scope::Read]), key(2, &[Scope::Read, Scope::Usage]));
        assert_eq!(refusal(&own, Some(&narrow), &wide), Some(Reason::ScopeMissing));
        assert_eq!(refusal(&own, Some(&wide), &narrow), None);
    }

    #[test]
    fn a_key_with_a_scope_that_another_lacks_is_changed_by_it_and_its_secret_is_not() {
        let (own, other) = (key(1, &[Scope::Manage]), key(2, &[Scope::Usage]));
        assert_eq!(refusal(&own, Some(&other), &Key { active: false, ..other.clone() }), None);
        let rotated = Key { secret_sha256: [7; 32], ..other.clone() };
        assert_eq!(refusal(&own, Some(&other), &rotated), Some(Reason::ScopeMissing));
    }
}
