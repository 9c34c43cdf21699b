//! What a draft has come to, written.

use rateguard_engine::ports::{Resource, ResourceKind, StoreError, Stored};

use super::super::STORE;
use super::super::table::{self, Table};
use super::draft::{Draft, Outcome};
use super::{ROWS_PER_STATEMENT, unwritable};
use crate::database::{Connection, failure};

/// Writes everything. What goes makes room first; then values that are unique go from one row to another,
/// one after the other; then the rest is written, a few statements for each kind.
pub(super) async fn write(connection: &mut Connection, draft: &Draft<'_>) -> Result<(), StoreError> {
    let outcomes = ResourceKind::ALL.map(|kind| (table::of(kind), draft.outcome(kind)));
    for (table, outcome) in &outcomes {
        for ids in outcome.gone.chunks(ROWS_PER_STATEMENT) {
            let mut delete = table.delete(draft.workspace(), ids);
            delete.build().execute(connection).await.map_err(failure(STORE))?;
        }
    }
    for stored in draft.moves() {
        let mut update = table::of(stored.value.kind()).update(stored).map_err(unwritable)?;
        update.build().execute(connection).await.map_err(failure(STORE))?;
    }
    for (table, Outcome { changed, new, .. }) in &outcomes {
        for stored in changed.chunks(ROWS_PER_STATEMENT) {
            let mut overwrite = table.overwrite(stored).map_err(unwritable)?;
            overwrite.build().execute(connection).await.map_err(failure(STORE))?;
        }
        for stored in new.chunks(ROWS_PER_STATEMENT) {
            insert(connection, table, stored).await?;
        }
    }
    Ok(())
}

/// The draft has found no conflict in the workspace: one that shows here is with another workspace, whose
/// rows it may not see.
async fn insert(
    connection: &mut Connection,
    table: &Table,
    stored: &[&Stored<Resource>],
) -> Result<(), StoreError> {
    let mut insert = table.insert(stored).map_err(unwritable)?;
    let inserted = insert.build().execute(connection).await.map_err(failure(STORE))?;
    if inserted.rows_affected() < stored.len() as u64 {
        let field = table.unique.as_ref().map_or("id", |unique| unique.field);
        return Err(StoreError::AlreadyExists { field });
    }
    Ok(())
}
