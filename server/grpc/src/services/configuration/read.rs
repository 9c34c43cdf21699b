//! A configuration inward: each name becomes the id of what has it, or one that is drawn.

use std::collections::{HashMap, HashSet};

use rateguard_core::ids::{ApiId, BudgetId, KeyId, PriceId, RuleId};
use rateguard_core::rule::{Budget, Rule};
use rateguard_core::time::Millis;
use rateguard_core::usage::PriceRef;
use rateguard_engine::error::{EngineError, Reason};
use rateguard_engine::manage::{Desired, equip_as};
use rateguard_engine::ports::{Resource, ResourceKind, Stored, WorkspaceState};
use rateguard_engine::resources::{Api, Key, PriceOverride, SealedCredential};
use rateguard_engine::secrets::SecretText;
use rateguard_proto::v1;

use super::super::managed::{Desk, random_id};
use super::dates::Dates;
use super::names::{Names, price_name};
use crate::convert::apis::api_draft;
use crate::convert::budgets::budget;
use crate::convert::keys::{KeyIdentity, key};
use crate::convert::prices::price_sheet;
use crate::convert::rules::rule;
use crate::convert::{conflict, missing, within};

/// Characters of a name that an error repeats: names are not checked before, and it has to fit into
/// headers.
const SHOWN_CHARS_MAX: usize = 128;
/// The version of a new price.
const FIRST_VERSION: u32 = 1;

/// What is to become of a configuration.
#[derive(Clone, Copy)]
pub struct Intent {
    /// Whether what it does not name goes.
    pub prune: bool,
    /// Whether it is only compared.
    pub dry_run: bool,
}

/// A configuration that was read.
pub struct Reading {
    /// What it wants.
    pub desired: Desired,
    /// The names of everything present and wanted.
    pub names: Names,
    /// What opens the keys that are new.
    pub secrets: Vec<(KeyId, SecretText)>,
}

/// Reads a configuration against the state that it is for.
///
/// # Errors
/// Those of its entries, each naming the entry.
pub fn read(
    desk: &Desk<'_>,
    state: &WorkspaceState,
    wanted: v1::WorkspaceConfiguration,
    intent: Intent,
) -> Result<Reading, EngineError> {
    let mut reader = Reader::over(desk, state, intent);
    let instants = date_prices(desk, state, &wanted.prices)?;
    reader.name_all(&wanted, &instants)?;
    let mut resources = Vec::new();
    for (place, message) in wanted.apis.into_iter().enumerate() {
        let entry = Entry::new(ResourceKind::Api, place, &message.slug);
        resources.push(entry.told(reader.api(&entry, message).map(Resource::Api))?);
    }
    for (place, message) in wanted.keys.into_iter().enumerate() {
        let entry = Entry::new(ResourceKind::Key, place, &message.display_name);
        resources.push(entry.told(reader.key(&entry, message).map(Resource::Key))?);
    }
    for (place, message) in wanted.rules.into_iter().enumerate() {
        let entry = Entry::new(ResourceKind::Rule, place, &message.display_name);
        resources.push(entry.told(reader.rule(&entry, message).map(Resource::Rule))?);
    }
    for (place, message) in wanted.budgets.into_iter().enumerate() {
        let entry = Entry::new(ResourceKind::Budget, place, &message.display_name);
        resources.push(entry.told(reader.budget(&entry, message).map(Resource::Budget))?);
    }
    for (place, (message, from)) in wanted.prices.into_iter().zip(instants).enumerate() {
        let entry = Entry::of_price(place, &message, from);
        resources.push(entry.told(reader.price(&entry, message, from).map(Resource::PriceOverride))?);
    }
    let desired = Desired { resources, prune: intent.prune };
    Ok(Reading { desired, names: reader.names, secrets: reader.secrets })
}

/// Since when each price is in force.
fn date_prices(
    desk: &Desk<'_>,
    state: &WorkspaceState,
    wanted: &[v1::Price],
) -> Result<Vec<Millis>, EngineError> {
    let dates = Dates::of(state, wanted, desk.engine.now());
    let date = |(place, price): (usize, &v1::Price)| {
        let name = format!("{}/{}", price.provider, price.model);
        Entry::new(ResourceKind::PriceOverride, place, &name).told(dates.date(price))
    };
    wanted.iter().enumerate().map(date).collect()
}

/// One entry of a configuration, to say which is at fault.
struct Entry {
    kind: ResourceKind,
    place: usize,
    name: String,
}

/// A name as errors repeat it.
fn shown(name: &str) -> String {
    match name.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{:?}…", &name[..end]),
        None => format!("{name:?}"),
    }
}

impl Entry {
    fn new(kind: ResourceKind, place: usize, name: &str) -> Self {
        Self { kind, place, name: name.to_owned() }
    }

    fn of_price(place: usize, price: &v1::Price, from: Millis) -> Self {
        Self::new(ResourceKind::PriceOverride, place, &price_name(&price.provider, &price.model, from))
    }

    fn path(&self) -> String {
        let list = match self.kind {
            ResourceKind::Api => "apis",
            ResourceKind::Key => "keys",
            ResourceKind::Rule => "rules",
            ResourceKind::Budget => "budgets",
            ResourceKind::PriceOverride => "prices",
        };
        format!("configuration.{list}[{}]", self.place)
    }

    /// The same result, whose error tells the entry by its place and by its name.
    fn told<T>(&self, result: Result<T, EngineError>) -> Result<T, EngineError> {
        result.map_err(|error| {
            let mut error = within(&self.path(), error);
            error.message = format!("{} ({} {})", error.message, self.kind.as_str(), shown(&self.name));
            error
        })
    }

    /// The field that holds the entry's name.
    fn name_field(&self) -> &'static str {
        match self.kind {
            ResourceKind::Api => "slug",
            ResourceKind::Key | ResourceKind::Rule | ResourceKind::Budget => "display_name",
            ResourceKind::PriceOverride => "model",
        }
    }
}

struct Reader<'r> {
    desk: &'r Desk<'r>,
    intent: Intent,
    present: HashMap<(ResourceKind, &'r str), &'r Stored<Resource>>,
    /// What is named by present resources and gone: an id that has no name.
    dangling: HashSet<String>,
    /// The names of everything.
    names: Names,
    /// The names that the configuration gives.
    given: HashSet<(ResourceKind, String)>,
    secrets: Vec<(KeyId, SecretText)>,
}

impl<'r> Reader<'r> {
    fn over(desk: &'r Desk<'r>, state: &'r WorkspaceState, intent: Intent) -> Self {
        let place = |stored: &'r Stored<Resource>| ((stored.value.kind(), stored.value.id()), stored);
        let present: HashMap<_, _> = state.resources.iter().map(place).collect();
        let referenced = state.resources.iter().flat_map(|stored| references(&stored.value));
        let gone = referenced.filter(|(kind, id)| !present.contains_key(&(*kind, id.as_str())));
        Self {
            desk,
            intent,
            dangling: gone.map(|(_, id)| id).collect(),
            present,
            names: Names::of(&state.resources),
            given: HashSet::new(),
            secrets: Vec::new(),
        }
    }

    /// Takes every name in before any is looked up, so that entries may name later ones.
    fn name_all(
        &mut self,
        wanted: &v1::WorkspaceConfiguration,
        instants: &[Millis],
    ) -> Result<(), EngineError> {
        let dated = wanted.prices.iter().zip(instants);
        let names = [
            (ResourceKind::Api, wanted.apis.iter().map(|api| api.slug.clone()).collect::<Vec<_>>()),
            (ResourceKind::Key, wanted.keys.iter().map(|key| key.display_name.clone()).collect()),
            (ResourceKind::Rule, wanted.rules.iter().map(|rule| rule.display_name.clone()).collect()),
            (ResourceKind::Budget, wanted.budgets.iter().map(|b| b.display_name.clone()).collect()),
            (
                ResourceKind::PriceOverride,
                dated.map(|(price, from)| price_name(&price.provider, &price.model, *from)).collect(),
            ),
        ];
        for (kind, names) in names {
            for (place, name) in names.into_iter().enumerate() {
                let entry = Entry::new(kind, place, &name);
                entry.told(self.take_name(&entry))?;
            }
        }
        Ok(())
    }

    fn take_name(&mut self, entry: &Entry) -> Result<(), EngineError> {
        let (kind, name) = (entry.kind, &entry.name);
        if name.is_empty() {
            return Err(missing(entry.name_field()));
        }
        if !self.given.insert((kind, name.clone())) {
            return Err(conflict(entry.name_field(), "is the name of an entry above already"));
        }
        if self.names.id(kind, name).is_none() {
            self.names.add(kind, name.clone(), &draw_id(kind)?);
        }
        Ok(())
    }

    /// The id of an entry: everything was named before.
    fn id(&self, entry: &Entry) -> Result<&str, EngineError> {
        let found = self.names.id(entry.kind, &entry.name);
        found.ok_or_else(|| EngineError::internal("an entry of a configuration has no id"))
    }

    fn present(&self, entry: &Entry) -> Result<Option<&'r Resource>, EngineError> {
        let id = self.id(entry)?;
        Ok(self.present.get(&(entry.kind, id)).map(|stored| &stored.value))
    }

    /// The ids behind names that an entry lists.
    fn resolve(
        &self,
        kind: ResourceKind,
        field: &str,
        names: Vec<String>,
    ) -> Result<Vec<String>, EngineError> {
        let resolve = |(place, name)| self.resolve_one(kind, &format!("{field}[{place}]"), name);
        names.into_iter().enumerate().map(resolve).collect()
    }

    /// The id behind a name that an entry has in a field.
    fn resolve_one(&self, kind: ResourceKind, field: &str, name: String) -> Result<String, EngineError> {
        let is_given = self.given.contains(&(kind, name.clone()));
        let found = self.names.id(kind, &name).filter(|_| is_given || !self.intent.prune);
        match found {
            Some(id) => Ok(id.to_owned()),
            None if self.dangling.contains(&name) => Ok(name),
            None => {
                let message = format!("there is no {} {} in the configuration", kind.as_str(), shown(&name));
                Err(EngineError::field(Reason::ResourceNotFound, field, message))
            }
        }
    }

    fn resolve_match(&self, matches: &mut Option<v1::CallMatch>) -> Result<(), EngineError> {
        let Some(matches) = matches else { return Ok(()) };
        let (apis, keys) = (std::mem::take(&mut matches.api_ids), std::mem::take(&mut matches.key_ids));
        matches.api_ids = self.resolve(ResourceKind::Api, "match.api_ids", apis)?;
        matches.key_ids = self.resolve(ResourceKind::Key, "match.key_ids", keys)?;
        Ok(())
    }

    /// The ids of the keys whose amounts are others, each under the name by which the file knows it.
    fn resolve_overrides(&self, overrides: &mut [v1::RuleOverride]) -> Result<(), EngineError> {
        for (place, other) in overrides.iter_mut().enumerate() {
            let Some(v1::rule_override::Whose::KeyId(name)) = &mut other.whose else { continue };
            let field = format!("overrides[{place}].key_id");
            *name = self.resolve_one(ResourceKind::Key, &field, std::mem::take(name))?;
        }
        Ok(())
    }

    fn api(&self, entry: &Entry, mut message: v1::Api) -> Result<Api, EngineError> {
        let id = ApiId::parse("id", self.id(entry)?)?;
        let present = match self.present(entry)? {
            Some(Resource::Api(api)) => Some(api),
            _ => None,
        };
        let given = message.credential.as_ref().is_some_and(|secret| !secret.value.is_empty());
        let wants_stored = message.credential_set && !given;
        let is_missing = wants_stored && present.is_none_or(|api| api.credential.is_none());
        let may_be_missing = self.intent.dry_run && !message.credential_reference.is_empty();
        if is_missing && !may_be_missing {
            let message =
                "none is stored for this API: say where it is, in an environment variable or a file";
            return Err(EngineError::field(Reason::FieldMissing, "credential", message));
        }
        if wants_stored {
            message.credential = None;
        } else if !given {
            message.credential = Some(v1::SecretText::default());
            message.credential_reference.clear();
        }
        let draft = api_draft(message, id, present, self.desk.currency())?;
        let mut api = self.desk.engine.seal_if_new(&self.desk.view.workspace.id, draft)?;
        if is_missing {
            // A dry run stores nothing; this only shows that there would be one.
            api.credential = Some(SealedCredential(Vec::new()));
        }
        Ok(api)
    }

    fn key(&mut self, entry: &Entry, mut message: v1::Key) -> Result<Key, EngineError> {
        message.api_ids = self.resolve(ResourceKind::Api, "api_ids", message.api_ids)?;
        if let Some(Resource::Key(present)) = self.present(entry)? {
            message.display_name = present.display_name.to_string();
            let changed = key(message, KeyIdentity::from(present))?;
            if changed.label != present.label {
                return Err(conflict("label", "cannot change: the key's own first characters tell it"));
            }
            return Ok(changed);
        }
        let id = KeyId::parse("id", self.id(entry)?)?;
        let (key, secret) = equip_as(id.clone(), key(message, KeyIdentity::not_yet_drawn())?)?;
        self.secrets.push((id, secret));
        Ok(key)
    }

    fn rule(&self, entry: &Entry, mut message: v1::Rule) -> Result<Rule, EngineError> {
        self.resolve_match(&mut message.r#match)?;
        self.resolve_overrides(&mut message.overrides)?;
        let mut last_reset_at = None;
        if let Some(Resource::Rule(present)) = self.present(entry)? {
            message.display_name = present.name.to_string();
            last_reset_at = present.last_reset_at;
        }
        Ok(Rule { last_reset_at, ..rule(message, RuleId::parse("id", self.id(entry)?)?)? })
    }

    fn budget(&self, entry: &Entry, mut message: v1::Budget) -> Result<Budget, EngineError> {
        self.resolve_match(&mut message.r#match)?;
        if let Some(Resource::Budget(present)) = self.present(entry)? {
            message.display_name = present.name.to_string();
        }
        budget(message, BudgetId::parse("id", self.id(entry)?)?, self.desk.currency())
    }

    fn price(&self, entry: &Entry, message: v1::Price, from: Millis) -> Result<PriceOverride, EngineError> {
        let reference = match self.present(entry)? {
            Some(Resource::PriceOverride(present)) => present.sheet.reference.clone(),
            _ => PriceRef { id: PriceId::parse("id", self.id(entry)?)?, version: FIRST_VERSION },
        };
        Ok(PriceOverride { sheet: price_sheet(message, reference, from)? })
    }
}

/// What a resource names.
fn references(resource: &Resource) -> Vec<(ResourceKind, String)> {
    resource.references().into_iter().map(|(kind, id)| (kind, id.to_owned())).collect()
}

fn draw_id(kind: ResourceKind) -> Result<String, EngineError> {
    let bytes = random_id()?;
    Ok(match kind {
        ResourceKind::Api => ApiId::from_random(bytes).to_string(),
        ResourceKind::Key => KeyId::from_random(bytes).to_string(),
        ResourceKind::Rule => RuleId::from_random(bytes).to_string(),
        ResourceKind::Budget => BudgetId::from_random(bytes).to_string(),
        ResourceKind::PriceOverride => PriceId::from_random(bytes).to_string(),
    })
}
