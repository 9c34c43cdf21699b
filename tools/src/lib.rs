//! The repository's own tools: they write the documents that are generated from
//! code and committed, and prove them current.
//!
//! The tests in `tests/repository` hold the repository to its own rules: who may
//! depend on whom, licences, duplicate versions, and style.

pub mod generated;
