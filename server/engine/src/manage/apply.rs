//! A workspace as a whole: what differs from what is wanted, and making it so in one transaction.

use std::collections::{HashMap, HashSet};

use rateguard_core::ids::ApiId;

use super::limit_of;
use super::powers::check_powers;
use crate::caller::Identity;
use crate::engine::Engine;
use crate::error::{EngineError, Reason};
use crate::ports::{Resource, ResourceChange, ResourceKind, StoreError, Stored, WorkspaceState};
use crate::resources::PriceOverride;

/// Resources that a workspace may have to be read, or changed, as a whole: it is one message.
pub const CONFIGURATION_RESOURCES_MAX: usize = 10_000;

/// What a workspace is to be made of.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Desired {
    /// The resources. One that has the id of a present one takes its place; any other is new.
    pub resources: Vec<Resource>,
    /// Whether what is not among them goes.
    pub prune: bool,
}

/// A resource that is not as it is wanted.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// As it is; `None` for a new one.
    pub before: Option<Stored<Resource>>,
    /// As it becomes; `None` where it goes.
    pub after: Option<Resource>,
    /// Whether it gets new counters.
    pub counters_reset: bool,
}

/// What an application changes, or would.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Applied {
    /// What differs.
    pub differences: Vec<Difference>,
    /// What is not wanted, and stays.
    pub kept: Vec<Stored<Resource>>,
    /// How many resources are as they are wanted.
    pub unchanged: usize,
}

impl Engine {
    /// Everything that the workspace is made of in which somebody acts.
    ///
    /// # Errors
    /// [`Reason::QueryTooLarge`].
    pub async fn workspace_state(&self, identity: &Identity) -> Result<WorkspaceState, EngineError> {
        let limit = CONFIGURATION_RESOURCES_MAX + 1;
        let state = self.config.workspace_state(identity.workspace()?, limit).await?;
        check_size(state.resources.len())?;
        Ok(state)
    }

    /// What differs between a state and what is wanted. Nothing is changed.
    ///
    /// # Errors
    /// [`Reason::QueryTooLarge`], [`Reason::ResourceNotFound`] for an API that a resource names, and the
    /// bounds of the resources.
    pub fn compare(
        &self,
        identity: &Identity,
        state: &WorkspaceState,
        desired: &Desired,
    ) -> Result<Applied, EngineError> {
        check_size(desired.resources.len())?;
        check_references(state, desired)?;
        let mut present: HashMap<(ResourceKind, &str), &Stored<Resource>> =
            state.resources.iter().map(|stored| (place(&stored.value), stored)).collect();
        let mut applied = Applied::default();
        for resource in &desired.resources {
            check_bounds(resource)?;
            let before = present.remove(&place(resource));
            match self.difference(identity, before, resource)? {
                Some(difference) => applied.differences.push(difference),
                None => applied.unchanged += 1,
            }
        }
        // In the order of the state, which is always the same.
        for stored in state.resources.iter().filter(|stored| present.contains_key(&place(&stored.value))) {
            if desired.prune && !is_key_of(identity, &stored.value) {
                let before = Some(stored.clone());
                applied.differences.push(Difference { before, after: None, counters_reset: false });
            } else {
                applied.kept.push(stored.clone());
            }
        }
        Ok(applied)
    }

    fn difference(
        &self,
        identity: &Identity,
        before: Option<&Stored<Resource>>,
        wanted: &Resource,
    ) -> Result<Option<Difference>, EngineError> {
        let Some(before) = before else {
            check_powers(identity, None, wanted)?;
            let after = Some(wanted.clone());
            return Ok(Some(Difference { before: None, after, counters_reset: false }));
        };
        let carried = carry_over(&before.value, wanted.clone());
        check_bounds(&carried)?;
        if carried == before.value {
            return Ok(None);
        }
        check_powers(identity, Some(&before.value), &carried)?;
        let counters_reset = self.resets_counters(identity.workspace()?, &before.value, &carried)?;
        let after = super::budgets::succeed(&before.value, carried, counters_reset);
        let after = super::prices::succeed(&before.value, after);
        Ok(Some(Difference { before: Some(before.clone()), after: Some(after), counters_reset }))
    }

    /// Makes the differences of a state so, all of them or none, if nothing has changed after the
    /// revision `seen`. Budgets that are to begin open at once; where that fails they are stored, not in
    /// force, until the next turn of the refresh opens them.
    ///
    /// # Errors
    /// [`Reason::EtagMismatch`], [`Reason::WorkspaceFull`], and those of the store. Nothing fails once
    /// the changes are stored.
    pub async fn apply(&self, identity: &Identity, applied: &Applied, seen: u64) -> Result<(), EngineError> {
        let changes = removals_first(&applied.differences);
        if changes.is_empty() {
            return Ok(());
        }
        let stored =
            self.config.apply_all(identity.workspace()?, changes, seen, &identity.deed(self.now())).await;
        let stored = stored.map_err(refusal)?;
        self.refresh_now().await;
        for stored in stored {
            self.open_if_new(stored).await;
        }
        Ok(())
    }
}

/// Whether it is the key that somebody asks with: whoever prunes does not lock themselves out.
fn is_key_of(identity: &Identity, resource: &Resource) -> bool {
    matches!(resource, Resource::Key(key) if identity.key_id() == Some(&key.id))
}

fn place(resource: &Resource) -> (ResourceKind, &str) {
    (resource.kind(), resource.id())
}

fn check_size(resources: usize) -> Result<(), EngineError> {
    if resources <= CONFIGURATION_RESOURCES_MAX {
        return Ok(());
    }
    let message =
        format!("a workspace of more than {CONFIGURATION_RESOURCES_MAX} resources is not one message");
    Err(EngineError::new(Reason::QueryTooLarge, message))
}

fn refusal(error: StoreError) -> EngineError {
    match error {
        StoreError::Full { what } => {
            EngineError::new(Reason::WorkspaceFull, format!("{what} would be too long"))
        }
        StoreError::VersionMismatch => EngineError::new(
            Reason::EtagMismatch,
            "the workspace has changed since it was read; nothing was done",
        ),
        error => error.into(),
    }
}

fn check_bounds(resource: &Resource) -> Result<(), EngineError> {
    match resource {
        Resource::Rule(rule) => Ok(rule.check()?),
        Resource::Budget(budget) => Ok(budget.check()?),
        Resource::Api(_) | Resource::Key(_) | Resource::PriceOverride(_) => Ok(()),
    }
}

/// What no configuration says of a resource stays as it is.
fn carry_over(before: &Resource, mut wanted: Resource) -> Resource {
    match (before, &mut wanted) {
        (Resource::Budget(before), Resource::Budget(after)) => {
            after.opened_after = before.opened_after;
            after.topped_up = before.topped_up;
        }
        (Resource::PriceOverride(PriceOverride { sheet: before }), Resource::PriceOverride(after)) => {
            after.sheet.reference = before.reference.clone();
            after.sheet.effective_from = before.effective_from;
        }
        _ => {}
    }
    wanted
}

/// An API that a resource names is wanted, stays, or is one that is gone already and that a present
/// resource names too.
fn check_references(state: &WorkspaceState, desired: &Desired) -> Result<(), EngineError> {
    let ids = |resource: &Resource| match resource {
        Resource::Api(api) => Some(api.id.clone()),
        _ => None,
    };
    let wanted = desired.resources.iter().filter_map(ids);
    let present: HashSet<ApiId> = state.resources.iter().filter_map(|stored| ids(&stored.value)).collect();
    let dangling = state.resources.iter().flat_map(|stored| apis_of(&stored.value));
    let dangling: HashSet<ApiId> = dangling.filter(|api| !present.contains(*api)).cloned().collect();
    let mut known: HashSet<ApiId> = wanted.chain(dangling).collect();
    if !desired.prune {
        known.extend(present);
    }
    match desired.resources.iter().flat_map(apis_of).find(|api| !known.contains(*api)) {
        Some(api) => Err(EngineError::not_found(ResourceKind::Api.as_str(), api.as_str())),
        None => Ok(()),
    }
}

fn apis_of(resource: &Resource) -> &[ApiId] {
    match resource {
        Resource::Rule(rule) => &rule.matches.apis,
        Resource::Budget(budget) => &budget.matches.apis,
        Resource::Key(key) => &key.apis,
        Resource::Api(_) | Resource::PriceOverride(_) => &[],
    }
}

/// What goes makes room for what comes.
fn removals_first(differences: &[Difference]) -> Vec<ResourceChange> {
    let (kept, removed): (Vec<&Difference>, Vec<_>) =
        differences.iter().partition(|difference| difference.after.is_some());
    removed.into_iter().chain(kept).filter_map(change).collect()
}

fn change(difference: &Difference) -> Option<ResourceChange> {
    Some(match (&difference.before, &difference.after) {
        (None, Some(resource)) => {
            ResourceChange::Insert { resource: resource.clone(), limit: limit_of(resource.kind()) }
        }
        (Some(before), Some(after)) => {
            ResourceChange::Replace { resource: after.clone(), expected: before.version }
        }
        (Some(before), None) => ResourceChange::Remove {
            kind: before.value.kind(),
            id: before.value.id().to_owned(),
            expected: Some(before.version),
        },
        (None, None) => return None,
    })
}
