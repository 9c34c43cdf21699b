//! What has changed since access tokens were signed: sessions that ended, and roles that are others
//! now. Tokens are short, so only changes younger than the longest token count.

use std::collections::HashMap;

use parking_lot::RwLock;
use rateguard_core::ids::{SessionId, UserId, WorkspaceId};
use rateguard_core::time::Millis;

use super::{ACCESS_TOKEN_MS_MAX, Role};
use crate::ports::PeopleChange;

/// How far replicas' clocks may be apart.
const CLOCK_SKEW_MS: i64 = 5 * 60 * 1_000;
/// How long a change is remembered.
pub(super) const REMEMBERED_MS: i64 = ACCESS_TOKEN_MS_MAX + CLOCK_SKEW_MS;

/// A role as it is now, `None` for none, and when that was seen.
type RoleNow = (Option<Role>, Millis);

/// Changes that no token knows yet. They are never dropped early, whatever their number: some 100
/// bytes for each session that ended, and each role that changed, within the last hour.
#[derive(Default)]
pub(super) struct Live {
    ended: RwLock<HashMap<SessionId, Millis>>,
    roles: RwLock<HashMap<(WorkspaceId, UserId), RoleNow>>,
}

impl Live {
    /// Takes a change in, seen at `now`.
    pub(super) fn take_in(&self, change: &PeopleChange, now: Millis) {
        match change {
            PeopleChange::SessionEnded(session) => drop(self.ended.write().insert(session.clone(), now)),
            PeopleChange::Role { workspace, user, role } => {
                self.roles.write().insert((workspace.clone(), user.clone()), (*role, now));
            }
            PeopleChange::Workspace(_) | PeopleChange::SigningKeys | PeopleChange::Unknown(_) => {}
        }
    }

    /// Whether a session has ended.
    pub(super) fn has_ended(&self, session: &SessionId) -> bool {
        self.ended.read().contains_key(session)
    }

    /// What a person is now, who was `signed` when their token was signed.
    pub(super) fn role(&self, workspace: &WorkspaceId, user: &UserId, signed: Role) -> Option<Role> {
        match self.roles.read().get(&(workspace.clone(), user.clone())) {
            Some((role, _)) => *role,
            None => Some(signed),
        }
    }

    /// Forgets what every token in use knows.
    pub(super) fn sweep(&self, now: Millis) {
        let counts = |seen: Millis| now.since(seen) < REMEMBERED_MS;
        self.ended.write().retain(|_, seen| counts(*seen));
        self.roles.write().retain(|_, (_, seen)| counts(*seen));
    }
}
