//! What tests of several modules share.

use rateguard_core::ids::{ApiId, DisplayName, Slug};
use rateguard_core::pricing::UnknownPricePolicy;
use rateguard_engine::resources::{Api, AuthScheme, Dialect};

/// An API without a credential.
pub(crate) fn plain_api(id: ApiId, slug: &str) -> Api {
    Api {
        id,
        slug: Slug::parse("slug", slug).unwrap(),
        display_name: DisplayName::parse("display_name", "tests").unwrap(),
        base_url: "https://api.example.com".to_owned(),
        dialect: Dialect::None,
        auth: AuthScheme::Bearer,
        credential: None,
        credential_reference: None,
        timeout_ms: 60_000,
        allow_private_upstream: false,
        price_per_request: None,
        unknown_price: UnknownPricePolicy::default(),
        output_tokens_default: None,
        show_spend: true,
        active: true,
    }
}
