//! Prices from an instant on: which of them a call gets, also long after, and how they are kept.

use rateguard_core::ids::PriceId;
use rateguard_core::money::Price;
use rateguard_core::pricing::{PriceBook, PriceSheet, PriceSource, TokenRates};
use rateguard_core::time::Millis;
use rateguard_core::usage::PriceRef;
use rateguard_proto::v1;
use rateguard_proto::v1::ErrorReason as R;
use rateguard_proto::v1::price_service_client::PriceServiceClient;
use rateguard_proto::v1::quota_service_client::QuotaServiceClient;
use rateguard_proto::v1::usage_service_client::UsageServiceClient;
use tonic::{Code, Status};

use super::configuration::request;
use super::managed::mask;
use super::prices::own_price;
use super::world::{Transport, World, reason, told};
use crate::convert::timestamp;

const HOUR_MS: i64 = 3_600_000;
/// Tokens of each call.
const TOKENS: i64 = 1_000;
/// What a call costs at a dollar for a million tokens.
const DOLLAR_NANOS: i64 = 1_000_000;

/// A model with a list price of nine dollars a million tokens.
async fn world() -> World {
    let rate = Some(Price::parse_decimal("input", "9", 1_000_000).unwrap());
    let sheet = PriceSheet {
        reference: PriceRef { id: PriceId::parse("id", "price_listed").unwrap(), version: 1 },
        provider: "maker".to_owned(),
        model: "m".to_owned(),
        token_rates: TokenRates { input: rate, output: rate, ..TokenRates::default() },
        per_request: None,
        per_unit: Vec::new(),
        input_tokens_max: None,
        output_tokens_max: None,
        priced_input_tokens_max: None,
        effective_from: Millis::ZERO,
        source: PriceSource::Catalogue,
    };
    World::with_catalogue(PriceBook::new(vec![sheet])).await
}

fn prices(world: &World) -> PriceServiceClient<Transport> {
    PriceServiceClient::new(world.transport())
}

fn price_from(dollars: &str, from: Millis) -> v1::Price {
    v1::Price { effective_time: Some(timestamp(from)), ..own_price("maker", "m", dollars) }
}

async fn make(world: &World, price: v1::Price) -> Result<v1::Price, Status> {
    let request = v1::CreatePriceOverrideRequest { price: Some(price), request_id: String::new() };
    Ok(prices(world).create_price_override(request).await?.into_inner().price.unwrap())
}

/// What a call of an instant costs that is reported now, in whole dollars a million tokens.
async fn cost_at(world: &World, at: Millis) -> i64 {
    let record = v1::UsageRecord { occur_time: Some(timestamp(at)), ..used(&format!("at-{}", at.get())) };
    reported(world, record).await
}

fn used(event_id: &str) -> v1::UsageRecord {
    let tokens = v1::TokenUsage { input_total: Some(TOKENS), output: Some(0), ..Default::default() };
    v1::UsageRecord {
        event_id: event_id.to_owned(),
        model: "m".to_owned(),
        tokens: Some(tokens),
        ..v1::UsageRecord::default()
    }
}

async fn reported(world: &World, record: v1::UsageRecord) -> i64 {
    let request = v1::ReportUsageRequest { records: vec![record] };
    let answer = UsageServiceClient::new(world.transport()).report_usage(request).await.unwrap();
    let result = answer.into_inner().results.remove(0);
    let nanos = result.cost.unwrap().nanos;
    assert_eq!(nanos % DOLLAR_NANOS, 0);
    nanos / DOLLAR_NANOS
}

async fn reserve(world: &World) -> v1::CheckQuotaResponse {
    let estimate =
        v1::Estimate { input_tokens: Some(TOKENS), max_output_tokens: Some(0), ..v1::Estimate::default() };
    let request = v1::CheckQuotaRequest {
        model: "m".to_owned(),
        mode: v1::CheckMode::Reserve.into(),
        estimate: Some(estimate),
        ..v1::CheckQuotaRequest::default()
    };
    QuotaServiceClient::new(world.transport()).check_quota(request).await.unwrap().into_inner()
}

#[tokio::test]
async fn a_late_record_has_the_price_of_its_time_and_a_new_one_the_price_from_its_instant_on() {
    let world = world().await;
    let start = world.engine.now();
    let change = start.plus(HOUR_MS);
    make(&world, price_from("1", start.plus(-HOUR_MS))).await.unwrap();
    make(&world, price_from("3", change)).await.unwrap();
    assert_eq!(cost_at(&world, start.plus(-HOUR_MS - 1)).await, 9);
    assert_eq!(cost_at(&world, start.plus(-HOUR_MS)).await, 1);
    assert_eq!(cost_at(&world, start).await, 1);

    world.pass_ms(2 * HOUR_MS).await;
    assert_eq!(cost_at(&world, change.plus(-1)).await, 1);
    assert_eq!(cost_at(&world, change).await, 3);
    assert_eq!(cost_at(&world, world.engine.now()).await, 3);
    assert_eq!(cost_at(&world, start.plus(-2 * HOUR_MS)).await, 9);
}

#[tokio::test]
async fn a_check_is_estimated_by_the_price_of_now_and_settled_by_the_price_of_its_decision() {
    let world = world().await;
    make(&world, own_price("maker", "m", "1")).await.unwrap();
    make(&world, price_from("3", world.engine.now().plus(60_000))).await.unwrap();
    let before = reserve(&world).await;
    assert_eq!(before.reserved.unwrap().nanos, DOLLAR_NANOS);

    world.pass_ms(60_000).await;
    assert_eq!(reserve(&world).await.reserved.unwrap().nanos, 3 * DOLLAR_NANOS);
    let settles = v1::UsageRecord { reservation_id: before.reservation_id, ..used("settles") };
    assert_eq!(reported(&world, settles).await, 1);
    assert_eq!(reported(&world, used("alone")).await, 3);
}

#[tokio::test]
async fn a_correction_prices_late_records_and_leaves_what_is_recorded() {
    let world = world().await;
    let start = world.engine.now();
    let first = make(&world, own_price("maker", "m", "1")).await.unwrap();
    assert_eq!(cost_at(&world, start).await, 1);
    world.pass_ms(HOUR_MS).await;
    let second = make(&world, own_price("maker", "m", "4")).await.unwrap();
    assert_eq!(cost_at(&world, world.engine.now()).await, 4);

    let rates = own_price("", "", "2").token_rates;
    let changed = v1::Price { id: first.id, token_rates: rates, ..v1::Price::default() };
    let update = v1::UpdatePriceOverrideRequest { price: Some(changed), update_mask: mask(&["token_rates"]) };
    let updated = prices(&world).update_price_override(update).await.unwrap().into_inner().price.unwrap();
    assert_eq!((updated.version, updated.effective_end_time), (2, second.effective_time));
    assert_eq!(cost_at(&world, start.plus(1)).await, 2);

    // Without the second one the first goes on; without both the list price counts.
    let delete = |id: String| v1::DeletePriceOverrideRequest { id, etag: String::new() };
    prices(&world).delete_price_override(delete(second.id)).await.unwrap();
    assert_eq!(cost_at(&world, world.engine.now().plus(1)).await, 2);
    prices(&world).delete_price_override(delete(updated.id)).await.unwrap();
    assert_eq!(cost_at(&world, start.plus(2)).await, 9);

    let listed = UsageServiceClient::new(world.transport())
        .list_usage_events(v1::ListUsageEventsRequest::default())
        .await
        .unwrap();
    let mut costs: Vec<i64> = listed
        .into_inner()
        .events
        .iter()
        .map(|event| event.cost.as_ref().unwrap().nanos / DOLLAR_NANOS)
        .collect();
    costs.sort_unstable();
    assert_eq!(costs, [1, 2, 2, 4, 9]);
}

#[tokio::test]
async fn the_history_of_a_model_is_listed_with_its_instants_page_by_page() {
    let world = world().await;
    let now = world.engine.now();
    let instants = [now.plus(HOUR_MS), now.plus(-HOUR_MS), now];
    for (from, dollars) in instants.into_iter().zip(["3", "1", "2"]) {
        make(&world, price_from(dollars, from)).await.unwrap();
    }
    make(&world, own_price("maker", "other", "5")).await.unwrap();
    let (mut seen, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = v1::ListPricesRequest {
            model: "m".to_owned(),
            source: v1::PriceSource::Override.into(),
            page_size: 1,
            page_token,
            ..v1::ListPricesRequest::default()
        };
        let page = prices(&world).list_prices(request).await.unwrap().into_inner();
        seen.extend(page.prices);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let told: Vec<_> = seen.iter().map(|price| (price.effective_time, price.effective_end_time)).collect();
    let at = |from: Millis| Some(timestamp(from));
    let (past, soon) = (at(now.plus(-HOUR_MS)), at(now.plus(HOUR_MS)));
    assert_eq!(told, [(past, at(now)), (at(now), soon), (soon, None)]);
    let request = v1::GetPriceRequest { id: seen[0].id.clone() };
    assert_eq!(prices(&world).get_price(request).await.unwrap().into_inner().price.unwrap(), seen[0]);
}

#[tokio::test]
async fn a_model_has_one_override_from_an_instant_on_and_its_instant_stays() {
    let world = world().await;
    let soon = world.engine.now().plus(HOUR_MS);
    let made = make(&world, price_from("1", soon)).await.unwrap();
    let again = make(&world, price_from("2", soon)).await.unwrap_err();
    assert_eq!(told(&again), (Code::AlreadyExists, R::PriceOverridden, "price.effective_time".to_owned()));
    make(&world, price_from("2", soon.plus(1))).await.unwrap();

    let moved = v1::Price { effective_time: Some(timestamp(soon.plus(9))), ..made };
    let update = |path: &str| v1::UpdatePriceOverrideRequest {
        price: Some(moved.clone()),
        update_mask: mask(&[path]),
    };
    let error = prices(&world).update_price_override(update("effective_time")).await.unwrap_err();
    assert_eq!(reason(&error), R::UpdateMaskInvalid);
    let kept = prices(&world).update_price_override(update("*")).await.unwrap().into_inner().price.unwrap();
    assert_eq!(kept.effective_time, Some(timestamp(soon)));
}

#[tokio::test]
async fn an_instant_outside_the_calendar_is_refused_and_a_hundred_prices_fill_a_model() {
    let world = World::new().await;
    for time in [(-1, 0), (0, -1), (253_402_300_800, 0), (i64::MAX, 0)] {
        let effective_time = Some(prost_types::Timestamp { seconds: time.0, nanos: time.1 });
        let error =
            make(&world, v1::Price { effective_time, ..own_price("maker", "m", "1") }).await.unwrap_err();
        let expected = (Code::InvalidArgument, R::FieldMalformed, "price.effective_time".to_owned());
        assert_eq!(told(&error), expected, "{time:?}");
    }
    for number in 0..100 {
        make(&world, price_from("1", Millis::new(number))).await.unwrap();
    }
    let full = make(&world, price_from("1", Millis::new(100))).await.unwrap_err();
    assert_eq!(reason(&full), R::WorkspaceFull);
    make(&world, own_price("maker", "another", "1")).await.unwrap();
}

fn with_prices(prices: Vec<v1::Price>) -> v1::WorkspaceConfiguration {
    v1::WorkspaceConfiguration { prices, ..v1::WorkspaceConfiguration::default() }
}

fn names(answer: &v1::ApplyWorkspaceResponse) -> Vec<(String, v1::ConfigurationChange)> {
    let prices = answer.differences.iter().filter(|d| d.kind() == v1::ConfigurationKind::Price);
    prices.map(|difference| (difference.name.clone(), difference.change())).collect()
}

#[tokio::test]
async fn a_configuration_knows_every_price_of_a_model_by_its_instant() {
    use v1::ConfigurationChange as C;
    let world = World::new().await;
    let (first, second) = (Millis::new(1_767_225_600_000), Millis::new(1_798_761_600_250));
    let wanted = with_prices(vec![price_from("2", second), price_from("1", first)]);
    let name = |instant: &str| format!("maker/m@{instant}");
    let (early, late) = (name("2026-01-01T00:00:00Z"), name("2027-01-01T00:00:00.250Z"));
    let made = world.apply(&wanted).await;
    assert_eq!(names(&made), [(early.clone(), C::Create), (late.clone(), C::Create)]);
    let exported = world.exported().await;
    assert_eq!(exported.prices, [price_from("1", first), price_from("2", second)]);
    for same in [&wanted, &exported] {
        assert_eq!(names(&world.apply(same).await), []);
    }

    let mut edited = exported.clone();
    edited.prices[1] = price_from("5", second);
    assert_eq!(names(&world.apply(&edited).await), [(late.clone(), C::Update)]);
    let moved = with_prices(vec![price_from("1", first), price_from("5", second.plus(750))]);
    let pruning = v1::ApplyWorkspaceRequest { prune: true, ..request(&moved) };
    let answer = world.send(pruning).await.unwrap();
    assert_eq!(names(&answer), [(late, C::Delete), (name("2027-01-01T00:00:01Z"), C::Create)]);
}

#[tokio::test]
async fn a_price_without_an_instant_is_the_one_that_no_entry_names_or_begins_now() {
    let world = World::new().await;
    let undated = |dollars: &str| own_price("maker", "m", dollars);
    let (now, later) = (world.engine.now(), world.engine.now().plus(HOUR_MS));
    let wanted = with_prices(vec![undated("1"), price_from("2", later)]);
    world.apply(&wanted).await;
    let expected = [price_from("1", now), price_from("2", later)];
    for passed_ms in [1, 2 * HOUR_MS] {
        world.pass_ms(passed_ms).await;
        assert_eq!(names(&world.apply(&wanted).await), []);
        assert_eq!(world.exported().await.prices, expected);
    }

    let unclear = world.send(request(&with_prices(vec![undated("3")]))).await.unwrap_err();
    let field = "configuration.prices[0].effective_time".to_owned();
    assert_eq!(told(&unclear), (Code::InvalidArgument, R::FieldMissing, field));
    let twice = world.send(request(&with_prices(vec![price_from("3", later), price_from("4", later)]))).await;
    assert_eq!(told(&twice.unwrap_err()).2, "configuration.prices[1].model");
    assert_eq!(world.exported().await.prices, expected);
}
