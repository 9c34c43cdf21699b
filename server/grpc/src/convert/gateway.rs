//! What a gateway asks: routes with their credentials, and prices.

use rateguard_core::limits::OUTPUT_TOKENS_DEFAULT;
use rateguard_core::money::Currency;
use rateguard_core::usage::UsageEvent;
use rateguard_engine::gateway::{Route, RouteChange};
use rateguard_proto::internal_v1 as internal;
use rateguard_proto::internal_v1::watch_routes_response::Change;
use rateguard_proto::v1;

use super::apis::{auth_scheme_message, dialect_message};
use super::nano_money;
use super::usage::{cost_components, price_reference, usage_flags};

/// A route for the wire. The credential stands in it in clear: that is what the gateway asks for.
pub fn route_message(route: &Route) -> internal::Route {
    let api = &route.api.value;
    let (auth_scheme, auth_name) = auth_scheme_message(&api.auth);
    internal::Route {
        api_id: api.id.to_string(),
        slug: api.slug.to_string(),
        base_url: api.base_url.clone(),
        dialect: dialect_message(api.dialect).into(),
        auth_scheme: auth_scheme.into(),
        auth_name: auth_name.to_owned(),
        credential: route.credential.as_ref().map(|c| v1::SecretText { value: c.expose().to_owned() }),
        timeout_ms: api.timeout_ms,
        allow_private_upstream: api.allow_private_upstream,
        default_max_output_tokens: api.output_tokens_default.unwrap_or(OUTPUT_TOKENS_DEFAULT),
        show_spend: api.show_spend,
    }
}

/// What a gateway should forget, for the wire.
pub fn route_change_message(change: RouteChange) -> internal::WatchRoutesResponse {
    let change = match change {
        RouteChange::All => Change::Refresh(internal::RoutesRefresh {}),
        RouteChange::Api(id) => Change::Route(internal::RouteChange { api_id: id }),
    };
    internal::WatchRoutesResponse { change: Some(change) }
}

/// What a record would cost, for the wire.
pub fn price_usage_message(event: &UsageEvent, currency: Currency) -> internal::PriceUsageResponse {
    internal::PriceUsageResponse {
        cost: Some(nano_money(event.cost, currency)),
        price: event.price.as_ref().map(price_reference),
        cost_components: cost_components(&event.components),
        flags: usage_flags(event.flags),
    }
}
