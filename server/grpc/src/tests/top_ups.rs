//! Prepaid budgets that are topped up.

use rateguard_proto::v1;
use rateguard_proto::v1::ErrorReason as R;
use rateguard_proto::v1::budget_service_client::BudgetServiceClient;
use rateguard_proto::v1::quota_service_client::QuotaServiceClient;
use tonic::{Code, Status};

use super::managed::{mask, usd};
use super::world::{Transport, World, reason, told};

/// A prepaid budget of a world.
struct Prepaid {
    world: World,
    budgets: BudgetServiceClient<Transport>,
    id: String,
}

fn prepaid(nanos: i64) -> v1::Budget {
    v1::Budget {
        display_name: "prepaid".to_owned(),
        amount: usd(nanos),
        period: Some(v1::budget::Period::Prepaid(v1::PrepaidBudget {})),
        ..v1::Budget::default()
    }
}

impl Prepaid {
    async fn of(nanos: i64) -> Self {
        let world = World::new().await;
        let mut budgets = BudgetServiceClient::new(world.transport());
        let create = v1::CreateBudgetRequest { budget: Some(prepaid(nanos)), request_id: String::new() };
        let made = budgets.create_budget(create).await.unwrap().into_inner().budget.unwrap();
        Self { world, budgets, id: made.id }
    }

    fn request(&self, request_id: &str, nanos: i64) -> v1::TopUpBudgetRequest {
        v1::TopUpBudgetRequest {
            budget_id: self.id.clone(),
            amount: usd(nanos),
            request_id: request_id.to_owned(),
            note: "invoice 7".to_owned(),
        }
    }

    async fn top_up(&mut self, request_id: &str, nanos: i64) -> Result<v1::TopUpBudgetResponse, Status> {
        let request = self.request(request_id, nanos);
        Ok(self.budgets.top_up_budget(request).await?.into_inner())
    }

    async fn reserve(&self, nanos: i64) -> v1::Decision {
        let mut quota = QuotaServiceClient::new(self.world.transport());
        let estimate = v1::Estimate { cost: usd(nanos), ..v1::Estimate::default() };
        let check = v1::CheckQuotaRequest {
            mode: v1::CheckMode::Reserve.into(),
            estimate: Some(estimate),
            ..v1::CheckQuotaRequest::default()
        };
        quota.check_quota(check).await.unwrap().into_inner().decision()
    }
}

#[tokio::test]
async fn a_top_up_is_in_force_at_once_and_a_repetition_adds_nothing() {
    let mut one = Prepaid::of(1_000).await;
    assert_eq!(one.reserve(1_500).await, v1::Decision::Denied);
    let made = one.top_up("first", 500).await.unwrap();
    let (top_up, budget) = (made.top_up.clone().unwrap(), made.budget.unwrap());
    assert!(top_up.id.starts_with("top_") && top_up.budget_id == one.id, "{}", top_up.id);
    assert_eq!((top_up.actor_kind(), top_up.note.as_str()), (v1::AuditActorKind::Key, "invoice 7"));
    assert_eq!(top_up.amount, usd(500));
    assert_eq!((budget.amount, budget.topped_up), (usd(1_000), usd(500)));
    assert_eq!(budget.state.unwrap().amount_nanos, 1_500);

    let again = one.top_up("first", 500).await.unwrap();
    assert_eq!(again.top_up, made.top_up);
    assert_eq!(again.budget.unwrap().topped_up, usd(500));
    assert_eq!(one.reserve(1_500).await, v1::Decision::Allowed);
    let refused = told(&one.top_up("first", 501).await.unwrap_err());
    assert_eq!(refused, (Code::AlreadyExists, R::RequestIdReused, "request_id".to_owned()));
}

#[tokio::test]
async fn a_correction_takes_back_as_much_as_there_is() {
    let mut one = Prepaid::of(1_000).await;
    let corrected = one.top_up("back", -1_000).await.unwrap();
    assert_eq!(corrected.budget.unwrap().topped_up, usd(-1_000));
    let out_of_bounds = (Code::InvalidArgument, R::FieldOutOfBounds, "amount.nanos".to_owned());
    for nanos in [-1, 0, 1_000_000_000_000_000_001, i64::MIN, i64::MAX] {
        assert_eq!(told(&one.top_up("wrong", nanos).await.unwrap_err()), out_of_bounds, "{nanos}");
    }
    one.top_up("all", 1_000_000_000_000_000_000).await.unwrap();
    assert_eq!(told(&one.top_up("more", 1).await.unwrap_err()), out_of_bounds);
    // The amount cannot be changed to where the sum would be out of bounds either.
    let raised = v1::Budget { id: one.id.clone(), amount: usd(1_001), ..v1::Budget::default() };
    let update = v1::UpdateBudgetRequest { budget: Some(raised), update_mask: mask(&["amount"]) };
    let refused = told(&one.budgets.update_budget(update).await.unwrap_err());
    assert_eq!((refused.0, refused.1), (Code::InvalidArgument, R::FieldOutOfBounds));
}

#[tokio::test]
async fn a_top_up_needs_a_prepaid_budget_a_request_id_and_the_workspaces_currency() {
    let mut one = Prepaid::of(0).await;
    let unnamed = told(&one.top_up("", 1).await.unwrap_err());
    assert_eq!(unnamed, (Code::InvalidArgument, R::FieldMissing, "request_id".to_owned()));
    let euros = Some(v1::NanoMoney { currency_code: "EUR".to_owned(), nanos: 1 });
    let request = v1::TopUpBudgetRequest { amount: euros, ..one.request("euros", 1) };
    assert_eq!(reason(&one.budgets.top_up_budget(request).await.unwrap_err()), R::CurrencyMismatch);
    let monthly = v1::CalendarBudget { period: v1::CalendarPeriod::Month.into(), time_zone: String::new() };
    let period = Some(v1::budget::Period::Calendar(monthly));
    let create = v1::CreateBudgetRequest {
        budget: Some(v1::Budget { period, ..prepaid(5) }),
        request_id: String::new(),
    };
    let calendar = one.budgets.create_budget(create).await.unwrap().into_inner().budget.unwrap();
    let request = v1::TopUpBudgetRequest { budget_id: calendar.id, ..one.request("calendar", 1) };
    let refused = told(&one.budgets.top_up_budget(request).await.unwrap_err());
    assert_eq!((refused.0, refused.1), (Code::FailedPrecondition, R::BudgetNotPrepaid));
    one.id = "bud_none".to_owned();
    assert_eq!(reason(&one.top_up("nowhere", 1).await.unwrap_err()), R::ResourceNotFound);
}

#[tokio::test]
async fn an_update_keeps_what_was_topped_up() {
    let mut one = Prepaid::of(10).await;
    one.top_up("one", 5).await.unwrap();
    let raised = v1::Budget { topped_up: usd(77), ..v1::Budget { id: one.id.clone(), ..prepaid(20) } };
    let update = v1::UpdateBudgetRequest { budget: Some(raised.clone()), update_mask: mask(&["*"]) };
    let updated = one.budgets.update_budget(update).await.unwrap().into_inner().budget.unwrap();
    assert_eq!((updated.amount, updated.topped_up), (usd(20), usd(5)));
    assert_eq!(updated.state.unwrap().amount_nanos, 25);
    let update = v1::UpdateBudgetRequest { budget: Some(raised), update_mask: mask(&["topped_up"]) };
    assert_eq!(reason(&one.budgets.update_budget(update).await.unwrap_err()), R::UpdateMaskInvalid);
}

#[tokio::test]
async fn a_ledger_is_paged_the_newest_first_and_outlives_its_budget() {
    let mut one = Prepaid::of(0).await;
    for number in 1..=5 {
        one.top_up(&format!("request-{number}"), number).await.unwrap();
    }
    let delete = v1::DeleteBudgetRequest { id: one.id.clone(), etag: String::new() };
    one.budgets.delete_budget(delete).await.unwrap();
    let mut request =
        v1::ListBudgetTopUpsRequest { budget_id: one.id.clone(), page_size: 2, ..Default::default() };
    let mut amounts = Vec::new();
    loop {
        let page = one.budgets.list_budget_top_ups(request.clone()).await.unwrap().into_inner();
        amounts.extend(page.top_ups.into_iter().map(|top_up| top_up.amount.unwrap().nanos));
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert_eq!(amounts, [5, 4, 3, 2, 1]);
    let oldest = v1::ListBudgetTopUpsRequest {
        order_by: "create_time".to_owned(),
        page_token: String::new(),
        ..request.clone()
    };
    let page = one.budgets.list_budget_top_ups(oldest).await.unwrap().into_inner();
    assert_eq!(
        page.top_ups.iter().map(|top_up| top_up.amount.as_ref().unwrap().nanos).collect::<Vec<_>>(),
        [1, 2]
    );
    let elsewhere = v1::ListBudgetTopUpsRequest { budget_id: "bud_none".to_owned(), ..request };
    let refused = one.budgets.list_budget_top_ups(elsewhere.clone()).await.unwrap_err();
    assert_eq!(reason(&refused), R::PageTokenInvalid);
    let unknown = v1::ListBudgetTopUpsRequest { page_token: String::new(), ..elsewhere };
    let refused = one.budgets.list_budget_top_ups(unknown).await.unwrap_err();
    assert_eq!(reason(&refused), R::ResourceNotFound);
}
