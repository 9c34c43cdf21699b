//! What a gateway is told.

use std::time::Duration;

use crate::server::in_process;
use rateguard_core::ids::ApiId;
use rateguard_engine::resources::{Key, Scope};
use rateguard_proto::internal_v1 as internal;
use rateguard_proto::internal_v1::gateway_service_client::GatewayServiceClient;
use rateguard_proto::internal_v1::watch_routes_response::Change;
use rateguard_proto::v1;
use rateguard_proto::v1::ErrorReason as R;
use rateguard_proto::v1::api_service_client::ApiServiceClient;
use rateguard_proto::v1::rule_service_client::RuleServiceClient;
use tokio::time::timeout;
use tonic::{Code, Request, Streaming};

use super::managed::{api, make_api, mask, usd};
use super::world::{GATEWAY_TOKEN, World, plain_key, reason};

/// Longest wait for something that must come; only a failing test waits so long.
const WAIT_MAX: Duration = Duration::from_secs(20);

fn resolve(slug: &str) -> internal::ResolveRouteRequest {
    internal::ResolveRouteRequest { slug: slug.to_owned() }
}

async fn next(stream: &mut Streaming<internal::WatchRoutesResponse>) -> Option<Change> {
    let message = timeout(WAIT_MAX, stream.message()).await.expect("a message in time").unwrap();
    message.map(|message| message.change.expect("a change"))
}

#[tokio::test]
async fn a_route_comes_with_its_credential_in_clear_and_its_defaults() {
    let world = World::new().await;
    let app = world.add_key(plain_key(&[Scope::Gateway])).await;
    let credential = Some(v1::SecretText { value: "sk-upstream".to_owned() });
    let scheme = v1::ApiAuthScheme::Bearer.into();
    let made = make_api(&world, v1::Api { credential, auth_scheme: scheme, ..api("openai") }).await.unwrap();
    let mut client = GatewayServiceClient::new(world.gateway_for(&app));
    let route = client.resolve_route(resolve("openai")).await.unwrap().into_inner().route.unwrap();
    assert_eq!((route.api_id, route.base_url), (made.id, made.base_url));
    assert_eq!(route.credential.unwrap().value, "sk-upstream");
    assert_eq!((route.timeout_ms, route.default_max_output_tokens), (600_000, 4_096));
}

#[tokio::test]
async fn no_route_leads_to_an_api_that_is_missing_off_without_a_url_or_closed_to_the_key() {
    let world = World::new().await;
    let elsewhere = make_api(&world, api("elsewhere")).await.unwrap().id;
    let elsewhere = vec![ApiId::parse("id", &elsewhere).unwrap()];
    let narrow = world.add_key(Key { apis: elsewhere, ..plain_key(&[Scope::Gateway]) }).await;
    let app = world.add_key(plain_key(&[Scope::Gateway])).await;
    make_api(&world, api("open")).await.unwrap();
    make_api(&world, v1::Api { active: Some(false), ..api("off") }).await.unwrap();
    make_api(&world, v1::Api { base_url: String::new(), ..api("report-only") }).await.unwrap();
    let refusal = async |key: &str, slug: &str| {
        let mut client = GatewayServiceClient::new(world.gateway_for(key));
        reason(&client.resolve_route(resolve(slug)).await.unwrap_err())
    };
    assert_eq!(refusal(&app, "nobody").await, R::ResourceNotFound);
    assert_eq!(refusal(&app, "report-only").await, R::ResourceNotFound);
    assert_eq!(refusal(&app, "off").await, R::ApiInactive);
    assert_eq!(refusal(&app, "").await, R::FieldMissing);
    assert_eq!(refusal(&narrow, "open").await, R::KeyRestricted);
}

#[tokio::test]
async fn a_record_is_priced_as_it_would_be_and_nothing_is_stored() {
    let world = World::new().await;
    let app = world.add_key(plain_key(&[Scope::Gateway])).await;
    make_api(&world, v1::Api { price_per_request: Some("0.002".to_owned()), ..api("paid") }).await.unwrap();
    let mut client = GatewayServiceClient::new(world.gateway_for(&app));
    let record = v1::UsageRecord { event_id: "e".to_owned(), api: "paid".to_owned(), ..Default::default() };
    let price = internal::PriceUsageRequest { record: Some(record.clone()) };
    for _ in 0..2 {
        let priced = client.price_usage(price.clone()).await.unwrap().into_inner();
        assert_eq!((priced.cost, priced.price), (usd(2_000_000), None));
        assert_eq!(priced.cost_components[0].unit_price, "0.002");
    }
    let unknown = v1::UsageRecord { model: "nobody-knows".to_owned(), ..record };
    let request = internal::PriceUsageRequest { record: Some(unknown) };
    let priced = client.price_usage(request).await.unwrap().into_inner();
    assert_eq!(priced.flags().collect::<Vec<_>>(), [v1::UsageFlag::PriceUnknown]);
    let request = internal::PriceUsageRequest { record: Some(v1::UsageRecord::default()) };
    let error = client.price_usage(request).await.unwrap_err();
    assert_eq!(super::world::told(&error).2, "record.event_id");
}

#[tokio::test]
async fn a_watch_begins_with_a_refresh_and_then_names_each_api_that_changed() {
    let world = World::new().await;
    let mut client = GatewayServiceClient::new(world.gateway());
    let mut stream = client.watch_routes(internal::WatchRoutesRequest {}).await.unwrap().into_inner();
    assert_eq!(next(&mut stream).await, Some(Change::Refresh(internal::RoutesRefresh {})));

    // A rule is no route: nothing is told of it.
    let window = v1::FixedWindow { limit: 1, window_ms: 60_000 };
    let algorithm = Some(v1::rule::Algorithm::FixedWindow(window));
    let rule = v1::Rule { display_name: "r".to_owned(), algorithm, ..v1::Rule::default() };
    let mut rules = RuleServiceClient::new(world.transport());
    rules.create_rule(v1::CreateRuleRequest { rule: Some(rule), request_id: String::new() }).await.unwrap();

    let made = make_api(&world, api("openai")).await.unwrap();
    let changed = || Some(Change::Route(internal::RouteChange { api_id: made.id.clone() }));
    assert_eq!(next(&mut stream).await, changed());
    let mut apis = ApiServiceClient::new(world.transport());
    let update = v1::UpdateApiRequest {
        api: Some(v1::Api { id: made.id.clone(), show_spend: true, ..v1::Api::default() }),
        update_mask: mask(&["show_spend"]),
    };
    apis.update_api(update).await.unwrap();
    assert_eq!(next(&mut stream).await, changed());
    apis.delete_api(v1::DeleteApiRequest { id: made.id.clone(), etag: String::new() }).await.unwrap();
    assert_eq!(next(&mut stream).await, changed());
}

#[tokio::test]
async fn a_watch_ends_when_the_server_drains() {
    let world = World::new().await;
    let mut client = GatewayServiceClient::new(world.gateway());
    let mut stream = client.watch_routes(internal::WatchRoutesRequest {}).await.unwrap().into_inner();
    next(&mut stream).await;
    world.drain.cancel();
    assert_eq!(next(&mut stream).await, None);
}

#[tokio::test]
async fn the_gateway_of_the_same_process_is_known_by_its_token_and_nobody_else_is() {
    let world = World::new().await;
    let app = world.add_key(plain_key(&[Scope::Gateway])).await;
    make_api(&world, api("openai")).await.unwrap();
    let mut client = GatewayServiceClient::new(in_process(&world.engine));
    let request = |token: &str| {
        let mut request = Request::new(resolve("openai"));
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        request.metadata_mut().insert("x-rateguard-on-behalf-of", app.parse().unwrap());
        request
    };
    assert!(client.resolve_route(request(GATEWAY_TOKEN)).await.is_ok());
    let error = client.resolve_route(request(&world.key)).await.unwrap_err();
    assert_eq!((error.code(), reason(&error)), (Code::PermissionDenied, R::GatewayOnly));
}
