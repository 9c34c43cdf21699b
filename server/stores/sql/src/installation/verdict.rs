//! Whether the files that were found are one installation, and what is missing of it.

use std::path::Path;

use super::Opening;
use super::state::State;
use crate::database::OpenError;

const RESTORE_CONFIG: &str = "restore it from a backup, for no other file holds workspaces, keys and budgets; \
     to begin anew, name another data folder";
const RESTORE_EVENTS: &str = "restore it from a backup, for no other file holds the events; \
     to begin anew, name another data folder";
const REBUILD_USAGE: &str =
    "restore the one that belongs here, or move this one away: it is then built again from events.db";
const REBUILD_COUNTERS: &str = "restore the one that belongs here, or move this one away: budgets are then \
     counted again from events.db, and plain limits begin anew";

/// The four files.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub config: State,
    pub events: State,
    pub usage: State,
    pub counters: State,
}

/// What is to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    /// The installation; `None` when its id is still to be drawn.
    pub id: Option<String>,
    /// Whether all files had it; else it is to be written.
    pub is_whole: bool,
    /// Whether the rollups are to be built again.
    pub usage_was_lost: bool,
    /// Whether the counters are to be built again.
    pub counters_are_lost: bool,
}

/// How far an installation has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Its files are being made; there is nothing in it yet.
    Making,
    /// Its files are of a time without marks and are getting theirs.
    Marking,
    /// All of its files have the mark.
    Whole,
}

/// Judges what was found in a folder.
pub(super) fn judge(folder: &Path, found: &Found, opening: Opening) -> Result<Verdict, OpenError> {
    let config = folder.join("config.db");
    match &found.config {
        State::Missing | State::Blank if !found.has_others() => match opening {
            Opening::ExistingOrNew => Ok(Verdict::default()),
            Opening::Existing => Err(OpenError::NoInstallation { path: folder.to_owned() }),
        },
        State::Missing | State::Blank => Err(OpenError::Missing { path: config, remedy: RESTORE_CONFIG }),
        // Files that have no mark yet get one; but not beside files that have one.
        State::Unmarked if found.has_marks() => {
            Err(OpenError::Foreign { path: config, remedy: RESTORE_CONFIG })
        }
        State::Unmarked => found.others(folder, None, Stage::Marking),
        State::Marked { mark, blank } => {
            let stage = match (mark.whole, blank) {
                (true, _) => Stage::Whole,
                (false, false) => Stage::Marking,
                (false, true) => Stage::Making,
            };
            found.others(folder, Some(&mark.id), stage)
        }
    }
}

impl Found {
    fn others_states(&self) -> [&State; 3] {
        [&self.events, &self.usage, &self.counters]
    }

    fn has_others(&self) -> bool {
        self.others_states().iter().any(|state| !matches!(state, State::Missing | State::Blank))
    }

    fn has_marks(&self) -> bool {
        self.others_states().iter().any(|state| matches!(state, State::Marked { .. }))
    }

    /// Judges the other files beside a configuration that is there.
    fn others(&self, folder: &Path, id: Option<&String>, stage: Stage) -> Result<Verdict, OpenError> {
        let is_lost = |state: &State, file: &str, remedy| match state {
            State::Missing => Ok(stage != Stage::Making),
            State::Blank => Ok(stage == Stage::Whole),
            State::Unmarked if stage == Stage::Marking => Ok(false),
            State::Marked { mark, .. } if id == Some(&mark.id) => Ok(false),
            State::Unmarked | State::Marked { .. } => {
                Err(OpenError::Foreign { path: folder.join(file), remedy })
            }
        };
        if is_lost(&self.events, "events.db", RESTORE_EVENTS)? {
            return Err(OpenError::Missing { path: folder.join("events.db"), remedy: RESTORE_EVENTS });
        }
        Ok(Verdict {
            id: id.cloned(),
            is_whole: stage == Stage::Whole,
            usage_was_lost: is_lost(&self.usage, "usage.db", REBUILD_USAGE)?,
            counters_are_lost: is_lost(&self.counters, "counters.db", REBUILD_COUNTERS)?,
        })
    }
}
