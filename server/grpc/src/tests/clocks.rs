//! Windows by the calendar of the workspace's zone, through both changes of the clocks.

use rateguard_proto::v1;
use rateguard_proto::v1::key_service_client::KeyServiceClient;
use rateguard_proto::v1::quota_service_client::QuotaServiceClient;
use rateguard_proto::v1::rule_service_client::RuleServiceClient;

use super::managed::make_rule;
use super::persons::registration;
use super::world::World;

const HOUR_MS: i64 = 3_600_000;
/// 2026-03-28T23:00:00Z: midnight in Berlin before the day on which an hour is left out.
const SPRING_MS: i64 = 1_774_738_800_000;
/// 2026-10-24T22:00:00Z: midnight in Berlin before the day on which an hour comes twice.
const AUTUMN_MS: i64 = 1_792_879_200_000;

/// A key of a workspace in Berlin with one rule, which admits one call in a period.
async fn one_a(world: &World, period: v1::CalendarPeriod) -> String {
    let name = format!("{period:?}@example.com").to_lowercase();
    let owner = v1::RegisterRequest { time_zone: "Europe/Berlin".to_owned(), ..registration(&name) };
    let owner = world.registered(owner).await.unwrap();
    let transport = world.transport_with(&owner.access);
    let window = v1::CalendarWindow { limit: 1, period: period.into(), time_zone: String::new() };
    let rule = v1::Rule {
        display_name: "one".to_owned(),
        algorithm: Some(v1::rule::Algorithm::CalendarWindow(window)),
        ..v1::Rule::default()
    };
    make_rule(&mut RuleServiceClient::new(transport.clone()), rule).await.unwrap();
    let scopes = vec![v1::KeyScope::Quota.into()];
    let key = v1::Key { display_name: "app".to_owned(), scopes, ..v1::Key::default() };
    let create = v1::CreateKeyRequest { key: Some(key), request_id: String::new() };
    let made = KeyServiceClient::new(transport).create_key(create).await.unwrap().into_inner();
    made.secret.unwrap().value
}

async fn go_to(world: &World, at_ms: i64) {
    world.pass_ms(at_ms - world.engine.now().get()).await;
}

async fn ask(world: &World, key: &str) -> v1::CheckQuotaResponse {
    let mut client = QuotaServiceClient::new(world.transport_with(key));
    client.check_quota(v1::CheckQuotaRequest::default()).await.unwrap().into_inner()
}

/// One call passes in the window, from its first to its last millisecond, and the answers say how long it is.
async fn holds_for(world: &World, key: &str, start_ms: i64, length_ms: i64) {
    go_to(world, start_ms).await;
    let first = ask(world, key).await;
    assert_eq!(first.decision(), v1::Decision::Allowed, "at {start_ms}");
    assert_eq!(first.limits[0].window_ms, length_ms);
    let denied = ask(world, key).await;
    assert_eq!((denied.decision(), denied.retry_after_ms), (v1::Decision::Denied, Some(length_ms)));
    go_to(world, start_ms + length_ms - 1).await;
    let last = ask(world, key).await;
    assert_eq!((last.decision(), last.retry_after_ms), (v1::Decision::Denied, Some(1)));
}

#[tokio::test]
async fn a_day_has_23_hours_in_spring_and_25_in_autumn() {
    let world = World::new().await;
    let key = one_a(&world, v1::CalendarPeriod::Day).await;
    holds_for(&world, &key, SPRING_MS - 24 * HOUR_MS, 24 * HOUR_MS).await;
    holds_for(&world, &key, SPRING_MS, 23 * HOUR_MS).await;
    holds_for(&world, &key, SPRING_MS + 23 * HOUR_MS, 24 * HOUR_MS).await;
    holds_for(&world, &key, AUTUMN_MS - 24 * HOUR_MS, 24 * HOUR_MS).await;
    holds_for(&world, &key, AUTUMN_MS, 25 * HOUR_MS).await;
    holds_for(&world, &key, AUTUMN_MS + 25 * HOUR_MS, 24 * HOUR_MS).await;
}

#[tokio::test]
async fn an_hour_has_an_hour_whatever_the_clocks_show() {
    let world = World::new().await;
    let key = one_a(&world, v1::CalendarPeriod::Hour).await;
    for change in [SPRING_MS, AUTUMN_MS] {
        for hour in 0..5 {
            holds_for(&world, &key, change + hour * HOUR_MS, HOUR_MS).await;
        }
    }
}

#[tokio::test]
async fn a_week_and_a_month_end_at_midnight_also_where_the_clocks_change_in_them() {
    let world = World::new().await;
    let week = one_a(&world, v1::CalendarPeriod::Week).await;
    // From Monday the 23rd to Monday the 30th.
    holds_for(&world, &week, SPRING_MS - 6 * 24 * HOUR_MS, (7 * 24 - 1) * HOUR_MS).await;
    holds_for(&world, &week, AUTUMN_MS - 6 * 24 * HOUR_MS, (7 * 24 + 1) * HOUR_MS).await;
    let world = World::new().await;
    let month = one_a(&world, v1::CalendarPeriod::Month).await;
    // October begins three weeks and three days before its last Sunday.
    holds_for(&world, &month, AUTUMN_MS - 24 * 24 * HOUR_MS, (31 * 24 + 1) * HOUR_MS).await;
}
