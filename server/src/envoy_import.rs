//! A configuration of the rate-limit service of the Envoy project, turned into rules.
//!
//! There, a request's descriptor finds one limit: at each level of the tree the entry with the same value,
//! else the first whose value ends in `*` and fits, else the one without a value, and never another way
//! once a turn was taken. Here every rule applies that matches. So what could be met at once is put into one
//! override group, in that order of precedence, and where the tree ends without a limit although another
//! branch has one, a rule that never denies stands in its way.
//!
//! The format is told in the README of <https://github.com/envoyproxy/ratelimit>.

mod branches;
mod file;
mod replacing;
mod rules;

use std::collections::BTreeSet;

use thiserror::Error;

use crate::workspace_file::WorkspaceFileError;
use crate::workspace_file::document::{Document, Facts, Rule, VERSION};
use rateguard_core::limits::RULES_PER_WORKSPACE_MAX;

/// What could not be carried over, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The field, such as `descriptors[0].rate_limit.replaces`.
    pub path: String,
    /// What is otherwise here.
    pub message: String,
}

/// A workspace's file with the rules, and what they do not say.
#[derive(Clone, Debug, PartialEq)]
pub struct Imported {
    /// The file.
    pub document: Document,
    /// In the order of the configuration.
    pub notes: Vec<Note>,
}

/// Why a configuration cannot be read.
#[derive(Debug, Error)]
pub enum ImportError {
    /// It is not YAML, or not of this format.
    #[error(transparent)]
    File(#[from] WorkspaceFileError),
    /// The service itself would refuse it.
    #[error("{path}: {message}")]
    Refused {
        /// Which field.
        path: String,
        /// What is wrong.
        message: String,
    },
    /// A workspace has no room for so many rules.
    #[error("it makes {count} rules, and a workspace has at most {RULES_PER_WORKSPACE_MAX}")]
    TooMany {
        /// How many.
        count: usize,
    },
}

/// Turns a configuration into a workspace's file with rules alone.
///
/// # Errors
/// [`ImportError`].
pub fn import(text: &str, currency: &str) -> Result<Imported, ImportError> {
    let root = file::read(text)?;
    let mut made = rules::of(&root);
    replacing::join(&mut made);
    made.notes.sort_by(|a, b| a.path.cmp(&b.path));
    made.notes.dedup();
    let rules = named_apart(made.rules.into_iter().map(|made| made.rule).collect());
    if rules.len() > RULES_PER_WORKSPACE_MAX {
        return Err(ImportError::TooMany { count: rules.len() });
    }
    let workspace = Facts { currency: currency.to_owned(), time_zone: None };
    let document = Document {
        version: VERSION,
        workspace,
        apis: Vec::new(),
        keys: Vec::new(),
        rules,
        budgets: Vec::new(),
        prices: Vec::new(),
    };
    Ok(Imported { document, notes: made.notes })
}

/// Gives rules of the same name a number behind it: in a file the name says which rule is meant.
fn named_apart(mut rules: Vec<Rule>) -> Vec<Rule> {
    let mut taken = BTreeSet::new();
    for rule in &mut rules {
        let wished = rule.name.clone();
        let mut number = 1;
        while !taken.insert(rule.name.clone()) {
            number += 1;
            rule.name = rules::short_name(&wished, &format!(" ({number})"));
        }
    }
    rules
}

#[cfg(test)]
mod tests;
