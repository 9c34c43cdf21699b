//! No message brings a conversion down, whatever stands in it; and what the domain holds comes back
//! from the wire as it went.

use std::sync::LazyLock;

use crate::convert::analytics::{time_series_query, usage_filter};
use crate::convert::apis::{api_draft, api_message};
use crate::convert::budgets::{budget, budget_message};
use crate::convert::check::{check_request, quota_call};
use crate::convert::keys::{KeyIdentity, key, key_message};
use crate::convert::leases::{lease_question, lease_return};
use crate::convert::prices::{place, place_text, price_filter, price_message, price_sheet};
use crate::convert::rules::{rule, rule_message};
use crate::convert::usage::{event_filter, usage_record};
use crate::convert::{etag, etag_version};
use crate::page::{next_token, place_of};
use proptest::prelude::*;
use rateguard_core::ids::{ApiId, BudgetId, PriceId, RuleId, WorkspaceId};
use rateguard_core::money::Currency;
use rateguard_core::pricing::PriceSheet;
use rateguard_core::time::Millis;
use rateguard_core::usage::PriceRef;
use rateguard_engine::directory::WorkspaceView;
use rateguard_engine::error::{EngineError, ErrorKind, Reason};
use rateguard_engine::manage::{CredentialChange, ListedPrice};
use rateguard_engine::ports::Stored;
use rateguard_proto::v1;

use super::world::World;
use super::{domain, messages};

const USD: Currency = Currency::USD;

fn stored<T>(value: T) -> Stored<T> {
    let workspace = WorkspaceId::from_random([1; 16]);
    Stored { workspace, value, version: 3, created_at: Millis::new(5), updated_at: Millis::new(7) }
}

/// A view for conversions that look APIs up.
static VIEW: LazyLock<std::sync::Arc<WorkspaceView>> = LazyLock::new(|| {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let world = World::new().await;
        world.engine.directory().view(&world.workspace).unwrap()
    })
});

/// An error of input is the caller's, names a field, and does not repeat what was sent at length.
fn is_told<T>(result: Result<T, EngineError>) -> Result<(), TestCaseError> {
    let Err(error) = result else { return Ok(()) };
    prop_assert!(
        matches!(error.reason.kind(), ErrorKind::InvalidArgument | ErrorKind::NotFound),
        "{error:?}"
    );
    prop_assert!(error.field.as_deref().is_some_and(|field| !field.is_empty()), "{error:?}");
    prop_assert!(error.message.len() < 1_000, "{error:?}");
    Ok(())
}

fn usual_record() -> v1::UsageRecord {
    v1::UsageRecord { event_id: "event-1".to_owned(), ..v1::UsageRecord::default() }
}

fn usual_lease() -> v1::LeaseQuotaRequest {
    let wish = v1::LeaseWish { unit: "requests".to_owned(), amount: 5, least: 1 };
    let ended = vec![usual_end()];
    v1::LeaseQuotaRequest { wishes: vec![wish], ended, ..v1::LeaseQuotaRequest::default() }
}

fn usual_end() -> v1::ReturnLeaseRequest {
    let unspent = vec![v1::UnitAmount { unit: "requests".to_owned(), amount: 3 }];
    v1::ReturnLeaseRequest { lease_id: "lease_1".to_owned(), unspent }
}

fn usual_query() -> v1::QueryTimeSeriesRequest {
    let at = |seconds: i64| Some(prost_types::Timestamp { seconds, nanos: 0 });
    v1::QueryTimeSeriesRequest {
        range: Some(v1::TimeRange { start_time: at(1_000), end_time: at(90_000) }),
        metrics: vec![v1::Metric::Cost.into()],
        granularity: v1::Granularity::Hour.into(),
        ..v1::QueryTimeSeriesRequest::default()
    }
}

fn listed(sheet: PriceSheet) -> ListedPrice {
    ListedPrice { sheet, stored_version: Some(1), effective_until: None }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_check_is_read_or_refused_by_name(
        message in messages::disturbed("CheckQuotaRequest", Just(v1::CheckQuotaRequest::default())),
    ) {
        is_told(check_request(message, USD))?;
    }

    #[test]
    fn any_question_for_quota_is_read_or_refused_by_name(
        message in messages::disturbed("GetQuotaRequest", Just(v1::GetQuotaRequest::default())),
    ) {
        is_told(quota_call(message))?;
    }

    #[test]
    fn any_question_for_a_lease_is_read_or_refused_by_name(
        message in messages::disturbed("LeaseQuotaRequest", Just(usual_lease())),
    ) {
        is_told(lease_question(message))?;
    }

    #[test]
    fn any_end_of_a_lease_is_read_or_refused_by_name(
        message in messages::disturbed("ReturnLeaseRequest", Just(usual_end())),
    ) {
        is_told(lease_return(message))?;
    }

    #[test]
    fn any_record_is_read_or_refused_by_name(
        message in messages::disturbed("UsageRecord", Just(usual_record())),
    ) {
        is_told(usage_record(message, USD))?;
    }

    #[test]
    fn any_filter_of_events_is_read_or_refused_by_name(
        message in messages::disturbed("UsageEventFilter", Just(v1::UsageEventFilter::default())),
    ) {
        is_told(event_filter(message, &VIEW))?;
    }

    #[test]
    fn any_list_of_prices_is_read_or_refused_by_name(
        message in messages::disturbed("ListPricesRequest", Just(v1::ListPricesRequest::default())),
    ) {
        is_told(price_filter(&message))?;
    }

    #[test]
    fn any_question_for_a_series_is_read_or_refused_by_name(
        message in messages::disturbed("QueryTimeSeriesRequest", Just(usual_query())),
    ) {
        is_told(time_series_query(message, &VIEW))?;
    }

    #[test]
    fn any_question_for_a_summary_is_read_or_refused_by_name(
        message in messages::disturbed("GetSummaryRequest", Just(v1::GetSummaryRequest::default())),
    ) {
        is_told(usage_filter(message.range, message.filter, &VIEW))?;
    }

    #[test]
    fn any_rule_is_refused_by_name_or_the_same_from_then_on(
        message in messages::disturbed("Rule", domain::rule().prop_map(|value| rule_message(&stored(value)))),
    ) {
        let result = rule(message, RuleId::from_random([0; 16]));
        if let Ok(accepted) = &result {
            let again = rule(rule_message(&stored(accepted.clone())), accepted.id.clone());
            prop_assert_eq!(&again.unwrap(), accepted);
        }
        is_told(result)?;
    }

    #[test]
    fn any_budget_is_refused_by_name_or_the_same_from_then_on(
        message in messages::disturbed(
            "Budget",
            domain::budget().prop_map(|value| budget_message(&stored(value), USD)),
        ),
    ) {
        let result = budget(message, BudgetId::from_random([0; 16]), USD);
        if let Ok(accepted) = &result {
            let again = budget(budget_message(&stored(accepted.clone()), USD), accepted.id.clone(), USD);
            prop_assert_eq!(&again.unwrap(), accepted);
        }
        is_told(result)?;
    }

    #[test]
    fn any_api_is_refused_by_name_or_the_same_from_then_on(
        message in messages::disturbed(
            "Api",
            domain::api().prop_map(|value| api_message(&stored(value), USD)),
        ),
    ) {
        let result = api_draft(message, ApiId::from_random([0; 16]), None, USD);
        if let Ok(accepted) = &result {
            let message = api_message(&stored(accepted.api.clone()), USD);
            let again = api_draft(message, accepted.api.id.clone(), None, USD);
            prop_assert_eq!(&again.unwrap().api, &accepted.api);
        }
        is_told(result)?;
    }

    #[test]
    fn any_key_is_refused_by_name_or_the_same_from_then_on(
        message in messages::disturbed("Key", domain::key().prop_map(|value| key_message(&stored(value)))),
    ) {
        let result = key(message, KeyIdentity::not_yet_drawn());
        if let Ok(accepted) = &result {
            let again = key(key_message(&stored(accepted.clone())), KeyIdentity::from(accepted));
            prop_assert_eq!(&again.unwrap(), accepted);
        }
        is_told(result)?;
    }

    #[test]
    fn any_price_is_refused_by_name_or_the_same_from_then_on(
        message in messages::disturbed(
            "Price",
            domain::price_sheet().prop_map(|sheet| price_message(&listed(sheet), USD)),
        ),
    ) {
        let reference = PriceRef { id: PriceId::from_random([0; 16]), version: 1 };
        let result = price_sheet(message, reference.clone(), Millis::ZERO);
        if let Ok(accepted) = &result {
            let again = price_sheet(price_message(&listed(accepted.clone()), USD), reference, Millis::ZERO);
            prop_assert_eq!(&again.unwrap(), accepted);
        }
        is_told(result)?;
    }

    #[test]
    fn a_rule_comes_back_as_it_went(value in domain::rule()) {
        let message = rule_message(&stored(value.clone()));
        prop_assert_eq!(rule(message, value.id.clone()).unwrap(), value);
    }

    #[test]
    fn a_budget_comes_back_as_it_went(value in domain::budget()) {
        let message = budget_message(&stored(value.clone()), USD);
        prop_assert_eq!(budget(message, value.id.clone(), USD).unwrap(), value);
    }

    #[test]
    fn a_key_comes_back_as_it_went(value in domain::key()) {
        let message = key_message(&stored(value.clone()));
        prop_assert_eq!(key(message, KeyIdentity::from(&value)).unwrap(), value);
    }

    #[test]
    fn an_api_comes_back_as_it_went_with_its_credential_kept(value in domain::api()) {
        let message = api_message(&stored(value.clone()), USD);
        let draft = api_draft(message, value.id.clone(), Some(&value), USD).unwrap();
        prop_assert_eq!(draft.credential, CredentialChange::Keep);
        prop_assert_eq!(draft.api, value);
    }

    #[test]
    fn a_price_and_its_place_come_back_as_they_went(sheet in domain::price_sheet()) {
        let listed = listed(sheet.clone());
        prop_assert_eq!(place(&place_text(&listed.place())), Some(listed.place()));
        let message = price_message(&listed, USD);
        prop_assert_eq!(price_sheet(message, sheet.reference.clone(), sheet.effective_from).unwrap(), sheet);
    }

    #[test]
    fn an_etag_is_its_version_and_any_other_text_is_none(version: u64, other in "[a-z +-]{1,20}|[+0][0-9]{1,9}") {
        prop_assert_eq!(etag_version(&etag(version)), Ok(Some(version)));
        prop_assert_eq!(etag_version(&other).unwrap_err().reason, Reason::EtagMismatch);
    }

    #[test]
    fn a_page_token_is_good_for_its_own_query_and_nothing_else_is_one(
        place in "\\PC{0,40}", query: u64, other: u64, junk in ".{1,200}",
    ) {
        let token = next_token(&place, &query);
        prop_assert_eq!(place_of(&token, &query), Ok(Some(place)));
        prop_assume!(query != other);
        prop_assert_eq!(place_of(&token, &other).unwrap_err().reason, Reason::PageTokenInvalid);
        prop_assert_eq!(place_of(&junk, &query).unwrap_err().reason, Reason::PageTokenInvalid);
        // Whoever knows how a token is made cannot have a store look for what it may choke on.
        let forged = next_token("rule_\0", &query);
        prop_assert_eq!(place_of(&forged, &query).unwrap_err().reason, Reason::PageTokenInvalid);
    }
}
