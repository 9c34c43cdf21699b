//! Top-ups of prepaid budgets: a ledger, each entry made once.

use rateguard_core::ids::{BudgetId, TopUpId};
use rateguard_core::limits::MONEY_NANOS_MAX;
use rateguard_core::money::Nanos;
use rateguard_core::rule::TopUpRefusal;

use crate::caller::Identity;
use crate::engine::Engine;
use crate::error::{EngineError, Reason};
use crate::listing::{SequencePage, SequenceQuery};
use crate::ports::{NewTopUp, Resource, ResourceKind, StoreError, Stored, TopUp, TopUpOutcome};
use crate::secrets::random;

/// Top-ups that one budget may have.
pub const TOP_UPS_PER_BUDGET_MAX: usize = 100_000;

/// A top-up as somebody asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopUpDraft {
    /// Which budget.
    pub budget: BudgetId,
    /// How much; below zero for a correction.
    pub amount: Nanos,
    /// By what it is known again.
    pub request_id: String,
    /// What for.
    pub note: String,
}

impl Engine {
    /// Tops a prepaid budget up. Repeating the request id gives the first answer's entry again.
    ///
    /// # Errors
    /// [`Reason::ResourceNotFound`], [`Reason::BudgetNotPrepaid`], [`Reason::FieldOutOfBounds`],
    /// [`Reason::RequestIdReused`], [`Reason::WorkspaceFull`].
    pub async fn top_up_budget(
        &self,
        identity: &Identity,
        draft: TopUpDraft,
    ) -> Result<(TopUp, Stored<Resource>), EngineError> {
        let random = random().map_err(|error| EngineError::internal(&error.to_string()))?;
        let TopUpDraft { budget, amount, request_id, note } = draft;
        let id = budget.clone();
        let top_up = NewTopUp { id: TopUpId::from_random(random), budget, request_id, amount, note };
        let (workspace, deed) = (identity.workspace()?, identity.deed(self.now()));
        let outcome = self.config.top_up(workspace, top_up, TOP_UPS_PER_BUDGET_MAX, &deed).await;
        match outcome.map_err(|error| described(error, &id))? {
            TopUpOutcome::Done { top_up, budget } => {
                self.refresh_now().await;
                Ok((*top_up, *budget))
            }
            TopUpOutcome::Refused(refusal) => Err(refused(refusal)),
        }
    }

    /// A page of a budget's ledger.
    ///
    /// # Errors
    /// [`Reason::ResourceNotFound`] for a budget that is none and never had a top-up.
    pub async fn budget_top_ups(
        &self,
        identity: &Identity,
        budget: &BudgetId,
        query: SequenceQuery,
    ) -> Result<SequencePage<TopUp>, EngineError> {
        let workspace = identity.workspace()?;
        let top_ups = self.config.top_ups(workspace, budget.as_str(), &query.one_more()).await?;
        if top_ups.is_empty() && query.after.is_none() {
            self.get(identity, ResourceKind::Budget, budget.as_str()).await?;
        }
        Ok(query.page(top_ups, |top_up| top_up.sequence))
    }
}

fn described(error: StoreError, budget: &BudgetId) -> EngineError {
    match error {
        StoreError::NotFound => EngineError::not_found(ResourceKind::Budget.as_str(), budget.as_str()),
        StoreError::AlreadyExists { .. } => EngineError::field(
            Reason::RequestIdReused,
            "request_id",
            "was used for another top-up of this budget",
        ),
        StoreError::Full { .. } => {
            let message = format!("the budget has {TOP_UPS_PER_BUDGET_MAX} top-ups already");
            EngineError::new(Reason::WorkspaceFull, message)
        }
        error => error.into(),
    }
}

fn refused(refusal: TopUpRefusal) -> EngineError {
    match refusal {
        TopUpRefusal::NotPrepaid => {
            EngineError::new(Reason::BudgetNotPrepaid, "only a prepaid budget can be topped up")
        }
        TopUpRefusal::OutOfBounds => EngineError::field(
            Reason::FieldOutOfBounds,
            "amount.nanos",
            format!("the budget would with all its top-ups not be within 0 to {MONEY_NANOS_MAX}"),
        ),
    }
}
