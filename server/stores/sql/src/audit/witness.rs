//! The second copy of the hashes, in the file of the event log. Nothing there is ever replaced: of an
//! entry that was taken out and another put in its place, it keeps the hash of the first.
//!
//! A task takes them over. Whoever has made a change wakes it and does not wait: until it is done, the
//! hash stands in the outbox, where the transaction of the change has put it.

use std::collections::HashSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use rateguard_engine::audit::AuditHead;
use rateguard_engine::ports::StoreError;
use tokio::sync::{Mutex, mpsc};

use super::read::head;
use super::{STORE, to_column};
use crate::database::{Connection, Database, QueryBuilder, Scope, failure, query};

/// Hashes that one transaction takes over.
const HASHES_PER_TURN: i64 = 1_000;
/// How long after a failure what waits is tried again, unless something new comes before.
const RETRY_MS: u64 = 5_000;
/// Longest wait at the end for what is not taken over yet; the next start goes on with it.
const FINISH_MS_MAX: u64 = 5_000;

/// Where entries stand, and where the copies of their hashes go.
#[derive(Clone, Debug)]
pub(crate) struct Trail {
    /// The entries.
    pub(super) entries: Database,
    /// The copies.
    pub(super) copies: Database,
}

/// Has hashes taken from the outbox to the other file. The task ends with the last clone.
#[derive(Clone, Debug)]
pub(crate) struct Witness {
    trail: Arc<Trail>,
    turn: Arc<Mutex<Turn>>,
    wake: mpsc::Sender<()>,
}

/// Held by whoever takes hashes over.
#[derive(Debug, Default)]
struct Turn {
    /// Whether the databases are about to be closed.
    is_over: bool,
    /// Whether the last attempt failed.
    is_behind: bool,
}

impl Witness {
    /// A witness of the entries of one database in another.
    pub(crate) fn start(entries: Database, copies: Database) -> Self {
        let trail = Arc::new(Trail { entries, copies });
        let turn = Arc::default();
        // One that waits is enough: it takes over everything.
        let (wake, woken) = mpsc::channel(1);
        tokio::spawn(run(Arc::downgrade(&trail), Arc::clone(&turn), woken));
        Self { trail, turn, wake }
    }

    /// Where it reads and writes.
    pub(crate) fn trail(&self) -> &Trail {
        &self.trail
    }

    /// Has the task take over what waits. A change that is committed is done whatever becomes of it.
    pub(crate) fn wake(&self) {
        // A full channel wakes the task as well.
        let _woken = self.wake.try_send(());
    }

    /// Takes over what waits, such as what a process that was killed has left.
    pub(crate) async fn catch_up(&self) {
        let mut turn = self.turn.lock().await;
        turn.take(&self.trail).await;
        if turn.is_behind {
            // The task tries again, however long no other change comes.
            self.wake();
        }
    }

    /// Takes over what waits, for the last time, before the databases are closed.
    pub(crate) async fn finish(&self) {
        let last = async {
            let mut turn = self.turn.lock().await;
            if !turn.is_over {
                turn.take(&self.trail).await;
            }
            turn.is_over = true;
        };
        if tokio::time::timeout(Duration::from_millis(FINISH_MS_MAX), last).await.is_err() {
            tracing::warn!("hashes of the audit trail wait for their second copy until the next start");
        }
    }
}

/// Takes over whenever it is woken. Between two turns it holds nothing open.
async fn run(trail: Weak<Trail>, turn: Arc<Mutex<Turn>>, mut woken: mpsc::Receiver<()>) {
    let mut is_behind = false;
    loop {
        let next = woken.recv();
        let is_woken = match is_behind {
            false => next.await,
            true => tokio::time::timeout(Duration::from_millis(RETRY_MS), next).await.unwrap_or(Some(())),
        };
        let mut turn = turn.lock().await;
        let trail = trail.upgrade().filter(|_| is_woken.is_some() && !turn.is_over);
        let Some(trail) = trail else { return };
        turn.take(&trail).await;
        is_behind = turn.is_behind;
        // Before the turn ends: whoever has it next may close the databases.
        drop(trail);
    }
}

impl Turn {
    /// Takes over what waits, and tells of it when that fails, or works again.
    async fn take(&mut self, trail: &Trail) {
        match trail.take_over().await {
            Ok(()) if self.is_behind => {
                tracing::info!("hashes of the audit trail have their second copy again")
            }
            Ok(()) => {}
            Err(error) if !self.is_behind => {
                tracing::warn!(%error, "hashes of the audit trail wait for their second copy");
                self.is_behind = true;
                return;
            }
            Err(_) => return,
        }
        self.is_behind = false;
    }
}

impl Trail {
    async fn take_over(&self) -> Result<(), StoreError> {
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
    let mut insert = QueryBuilder::new("INSERT INTO audit_witness (workspace_id, sequence, hash) ");
    insert.push_values(hashes, |mut row, waiting| {
        row.push_bind(waiting.workspace.as_str()).push_bind(to_column(waiting.sequence));
        row.push_bind(&waiting.hash[..]);
    });
    insert.push(" ON CONFLICT DO NOTHING");
    let inserted = insert.build().execute(&mut *connection).await.map_err(failure(STORE))?;
    if inserted.rows_affected() < hashes.len() as u64 {
        compare(connection, hashes).await?;
    }
    Ok(())
}

/// A hash that is kept already is the same one, taken over by a process that was killed then, or by
/// another one at the same time; or the chain was cut off by hand, and has grown again.
async fn compare(connection: &mut Connection, hashes: &[AuditHead]) -> Result<(), StoreError> {
    let mut select = QueryBuilder::new("SELECT workspace_id, sequence, hash FROM audit_witness WHERE ");
    push_places(&mut select, hashes);
    let rows = select.build().fetch_all(connection).await.map_err(failure(STORE))?;
    let kept: Vec<AuditHead> = rows.iter().map(head).collect::<Result<_, _>>()?;
    let waiting: HashSet<_> = hashes.iter().map(place_and_hash).collect();
    for differing in kept.iter().filter(|kept| !waiting.contains(&place_and_hash(kept))) {
        let AuditHead { workspace, sequence, .. } = differing;
        tracing::error!(workspace, sequence, "the audit trail has been altered: verify it");
    }
    Ok(())
}

fn place_and_hash(head: &AuditHead) -> (&str, u64, [u8; 32]) {
    (&head.workspace, head.sequence, head.hash)
}

async fn forget(connection: &mut Connection, hashes: &[AuditHead]) -> Result<(), StoreError> {
    let mut delete = QueryBuilder::new("DELETE FROM audit_outbox WHERE ");
    push_places(&mut delete, hashes);
    delete.build().execute(connection).await.map_err(failure(STORE)).map(drop)
}

/// Continues a condition with the places of hashes.
fn push_places(query: &mut QueryBuilder, hashes: &[AuditHead]) {
    query.push("(workspace_id, sequence) IN (");
    query.push_values(hashes, |mut row, head| {
        row.push_bind(head.workspace.as_str()).push_bind(to_column(head.sequence));
    });
    query.push(")");
}

/// The last place of every chain.
pub(super) async fn heads(connection: &mut Connection) -> Result<Vec<AuditHead>, StoreError> {
    let sql = "SELECT w.workspace_id, w.sequence, w.hash FROM audit_witness AS w JOIN \
                 (SELECT workspace_id, MAX(sequence) AS sequence FROM audit_witness GROUP BY workspace_id) AS last \
                 ON w.workspace_id = last.workspace_id AND w.sequence = last.sequence ORDER BY w.workspace_id";
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
