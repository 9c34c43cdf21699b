//! Leases of callers, over the wire.

use rateguard_engine::resources::Scope;
use rateguard_proto::v1;
use rateguard_proto::v1::ErrorReason as R;
use rateguard_proto::v1::budget_service_client::BudgetServiceClient;
use rateguard_proto::v1::quota_service_client::QuotaServiceClient;
use rateguard_proto::v1::rule_service_client::RuleServiceClient;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::managed::{fixed_window, make_rule, usd};
use super::world::{Transport, World, plain_key, reason, told};

/// The window of [`fixed_window`].
const WINDOW_MS: i64 = 60_000;

fn leased(unit: &str, limit: i64) -> v1::Rule {
    v1::Rule {
        display_name: format!("{limit} {unit}"),
        unit: unit.to_owned(),
        algorithm: fixed_window(limit),
        consistency: v1::RuleConsistency::Leased.into(),
        ..v1::Rule::default()
    }
}

async fn with_rules(rules: impl IntoIterator<Item = v1::Rule>) -> World {
    let world = World::new().await;
    for rule in rules {
        add(&world, rule).await;
    }
    world
}

async fn add(world: &World, rule: v1::Rule) -> String {
    make_rule(&mut RuleServiceClient::new(world.transport()), rule).await.unwrap().id
}

fn quota(world: &World) -> QuotaServiceClient<Transport> {
    QuotaServiceClient::new(world.transport())
}

fn wish(unit: &str, amount: i64, least: i64) -> v1::LeaseWish {
    v1::LeaseWish { unit: unit.to_owned(), amount, least }
}

fn asking(request_id: &str, wishes: &[v1::LeaseWish]) -> v1::LeaseQuotaRequest {
    v1::LeaseQuotaRequest {
        request_id: request_id.to_owned(),
        wishes: wishes.to_vec(),
        ..v1::LeaseQuotaRequest::default()
    }
}

async fn lease(world: &World, request: v1::LeaseQuotaRequest) -> Result<v1::LeaseQuotaResponse, Status> {
    quota(world).lease_quota(request).await.map(tonic::Response::into_inner)
}

/// Leases so many requests, and says how many there were.
async fn requests(world: &World, amount: i64) -> (String, i64) {
    let answer = lease(world, asking("", &[wish("requests", amount, 1)])).await.unwrap();
    (answer.lease_id, answer.granted.first().map_or(0, |granted| granted.amount))
}

async fn give_back(world: &World, lease_id: &str, unspent: i64) -> Result<Vec<v1::UnitAmount>, Status> {
    let unspent = vec![v1::UnitAmount { unit: "requests".to_owned(), amount: unspent }];
    let request = v1::ReturnLeaseRequest { lease_id: lease_id.to_owned(), unspent };
    Ok(quota(world).return_lease(request).await?.into_inner().returned)
}

async fn used(world: &World) -> Vec<i64> {
    let answer = quota(world).get_quota(v1::GetQuotaRequest::default()).await.unwrap().into_inner();
    answer.limits.iter().map(|limit| limit.used).collect()
}

#[tokio::test]
async fn what_is_lent_counts_as_used_until_it_is_given_back_once() {
    let world = with_rules([leased("requests", 10_000)]).await;
    let answer = lease(&world, asking("one", &[wish("requests", 100, 1)])).await.unwrap();
    assert_eq!((answer.granted[0].amount, answer.life_ms, answer.retry_after_ms), (100, 10_000, None));
    assert_eq!((answer.limits[0].used, answer.limits[0].remaining), (100, 9_900));
    assert_eq!(used(&world).await, [100]);
    for _ in 0..3 {
        let returned = give_back(&world, &answer.lease_id, 70).await.unwrap();
        assert_eq!(returned[0].amount, 70);
        assert_eq!(used(&world).await, [30], "it is given back once");
    }
}

#[tokio::test]
async fn the_same_question_gets_the_same_lease_while_it_lives() {
    let world = with_rules([leased("requests", 10_000)]).await;
    let question = asking("one", &[wish("requests", 100, 1)]);
    let first = lease(&world, question.clone()).await.unwrap();
    world.pass_ms(4_000).await;
    let again = lease(&world, question.clone()).await.unwrap();
    assert_eq!((&again.lease_id, &again.granted), (&first.lease_id, &first.granted));
    assert!(again.replayed && !first.replayed);
    assert_eq!(again.life_ms, 6_000, "what is left of it");
    let other = lease(&world, asking("one", &[wish("requests", 101, 1)])).await.unwrap_err();
    assert_eq!((other.code(), reason(&other)), (Code::AlreadyExists, R::RequestIdReused));
    assert_eq!(used(&world).await, [100]);
    world.pass_ms(6_000).await;
    let anew = lease(&world, question).await.unwrap();
    assert!(!anew.replayed && anew.lease_id != first.lease_id);
    assert_eq!(used(&world).await, [200], "the first has ended and was not given back");
}

#[tokio::test]
async fn a_lease_is_of_every_limit_and_as_large_as_the_smallest_lends() {
    let small = v1::Rule { display_name: "small".to_owned(), ..leased("requests", 1_280) };
    let world = with_rules([leased("requests", 100_000), small, leased("tokens", 64_000)]).await;
    let wishes = [wish("requests", 1_000, 1), wish("tokens", 2_000, 500)];
    let answer = lease(&world, asking("", &wishes)).await.unwrap();
    let granted: Vec<i64> = answer.granted.iter().map(|granted| granted.amount).collect();
    // A sixteenth of what is left above the last 128th.
    assert_eq!(granted, [(1_280 - 10) / 16, 2_000]);
    let mut used = used(&world).await;
    used.sort_unstable();
    assert_eq!(used, [79, 79, 2_000], "no limit keeps more than is granted");
    // Where one cannot lend enough, none lends.
    let much = [wish("requests", 1_000, 100), wish("tokens", 2_000, 1)];
    let none = lease(&world, asking("", &much)).await.unwrap();
    assert_eq!((none.lease_id.as_str(), none.granted.len(), none.life_ms), ("", 0, 0));
    assert_eq!(none.retry_after_ms, Some(1_000));
    assert_eq!(super::leasing::used(&world).await.iter().sum::<i64>(), 79 + 79 + 2_000);
}

#[tokio::test]
async fn leases_and_checks_together_never_pass_the_limit() {
    let world = with_rules([leased("requests", 1_000)]).await;
    let mut admitted = 0;
    for turn in 0..2_000 {
        if turn % 3 == 0 {
            let (id, granted) = requests(&world, 50).await;
            if granted > 0 {
                let spent = granted / 2;
                assert_eq!(give_back(&world, &id, granted - spent).await.unwrap()[0].amount, granted - spent);
                admitted += spent;
            }
        } else {
            let check = quota(&world).check_quota(v1::CheckQuotaRequest::default()).await.unwrap();
            admitted += i64::from(check.into_inner().decision() == v1::Decision::Allowed);
        }
    }
    assert_eq!(admitted, 1_000, "all of it, and no more");
    assert_eq!(requests(&world, 50).await, (String::new(), 0), "near the limit nothing is lent");
}

#[tokio::test]
async fn a_limit_of_which_nothing_can_be_leased_is_named() {
    let strict = v1::Rule { consistency: v1::RuleConsistency::Strict.into(), ..leased("requests", 10_000) };
    let shadow = v1::Rule { mode: v1::RuleMode::Shadow.into(), ..leased("requests", 10_000) };
    let running = v1::Rule {
        algorithm: Some(v1::rule::Algorithm::Concurrency(v1::Concurrency { limit: 1_000 })),
        consistency: v1::RuleConsistency::Strict.into(),
        ..leased("requests", 1)
    };
    for (rule, cause) in [
        (strict, "STRICT"),
        (running, "STRICT"),
        (shadow, "NOT_ENFORCED"),
        (leased("requests", 127), "TOO_SMALL"),
        (leased("tokens", 10_000), "UNIT_NOT_NAMED"),
    ] {
        let world = with_rules([leased("requests", 10_000)]).await;
        let id = add(&world, rule).await;
        assert_refused(&world, &id, cause).await;
    }
}

#[tokio::test]
async fn money_is_never_leased() {
    let world = with_rules([leased("requests", 10_000)]).await;
    let budget = v1::Budget {
        display_name: "money".to_owned(),
        amount: usd(1_000),
        period: Some(v1::budget::Period::Prepaid(v1::PrepaidBudget {})),
        ..v1::Budget::default()
    };
    let request = v1::CreateBudgetRequest { budget: Some(budget), request_id: String::new() };
    let made = BudgetServiceClient::new(world.transport()).create_budget(request).await.unwrap();
    assert_refused(&world, &made.into_inner().budget.unwrap().id, "BUDGET").await;
}

async fn assert_refused(world: &World, limit_id: &str, cause: &str) {
    let refused = lease(world, asking("", &[wish("requests", 100, 1)])).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused)), (Code::FailedPrecondition, R::LimitNotLeasable));
    let info = refused.get_details_error_info().unwrap();
    assert_eq!((info.metadata["limit_id"].as_str(), info.metadata["cause"].as_str()), (limit_id, cause));
    assert!(used(world).await.iter().all(|used| *used == 0), "nothing was taken");
}

#[tokio::test]
async fn only_who_took_a_lease_gives_it_back_and_in_time() {
    let world = with_rules([leased("requests", 10_000)]).await;
    let (id, _) = requests(&world, 100).await;
    let other = world.add_key(plain_key(&[Scope::Quota])).await;
    let request = v1::ReturnLeaseRequest { lease_id: id.clone(), unspent: Vec::new() };
    let foreign = QuotaServiceClient::new(world.transport_with(&other)).return_lease(request).await;
    assert_eq!(reason(&foreign.unwrap_err()), R::ResourceNotFound);
    let more = give_back(&world, &id, 101).await.unwrap_err();
    let expected = (Code::InvalidArgument, R::FieldOutOfBounds, "unspent[0].amount".to_owned());
    assert_eq!(told(&more), expected);
    world.pass_ms(11_001).await;
    assert_eq!(give_back(&world, &id, 100).await.unwrap(), []);
    assert_eq!(used(&world).await, [100], "it has ended, and counts as spent");
    world.pass_ms(WINDOW_MS).await;
    assert_eq!(used(&world).await, [0]);
    requests(&world, 1).await;
    let forgotten = give_back(&world, &id, 100).await.unwrap_err();
    assert_eq!(reason(&forgotten), R::ResourceNotFound);
}

#[tokio::test]
async fn a_lease_of_a_bucket_lives_a_second_and_of_a_window_no_longer_than_it() {
    let bucket = v1::TokenBucket { capacity: 10_000, refill_amount: 10_000, refill_period_ms: 60_000 };
    let algorithm = Some(v1::rule::Algorithm::TokenBucket(bucket));
    let world = with_rules([v1::Rule { algorithm, ..leased("requests", 1) }]).await;
    let answer = lease(&world, asking("", &[wish("requests", 100, 1)])).await.unwrap();
    assert_eq!((answer.granted[0].amount, answer.life_ms), (100, 1_000));
    let world = with_rules([leased("requests", 10_000)]).await;
    world.pass_ms(WINDOW_MS - 5_000).await;
    let answer = lease(&world, asking("", &[wish("requests", 100, 1)])).await.unwrap();
    assert!((4_900..5_000).contains(&answer.life_ms), "{}", answer.life_ms);
}

#[tokio::test]
async fn a_wish_that_cannot_be_is_refused_by_its_field() {
    let world = World::new().await;
    for (wishes, code, field) in [
        (vec![], R::FieldOutOfBounds, "wishes"),
        (vec![wish("requests", 0, 1)], R::FieldOutOfBounds, "wishes[0].amount"),
        (vec![wish("requests", 5, 6)], R::FieldOutOfBounds, "wishes[0].least"),
        (vec![wish("requests", 5, 1), wish("cost", 5, 1)], R::FieldMalformed, "wishes[1].unit"),
        (vec![wish("requests", 5, 1), wish("requests", 5, 1)], R::FieldOutOfBounds, "wishes[1].unit"),
    ] {
        let refused = lease(&world, asking("", &wishes)).await.unwrap_err();
        assert_eq!(told(&refused), (Code::InvalidArgument, code, field.to_owned()), "{wishes:?}");
    }
}

#[tokio::test]
async fn without_limits_as_much_is_lent_as_is_wanted() {
    let world = World::new().await;
    let (id, granted) = requests(&world, 1_000_000).await;
    assert_eq!((granted, id.starts_with("lease_")), (1_000_000, true));
    assert_eq!(give_back(&world, &id, 7).await.unwrap()[0].amount, 7);
}

#[tokio::test]
async fn a_question_ends_leases_before_another_is_lent() {
    let world = with_rules([leased("requests", 10_000)]).await;
    let (first, granted) = requests(&world, 200).await;
    assert_eq!(granted, 200);
    let unspent = vec![v1::UnitAmount { unit: "requests".to_owned(), amount: 150 }];
    let done =
        |lease_id: &str| v1::ReturnLeaseRequest { lease_id: lease_id.to_owned(), unspent: unspent.clone() };
    // One that is not known is left alone.
    let ended = vec![done(&first), done("lease_00")];
    let next = v1::LeaseQuotaRequest { ended, ..asking("next", &[wish("requests", 20, 1)]) };
    assert_eq!(lease(&world, next.clone()).await.unwrap().limits[0].used, 50 + 20);
    assert!(lease(&world, next).await.unwrap().replayed);
    assert_eq!(give_back(&world, &first, 150).await.unwrap()[0].amount, 150);
    assert_eq!(used(&world).await, [70], "it was given back with the question");
    let many =
        v1::LeaseQuotaRequest { ended: vec![done(&first); 17], ..asking("", &[wish("requests", 20, 1)]) };
    let refused = lease(&world, many).await.unwrap_err();
    assert_eq!(told(&refused), (Code::InvalidArgument, R::FieldOutOfBounds, "ended".to_owned()));
}

#[tokio::test]
async fn what_was_lent_before_a_reset_is_not_given_back_after_it() {
    let world = World::new().await;
    let rule_id = add(&world, leased("requests", 10_000)).await;
    let (id, _) = requests(&world, 100).await;
    let counters = Some(v1::reset_quota_request::Counters::All(v1::AllCounters {}));
    quota(&world).reset_quota(v1::ResetQuotaRequest { rule_id, counters }).await.unwrap();
    for _ in 0..10 {
        quota(&world).check_quota(v1::CheckQuotaRequest::default()).await.unwrap();
    }
    give_back(&world, &id, 100).await.unwrap();
    assert_eq!(used(&world).await, [10], "others have taken these since");
}
