//! Lists of managed resources: which ones, in which order, page by page.
//!
//! The order is the database's, so that a list may be longer than memory would like: a workspace may have a
//! million keys. The filter is held against the rows here, in one way on both databases, and so that a name is
//! looked for whatever its case and a model by the patterns that it fits. Where it fits few rows, one page looks
//! through a part of them only.

use rateguard_core::ids::{ApiId, KeyId};
use rateguard_core::matching::{Glob, Match};
use rateguard_core::time::Millis;

use crate::caller::Identity;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::listing::{Listed, OrderBy, OrderValue, Page, PageQuery, Place, TextPart};
use crate::ports::{Resource, ResourceKind, Stored};
use crate::resources::Key;

/// Rows read at once where a filter may pass most of them over.
const ROWS_PER_READ: usize = 1_000;
/// Rows that one page of a filtered list looks through: more than any kind but keys can have, and a tenth of a
/// second's work.
pub const ROWS_PER_PAGE_MAX: usize = 10_000;

/// Whether a resource does anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResourceState {
    /// It does.
    Active,
    /// It is switched off.
    Disabled,
    /// It is switched on, and its time has passed. Only keys expire.
    Expired,
}

/// Which resources. Every part that is set must hold; of a kind that cannot meet a part, none does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResourceFilter {
    /// Whether it does anything.
    pub state: Option<ResourceState>,
    /// A part of the name for people.
    pub name: Option<TextPart>,
    /// What the key, or the secret before it, begins with.
    pub key_prefix: Option<String>,
    /// An API that it can apply to: it names that one, or none at all.
    pub api: Option<ApiId>,
    /// A key that it can apply to, in the same way.
    pub key: Option<KeyId>,
    /// A model that it can apply to, in the same way.
    pub model: Option<String>,
    /// A subject that it can apply to, in the same way; of keys, the one that they are bound to.
    pub subject: Option<String>,
}

impl ResourceFilter {
    /// Whether a resource is meant.
    pub fn holds(&self, resource: &Resource, now: Millis) -> bool {
        self.state.is_none_or(|wanted| wanted == state(resource, now))
            && self.name.as_ref().is_none_or(|part| part.is_in(display_name(resource)))
            && self.holds_calls(resource)
    }

    fn holds_calls(&self, resource: &Resource) -> bool {
        match resource {
            Resource::Key(key) => self.holds_key(key),
            Resource::Rule(rule) => self.key_prefix.is_none() && self.holds_match(&rule.matches),
            Resource::Budget(budget) => self.key_prefix.is_none() && self.holds_match(&budget.matches),
            Resource::Api(_) | Resource::PriceOverride(_) => {
                let Self { state: _, name: _, key_prefix, api, key, model, subject } = self;
                key_prefix.is_none() && api.is_none() && key.is_none() && model.is_none() && subject.is_none()
            }
        }
    }

    fn holds_key(&self, key: &Key) -> bool {
        let begins = |prefix: &String| {
            let previous = key.previous.as_ref().is_some_and(|secret| secret.prefix.starts_with(prefix));
            previous || key.prefix.starts_with(prefix)
        };
        self.key.is_none()
            && self.key_prefix.as_ref().is_none_or(begins)
            && can_apply(self.api.as_ref(), &key.apis)
            && can_apply_by_pattern(self.model.as_deref(), &key.models)
            && (self.subject.is_none() || self.subject == key.bound_subject)
    }

    fn holds_match(&self, matches: &Match) -> bool {
        can_apply(self.api.as_ref(), &matches.apis)
            && can_apply(self.key.as_ref(), &matches.keys)
            && can_apply(self.subject.as_ref(), &matches.subjects)
            && can_apply_by_pattern(self.model.as_deref(), &matches.models)
    }
}

impl Listed for Stored<Resource> {
    fn place(&self, by: OrderBy) -> Place {
        let value = match by {
            OrderBy::Id => OrderValue::Nothing,
            OrderBy::CreateTime | OrderBy::JoinTime => OrderValue::At(self.created_at),
            OrderBy::UpdateTime => OrderValue::At(self.updated_at),
            OrderBy::DisplayName => OrderValue::Text(display_name(&self.value).to_owned()),
        };
        Place { value, id: self.value.id().to_owned() }
    }
}

impl Engine {
    /// A page of resources.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn list(
        &self,
        identity: &Identity,
        kind: ResourceKind,
        filter: &ResourceFilter,
        query: &PageQuery,
    ) -> Result<Page<Stored<Resource>>, EngineError> {
        let (workspace, now) = (identity.workspace()?, self.now());
        let is_filtered = *filter != ResourceFilter::default();
        let limit = if is_filtered { ROWS_PER_READ } else { query.limit + 1 };
        let mut part = PageQuery { limit, ..query.clone() };
        let mut items: Vec<Stored<Resource>> = Vec::new();
        for _ in 0..ROWS_PER_PAGE_MAX.div_ceil(limit) {
            let rows = self.config.list(workspace, kind, &part).await?;
            let is_last = rows.len() < limit;
            part.after = rows.last().map(|row| row.place(query.order.by)).or(part.after);
            items.extend(rows.into_iter().filter(|row| filter.holds(&row.value, now)));
            if items.len() > query.limit {
                items.truncate(query.limit);
                let next_after = items.last().map(|last| last.place(query.order.by));
                return Ok(Page { items, next_after });
            }
            if is_last {
                return Ok(Page { items, next_after: None });
            }
        }
        Ok(Page { items, next_after: part.after })
    }
}

fn state(resource: &Resource, now: Millis) -> ResourceState {
    let (active, expires_at) = match resource {
        Resource::Api(api) => (api.active, None),
        Resource::Key(key) => (key.active, key.expires_at),
        Resource::Rule(rule) => (rule.active, None),
        Resource::Budget(budget) => (budget.active, None),
        Resource::PriceOverride(_) => (true, None),
    };
    match (active, expires_at) {
        (false, _) => ResourceState::Disabled,
        (true, Some(expires_at)) if expires_at <= now => ResourceState::Expired,
        (true, _) => ResourceState::Active,
    }
}

/// The name for people. A price has none.
fn display_name(resource: &Resource) -> &str {
    match resource {
        Resource::Api(api) => api.display_name.as_str(),
        Resource::Key(key) => key.display_name.as_str(),
        Resource::Rule(rule) => rule.name.as_str(),
        Resource::Budget(budget) => budget.name.as_str(),
        Resource::PriceOverride(_) => "",
    }
}

fn can_apply<T: PartialEq>(wanted: Option<&T>, named: &[T]) -> bool {
    wanted.is_none_or(|wanted| named.is_empty() || named.contains(wanted))
}

fn can_apply_by_pattern(wanted: Option<&str>, named: &[Glob]) -> bool {
    wanted.is_none_or(|wanted| named.is_empty() || named.iter().any(|glob| glob.matches(wanted)))
}

#[cfg(test)]
mod tests;
