//! The second copy of the hashes, in the file of the event log. Nothing there is ever replaced: of an
//! entry that was taken out and another put in its place, it keeps the hash of the first.

use std::sync::Arc;

use rateguard_engine::audit::AuditHead;
use rateguard_engine::ports::StoreError;
use tokio::sync::Mutex;

use super::read::head;
use super::{STORE, to_column};
use crate::database::{Connection, Database, Scope, failure, query};

/// Hashes that one transaction takes over.
const HASHES_PER_TURN: i64 = 500;

/// Takes hashes from the outbox to the other file. Clones share their turns.
#[derive(Clone, Debug)]
pub(crate) struct Witness {
    /// Where the entries stand.
    pub(super) entries: Database,
    /// Where the copies go.
    pub(super) copies: Database,
    turn: Arc<Mutex<()>>,
}

impl Witness {
    /// A witness of the entries of one database in another.
    pub(crate) fn new(entries: Database, copies: Database) -> Self {
        Self { entries, copies, turn: Arc::default() }
    }

    /// Takes over what waits. A change that is committed is done whatever becomes of this: what waits
    /// goes with the next one, with the next sweep, or at the next start.
    pub(crate) async fn catch_up(&self) {
        if let Err(error) = self.take_over().await {
            tracing::warn!(%error, "hashes of the audit trail wait for their second copy");
        }
    }

    async fn take_over(&self) -> Result<(), StoreError> {
        let _turn = self.turn.lock().await;
        loop {
            let waiting = self.waiting().await?;
            if waiting.is_empty() {
                return Ok(());
            }
            let keep = async {
                let mut transaction = self.copies.begin(Scope::Installation).await?;
                keep(&mut transaction, &waiting).await?;
                Ok((transaction, ()))
            };
            self.copies.write(keep).await?;
            let forget = async {
                let mut transaction = self.entries.begin(Scope::Installation).await?;
                forget(&mut transaction, &waiting).await?;
                Ok((transaction, ()))
            };
            self.entries.write(forget).await?;
        }
    }

    async fn waiting(&self) -> Result<Vec<AuditHead>, StoreError> {
        let read = async {
            let mut reader = self.entries.reader(Scope::Installation).await?;
            let sql = "SELECT workspace_id, sequence, hash FROM audit_outbox \
                         ORDER BY workspace_id, sequence LIMIT $1";
            let rows = query(sql).bind(HASHES_PER_TURN).fetch_all(&mut reader).await;
            rows.map_err(failure(STORE))?.iter().map(head).collect()
        };
        self.entries.within_deadline(read).await
    }
}

async fn keep(connection: &mut Connection, hashes: &[AuditHead]) -> Result<(), StoreError> {
    let insert = "INSERT INTO audit_witness (workspace_id, sequence, hash) VALUES ($1, $2, $3) \
                  ON CONFLICT DO NOTHING";
    for waiting in hashes {
        let inserted = query(insert)
            .bind(waiting.workspace.as_str())
            .bind(to_column(waiting.sequence))
            .bind(&waiting.hash[..])
            .execute(&mut *connection)
            .await
            .map_err(failure(STORE))?;
        if inserted.rows_affected() == 0 {
            compare(connection, waiting).await?;
        }
    }
    Ok(())
}

/// A hash that is kept already is the same one, taken over by a process that was killed then; or the
/// chain was cut off by hand, and has grown again.
async fn compare(connection: &mut Connection, waiting: &AuditHead) -> Result<(), StoreError> {
    let before = waiting.sequence.saturating_sub(1);
    let kept = between(connection, &waiting.workspace, before, waiting.sequence).await?;
    if !kept.contains(waiting) {
        let (workspace, sequence) = (&waiting.workspace, waiting.sequence);
        tracing::error!(workspace, sequence, "the audit trail has been altered: verify it");
    }
    Ok(())
}

async fn forget(connection: &mut Connection, hashes: &[AuditHead]) -> Result<(), StoreError> {
    for head in hashes {
        query("DELETE FROM audit_outbox WHERE workspace_id = $1 AND sequence = $2")
            .bind(head.workspace.as_str())
            .bind(to_column(head.sequence))
            .execute(&mut *connection)
            .await
            .map_err(failure(STORE))?;
    }
    Ok(())
}

/// The last place of every chain.
pub(super) async fn heads(connection: &mut Connection) -> Result<Vec<AuditHead>, StoreError> {
    let sql = "SELECT workspace_id, sequence, hash FROM audit_witness AS w WHERE sequence = \
                 (SELECT MAX(sequence) FROM audit_witness WHERE workspace_id = w.workspace_id) \
                 ORDER BY workspace_id";
    let rows = query(sql).fetch_all(connection).await.map_err(failure(STORE))?;
    rows.iter().map(head).collect()
}

/// The places of a chain after one and up to another.
pub(super) async fn between(
    connection: &mut Connection,
    chain: &str,
    after: u64,
    through: u64,
) -> Result<Vec<AuditHead>, StoreError> {
    let sql = "SELECT workspace_id, sequence, hash FROM audit_witness \
                 WHERE workspace_id = $1 AND sequence > $2 AND sequence <= $3 ORDER BY sequence";
    let rows = query(sql)
        .bind(chain)
        .bind(to_column(after))
        .bind(to_column(through))
        .fetch_all(connection)
        .await
        .map_err(failure(STORE))?;
    rows.iter().map(head).collect()
}
