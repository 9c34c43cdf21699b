//! An API's row. The credential is sealed before it comes here.

use rateguard_core::ids::{ApiId, DisplayName, Slug};
use rateguard_core::invalid::Invalid;
use rateguard_core::money::{Nanos, Price};
use rateguard_core::pricing::UnknownPricePolicy;
use rateguard_engine::resources::{Api, AuthScheme, Dialect, SealedCredential};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ApiBody {
    display_name: String,
    base_url: String,
    dialect: DialectBody,
    auth: AuthBody,
    sealed_credential_hex: Option<String>,
    // Rows of an older version have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    credential_reference: Option<String>,
    timeout_ms: i64,
    allow_private_upstream: bool,
    price_per_request_picos: Option<i64>,
    unknown_price: UnknownPriceBody,
    output_tokens_default: Option<i64>,
    show_spend: bool,
    active: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum DialectBody {
    None,
    OpenAi,
    Anthropic,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum AuthBody {
    None,
    Bearer,
    Basic,
    Header(String),
    Query(String),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum UnknownPriceBody {
    Deny,
    ChargeDefaultNanos(i64),
    AllowAndFlag,
}

impl From<&Api> for ApiBody {
    fn from(api: &Api) -> Self {
        Self {
            display_name: api.display_name.as_str().to_owned(),
            base_url: api.base_url.clone(),
            dialect: api.dialect.into(),
            auth: AuthBody::from(&api.auth),
            sealed_credential_hex: api.credential.as_ref().map(|sealed| hex::encode(&sealed.0)),
            credential_reference: api.credential_reference.clone(),
            timeout_ms: api.timeout_ms,
            allow_private_upstream: api.allow_private_upstream,
            price_per_request_picos: api.price_per_request.map(Price::picos),
            unknown_price: api.unknown_price.into(),
            output_tokens_default: api.output_tokens_default,
            show_spend: api.show_spend,
            active: api.active,
        }
    }
}

impl ApiBody {
    pub(super) fn into_api(self, id: &str, slug: &str) -> Result<Api, Invalid> {
        let price = |picos| Price::parse_picos("price_per_request_picos", picos);
        Ok(Api {
            id: ApiId::parse("id", id)?,
            slug: Slug::parse("slug", slug)?,
            display_name: DisplayName::parse("display_name", &self.display_name)?,
            base_url: self.base_url,
            dialect: self.dialect.into(),
            auth: self.auth.into(),
            credential: self.sealed_credential_hex.as_deref().map(sealed_from_hex).transpose()?,
            credential_reference: self.credential_reference,
            timeout_ms: self.timeout_ms,
            allow_private_upstream: self.allow_private_upstream,
            price_per_request: self.price_per_request_picos.map(price).transpose()?,
            unknown_price: self.unknown_price.into_policy()?,
            output_tokens_default: self.output_tokens_default,
            show_spend: self.show_spend,
            active: self.active,
        })
    }
}

impl From<Dialect> for DialectBody {
    fn from(dialect: Dialect) -> Self {
        match dialect {
            Dialect::None => Self::None,
            Dialect::OpenAi => Self::OpenAi,
            Dialect::Anthropic => Self::Anthropic,
        }
    }
}

impl From<DialectBody> for Dialect {
    fn from(body: DialectBody) -> Self {
        match body {
            DialectBody::None => Self::None,
            DialectBody::OpenAi => Self::OpenAi,
            DialectBody::Anthropic => Self::Anthropic,
        }
    }
}

impl From<&AuthScheme> for AuthBody {
    fn from(auth: &AuthScheme) -> Self {
        match auth {
            AuthScheme::None => Self::None,
            AuthScheme::Bearer => Self::Bearer,
            AuthScheme::Basic => Self::Basic,
            AuthScheme::Header(name) => Self::Header(name.clone()),
            AuthScheme::Query(name) => Self::Query(name.clone()),
        }
    }
}

impl From<AuthBody> for AuthScheme {
    fn from(body: AuthBody) -> Self {
        match body {
            AuthBody::None => Self::None,
            AuthBody::Bearer => Self::Bearer,
            AuthBody::Basic => Self::Basic,
            AuthBody::Header(name) => Self::Header(name),
            AuthBody::Query(name) => Self::Query(name),
        }
    }
}

impl From<UnknownPricePolicy> for UnknownPriceBody {
    fn from(policy: UnknownPricePolicy) -> Self {
        match policy {
            UnknownPricePolicy::Deny => Self::Deny,
            UnknownPricePolicy::ChargeDefault(nanos) => Self::ChargeDefaultNanos(nanos.get()),
            UnknownPricePolicy::AllowAndFlag => Self::AllowAndFlag,
        }
    }
}

impl UnknownPriceBody {
    fn into_policy(self) -> Result<UnknownPricePolicy, Invalid> {
        Ok(match self {
            Self::Deny => UnknownPricePolicy::Deny,
            Self::ChargeDefaultNanos(nanos) => {
                UnknownPricePolicy::ChargeDefault(Nanos::parse("unknown_price", nanos)?)
            }
            Self::AllowAndFlag => UnknownPricePolicy::AllowAndFlag,
        })
    }
}

fn sealed_from_hex(text: &str) -> Result<SealedCredential, Invalid> {
    let malformed = |_| Invalid::new("sealed_credential_hex", "must be hexadecimal");
    hex::decode(text).map(SealedCredential).map_err(malformed)
}
