//! How things look in the trail: canonical JSON, in which no secret stands.

use serde_json::{Map, Value};

/// What stands in the place of a secret.
pub const MASKED: &str = "[masked]";
/// What stands there when the change has put another secret in the place of the one before.
pub const MASKED_CHANGED: &str = "[masked, changed]";

/// A thing as the trail shows it, with its secret apart.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown {
    /// Everything but the secret.
    pub document: Map<String, Value>,
    /// The field of the secret, and what tells it from another. It is compared and goes nowhere.
    pub secret: Option<(&'static str, Vec<u8>)>,
}

impl Shown {
    /// A thing without a secret.
    pub fn plain(document: Map<String, Value>) -> Self {
        Self { document, secret: None }
    }
}

/// The texts of a change: how the thing was and how it is.
pub fn render(before: Option<Shown>, after: Option<Shown>) -> (Option<String>, Option<String>) {
    let secret_before = before.as_ref().and_then(|shown| shown.secret.clone());
    let is_changed = |shown: &Shown| match (&secret_before, &shown.secret) {
        (Some(before), Some(after)) => before != after,
        _ => false,
    };
    let mask = after.as_ref().map_or(MASKED, |after| if is_changed(after) { MASKED_CHANGED } else { MASKED });
    (before.map(|shown| text(shown, MASKED)), after.map(|shown| text(shown, mask)))
}

fn text(shown: Shown, mask: &str) -> String {
    let Shown { mut document, secret } = shown;
    if let Some((field, _)) = secret {
        document.insert(field.to_owned(), Value::from(mask));
    }
    canonical(Value::Object(document)).to_string()
}

/// The same value with the members of every object in the order of their names, whatever order the map
/// keeps. Its text has no spaces.
fn canonical(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let mut members: Vec<(String, Value)> = members.into_iter().collect();
            members.sort_by(|one, other| one.0.cmp(&other.0));
            Value::Object(members.into_iter().map(|(name, value)| (name, canonical(value))).collect())
        }
        Value::Array(elements) => Value::Array(elements.into_iter().map(canonical).collect()),
        value => value,
    }
}
