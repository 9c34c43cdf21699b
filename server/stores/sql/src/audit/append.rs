//! Writing an entry, within the transaction of the change.

use rateguard_core::ids::WorkspaceId;
use rateguard_engine::audit::{AuditEntry, AuditKind, Deed, GENESIS, INSTALLATION_CHAIN, Shown, render};
use rateguard_engine::ports::StoreError;

use super::{STORE, from_column, hash_of, to_column};
use crate::database::{Connection, QueryBuilder, failure, query, query_as};

/// Entries that one statement writes: with their fifteen columns far fewer values than SQLite (32,766) and
/// PostgreSQL (65,535) take in a statement.
const ENTRIES_PER_STATEMENT: usize = 500;

/// What a change has done to one thing.
pub(crate) struct Fact<'a> {
    /// In whose chain it goes; `None` for the installation's.
    pub chain: Option<&'a WorkspaceId>,
    /// What kind of thing.
    pub kind: AuditKind,
    /// Which.
    pub id: &'a str,
    /// How it was.
    pub before: Option<Shown>,
    /// How it is.
    pub after: Option<Shown>,
}

/// What a change has done to one thing of a chain that is known.
pub(crate) struct What {
    /// What kind of thing.
    pub kind: AuditKind,
    /// Which.
    pub id: String,
    /// How it was.
    pub before: Option<Shown>,
    /// How it is.
    pub after: Option<Shown>,
}

/// The last place of a chain.
struct Head {
    sequence: u64,
    hash: [u8; 32],
}

/// Appends an entry to its chain.
pub(crate) async fn record(connection: &mut Connection, fact: Fact<'_>, by: &Deed) -> Result<(), StoreError> {
    let Fact { chain, kind, id, before, after } = fact;
    record_all(connection, chain, vec![What { kind, id: id.to_owned(), before, after }], by).await
}

/// Appends entries to one chain in their order. The chain's head is held until the transaction ends, so
/// that the next entry is chained to the last one.
pub(crate) async fn record_all(
    connection: &mut Connection,
    chain: Option<&WorkspaceId>,
    facts: Vec<What>,
    by: &Deed,
) -> Result<(), StoreError> {
    if facts.is_empty() {
        return Ok(());
    }
    let chain = chain.map_or(INSTALLATION_CHAIN, WorkspaceId::as_str);
    let mut head = take_places(connection, chain, facts.len()).await?;
    let mut facts = facts.into_iter();
    // A server throws out whoever computes for long within a transaction.
    while facts.len() > 0 {
        let next = facts.by_ref().take(ENTRIES_PER_STATEMENT);
        let entries: Vec<AuditEntry> = next.map(|what| next_entry(&mut head, chain, what, by)).collect();
        insert(connection, &entries).await?;
        await_witness(connection, &entries).await?;
    }
    put_head(connection, chain, &head).await
}

/// The entry after a head, which becomes the head.
fn next_entry(head: &mut Head, chain: &str, what: What, by: &Deed) -> AuditEntry {
    let (before, after) = render(what.before, what.after);
    let mut entry = AuditEntry {
        workspace: chain.to_owned(),
        sequence: head.sequence + 1,
        at: by.at,
        actor_kind: by.actor.kind().to_owned(),
        actor_id: by.actor.id().to_owned(),
        method: by.origin.to_string(),
        kind: what.kind.as_str().to_owned(),
        id: what.id,
        before,
        after,
        ip: by.origin.ip.map(|ip| ip.to_string()),
        user_agent: by.origin.user_agent.clone(),
        request_id: by.origin.request_id.as_ref().map(ToString::to_string),
        previous_hash: head.hash,
        hash: GENESIS,
    };
    entry.hash = entry.chained_hash();
    *head = Head { sequence: entry.sequence, hash: entry.hash };
    entry
}

/// Takes the next places of a chain, and gives the head before them.
async fn take_places(connection: &mut Connection, chain: &str, places: usize) -> Result<Head, StoreError> {
    let places = places as u64;
    let take = "INSERT INTO audit_heads (workspace_id, sequence, hash) VALUES ($1, $2, $3) \
                ON CONFLICT (workspace_id) DO UPDATE SET sequence = audit_heads.sequence + excluded.sequence \
                RETURNING sequence, hash";
    let (sequence, hash): (i64, Vec<u8>) = query_as(take)
        .bind(chain)
        .bind(to_column(places))
        .bind(&GENESIS[..])
        .fetch_one(connection)
        .await
        .map_err(failure(STORE))?;
    Ok(Head { sequence: from_column(sequence)?.saturating_sub(places), hash: hash_of(hash)? })
}

async fn insert(connection: &mut Connection, entries: &[AuditEntry]) -> Result<(), StoreError> {
    let mut insert = QueryBuilder::new(
        "INSERT INTO audit_entries (workspace_id, sequence, changed_at, actor_kind, actor_id, method, \
         kind, id, state_before, state_after, ip, user_agent, request_id, previous_hash, hash) ",
    );
    insert.push_values(entries, |mut row, entry| {
        row.push_bind(entry.workspace.as_str()).push_bind(to_column(entry.sequence));
        row.push_bind(entry.at.get()).push_bind(entry.actor_kind.as_str());
        row.push_bind(entry.actor_id.as_str()).push_bind(entry.method.as_str());
        row.push_bind(entry.kind.as_str()).push_bind(entry.id.as_str());
        row.push_bind(entry.before.as_deref()).push_bind(entry.after.as_deref());
        row.push_bind(entry.ip.as_deref()).push_bind(entry.user_agent.as_deref());
        row.push_bind(entry.request_id.as_deref());
        row.push_bind(&entry.previous_hash[..]).push_bind(&entry.hash[..]);
    });
    insert.build().execute(connection).await.map_err(failure(STORE)).map(drop)
}

/// Has entries wait for their witness.
async fn await_witness(connection: &mut Connection, entries: &[AuditEntry]) -> Result<(), StoreError> {
    let mut insert = QueryBuilder::new("INSERT INTO audit_outbox (workspace_id, sequence, hash) ");
    insert.push_values(entries, |mut row, entry| {
        row.push_bind(entry.workspace.as_str()).push_bind(to_column(entry.sequence));
        row.push_bind(&entry.hash[..]);
    });
    insert.build().execute(connection).await.map_err(failure(STORE)).map(drop)
}

/// Makes the last entry its chain's head.
async fn put_head(connection: &mut Connection, chain: &str, head: &Head) -> Result<(), StoreError> {
    query("UPDATE audit_heads SET hash = $1 WHERE workspace_id = $2")
        .bind(&head.hash[..])
        .bind(chain)
        .execute(connection)
        .await
        .map_err(failure(STORE))
        .map(drop)
}
