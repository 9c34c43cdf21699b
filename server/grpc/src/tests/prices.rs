//! Prices: the catalogue beside the workspace's own.

use rateguard_core::ids::PriceId;
use rateguard_core::money::Price;
use rateguard_core::pricing::{PriceBook, PriceSheet, PriceSource, TokenRates};
use rateguard_core::time::Millis;
use rateguard_core::usage::PriceRef;
use rateguard_proto::v1;
use rateguard_proto::v1::ErrorReason as R;
use rateguard_proto::v1::price_service_client::PriceServiceClient;
use tonic::{Code, Status};

use super::managed::mask;
use super::world::{Transport, World, reason, told};

fn listed(id: &str, provider: &str, model: &str) -> PriceSheet {
    let price = Price::parse_decimal("input", "2.5", 1_000_000).unwrap();
    PriceSheet {
        reference: PriceRef { id: PriceId::parse("id", id).unwrap(), version: 1 },
        provider: provider.to_owned(),
        model: model.to_owned(),
        token_rates: TokenRates { input: Some(price), ..TokenRates::default() },
        per_request: None,
        per_unit: Vec::new(),
        input_tokens_max: None,
        output_tokens_max: Some(4_096),
        priced_input_tokens_max: Some(200_000),
        effective_from: Millis::ZERO,
        source: PriceSource::Catalogue,
    }
}

async fn world() -> World {
    let sheets = vec![
        listed("price_a", "anthropic", "claude"),
        listed("price_b", "openai", "gpt"),
        listed("price_c", "openai", "gpt-mini"),
    ];
    World::with_catalogue(PriceBook::new(sheets)).await
}

pub fn own_price(provider: &str, model: &str, input: &str) -> v1::Price {
    v1::Price {
        provider: provider.to_owned(),
        model: model.to_owned(),
        token_rates: Some(v1::TokenRates { input: Some(input.to_owned()), ..v1::TokenRates::default() }),
        ..v1::Price::default()
    }
}

async fn make(client: &mut PriceServiceClient<Transport>, price: v1::Price) -> Result<v1::Price, Status> {
    let answer = client
        .create_price_override(v1::CreatePriceOverrideRequest {
            price: Some(price),
            request_id: String::new(),
        })
        .await?;
    Ok(answer.into_inner().price.unwrap())
}

#[tokio::test]
async fn overrides_come_before_the_catalogue_page_by_page() {
    let world = world().await;
    let mut client = PriceServiceClient::new(world.transport());
    make(&mut client, own_price("openai", "gpt", "1")).await.unwrap();
    make(&mut client, own_price("acme", "own-model", "3")).await.unwrap();
    let (mut seen, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = v1::ListPricesRequest { page_size: 2, page_token, ..v1::ListPricesRequest::default() };
        let page = client.list_prices(request).await.unwrap().into_inner();
        seen.extend(page.prices.into_iter().map(|price| (price.source(), price.model)));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let (own, list) = (v1::PriceSource::Override, v1::PriceSource::Catalogue);
    let expected = [(own, "own-model"), (own, "gpt"), (list, "claude"), (list, "gpt"), (list, "gpt-mini")];
    assert_eq!(seen, expected.map(|(source, model)| (source, model.to_owned())));
}

#[tokio::test]
async fn filters_narrow_the_list_and_a_token_is_good_for_its_filter_alone() {
    let world = world().await;
    let mut client = PriceServiceClient::new(world.transport());
    let request = v1::ListPricesRequest { provider: "openai".to_owned(), page_size: 1, ..Default::default() };
    let page = client.list_prices(request.clone()).await.unwrap().into_inner();
    assert_eq!(page.prices[0].id, "price_b");
    assert_eq!(page.prices[0].max_priced_input_tokens, 200_000);
    let other = v1::ListPricesRequest {
        provider: "anthropic".to_owned(),
        page_token: page.next_page_token.clone(),
        ..v1::ListPricesRequest::default()
    };
    assert_eq!(reason(&client.list_prices(other).await.unwrap_err()), R::PageTokenInvalid);
    let rest = v1::ListPricesRequest { page_token: page.next_page_token, ..request.clone() };
    assert_eq!(client.list_prices(rest).await.unwrap().into_inner().prices[0].id, "price_c");
    let own = v1::ListPricesRequest { source: v1::PriceSource::Override.into(), ..request };
    assert!(client.list_prices(own).await.unwrap().into_inner().prices.is_empty());
}

#[tokio::test]
async fn prices_are_listed_by_the_instant_too_and_a_token_is_good_for_its_order_alone() {
    let world = world().await;
    let mut client = PriceServiceClient::new(world.transport());
    for (model, seconds) in [("second", 2), ("third", 3), ("first", 1)] {
        let effective_time = Some(prost_types::Timestamp { seconds, nanos: 0 });
        make(&mut client, v1::Price { effective_time, ..own_price("acme", model, "1") }).await.unwrap();
    }
    let by = |order_by: &str, page_token: &str| v1::ListPricesRequest {
        provider: "acme".to_owned(),
        page_size: 2,
        order_by: order_by.to_owned(),
        page_token: page_token.to_owned(),
        ..v1::ListPricesRequest::default()
    };
    let cases = [
        ("effective_time", ["first", "second", "third"]),
        ("effective_time desc", ["third", "second", "first"]),
        ("model desc", ["third", "second", "first"]),
    ];
    let mut token = String::new();
    for (order_by, expected) in cases {
        let page = client.list_prices(by(order_by, "")).await.unwrap().into_inner();
        let rest = client.list_prices(by(order_by, &page.next_page_token)).await.unwrap().into_inner();
        let models: Vec<_> = page.prices.iter().chain(&rest.prices).map(|price| &price.model[..]).collect();
        assert_eq!((models.as_slice(), rest.next_page_token.as_str()), (&expected[..], ""), "{order_by}");
        token = page.next_page_token;
    }
    let refused = client.list_prices(by("model", &token)).await.unwrap_err();
    assert_eq!(reason(&refused), R::PageTokenInvalid);
    assert_eq!(reason(&client.list_prices(by("color", "")).await.unwrap_err()), R::FieldMalformed);
}

#[tokio::test]
async fn a_price_of_the_catalogue_is_read_and_never_changed() {
    let world = world().await;
    let mut client = PriceServiceClient::new(world.transport());
    let found =
        client.get_price(v1::GetPriceRequest { id: "price_b".to_owned() }).await.unwrap().into_inner();
    let price = found.price.unwrap();
    assert_eq!(
        (price.source(), price.currency_code.as_str(), price.etag.as_str()),
        (v1::PriceSource::Catalogue, "USD", "")
    );
    assert_eq!(price.token_rates.clone().unwrap().input.as_deref(), Some("2.5"));

    let request = v1::UpdatePriceOverrideRequest { price: Some(price), update_mask: mask(&["*"]) };
    let error = client.update_price_override(request).await.unwrap_err();
    assert_eq!((error.code(), reason(&error)), (Code::FailedPrecondition, R::PriceReadOnly));
    let request = v1::DeletePriceOverrideRequest { id: "price_b".to_owned(), etag: String::new() };
    assert_eq!(reason(&client.delete_price_override(request).await.unwrap_err()), R::PriceReadOnly);
    let missing = client.get_price(v1::GetPriceRequest { id: "price_zzz".to_owned() }).await.unwrap_err();
    assert_eq!(reason(&missing), R::ResourceNotFound);
}

#[tokio::test]
async fn an_override_has_a_version_that_grows() {
    let world = world().await;
    let mut client = PriceServiceClient::new(world.transport());
    let made = make(&mut client, own_price("openai", "gpt", "1.25")).await.unwrap();
    assert_eq!(
        (made.version, made.source(), made.currency_code.as_str()),
        (1, v1::PriceSource::Override, "USD")
    );
    let again = make(&mut client, own_price("openai", "gpt", "2")).await.unwrap_err();
    assert_eq!((again.code(), reason(&again)), (Code::AlreadyExists, R::PriceOverridden));

    world.clock.advance_ms(1_000);
    let changes =
        v1::Price { id: made.id.clone(), request_rate: Some("0.01".to_owned()), ..v1::Price::default() };
    let request =
        v1::UpdatePriceOverrideRequest { price: Some(changes), update_mask: mask(&["request_rate"]) };
    let updated = client.update_price_override(request).await.unwrap().into_inner().price.unwrap();
    assert_eq!((updated.version, updated.request_rate.as_deref()), (2, Some("0.01")));
    assert_eq!((updated.token_rates, updated.effective_time), (made.token_rates, made.effective_time));

    let request = v1::DeletePriceOverrideRequest { id: made.id, etag: updated.etag };
    client.delete_price_override(request).await.unwrap();
    make(&mut client, own_price("openai", "gpt", "2")).await.unwrap();
}

#[tokio::test]
async fn bad_prices_are_named_with_their_path() {
    let world = world().await;
    let mut client = PriceServiceClient::new(world.transport());
    let good = || own_price("openai", "gpt", "1");
    let unit = |unit: &str, rate: &str| v1::Price {
        unit_rates: [(unit.to_owned(), rate.to_owned())].into(),
        ..good()
    };
    let wrong = [
        (v1::Price { provider: "Open AI".to_owned(), ..good() }, R::FieldMalformed, "price.provider"),
        (v1::Price { model: String::new(), ..good() }, R::FieldMissing, "price.model"),
        (v1::Price { token_rates: None, ..good() }, R::FieldMissing, "price.token_rates"),
        (own_price("openai", "gpt", "0.0000001"), R::FieldOutOfBounds, "price.token_rates.input"),
        (own_price("openai", "gpt", "-1"), R::FieldOutOfBounds, "price.token_rates.input"),
        (unit("tokens", "1"), R::FieldMalformed, "price.unit_rates"),
        (unit("seconds", "a lot"), R::FieldOutOfBounds, "price.unit_rates"),
        (v1::Price { max_output_tokens: -1, ..good() }, R::FieldOutOfBounds, "price.max_output_tokens"),
    ];
    for (price, expected, field) in wrong {
        let error = make(&mut client, price).await.unwrap_err();
        assert_eq!(told(&error), (Code::InvalidArgument, expected, field.to_owned()));
    }
}

#[tokio::test]
async fn of_overrides_made_in_the_same_instant_one_is_taken_and_the_others_are_told_of_it() {
    let world = World::new().await;
    let makers = (0..8).map(|_| async {
        let mut client = PriceServiceClient::new(world.transport());
        make(&mut client, own_price("openai", "gpt", "1")).await
    });
    let (made, refused): (Vec<_>, Vec<_>) =
        futures::future::join_all(makers).await.into_iter().partition(Result::is_ok);
    assert_eq!((made.len(), refused.len()), (1, 7));
    let expected = (Code::AlreadyExists, R::PriceOverridden, "price.effective_time".to_owned());
    refused.into_iter().for_each(|answer| assert_eq!(told(&answer.unwrap_err()), expected));
}
