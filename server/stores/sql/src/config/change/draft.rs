//! Changes of a workspace thought through in memory: what is there is read once for all of them, each is
//! held against what those before it have made, and nothing is written.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use rateguard_core::ids::WorkspaceId;
use rateguard_core::time::Millis;
use rateguard_engine::audit::Shown;
use rateguard_engine::ports::{Resource, ResourceChange, ResourceKind, StoreError, Stored};

use super::super::body::{self, Unique};
use super::super::references::Touched;
use super::super::table::{self, Table, from_column};
use super::super::{STORE, row_limit, shown};
use super::{Entry, ROWS_PER_STATEMENT, first_version, unwritable};
use crate::audit::What;
use crate::database::{Connection, QueryBuilder, failure, query};

/// Which resource of the workspace.
pub(super) type Place = (ResourceKind, String);

/// Changes and what has come of them so far.
pub(super) struct Draft<'w> {
    workspace: &'w WorkspaceId,
    has_workspace: bool,
    slots: BTreeMap<Place, Slot>,
    /// How many resources of a kind there are, of those of which some are to come.
    counts: HashMap<ResourceKind, i64>,
    /// Who has the unique values that are wanted; `None` for another workspace.
    holders: HashMap<Unique, Option<Place>>,
    /// The same the other way round.
    held: HashMap<Place, Unique>,
    moves: Vec<Stored<Resource>>,
    made: Vec<Made>,
}

/// The place of one resource.
#[derive(Default)]
struct Slot {
    /// Whether it was there before.
    existed: bool,
    /// Whether that one was removed, whatever came after it.
    was_removed: bool,
    /// The version that [`Draft::moves`] leave it at, if they touch it.
    moved_to: Option<u64>,
    now: Option<Current>,
}

/// A resource as it is by now. The body of one that was there is not understood, so that a row whose body
/// cannot be can still be replaced or removed.
struct Current {
    version: u64,
    created_at: Millis,
    shown: Shown,
    /// What it became here; `None` as long as it is as it was.
    stored: Option<Stored<Resource>>,
}

/// What one change has done.
struct Made {
    place: Place,
    before: Option<Shown>,
    after: Option<Shown>,
}

/// What is to be written of one kind.
#[derive(Default)]
pub(super) struct Outcome<'d> {
    /// Rows that go.
    pub gone: Vec<&'d str>,
    /// Rows that change and keep their unique values.
    pub changed: Vec<&'d Stored<Resource>>,
    /// Rows that come.
    pub new: Vec<&'d Stored<Resource>>,
}

impl<'w> Draft<'w> {
    /// Reads what the changes need to know.
    pub async fn read(
        connection: &mut Connection,
        workspace: &'w WorkspaceId,
        changes: &[ResourceChange],
    ) -> Result<Self, StoreError> {
        let makes = changes.iter().any(|change| matches!(change, ResourceChange::Insert { .. }));
        let has_workspace = !makes || workspace_exists(connection, workspace).await?;
        let mut draft = Self {
            workspace,
            has_workspace,
            slots: BTreeMap::new(),
            counts: HashMap::new(),
            holders: HashMap::new(),
            held: HashMap::new(),
            moves: Vec::new(),
            made: Vec::new(),
        };
        for kind in ResourceKind::ALL {
            let of_kind: Vec<&ResourceChange> =
                changes.iter().filter(|change| change.kind() == kind).collect();
            draft.read_kind(connection, table::of(kind), &of_kind).await?;
        }
        Ok(draft)
    }

    async fn read_kind(
        &mut self,
        connection: &mut Connection,
        table: &Table,
        changes: &[&ResourceChange],
    ) -> Result<(), StoreError> {
        let ids: Vec<&str> =
            changes.iter().map(|change| change.id()).collect::<BTreeSet<_>>().into_iter().collect();
        for ids in ids.chunks(ROWS_PER_STATEMENT) {
            self.read_rows(connection, table, ids).await?;
        }
        let values: HashSet<Unique> = changes.iter().filter_map(|change| unique_of(change)).collect();
        let values: Vec<&Unique> = values.iter().collect();
        for values in values.chunks(ROWS_PER_STATEMENT) {
            self.read_holders(connection, table, values).await?;
        }
        if changes.iter().any(|change| matches!(change, ResourceChange::Insert { .. })) {
            let count = count(connection, table, self.workspace).await?;
            self.counts.insert(table.kind, count);
        }
        Ok(())
    }

    async fn read_rows(
        &mut self,
        connection: &mut Connection,
        table: &Table,
        ids: &[&str],
    ) -> Result<(), StoreError> {
        let mut query = table.select_ids(self.workspace, ids);
        for row in query.build().fetch_all(connection).await.map_err(failure(STORE))? {
            let raw = table::raw(table.kind, &row).map_err(failure(STORE))?;
            let current = Current {
                version: from_column(raw.version)?,
                created_at: Millis::new(raw.created_at),
                shown: shown::resource(&raw.columns, &raw.body),
                stored: None,
            };
            let slot = Slot { existed: true, now: Some(current), ..Slot::default() };
            self.slots.insert((table.kind, raw.columns.id), slot);
        }
        Ok(())
    }

    async fn read_holders(
        &mut self,
        connection: &mut Connection,
        table: &Table,
        values: &[&Unique],
    ) -> Result<(), StoreError> {
        let Some(mut query) = table.select_holders(self.workspace, values) else { return Ok(()) };
        for row in query.build().fetch_all(connection).await.map_err(failure(STORE))? {
            let (unique, workspace, id) = table::holder(table.kind, &row).map_err(failure(STORE))?;
            if workspace == self.workspace.as_str() {
                self.hold((table.kind, id), unique);
            } else {
                self.holders.insert(unique, None);
            }
        }
        Ok(())
    }

    /// Makes the next change; what is stored then, unless it is a removal.
    ///
    /// # Errors
    /// Those of the change.
    pub fn make(
        &mut self,
        change: ResourceChange,
        now: Millis,
    ) -> Result<Option<Stored<Resource>>, StoreError> {
        match change {
            ResourceChange::Insert { resource, limit } => self.insert(resource, limit, now).map(Some),
            ResourceChange::Replace { resource, expected } => self.replace(resource, expected, now).map(Some),
            ResourceChange::Remove { kind, id, expected } => self.remove((kind, id), expected).map(|()| None),
        }
    }

    fn insert(
        &mut self,
        resource: Resource,
        limit: usize,
        now: Millis,
    ) -> Result<Stored<Resource>, StoreError> {
        if !self.has_workspace {
            return Err(StoreError::NotFound);
        }
        let place = (resource.kind(), resource.id().to_owned());
        if self.slots.get(&place).is_some_and(|slot| slot.now.is_some()) {
            return Err(StoreError::AlreadyExists { field: "id" });
        }
        self.take_unique(&place, &resource)?;
        let count = self.counts.entry(place.0).or_default();
        *count += 1;
        if *count > row_limit(limit) {
            return Err(StoreError::Full { what: table::of(place.0).full });
        }
        let stored = first_version(self.workspace, resource, now);
        self.put(place, None, stored.clone())?;
        Ok(stored)
    }

    fn replace(
        &mut self,
        resource: Resource,
        expected: u64,
        now: Millis,
    ) -> Result<Stored<Resource>, StoreError> {
        let place = (resource.kind(), resource.id().to_owned());
        let before = self.take(&place, Some(expected))?;
        let is_moved = self.take_unique(&place, &resource)?;
        let stored = Stored {
            workspace: self.workspace.clone(),
            value: resource,
            version: before.version + 1,
            created_at: before.created_at,
            updated_at: now,
        };
        if is_moved {
            self.moves.push(stored.clone());
            self.slots.entry(place.clone()).or_default().moved_to = Some(stored.version);
        }
        self.put(place, Some(before.shown), stored.clone())?;
        Ok(stored)
    }

    fn remove(&mut self, place: Place, expected: Option<u64>) -> Result<(), StoreError> {
        let before = self.take(&place, expected)?;
        self.slots.entry(place.clone()).or_default().was_removed = true;
        self.let_go(&place);
        if let Some(count) = self.counts.get_mut(&place.0) {
            *count -= 1;
        }
        self.made.push(Made { place, before: Some(before.shown), after: None });
        Ok(())
    }

    /// Takes what is in a place out of it, if it is at the version.
    fn take(&mut self, place: &Place, expected: Option<u64>) -> Result<Current, StoreError> {
        let found = self.slots.get_mut(place).and_then(|slot| slot.now.take()).ok_or(StoreError::NotFound)?;
        if expected.is_some_and(|expected| expected != found.version) {
            return Err(StoreError::VersionMismatch);
        }
        Ok(found)
    }

    fn put(
        &mut self,
        place: Place,
        before: Option<Shown>,
        stored: Stored<Resource>,
    ) -> Result<(), StoreError> {
        let body = body::encode(&stored.value).map_err(unwritable)?;
        let shown = shown::resource(&body::columns(&stored.value), &body);
        self.made.push(Made { place: place.clone(), before, after: Some(shown.clone()) });
        let (version, created_at) = (stored.version, stored.created_at);
        let now = Current { version, created_at, shown, stored: Some(stored) };
        self.slots.entry(place).or_default().now = Some(now);
        Ok(())
    }

    /// Gives a place the unique value of a resource. Tells whether it had another one, or none.
    fn take_unique(&mut self, place: &Place, resource: &Resource) -> Result<bool, StoreError> {
        let unique = body::columns(resource).unique;
        let Some(what) = table::of(place.0).unique.as_ref().filter(|_| unique != Unique::None) else {
            return Ok(false);
        };
        match self.holders.get(&unique) {
            Some(Some(holder)) if holder == place => Ok(false),
            Some(_) => Err(StoreError::AlreadyExists { field: what.field }),
            None => {
                self.let_go(place);
                self.hold(place.clone(), unique);
                Ok(true)
            }
        }
    }

    fn hold(&mut self, place: Place, unique: Unique) {
        self.holders.insert(unique.clone(), Some(place.clone()));
        self.held.insert(place, unique);
    }

    fn let_go(&mut self, place: &Place) {
        if let Some(unique) = self.held.remove(place) {
            self.holders.remove(&unique);
        }
    }

    /// What is to be written of a kind.
    pub fn outcome(&self, kind: ResourceKind) -> Outcome<'_> {
        let mut outcome = Outcome::default();
        for ((_, id), slot) in self.slots.iter().filter(|((of, _), _)| *of == kind) {
            let now = slot.now.as_ref().and_then(|now| now.stored.as_ref());
            let stays = slot.existed && !slot.was_removed && now.is_some();
            if slot.existed && !stays {
                outcome.gone.push(id);
            }
            match now {
                Some(stored) if !stays => outcome.new.push(stored),
                Some(stored) if slot.moved_to != Some(stored.version) => outcome.changed.push(stored),
                Some(_) | None => {}
            }
        }
        outcome
    }

    /// Replacements that change a unique value, in their order: one may take what another has let go.
    pub fn moves(&self) -> &[Stored<Resource>] {
        &self.moves
    }

    /// Whether there are prices that were not there before, or prices of another model.
    pub fn has_new_prices(&self) -> bool {
        let outcome = self.outcome(ResourceKind::PriceOverride);
        !outcome.new.is_empty() || !self.moves.is_empty()
    }

    /// Whose rows they are.
    pub fn workspace(&self) -> &WorkspaceId {
        self.workspace
    }

    /// Every resource that was touched.
    pub fn touched(&self) -> Vec<Touched<'_>> {
        self.slots
            .iter()
            .map(|((kind, id), slot)| Touched {
                kind: *kind,
                id,
                existed: slot.existed,
                now: slot.now.as_ref().and_then(|now| Some(&now.stored.as_ref()?.value)),
            })
            .collect()
    }

    /// An entry of the feed for each change.
    pub fn entries(&self) -> Vec<Entry<'_>> {
        self.made
            .iter()
            .map(|Made { place: (kind, id), .. }| Entry {
                workspace: self.workspace,
                table: table::of(*kind),
                id,
            })
            .collect()
    }

    /// What the audit trail says of each change.
    pub fn into_facts(self) -> Vec<What> {
        let what = |Made { place: (kind, id), before, after }| What {
            kind: table::of(kind).audit,
            id,
            before,
            after,
        };
        self.made.into_iter().map(what).collect()
    }
}

/// The unique value that a change wants to have.
fn unique_of(change: &ResourceChange) -> Option<Unique> {
    match change {
        ResourceChange::Insert { resource, .. } | ResourceChange::Replace { resource, .. } => {
            Some(body::columns(resource).unique).filter(|unique| *unique != Unique::None)
        }
        ResourceChange::Remove { .. } => None,
    }
}

async fn workspace_exists(connection: &mut Connection, workspace: &WorkspaceId) -> Result<bool, StoreError> {
    let found = query("SELECT id FROM workspaces WHERE id = $1")
        .bind(workspace.as_str())
        .fetch_optional(connection)
        .await;
    Ok(found.map_err(failure(STORE))?.is_some())
}

async fn count(
    connection: &mut Connection,
    table: &Table,
    workspace: &WorkspaceId,
) -> Result<i64, StoreError> {
    let mut query = QueryBuilder::new(format!("SELECT count(*) FROM {}", table.name));
    query.push(" WHERE workspace_id = ").push_bind(workspace.as_str());
    query.build_query_scalar().fetch_one(connection).await.map_err(failure(STORE))
}
