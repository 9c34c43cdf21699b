//! The layers of the configuration, each checked against the keys that exist.

use std::path::Path;

use toml::{Table, Value};

use super::ConfigError;

/// The commented default. Its keys are all that exist.
pub const DEFAULT: &str = include_str!("../../config.default.toml");

/// What environment variables for keys begin with.
const ENVIRONMENT_PREFIX: &str = "RATEGUARD_";
/// Variables of that beginning that belong to programs around the server.
const ENVIRONMENT_FOREIGN: [&str; 6] = [
    "RATEGUARD_BIN",
    "RATEGUARD_CONFIG",
    "RATEGUARD_KEY",
    "RATEGUARD_ADDRESS",
    "RATEGUARD_SEED",
    "RATEGUARD_SOAK_ROUNDS",
];

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
            set(&mut tree, &defaults, &key, value, name)?;
        }
    }
    for (key, value) in flags {
        set(&mut tree, &defaults, key, value, "a flag")?;
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
    let rest = name.strip_prefix(ENVIRONMENT_PREFIX).filter(|_| !ENVIRONMENT_FOREIGN.contains(&name))?;
    Some(rest.to_lowercase().replace("__", "."))
}

fn set(tree: &mut Table, known: &Table, key: &str, text: &str, origin: &str) -> Result<(), ConfigError> {
    let place = match below(known, key) {
        Some(default) if !default.is_table() => below_mut(tree, key),
        _ => None,
    };
    let place = place.ok_or_else(|| unknown(key, origin))?;
    *place = typed(place, text);
    Ok(())
}

/// What stands at a dotted key.
fn below<'a>(table: &'a Table, key: &str) -> Option<&'a Value> {
    match key.split_once('.') {
        Some((section, rest)) => below(table.get(section)?.as_table()?, rest),
        None => table.get(key),
    }
}

fn below_mut<'a>(table: &'a mut Table, key: &str) -> Option<&'a mut Value> {
    match key.split_once('.') {
        Some((section, rest)) => below_mut(table.get_mut(section)?.as_table_mut()?, rest),
        None => table.get_mut(key),
    }
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
    parse("the built-in default", DEFAULT).map(|defaults| names(&defaults, "")).unwrap_or_default()
}

fn names(table: &Table, path: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (name, value) in table {
        let dotted = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let inner = value.as_table().map(|inner| names(inner, &dotted));
        found.push(dotted);
        found.extend(inner.into_iter().flatten());
    }
    found
}
