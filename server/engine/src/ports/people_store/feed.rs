//! The feed of what every process has to know of people.

use rateguard_core::ids::{SessionId, UserId, WorkspaceId};

use crate::people::Role;
use crate::resources::Workspace;

/// What has changed, as it is now.
#[derive(Clone, Debug, PartialEq)]
pub enum PeopleChange {
    /// A session has ended.
    SessionEnded(SessionId),
    /// A person's role in a workspace, `None` for none.
    Role {
        /// Where.
        workspace: WorkspaceId,
        /// Whose.
        user: UserId,
        /// What it is now.
        role: Option<Role>,
    },
    /// A workspace is new, or has changed.
    Workspace(Workspace),
    /// Signing keys came or went.
    SigningKeys,
    /// What only a newer version knows, by the name that it has there.
    Unknown(String),
}

/// A page of the feed. Revisions follow each other without a gap, so that a reader notices what was swept before it
/// was read.
#[derive(Clone, Debug, PartialEq)]
pub struct PeopleFeed {
    /// The revision of the last change that was ever recorded, whether it is still kept or not.
    pub last_recorded: u64,
    /// Changes in order, each with its revision.
    pub changes: Vec<(u64, PeopleChange)>,
}

impl PeopleFeed {
    /// Whether changes after a revision, where its reader stands, are missing here.
    pub fn has_gap_after(&self, revision: u64) -> bool {
        let found = self.changes.iter().map(|(revision, _)| *revision);
        let is_whole = found.zip(revision.saturating_add(1)..).all(|(found, expected)| found == expected);
        !is_whole || (self.changes.is_empty() && self.last_recorded > revision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(last_recorded: u64, revisions: &[u64]) -> PeopleFeed {
        let changes = revisions.iter().map(|revision| (*revision, PeopleChange::SigningKeys)).collect();
        PeopleFeed { last_recorded, changes }
    }

    #[test]
    fn a_reader_notices_what_was_swept_before_it_was_read() {
        assert!(!feed(7, &[]).has_gap_after(7));
        assert!(!feed(9, &[8, 9]).has_gap_after(7));
        // A page need not reach to the end.
        assert!(!feed(9, &[8]).has_gap_after(7));
        assert!(feed(9, &[]).has_gap_after(7));
        assert!(feed(9, &[9]).has_gap_after(7));
        assert!(feed(10, &[8, 10]).has_gap_after(7));
    }
}
