//! Whose rows a statement is about. PostgreSQL holds each statement against it, as a second wall
//! behind the conditions of the statements themselves.

use rateguard_core::ids::WorkspaceId;

/// The setting that the policies of the tables read.
pub(super) const SETTING: &str = "rateguard.workspace";
/// The value of the setting for rows of all workspaces; no workspace's id.
const EVERY_WORKSPACE: &str = "*";

/// Whose rows the statements of a connection or transaction may see and change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope<'a> {
    /// One workspace's.
    Workspace(&'a WorkspaceId),
    /// Everyone's: for what is the installation's own, such as the feed of changes, or goes by
    /// something other than a workspace, such as a person's log-in.
    Installation,
}

impl Scope<'_> {
    /// The setting's value.
    pub(super) fn setting(&self) -> &str {
        match self {
            Self::Workspace(workspace) => workspace.as_str(),
            Self::Installation => EVERY_WORKSPACE,
        }
    }
}
