//! Setting a rule's counters back to nothing used.

use std::net::IpAddr;

use rateguard_core::ids::{KeyId, RuleId};
use rateguard_core::matching::{CallFacts, Dimension};
use rateguard_core::plan::{LimitId, PlannedLimit, plan_rule};
use rateguard_core::rule::Rule;
use rateguard_core::time::Millis;

use crate::caller::Identity;
use crate::directory::WorkspaceView;
use crate::engine::Engine;
use crate::error::{EngineError, Reason};
use crate::ports::{ResetCounters, Resource, ResourceKind, StoreError};

/// How often a reset is noted anew when others change the rule at the same time.
const NOTE_ROUNDS_MAX: usize = 8;

/// Which of a rule's counters are set back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResetDraft {
    /// All.
    All,
    /// The one that a call with these values of the scope falls on.
    Of(ScopeValues),
}

/// What a rule's counters are kept apart by. Empty text means unsaid.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScopeValues {
    /// The key; `None` where the rule does not count by it.
    pub key: Option<KeyId>,
    /// The API's id or slug.
    pub api: String,
    /// The path.
    pub endpoint: String,
    /// The model.
    pub model: String,
    /// Who is charged.
    pub subject: String,
    /// Where calls come from.
    pub ip: Option<IpAddr>,
    /// Attributes, sorted by name.
    pub attributes: Vec<(String, String)>,
}

impl Engine {
    /// Sets counters of a rule back to nothing used, and says when and how many there were. It is noted with the
    /// rule, and in the audit trail, before it is done: where that fails, it has to be asked for again.
    ///
    /// # Errors
    /// [`Reason::ResourceNotFound`] for the rule or the API, [`Reason::FieldMissing`] where the rule counts
    /// by a value that is not said, [`Reason::EtagMismatch`] while others keep changing the rule.
    pub async fn reset_quota(
        &self,
        identity: &Identity,
        rule: &RuleId,
        draft: &ResetDraft,
    ) -> Result<(Millis, u64), EngineError> {
        let now = self.now();
        let view = self.view(identity.workspace()?)?;
        let planned = self.planned(identity, rule, &view, now).await?;
        let counters = match draft {
            ResetDraft::All => all_of(&view, &planned)?,
            ResetDraft::Of(values) => one_of(&view, &planned, values, now)?,
        };
        self.note_reset(identity, rule, now).await?;
        let workspace = identity.workspace()?;
        self.callers_leases.set_back(workspace, &counters);
        Ok((now, self.counters.reset(workspace, counters, now).await?))
    }

    /// The rule as it is stored, whether or not it is active.
    async fn planned(
        &self,
        identity: &Identity,
        rule: &RuleId,
        view: &WorkspaceView,
        now: Millis,
    ) -> Result<PlannedLimit, EngineError> {
        let stored = self.get(identity, ResourceKind::Rule, rule.as_str()).await?;
        let rule = of_rule(stored.value)?;
        Ok(plan_rule(identity.workspace()?, &view.workspace.zone, &rule, now))
    }

    async fn note_reset(&self, identity: &Identity, id: &RuleId, now: Millis) -> Result<(), EngineError> {
        let workspace = identity.workspace()?;
        for _ in 0..NOTE_ROUNDS_MAX {
            let stored = self.get(identity, ResourceKind::Rule, id.as_str()).await?;
            let rule = Resource::Rule(Rule { last_reset_at: Some(now), ..of_rule(stored.value)? });
            match self.config.replace(workspace, rule, stored.version, &identity.deed(now)).await {
                Ok(_) => {
                    self.refresh_now().await;
                    return Ok(());
                }
                Err(StoreError::VersionMismatch) => {}
                Err(StoreError::NotFound) => return Err(EngineError::not_found("rule", id.as_str())),
                Err(error) => return Err(error.into()),
            }
        }
        Err(StoreError::VersionMismatch.into())
    }
}

fn of_rule(resource: Resource) -> Result<Rule, EngineError> {
    match resource {
        Resource::Rule(rule) => Ok(rule),
        _ => Err(EngineError::internal("the store gave a resource of another kind")),
    }
}

/// Counters are told apart by a part of their ids that two rules may share by chance, as one of four
/// billion pairs does.
fn all_of(view: &WorkspaceView, planned: &PlannedLimit) -> Result<ResetCounters, EngineError> {
    let family = planned.family();
    let shares = |other: &PlannedLimit| {
        matches!(other.id, LimitId::Rule(_)) && other.id != planned.id && other.family() == family
    };
    if view.plan.limits().iter().any(shares) {
        let message = "the rule's counters cannot be told from another's; set them back one by one";
        return Err(EngineError::field(Reason::FieldConflict, "all", message));
    }
    Ok(ResetCounters::All { family, is_spread: planned.policies.spread_by_subject })
}

fn one_of(
    view: &WorkspaceView,
    planned: &PlannedLimit,
    values: &ScopeValues,
    now: Millis,
) -> Result<ResetCounters, EngineError> {
    let api = match values.api.as_str() {
        "" => None,
        name => Some(view.api(name).ok_or_else(|| EngineError::not_found("api", name))?),
    };
    let by_key = planned.scope.dimensions.contains(&Dimension::Key);
    // A key of which nothing depends where the rule does not count by it.
    let nobody = KeyId::from_random([0; 16]);
    let key = match &values.key {
        None if by_key => {
            let message = "must be set: the rule counts by the key";
            return Err(EngineError::field(Reason::FieldMissing, "key_id", message));
        }
        key => key.as_ref().unwrap_or(&nobody),
    };
    let facts = CallFacts {
        key,
        api: api.map(|api| &api.value.id),
        endpoint: &values.endpoint,
        method: "",
        model: &values.model,
        subject: &values.subject,
        ip: values.ip,
        attributes: &values.attributes,
    };
    let missing = || {
        let message = "must have every value that the rule counts by: it has no counter without";
        EngineError::field(Reason::FieldMissing, "values", message)
    };
    let counter = planned.counter(&facts).ok_or_else(missing)?;
    Ok(ResetCounters::One(counter, planned.limit_at(now)))
}
