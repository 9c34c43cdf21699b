//! The layers of the configuration, each checked against the keys that exist.

use std::path::Path;

use toml::{Table, Value};

use super::ConfigError;

/// The commented default. Its keys are all that exist.
pub const DEFAULT: &str = include_str!("../../config.default.toml");

/// What environment variables for keys begin with.
const ENVIRONMENT_PREFIX: &str = "RATEGUARD_";
/// What stands in them for each dot of a key. Every key lies in a section, so that a variable without it
/// is none of a key, but of a program around the server.
const DOT: &str = "__";
/// How many letters apart a variable without a dot and a key are at most for somebody to have meant it.
const NEAR_EDITS_MAX: usize = 1;

/// A variable that sets nothing, with the one that was probably meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistaken {
    /// The variable.
    pub name: String,
    /// The one of a key.
    pub meant: String,
}

/// One value that a flag sets: the dotted key and the value as text.
pub type Override = (&'static str, String);

/// All layers as one tree.
///
/// # Errors
/// [`ConfigError`] for a file that cannot be read or parsed, and for keys that do not exist.
pub fn merged(
    file: Option<&Path>,
    environment: &[(String, String)],
    flags: &[Override],
) -> Result<Table, ConfigError> {
    let defaults = parse("the built-in default", DEFAULT)?;
    let mut tree = defaults.clone();
    if let Some(path) = file {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        let origin = path.display().to_string();
        overlay(&mut tree, parse(&origin, &text)?, &defaults, &origin, "")?;
    }
    for (name, value) in environment {
        if let Some(key) = key_of(name) {
            set(&mut tree, &key, value, name)?;
        }
    }
    for (key, value) in flags {
        set(&mut tree, key, value, "a flag")?;
    }
    Ok(tree)
}

fn parse(origin: &str, text: &str) -> Result<Table, ConfigError> {
    text.parse().map_err(|source| ConfigError::Syntax { origin: origin.to_owned(), source: Box::new(source) })
}

fn overlay(
    tree: &mut Table,
    over: Table,
    known: &Table,
    origin: &str,
    path: &str,
) -> Result<(), ConfigError> {
    for (name, value) in over {
        let key = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        match (tree.get_mut(&name), known.get(&name), value) {
            (Some(Value::Table(below)), Some(Value::Table(known)), Value::Table(over)) => {
                overlay(below, over, known, origin, &key)?;
            }
            (Some(place), Some(_), value) => *place = value,
            _ => return Err(unknown(&key, origin)),
        }
    }
    Ok(())
}

/// `RATEGUARD_SERVER__LISTEN` is `server.listen`.
fn key_of(name: &str) -> Option<String> {
    let rest = name.strip_prefix(ENVIRONMENT_PREFIX).filter(|rest| rest.contains(DOT))?;
    Some(rest.to_lowercase().replace(DOT, "."))
}

/// The variable of a key.
pub(super) fn variable_of(key: &str) -> String {
    format!("{ENVIRONMENT_PREFIX}{}", key.replace('.', DOT).to_uppercase())
}

/// Variables that set nothing and look as if they were to: `RATEGUARD_SERVER_LISTEN`.
pub(super) fn mistaken(environment: &[(String, String)]) -> Vec<Mistaken> {
    let keys = keys();
    environment.iter().filter_map(|(name, _)| mistaken_for(name, &keys)).collect()
}

fn mistaken_for(name: &str, keys: &[String]) -> Option<Mistaken> {
    let rest = name.strip_prefix(ENVIRONMENT_PREFIX).filter(|rest| !rest.contains(DOT))?.to_lowercase();
    let edits = |key: &&String| strsim::osa_distance(&key.replace('.', "_"), &rest);
    let nearest = keys.iter().filter(|key| key.contains('.')).min_by_key(edits)?;
    let is_near = edits(&nearest) <= NEAR_EDITS_MAX;
    is_near.then(|| Mistaken { name: name.to_owned(), meant: variable_of(nearest) })
}

fn set(tree: &mut Table, key: &str, text: &str, origin: &str) -> Result<(), ConfigError> {
    let place = place(tree, key).ok_or_else(|| unknown(key, origin))?;
    *place = typed(place, text);
    Ok(())
}

/// Where the value of a key stands; `None` for a key that does not exist and for a section.
fn place<'tree>(tree: &'tree mut Table, key: &str) -> Option<&'tree mut Value> {
    let (sections, name) = key.rsplit_once('.')?;
    let table = sections.split('.').try_fold(tree, |table, section| table.get_mut(section)?.as_table_mut());
    table?.get_mut(name).filter(|value| !value.is_table())
}

/// Text stays text where the default is text; else it is read as TOML, and what cannot be read is
/// left for the types to refuse.
fn typed(default: &Value, text: &str) -> Value {
    if default.is_str() {
        return Value::String(text.to_owned());
    }
    let parsed = format!("value = {text}").parse::<Table>().ok().and_then(|mut t| t.remove("value"));
    parsed.unwrap_or_else(|| Value::String(text.to_owned()))
}

fn unknown(key: &str, origin: &str) -> ConfigError {
    let nearest = keys()
        .into_iter()
        .max_by(|a, b| strsim::jaro_winkler(a, key).total_cmp(&strsim::jaro_winkler(b, key)));
    ConfigError::UnknownKey {
        origin: origin.to_owned(),
        key: key.to_owned(),
        nearest: nearest.unwrap_or_default(),
    }
}

/// Every key that exists, sections and dotted names.
fn keys() -> Vec<String> {
    let defaults = parse("the built-in default", DEFAULT).unwrap_or_default();
    defaults.iter().flat_map(|(name, value)| keys_from(name.clone(), value)).collect()
}

/// A key with those below it.
fn keys_from(key: String, value: &Value) -> Vec<String> {
    let below = value.as_table().into_iter().flatten();
    let below: Vec<String> =
        below.flat_map(|(name, value)| keys_from(format!("{key}.{name}"), value)).collect();
    std::iter::once(key).chain(below).collect()
}
