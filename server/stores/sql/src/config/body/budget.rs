//! A budget's row.

use rateguard_core::counter::Position;
use rateguard_core::ids::{BudgetId, DisplayName};
use rateguard_core::invalid::Invalid;
use rateguard_core::money::Nanos;
use rateguard_core::rule::{Budget, BudgetPeriod};
use serde::{Deserialize, Serialize};

use super::limit::{EnforcementBody, MatchBody, PeriodBody, ScopeBody, zone};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BudgetBody {
    name: String,
    matches: MatchBody,
    scope: ScopeBody,
    amount_nanos: i64,
    #[serde(default)]
    topped_up_nanos: i64,
    period: BudgetPeriodBody,
    enforcement: EnforcementBody,
    active: bool,
    opened_after: Option<u64>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum BudgetPeriodBody {
    Calendar { period: PeriodBody, zone: Option<String> },
    Prepaid,
}

impl From<&Budget> for BudgetBody {
    fn from(budget: &Budget) -> Self {
        Self {
            name: budget.name.as_str().to_owned(),
            matches: MatchBody::from(&budget.matches),
            scope: ScopeBody::from(&budget.scope),
            amount_nanos: budget.amount.get(),
            topped_up_nanos: budget.topped_up.get(),
            period: BudgetPeriodBody::from(&budget.period),
            enforcement: budget.enforcement.into(),
            active: budget.active,
            opened_after: budget.opened_after.map(|position| position.0),
        }
    }
}

impl BudgetBody {
    pub(super) fn into_budget(self, id: &str) -> Result<Budget, Invalid> {
        Ok(Budget {
            id: BudgetId::parse("id", id)?,
            name: DisplayName::parse("name", &self.name)?,
            matches: self.matches.into_match()?,
            scope: self.scope.into(),
            amount: Nanos::parse("amount_nanos", self.amount_nanos)?,
            topped_up: Nanos::parse("topped_up_nanos", self.topped_up_nanos)?,
            period: self.period.into_period()?,
            enforcement: self.enforcement.into(),
            active: self.active,
            opened_after: self.opened_after.map(Position),
        })
    }
}

impl From<&BudgetPeriod> for BudgetPeriodBody {
    fn from(period: &BudgetPeriod) -> Self {
        match period {
            BudgetPeriod::Calendar { period, zone } => Self::Calendar {
                period: (*period).into(),
                zone: zone.as_ref().map(|zone| zone.name().to_owned()),
            },
            BudgetPeriod::Prepaid => Self::Prepaid,
        }
    }
}

impl BudgetPeriodBody {
    fn into_period(self) -> Result<BudgetPeriod, Invalid> {
        Ok(match self {
            Self::Calendar { period, zone: name } => {
                BudgetPeriod::Calendar { period: period.into(), zone: zone(name.as_deref())? }
            }
            Self::Prepaid => BudgetPeriod::Prepaid,
        })
    }
}
