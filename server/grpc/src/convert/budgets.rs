//! Budgets.

use rateguard_core::ids::{BudgetId, DisplayName};
use rateguard_core::matching::OnMissing;
use rateguard_core::money::{Currency, Nanos};
use rateguard_core::rule::{Budget, BudgetPeriod, Enforcement};
use rateguard_core::time::CalendarPeriod;
use rateguard_engine::error::EngineError;
use rateguard_engine::manage::TopUpDraft;
use rateguard_engine::ports::{Stored, TopUp};
use rateguard_proto::v1;
use rateguard_proto::v1::budget::Period as Message;

use super::audit::actor_kind;
use super::limits::{
    calendar_period, calendar_period_message, call_match, call_match_message, scope, scope_message,
};
use super::{
    enumeration, etag, malformed, missing, money, nano_money, required_request_id, resource_id, signed_money,
    text, timestamp, within, zone,
};

/// A budget under an id.
///
/// # Errors
/// Those of its fields.
pub fn budget(message: v1::Budget, id: BudgetId, currency: Currency) -> Result<Budget, EngineError> {
    let amount = message.amount.ok_or_else(|| missing("amount"))?;
    let budget = Budget {
        id,
        name: DisplayName::parse("display_name", &message.display_name)?,
        matches: call_match(message.r#match)?,
        scope: scope(message.scope, OnMissing::Shared)?,
        amount: money("amount", &amount, currency)?,
        // The engine keeps what there is.
        topped_up: Nanos::ZERO,
        period: period(message.period)?,
        enforcement: enforcement(message.enforcement)?,
        active: message.active.unwrap_or(true),
        // The engine opens it.
        opened_after: None,
    };
    budget.check()?;
    Ok(budget)
}

fn period(message: Option<Message>) -> Result<BudgetPeriod, EngineError> {
    match message {
        None => Err(missing("period")),
        Some(Message::Prepaid(v1::PrepaidBudget {})) => Ok(BudgetPeriod::Prepaid),
        Some(Message::Calendar(calendar)) => {
            calendar_budget(calendar).map_err(|error| within("calendar", error))
        }
    }
}

fn calendar_budget(calendar: v1::CalendarBudget) -> Result<BudgetPeriod, EngineError> {
    match calendar_period("period", calendar.period)? {
        CalendarPeriod::Hour => Err(malformed("period", "must be DAY, WEEK or MONTH")),
        period => Ok(BudgetPeriod::Calendar { period, zone: zone("time_zone", calendar.time_zone)? }),
    }
}

fn enforcement(value: i32) -> Result<Enforcement, EngineError> {
    Ok(match enumeration("enforcement", value)? {
        v1::BudgetEnforcement::Unspecified | v1::BudgetEnforcement::Hard => Enforcement::Enforced,
        v1::BudgetEnforcement::Soft => Enforcement::Soft,
        v1::BudgetEnforcement::Shadow => Enforcement::Shadow,
    })
}

/// A budget for the wire, without its state.
pub fn budget_message(stored: &Stored<Budget>, currency: Currency) -> v1::Budget {
    let budget = &stored.value;
    v1::Budget {
        id: budget.id.to_string(),
        display_name: budget.name.to_string(),
        r#match: call_match_message(&budget.matches),
        scope: scope_message(&budget.scope),
        amount: Some(nano_money(budget.amount, currency)),
        period: Some(period_message(&budget.period)),
        enforcement: enforcement_message(budget.enforcement).into(),
        active: Some(budget.active),
        state: None,
        etag: etag(stored.version),
        create_time: Some(timestamp(stored.created_at)),
        update_time: Some(timestamp(stored.updated_at)),
        topped_up: Some(nano_money(budget.topped_up, currency)),
    }
}

/// A top-up that somebody asks for.
///
/// # Errors
/// Those of its fields.
pub fn top_up_draft(message: v1::TopUpBudgetRequest, currency: Currency) -> Result<TopUpDraft, EngineError> {
    let amount = message.amount.ok_or_else(|| missing("amount"))?;
    Ok(TopUpDraft {
        budget: BudgetId::parse("budget_id", resource_id("budget_id", &message.budget_id)?)?,
        amount: signed_money("amount", &amount, currency)?,
        request_id: required_request_id(&message.request_id)?.to_string(),
        note: text("note", message.note)?,
    })
}

/// An entry of a budget's ledger for the wire.
pub fn top_up_message(top_up: &TopUp, currency: Currency) -> v1::BudgetTopUp {
    v1::BudgetTopUp {
        id: top_up.what.id.to_string(),
        budget_id: top_up.what.budget.to_string(),
        amount: Some(nano_money(top_up.what.amount, currency)),
        request_id: top_up.what.request_id.clone(),
        note: top_up.what.note.clone(),
        actor_kind: actor_kind(&top_up.actor_kind).into(),
        actor_id: top_up.actor_id.clone(),
        create_time: Some(timestamp(top_up.created_at)),
    }
}

fn period_message(period: &BudgetPeriod) -> Message {
    match period {
        BudgetPeriod::Prepaid => Message::Prepaid(v1::PrepaidBudget {}),
        BudgetPeriod::Calendar { period, zone } => Message::Calendar(v1::CalendarBudget {
            period: calendar_period_message(*period).into(),
            time_zone: zone.as_ref().map(|zone| zone.name().to_owned()).unwrap_or_default(),
        }),
    }
}

fn enforcement_message(enforcement: Enforcement) -> v1::BudgetEnforcement {
    match enforcement {
        Enforcement::Enforced => v1::BudgetEnforcement::Hard,
        Enforcement::Soft => v1::BudgetEnforcement::Soft,
        Enforcement::Shadow => v1::BudgetEnforcement::Shadow,
    }
}
