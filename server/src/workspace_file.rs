//! A workspace as a file: YAML that people read, review and keep, and the message that the server
//! takes.
//!
//! Reading is by types alone: a decimal is never a float on its way, a key that does not exist is an
//! error with its line, its path and the nearest one. Writing leaves defaults out and has one order, so that the
//! same workspace is always the same bytes.

pub mod document;
mod enums;
mod inward;
mod outward;
mod values;

use std::fs::File;
use std::path::Path;

use rateguard_proto::v1;
use rateguard_serving::files::read_at_most;
use serde::de::DeserializeOwned;
use serde_saphyr::{Error as YamlError, MessageFormatter, Options, UserMessageFormatter};
use thiserror::Error;

use document::{Credential, Document, VERSION};

pub use inward::to_message;
pub use outward::from_message;
pub use values::{Decimal, Length};

/// Largest file that is read: what the server takes is no larger.
pub const FILE_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// What is named where no field of a file is at fault by itself.
const WHOLE_FILE: &str = "the file";
/// The field of an API that is a secret as soon as somebody takes it for one. Nothing of what stands there is
/// said again.
const CREDENTIAL: &str = "credential";
/// How a credential is referred to.
const CREDENTIAL_FORMS: &str = "a credential does not stand in the file; it says where the credential is: stored, \
    {env: NAME} or {file: PATH}";
/// What a written file begins with.
const HEAD: &str = "\
# A workspace of RateGuard. `rateguard diff` says what this file would change, `rateguard apply` does it.
# The schema for editors is docs/workspace.schema.json; the guide is docs/WORKSPACE_FILE.md.
";

/// Why a file is no workspace, or a workspace no file.
#[derive(Debug, Error)]
pub enum WorkspaceFileError {
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Unreadable {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The file is too large.
    #[error("{path} has more than {FILE_BYTES_MAX} bytes")]
    TooLarge {
        /// The file.
        path: String,
    },
    /// A key does not exist.
    #[error("line {line}: {path}: there is no {name:?} here; the nearest is {nearest:?}")]
    Unknown {
        /// Where.
        line: u64,
        /// Which field, such as `apis[0].timeuot`.
        path: String,
        /// What stands there.
        name: String,
        /// What may be meant.
        nearest: String,
    },
    /// It is not YAML, or a value is not what it has to be.
    #[error("line {line}: {path}: {message}")]
    Malformed {
        /// Where.
        line: u64,
        /// Which field, or the one that holds it; [`WHOLE_FILE`] where none does.
        path: String,
        /// What is wrong.
        message: String,
    },
    /// Values do not fit together.
    #[error("{path}: {message}")]
    Field {
        /// Which field.
        path: String,
        /// What is wrong.
        message: String,
    },
    /// A credential is not where the file says.
    #[error("{path}: the credential of API {slug:?} is not there: {message}")]
    Credential {
        /// Which field.
        path: String,
        /// Which API.
        slug: String,
        /// What is wrong.
        message: String,
    },
    /// The server sent what this program does not know.
    #[error("{0}: the server is newer than this program")]
    Newer(String),
    /// It cannot be written.
    #[error("cannot write YAML: {0}")]
    Unwritable(String),
}

/// Finds a credential by what the file says of it; `None` leaves what is stored.
pub type FindCredential<'f> = &'f dyn Fn(&Credential) -> Result<Option<String>, String>;

/// Reads a file.
///
/// # Errors
/// [`WorkspaceFileError`] with the line and the field at fault.
pub fn parse(text: &str) -> Result<Document, WorkspaceFileError> {
    let document: Document = read_yaml(text)?;
    if document.version != VERSION {
        let message = format!("version {} is not known; this program reads {VERSION}", document.version);
        return Err(WorkspaceFileError::Field { path: "version".to_owned(), message });
    }
    Ok(document)
}

/// Reads YAML of any shape.
///
/// # Errors
/// [`WorkspaceFileError::Unknown`] and [`WorkspaceFileError::Malformed`].
pub fn read_yaml<T: DeserializeOwned>(text: &str) -> Result<T, WorkspaceFileError> {
    let mut options = Options::default();
    options.with_snippet = false;
    // Words such as `no` are text, as in YAML 1.2.
    options.strict_booleans = true;
    // The parser knows the line, and what counts the fields on the way down knows the path.
    let mut path = None;
    serde_saphyr::with_deserializer_from_str_with_options(text, options, |deserializer| {
        serde_path_to_error::deserialize(deserializer).map_err(|error| {
            path = Some(shown(error.path()));
            error.into_inner()
        })
    })
    .map_err(|error| described(error, path.unwrap_or_default()))
}

/// Writes a file.
///
/// # Errors
/// [`WorkspaceFileError::Unwritable`].
pub fn render(document: &Document) -> Result<String, WorkspaceFileError> {
    Ok(format!("{HEAD}{}", to_yaml(document)?))
}

/// One part of a file as YAML.
///
/// # Errors
/// [`WorkspaceFileError::Unwritable`].
pub fn to_yaml(part: &impl serde::Serialize) -> Result<String, WorkspaceFileError> {
    serde_saphyr::to_string(part).map_err(|error| WorkspaceFileError::Unwritable(error.to_string()))
}

/// Reads a file from disk.
///
/// # Errors
/// [`WorkspaceFileError`].
pub fn read(path: &Path) -> Result<Document, WorkspaceFileError> {
    parse(&read_text(path)?)
}

/// The text of a file that is not larger than one may be.
///
/// # Errors
/// [`WorkspaceFileError::Unreadable`] and [`WorkspaceFileError::TooLarge`].
pub fn read_text(path: &Path) -> Result<String, WorkspaceFileError> {
    let shown = || path.display().to_string();
    let unreadable = |source| WorkspaceFileError::Unreadable { path: shown(), source };
    let bytes = read_at_most(File::open(path).map_err(unreadable)?, FILE_BYTES_MAX).map_err(unreadable)?;
    let bytes = bytes.ok_or_else(|| WorkspaceFileError::TooLarge { path: shown() })?;
    let no_text = |_| unreadable(std::io::Error::new(std::io::ErrorKind::InvalidData, "it is no text"));
    String::from_utf8(bytes).map_err(no_text)
}

/// `docs/workspace.schema.json`.
pub fn schema_json() -> String {
    let schema = schemars::schema_for!(Document);
    format!("{:#}\n", schema.as_value())
}

/// The server's answer as a file.
///
/// # Errors
/// As [`from_message`] and [`render`].
pub fn render_message(message: v1::WorkspaceConfiguration) -> Result<String, WorkspaceFileError> {
    render(&from_message(message)?)
}

/// The known part of a path: of a key that stands twice the parser tells the line and the name.
fn shown(path: &serde_path_to_error::Path) -> String {
    path.to_string().trim_end_matches('?').trim_end_matches('.').to_owned()
}

fn described(error: YamlError, path: String) -> WorkspaceFileError {
    let path = if path.is_empty() { WHOLE_FILE.to_owned() } else { path };
    let line = error.location().map_or(1, |location| location.line());
    if path.split('.').any(|field| field == CREDENTIAL) {
        return WorkspaceFileError::Malformed { line, path, message: CREDENTIAL_FORMS.to_owned() };
    }
    let unknown = |path: String, name: &str, expected: &[&'static str]| WorkspaceFileError::Unknown {
        line,
        path,
        name: name.to_owned(),
        nearest: nearest(name, expected),
    };
    match error.without_snippet() {
        YamlError::SerdeUnknownField { field, expected, .. } => unknown(path, field, expected),
        YamlError::SerdeUnknownVariant { variant, expected, .. } => unknown(path, variant, expected),
        other => WorkspaceFileError::Malformed { line, path, message: in_words(other) },
    }
}

/// What is wrong, for who writes files rather than programs.
fn in_words(error: &YamlError) -> String {
    match error {
        YamlError::Message { msg, .. } => msg.to_string(),
        YamlError::DuplicateMappingKey { key: Some(key), .. } => format!("{key:?} stands here twice"),
        YamlError::DuplicateMappingKey { key: None, .. } => "a key stands here twice".to_owned(),
        YamlError::MultipleDocuments { .. } => {
            "a file is one document of YAML; a second one begins here".to_owned()
        }
        YamlError::NullIntoString { .. } => "there has to be a text here, and there is nothing".to_owned(),
        YamlError::Budget { .. }
        | YamlError::AliasReplayCounterOverflow { .. }
        | YamlError::AliasReplayLimitExceeded { .. }
        | YamlError::AliasExpansionLimitExceeded { .. }
        | YamlError::AliasReplayStackDepthExceeded { .. } => {
            "the file has more values, aliases or levels than is read".to_owned()
        }
        other => UserMessageFormatter.format_message(other).into_owned(),
    }
}

fn nearest(name: &str, expected: &[&'static str]) -> String {
    let likeness = |candidate: &&&str| strsim::jaro_winkler(candidate, name);
    let nearest = expected.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    nearest.copied().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests;
