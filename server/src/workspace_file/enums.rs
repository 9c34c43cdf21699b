//! Words of the file and the enumerations of the wire, each pair once.

use rateguard_proto::v1;

use super::WorkspaceFileError;
use super::document::{
    BudgetPeriod, Consistency, Dialect, Enforcement, KeyLabel, KeyScope, OnMissing, Period, RuleMode,
};

/// Both ways between a word and its value on the wire. A value that is not there is a newer server's.
macro_rules! same_words {
    ($($word:ident, $wire:ident: $($one:ident = $other:ident),+;)+) => {
        $(
            impl From<$word> for v1::$wire {
                fn from(word: $word) -> Self {
                    match word { $($word::$one => Self::$other,)+ }
                }
            }

            impl TryFrom<v1::$wire> for $word {
                type Error = WorkspaceFileError;

                fn try_from(value: v1::$wire) -> Result<Self, WorkspaceFileError> {
                    match value {
                        $(v1::$wire::$other => Ok(Self::$one),)+
                        other => Err(WorkspaceFileError::Newer(other.as_str_name().to_owned())),
                    }
                }
            }
        )+
    };
}

same_words! {
    Dialect, ApiDialect: None = None, Openai = Openai, Anthropic = Anthropic;
    KeyLabel, KeyLabel: Live = Live, Test = Test;
    KeyScope, KeyScope: Quota = Quota, Usage = Usage, Gateway = Gateway, Manage = Manage, Read = Read;
    OnMissing, OnMissing: Shared = Shared, Skip = Skip, Deny = Deny;
    Period, CalendarPeriod: Hour = Hour, Day = Day, Week = Week, Month = Month;
    RuleMode, RuleMode: Enforced = Enforced, Shadow = Shadow;
    Consistency, RuleConsistency: Strict = Strict, Leased = Leased;
    Enforcement, BudgetEnforcement: Hard = Hard, Soft = Soft, Shadow = Shadow;
}

impl BudgetPeriod {
    /// The period of the calendar; `None` for prepaid.
    pub fn calendar(self) -> Option<v1::CalendarPeriod> {
        match self {
            Self::Day => Some(v1::CalendarPeriod::Day),
            Self::Week => Some(v1::CalendarPeriod::Week),
            Self::Month => Some(v1::CalendarPeriod::Month),
            Self::Prepaid => None,
        }
    }
}

impl TryFrom<v1::CalendarPeriod> for BudgetPeriod {
    type Error = WorkspaceFileError;

    fn try_from(period: v1::CalendarPeriod) -> Result<Self, WorkspaceFileError> {
        match period {
            v1::CalendarPeriod::Day => Ok(Self::Day),
            v1::CalendarPeriod::Week => Ok(Self::Week),
            v1::CalendarPeriod::Month => Ok(Self::Month),
            other => Err(WorkspaceFileError::Newer(other.as_str_name().to_owned())),
        }
    }
}
