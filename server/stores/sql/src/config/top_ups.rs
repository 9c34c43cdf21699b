//! The ledgers of prepaid budgets. An entry and the sum in the budget's body are one transaction, so that
//! the sum is always the entries'.

use rateguard_core::ids::{BudgetId, TopUpId, WorkspaceId};
use rateguard_core::money::Nanos;
use rateguard_core::rule::Budget;
use rateguard_core::time::Millis;
use rateguard_engine::audit::Deed;
use rateguard_engine::listing::SequenceQuery;
use rateguard_engine::ports::{
    NewTopUp, Resource, ResourceChange, ResourceKind, StoreError, Stored, TOP_UPS_FULL, TopUp, TopUpOutcome,
};

use super::change::make_all;
use super::read::find;
use super::table::{from_column, to_column};
use super::{STORE, corrupt};
use crate::database::{Connection, QueryBuilder, Row, failure, push_part, query, query_scalar};

const COLUMNS: &str = "SELECT budget_id, sequence, id, request_id, amount_nanos, note, actor_kind, actor_id, \
                       created_at FROM budget_top_ups";

/// Makes an entry, or finds the one that was made with the same request id.
pub(super) async fn top_up(
    connection: &mut Connection,
    workspace: &WorkspaceId,
    what: NewTopUp,
    limit: usize,
    by: &Deed,
) -> Result<TopUpOutcome, StoreError> {
    let stored = find(connection, workspace, ResourceKind::Budget, what.budget.as_str()).await?;
    let stored = stored.ok_or(StoreError::NotFound)?;
    if let Some(earlier) = find_by_request(connection, workspace, &what).await? {
        return repeated(earlier, &what, stored);
    }
    let after = match budget_of(&stored)?.topped_up_by(what.amount) {
        Ok(after) => after,
        Err(refusal) => return Ok(TopUpOutcome::Refused(refusal)),
    };
    let sequence = last_sequence(connection, workspace, &what.budget).await? + 1;
    if sequence > to_column(limit as u64) {
        return Err(StoreError::Full { what: TOP_UPS_FULL });
    }
    let top_up = TopUp {
        sequence: from_column(sequence)?,
        what,
        actor_kind: by.actor.kind().to_owned(),
        actor_id: by.actor.id().to_owned(),
        created_at: by.at,
    };
    insert(connection, workspace, &top_up).await?;
    let replace = ResourceChange::Replace { resource: Resource::Budget(after), expected: stored.version };
    let budget = make_all(connection, workspace, vec![replace], by).await?.pop();
    let budget = budget.ok_or_else(|| corrupt("a budget went while it was topped up".to_owned()))?;
    Ok(TopUpOutcome::Done { top_up: Box::new(top_up), budget: Box::new(budget) })
}

fn repeated(earlier: TopUp, what: &NewTopUp, budget: Stored<Resource>) -> Result<TopUpOutcome, StoreError> {
    if (earlier.what.amount, &earlier.what.note) != (what.amount, &what.note) {
        return Err(StoreError::AlreadyExists { field: "request_id" });
    }
    Ok(TopUpOutcome::Done { top_up: Box::new(earlier), budget: Box::new(budget) })
}

fn budget_of(stored: &Stored<Resource>) -> Result<&Budget, StoreError> {
    match &stored.value {
        Resource::Budget(budget) => Ok(budget),
        other => Err(corrupt(format!("{} is no budget", other.id()))),
    }
}

async fn find_by_request(
    connection: &mut Connection,
    workspace: &WorkspaceId,
    what: &NewTopUp,
) -> Result<Option<TopUp>, StoreError> {
    let mut query = of_budget(workspace, what.budget.as_str());
    query.push(" AND request_id = ").push_bind(what.request_id.clone());
    let row = query.build().fetch_optional(connection).await.map_err(failure(STORE))?;
    row.as_ref().map(entry).transpose()
}

/// The entries of one budget, to be continued with conditions.
fn of_budget(workspace: &WorkspaceId, budget: &str) -> QueryBuilder {
    let mut query = QueryBuilder::new(COLUMNS);
    query.push(" WHERE workspace_id = ").push_bind(workspace.as_str().to_owned());
    query.push(" AND budget_id = ").push_bind(budget.to_owned());
    query
}

async fn last_sequence(
    connection: &mut Connection,
    workspace: &WorkspaceId,
    budget: &BudgetId,
) -> Result<i64, StoreError> {
    let sql = "SELECT COALESCE(MAX(sequence), 0) FROM budget_top_ups \
                 WHERE workspace_id = $1 AND budget_id = $2";
    query_scalar(sql)
        .bind(workspace.as_str())
        .bind(budget.as_str())
        .fetch_one(connection)
        .await
        .map_err(failure(STORE))
}

async fn insert(
    connection: &mut Connection,
    workspace: &WorkspaceId,
    top_up: &TopUp,
) -> Result<(), StoreError> {
    let statement = "INSERT INTO budget_top_ups (workspace_id, budget_id, sequence, id, request_id, \
                     amount_nanos, note, actor_kind, actor_id, created_at) \
                     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
    query(statement)
        .bind(workspace.as_str())
        .bind(top_up.what.budget.as_str())
        .bind(to_column(top_up.sequence))
        .bind(top_up.what.id.as_str())
        .bind(top_up.what.request_id.as_str())
        .bind(top_up.what.amount.get())
        .bind(top_up.what.note.as_str())
        .bind(top_up.actor_kind.as_str())
        .bind(top_up.actor_id.as_str())
        .bind(top_up.created_at.get())
        .execute(connection)
        .await
        .map_err(failure(STORE))?;
    Ok(())
}

pub(super) async fn list(
    connection: &mut Connection,
    workspace: &WorkspaceId,
    budget: &str,
    part: &SequenceQuery,
) -> Result<Vec<TopUp>, StoreError> {
    let mut query = of_budget(workspace, budget);
    push_part(&mut query, part);
    let rows = query.build().fetch_all(connection).await.map_err(failure(STORE))?;
    rows.iter().map(entry).collect()
}

fn entry(row: &Row) -> Result<TopUp, StoreError> {
    let text = |column: &str| row.try_get::<String, _>(column).map_err(failure(STORE));
    let number = |column: &str| row.try_get::<i64, _>(column).map_err(failure(STORE));
    let malformed = |invalid: rateguard_core::invalid::Invalid| corrupt(format!("a top-up: {invalid}"));
    Ok(TopUp {
        sequence: from_column(number("sequence")?)?,
        what: NewTopUp {
            id: TopUpId::parse("id", &text("id")?).map_err(malformed)?,
            budget: BudgetId::parse("budget_id", &text("budget_id")?).map_err(malformed)?,
            request_id: text("request_id")?,
            amount: Nanos::parse("amount_nanos", number("amount_nanos")?).map_err(malformed)?,
            note: text("note")?,
        },
        actor_kind: text("actor_kind")?,
        actor_id: text("actor_id")?,
        created_at: Millis::new(number("created_at")?),
    })
}
