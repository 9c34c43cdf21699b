//! Whether the files that were found are one installation, and what is missing of it.

use std::iter;
use std::path::Path;

use super::Opening;
use super::state::State;
use crate::database::OpenError;

/// What brings the configuration back.
pub(crate) const RESTORE_CONFIG: &str = "restore it from a backup, for no other file holds workspaces, keys and \
     budgets; to begin anew, name another data folder";
/// What brings the events back.
pub(crate) const RESTORE_EVENTS: &str = "restore it from a backup, for no other file holds the events; \
     to begin anew, name another data folder";
/// What brings the rollups back.
pub(crate) const REBUILD_USAGE: &str =
    "restore it from a backup, or move it away: it is then built again from events.db";
/// What brings the counters back.
pub(crate) const REBUILD_COUNTERS: &str = "restore it from a backup, or move it away: budgets are then counted \
     again from events.db, and plain limits begin anew";
// The files, as messages name them.
const CONFIG: &str = crate::config::SCHEMA.file;
const EVENTS: &str = crate::events::SCHEMA.file;
const USAGE: &str = crate::usage::SCHEMA.file;
const COUNTERS: &str = crate::counters::SCHEMA.file;
/// For sides of which each holds what nothing else does.
const RESTORE_TOGETHER: &str = "keep the side that is right, and restore the files that belong to it from its \
     backup; to begin anew, name another data folder";
/// For two sides of which one can be built again.
const REBUILD_OTHERS: &str = "if the side of config.db is right, restore the others from its backup, or move \
     them away: usage.db is then built again from events.db, and for counters.db budgets are counted again and \
     plain limits begin anew";

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
    let config = folder.join(CONFIG);
    match &found.config {
        State::Missing | State::Blank if !found.has_others() => match opening {
            Opening::ExistingOrNew => Ok(Verdict::default()),
            Opening::Existing => Err(OpenError::NoInstallation { path: folder.to_owned() }),
        },
        State::Missing | State::Blank => Err(OpenError::Missing { path: config, remedy: RESTORE_CONFIG }),
        // Files that have no mark yet get one; but not beside files that have one.
        State::Unmarked if found.has_marks() => Err(found.foreign(folder, None, Stage::Marking)),
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
    fn others_states(&self) -> [(&'static str, &State); 3] {
        [(EVENTS, &self.events), (USAGE, &self.usage), (COUNTERS, &self.counters)]
    }

    fn has_others(&self) -> bool {
        self.others_states().iter().any(|(_, state)| state.is_there())
    }

    fn has_marks(&self) -> bool {
        self.others_states().iter().any(|(_, state)| matches!(state, State::Marked { .. }))
    }

    /// Judges the other files beside a configuration that is there.
    fn others(&self, folder: &Path, id: Option<&String>, stage: Stage) -> Result<Verdict, OpenError> {
        let others = self.others_states();
        if others.iter().any(|(_, state)| state.is_there() && !state.belongs(id, stage)) {
            return Err(self.foreign(folder, id, stage));
        }
        if self.events.is_lost(stage) {
            return Err(OpenError::Missing { path: folder.join(EVENTS), remedy: RESTORE_EVENTS });
        }
        Ok(Verdict {
            id: id.cloned(),
            is_whole: stage == Stage::Whole,
            usage_was_lost: self.usage.is_lost(stage),
            counters_are_lost: self.counters.is_lost(stage),
        })
    }

    /// Names both sides: which files go with the configuration, and which do not.
    fn foreign(&self, folder: &Path, id: Option<&String>, stage: Stage) -> OpenError {
        let others = self.others_states().into_iter().filter(|(_, state)| state.is_there());
        let side = |is_here: bool| {
            let files = others.clone().filter(move |(_, state)| state.belongs(id, stage) == is_here);
            files.map(|(file, _)| file)
        };
        let (these, those): (_, Vec<_>) =
            (iter::once(CONFIG).chain(side(true)).collect(), side(false).collect());
        let remedy = if those.contains(&EVENTS) { RESTORE_TOGETHER } else { REBUILD_OTHERS };
        OpenError::Foreign { path: folder.to_owned(), these, those, remedy }
    }
}

impl State {
    /// Whether a file holds anything.
    pub(super) fn is_there(&self) -> bool {
        !matches!(self, Self::Missing | Self::Blank)
    }

    /// Whether a file that is there goes with the configuration of an id.
    fn belongs(&self, id: Option<&String>, stage: Stage) -> bool {
        match self {
            Self::Unmarked => stage == Stage::Marking,
            Self::Marked { mark, .. } => id == Some(&mark.id),
            Self::Missing | Self::Blank => true,
        }
    }

    /// Whether a file was there and is not any more.
    fn is_lost(&self, stage: Stage) -> bool {
        match self {
            Self::Missing => stage != Stage::Making,
            Self::Blank => stage == Stage::Whole,
            Self::Unmarked | Self::Marked { .. } => false,
        }
    }
}
