//! Resources as JSON rows: mirrors of the domain's types, so that the domain may change its shape
//! without changing what is on disk. Id, slug and secret stand in columns of their own.

mod api;
mod budget;
mod key;
mod limit;
mod price;
mod rule;

use rateguard_core::invalid::Invalid;
use rateguard_core::pricing::PriceSheet;
use rateguard_core::time::Millis;
use rateguard_engine::ports::{Resource, ResourceKind};
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use api::ApiBody;
use budget::BudgetBody;
use key::KeyBody;
use price::PriceBody;
use rule::RuleBody;

/// The shape of bodies as they are written now.
pub(super) const BODY_VERSION: i64 = 1;

/// What a resource has in columns of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Columns {
    /// The id.
    pub id: String,
    /// What is unique besides the id.
    pub unique: Unique,
}

/// What is unique besides the id.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Unique {
    /// Nothing.
    None,
    /// An API's slug, in its workspace.
    Slug(String),
    /// The hash of a key's secret, in the installation.
    Secret(Vec<u8>),
    /// A price's provider, model and first instant, in its workspace. The columns are made from the body.
    Price {
        /// Who offers the model.
        provider: String,
        /// The model.
        model: String,
        /// Since when the price is in force.
        effective_from: Millis,
    },
}

/// Why a body cannot be understood.
#[derive(Debug, Error)]
pub(super) enum BodyError {
    /// The shape is not one that this version knows.
    #[error("body version {0} is not known; start the version that wrote it")]
    Version(i64),
    /// It is not the JSON that it should be.
    #[error("body is malformed: {0}")]
    Json(#[from] serde_json::Error),
    /// A value is out of bounds.
    #[error(transparent)]
    Value(#[from] Invalid),
    /// A column is missing or malformed.
    #[error("column {0} is malformed")]
    Column(&'static str),
}

/// The columns of a resource.
pub(super) fn columns(resource: &Resource) -> Columns {
    let unique = match resource {
        Resource::Api(api) => Unique::Slug(api.slug.as_str().to_owned()),
        Resource::Key(key) => Unique::Secret(key.secret_sha256.to_vec()),
        Resource::PriceOverride(price) => {
            let PriceSheet { provider, model, effective_from, .. } = &price.sheet;
            let (provider, model) = (provider.clone(), model.clone());
            Unique::Price { provider, model, effective_from: *effective_from }
        }
        Resource::Rule(_) | Resource::Budget(_) => Unique::None,
    };
    Columns { id: resource.id().to_owned(), unique }
}

/// A resource without its columns.
pub(super) fn encode(resource: &Resource) -> Result<String, BodyError> {
    match resource {
        Resource::Api(api) => to_json(&ApiBody::from(api)),
        Resource::Key(key) => to_json(&KeyBody::from(key)),
        Resource::Rule(rule) => to_json(&RuleBody::from(rule)),
        Resource::Budget(budget) => to_json(&BudgetBody::from(budget)),
        Resource::PriceOverride(price) => to_json(&PriceBody::from(price)),
    }
}

/// A resource from its row.
pub(super) fn decode(
    kind: ResourceKind,
    columns: Columns,
    version: i64,
    body: &str,
) -> Result<Resource, BodyError> {
    if version != BODY_VERSION {
        return Err(BodyError::Version(version));
    }
    Ok(match (kind, columns.unique) {
        (ResourceKind::Api, Unique::Slug(slug)) => {
            Resource::Api(from_json::<ApiBody>(body)?.into_api(&columns.id, &slug)?)
        }
        (ResourceKind::Key, Unique::Secret(secret)) => {
            Resource::Key(from_json::<KeyBody>(body)?.into_key(&columns.id, &secret)?)
        }
        (ResourceKind::Rule, _) => Resource::Rule(from_json::<RuleBody>(body)?.into_rule(&columns.id)?),
        (ResourceKind::Budget, _) => {
            Resource::Budget(from_json::<BudgetBody>(body)?.into_budget(&columns.id)?)
        }
        (ResourceKind::PriceOverride, _) => {
            Resource::PriceOverride(from_json::<PriceBody>(body)?.into_price(&columns.id)?)
        }
        (ResourceKind::Api, _) => return Err(BodyError::Column("slug")),
        (ResourceKind::Key, _) => return Err(BodyError::Column("secret_sha256")),
    })
}

fn to_json(body: &impl Serialize) -> Result<String, BodyError> {
    Ok(serde_json::to_string(body)?)
}

fn from_json<T: DeserializeOwned>(text: &str) -> Result<T, BodyError> {
    Ok(serde_json::from_str(text)?)
}

fn parse_all<T>(
    texts: &[String],
    parse: impl Fn(&'static str, &str) -> Result<T, Invalid>,
    field: &'static str,
) -> Result<Vec<T>, Invalid> {
    texts.iter().map(|text| parse(field, text)).collect()
}

#[cfg(test)]
mod tests;
