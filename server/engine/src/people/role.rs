//! Roles: what a member may do, and who may change whom.

use crate::ports::MemberRefusal;

/// What a member may do. Each role may do everything that the ones before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Reads.
    Viewer,
    /// Works with the workspace.
    Member,
    /// Manages it.
    Admin,
    /// Owns it.
    Owner,
}

impl Role {
    /// Every role, the least first.
    pub const ALL: [Self; 4] = [Self::Viewer, Self::Member, Self::Admin, Self::Owner];

    /// The role in a word, as the audit trail has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Member => "member",
            Self::Admin => "admin",
            Self::Owner => "owner",
        }
    }

    /// Whether one may invite others.
    pub fn may_invite(self) -> bool {
        self >= Self::Admin
    }

    /// The number by which stores and tokens know it: that of the contract.
    pub fn number(self) -> u8 {
        match self {
            Self::Viewer => 1,
            Self::Member => 2,
            Self::Admin => 3,
            Self::Owner => 4,
        }
    }

    /// The role with a number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.number() == number)
    }
}

/// A change of a member as a judge sees it.
#[derive(Clone, Copy, Debug)]
pub struct MemberCase {
    /// The role of whoever changes; `None` for somebody who does not belong.
    pub actor: Option<Role>,
    /// The member's present role.
    pub member: Role,
    /// The new one; `None` for leaving.
    pub to: Option<Role>,
    /// Whether they are the same person.
    pub is_oneself: bool,
    /// The workspace's owners now.
    pub owners: u64,
}

/// Whether a change of a member may be made. Stores ask it within the change's own transaction.
///
/// # Errors
/// [`MemberRefusal`].
pub fn judge(case: MemberCase) -> Result<(), MemberRefusal> {
    let MemberCase { actor, member, to, is_oneself, owners } = case;
    let leaves = is_oneself && to.is_none() && actor.is_some();
    let concerns_owners = member == Role::Owner || to == Some(Role::Owner);
    let needed = if concerns_owners { Role::Owner } else { Role::Admin };
    if !leaves && actor.is_none_or(|actor| actor < needed) {
        return Err(MemberRefusal::RoleMissing);
    }
    if member == Role::Owner && to != Some(Role::Owner) && owners <= 1 {
        return Err(MemberRefusal::LastOwner);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(actor: Role, member: Role, to: Option<Role>) -> MemberCase {
        MemberCase { actor: Some(actor), member, to, is_oneself: false, owners: 2 }
    }

    #[test]
    fn only_admins_and_owners_change_others() {
        for actor in Role::ALL {
            let may = judge(case(actor, Role::Viewer, Some(Role::Member))).is_ok();
            assert_eq!(may, actor >= Role::Admin, "{actor:?}");
        }
        let outsider = MemberCase { actor: None, ..case(Role::Owner, Role::Viewer, None) };
        assert_eq!(judge(outsider), Err(MemberRefusal::RoleMissing));
    }

    #[test]
    fn only_owners_make_and_unmake_owners() {
        for (member, to) in
            [(Role::Owner, None), (Role::Owner, Some(Role::Admin)), (Role::Viewer, Some(Role::Owner))]
        {
            assert_eq!(judge(case(Role::Admin, member, to)), Err(MemberRefusal::RoleMissing));
            assert_eq!(judge(case(Role::Owner, member, to)), Ok(()));
        }
    }

    #[test]
    fn anybody_may_leave_but_the_last_owner() {
        for role in Role::ALL {
            let leaving = MemberCase { is_oneself: true, ..case(role, role, None) };
            assert_eq!(judge(leaving), Ok(()), "{role:?}");
        }
        let last = MemberCase { is_oneself: true, owners: 1, ..case(Role::Owner, Role::Owner, None) };
        assert_eq!(judge(last), Err(MemberRefusal::LastOwner));
        let demoted = MemberCase { to: Some(Role::Admin), ..last };
        assert_eq!(judge(demoted), Err(MemberRefusal::LastOwner));
    }

    #[test]
    fn nobody_raises_themselves() {
        let raised = MemberCase { is_oneself: true, ..case(Role::Member, Role::Member, Some(Role::Admin)) };
        assert_eq!(judge(raised), Err(MemberRefusal::RoleMissing));
    }

    #[test]
    fn a_role_is_read_back_from_its_number() {
        assert!(Role::ALL.into_iter().all(|role| Role::from_number(role.number()) == Some(role)));
        assert_eq!((Role::from_number(0), Role::from_number(5)), (None, None));
    }
}
