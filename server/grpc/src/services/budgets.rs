//! `BudgetService`.

use std::sync::Arc;

use rateguard_core::ids::BudgetId;
use rateguard_core::money::Currency;
use rateguard_core::rule::Budget;
use rateguard_engine::engine::Engine;
use rateguard_engine::error::EngineError;
use rateguard_engine::ports::{Resource, ResourceKind, Stored};
use rateguard_proto::v1;
use rateguard_proto::v1::budget_service_server::BudgetService;
use tonic::{Request, Response, Status};

use super::answer;
use super::managed::{Desk, Managed, at_desk, of_kind, random_id, to_the_end};
use super::mask::Maskable;
use crate::convert::budgets::{budget, budget_message, top_up_draft, top_up_message};
use crate::convert::check::budget_state;
use crate::convert::lists::budget_filter;
use crate::convert::resource_id;
use crate::listing::{ListMethod, page_fields};

/// The list of a budget's top-ups.
const TOP_UPS: ListMethod = ListMethod::of_ledger("top-ups");

impl Managed for Budget {
    type Message = v1::Budget;
    const KIND: ResourceKind = ResourceKind::Budget;
    const FIELD: &'static str = "budget";
    const MASKABLE: Maskable = Maskable {
        message: "rateguard.v1.Budget",
        fixed: &["id", "state", "etag", "create_time", "update_time", "topped_up"],
    };

    fn id_and_etag(message: &v1::Budget) -> (&str, &str) {
        (&message.id, &message.etag)
    }

    fn read(desk: &Desk<'_>, message: v1::Budget, present: Option<&Self>) -> Result<Self, EngineError> {
        let id = match present {
            Some(present) => present.id.clone(),
            None => BudgetId::from_random(random_id()?),
        };
        budget(message, id, desk.currency())
    }

    fn message(stored: &Stored<Self>, currency: Currency) -> v1::Budget {
        budget_message(stored, currency)
    }

    fn into_resource(self) -> Resource {
        Resource::Budget(self)
    }

    fn from_resource(resource: Resource) -> Option<Self> {
        if let Resource::Budget(budget) = resource { Some(budget) } else { None }
    }
}

/// A budget for the wire, with how it stands now.
async fn with_state(desk: &Desk<'_>, stored: &Stored<Budget>) -> Result<v1::Budget, EngineError> {
    let standing = desk.engine.budget_standing(&desk.who, &stored.value).await?;
    let state = standing.map(|standing| budget_state(&standing.limit, &standing.reading, desk.currency()));
    Ok(v1::Budget { state, ..budget_message(stored, desk.currency()) })
}

/// The service over the engine.
pub struct Budgets(pub Arc<Engine>);

#[tonic::async_trait]
impl BudgetService for Budgets {
    async fn create_budget(
        &self,
        request: Request<v1::CreateBudgetRequest>,
    ) -> Result<Response<v1::CreateBudgetResponse>, Status> {
        let (desk, message) = at_desk(&self.0, request)?;
        answer(async {
            let stored = desk.create(message.budget, &message.request_id).await?;
            Ok(v1::CreateBudgetResponse { budget: Some(with_state(&desk, &stored).await?) })
        })
        .await
    }

    async fn get_budget(
        &self,
        request: Request<v1::GetBudgetRequest>,
    ) -> Result<Response<v1::GetBudgetResponse>, Status> {
        let (desk, message) = at_desk(&self.0, request)?;
        answer(async {
            let stored = desk.get("id", &message.id).await?;
            Ok(v1::GetBudgetResponse { budget: Some(with_state(&desk, &stored).await?) })
        })
        .await
    }

    async fn list_budgets(
        &self,
        request: Request<v1::ListBudgetsRequest>,
    ) -> Result<Response<v1::ListBudgetsResponse>, Status> {
        let (desk, message) = at_desk(&self.0, request)?;
        answer(async {
            let page = desk
                .list(
                    &budget_filter(&message)?,
                    page_fields(message.page_size, &message.page_token, &message.order_by),
                )
                .await?;
            let mut budgets = Vec::with_capacity(page.items.len());
            for stored in &page.items {
                budgets.push(with_state(&desk, stored).await?);
            }
            Ok(v1::ListBudgetsResponse { budgets, next_page_token: page.next_page_token })
        })
        .await
    }

    async fn update_budget(
        &self,
        request: Request<v1::UpdateBudgetRequest>,
    ) -> Result<Response<v1::UpdateBudgetResponse>, Status> {
        let (desk, message) = at_desk(&self.0, request)?;
        answer(async {
            let updated = desk.update(message.budget, message.update_mask).await?;
            let budget = Some(with_state(&desk, &updated.stored).await?);
            Ok(v1::UpdateBudgetResponse { budget, counters_reset: updated.counters_reset })
        })
        .await
    }

    async fn top_up_budget(
        &self,
        request: Request<v1::TopUpBudgetRequest>,
    ) -> Result<Response<v1::TopUpBudgetResponse>, Status> {
        let (desk, message) = at_desk(&self.0, request)?;
        answer(async {
            let draft = top_up_draft(message, desk.currency())?;
            let (engine, who) = (desk.engine.clone(), desk.who.clone());
            let (top_up, stored) = to_the_end(async move { engine.top_up_budget(&who, draft).await }).await?;
            let budget = Some(with_state(&desk, &of_kind(stored)?).await?);
            let top_up = Some(top_up_message(&top_up, desk.currency()));
            Ok(v1::TopUpBudgetResponse { top_up, budget })
        })
        .await
    }

    async fn list_budget_top_ups(
        &self,
        request: Request<v1::ListBudgetTopUpsRequest>,
    ) -> Result<Response<v1::ListBudgetTopUpsResponse>, Status> {
        let (desk, message) = at_desk(&self.0, request)?;
        answer(async {
            let budget = BudgetId::parse("budget_id", resource_id("budget_id", &message.budget_id)?)?;
            let fields = page_fields(message.page_size, &message.page_token, &message.order_by);
            let turn = TOP_UPS.turn(desk.who.workspace()?.as_str(), &budget, fields)?;
            let page = desk.engine.budget_top_ups(&desk.who, &budget, turn.part()?).await?;
            let next_page_token = turn.token_after_number(page.next_after);
            let top_ups = page.items.iter().map(|top_up| top_up_message(top_up, desk.currency())).collect();
            Ok(v1::ListBudgetTopUpsResponse { top_ups, next_page_token })
        })
        .await
    }

    async fn delete_budget(
        &self,
        request: Request<v1::DeleteBudgetRequest>,
    ) -> Result<Response<v1::DeleteBudgetResponse>, Status> {
        let (desk, message) = at_desk(&self.0, request)?;
        answer(async {
            desk.delete::<Budget>(&message.id, &message.etag).await?;
            Ok(v1::DeleteBudgetResponse {})
        })
        .await
    }
}
