//! Holds the repository to its own rules.

mod arrows;
mod dependencies;
mod documents;
mod metadata;
mod style;
mod tree;
