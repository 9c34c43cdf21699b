//! Writing an entry, within the transaction of the change.

use rateguard_core::ids::WorkspaceId;
use rateguard_engine::audit::{AuditEntry, AuditKind, Deed, GENESIS, INSTALLATION_CHAIN, Shown, render};
use rateguard_engine::ports::StoreError;

use super::{STORE, from_column, hash_of, to_column};
use crate::database::{Connection, failure, query, query_as};

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

/// Appends an entry to its chain. The chain's head is held until the transaction ends, so that the next
/// entry is chained to this one.
pub(crate) async fn record(connection: &mut Connection, fact: Fact<'_>, by: &Deed) -> Result<(), StoreError> {
    let chain = fact.chain.map_or(INSTALLATION_CHAIN, WorkspaceId::as_str).to_owned();
    let (sequence, previous_hash) = next(connection, &chain).await?;
    let (before, after) = render(fact.before, fact.after);
    let mut entry = AuditEntry {
        workspace: chain,
        sequence,
        at: by.at,
        actor_kind: by.actor.kind().to_owned(),
        actor_id: by.actor.id().to_owned(),
        method: by.origin.to_string(),
        kind: fact.kind.as_str().to_owned(),
        id: fact.id.to_owned(),
        before,
        after,
        ip: by.origin.ip.map(|ip| ip.to_string()),
        user_agent: by.origin.user_agent.clone(),
        request_id: by.origin.request_id.as_ref().map(ToString::to_string),
        previous_hash,
        hash: GENESIS,
    };
    entry.hash = entry.chained_hash();
    insert(connection, &entry).await?;
    put_head(connection, &entry).await
}

/// Takes the next place of a chain, and the hash of the entry before it.
async fn next(connection: &mut Connection, chain: &str) -> Result<(u64, [u8; 32]), StoreError> {
    let take = "INSERT INTO audit_heads (workspace_id, sequence, hash) VALUES ($1, 1, $2) \
                ON CONFLICT (workspace_id) DO UPDATE SET sequence = audit_heads.sequence + 1 \
                RETURNING sequence, hash";
    let (sequence, hash): (i64, Vec<u8>) =
        query_as(take).bind(chain).bind(&GENESIS[..]).fetch_one(connection).await.map_err(failure(STORE))?;
    Ok((from_column(sequence)?, hash_of(hash)?))
}

async fn insert(connection: &mut Connection, entry: &AuditEntry) -> Result<(), StoreError> {
    let statement = "INSERT INTO audit_entries (workspace_id, sequence, changed_at, actor_kind, actor_id, method, \
                     kind, id, state_before, state_after, ip, user_agent, request_id, previous_hash, hash) \
                     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)";
    query(statement)
        .bind(entry.workspace.as_str())
        .bind(to_column(entry.sequence))
        .bind(entry.at.get())
        .bind(entry.actor_kind.as_str())
        .bind(entry.actor_id.as_str())
        .bind(entry.method.as_str())
        .bind(entry.kind.as_str())
        .bind(entry.id.as_str())
        .bind(entry.before.as_deref())
        .bind(entry.after.as_deref())
        .bind(entry.ip.as_deref())
        .bind(entry.user_agent.as_deref())
        .bind(entry.request_id.as_deref())
        .bind(&entry.previous_hash[..])
        .bind(&entry.hash[..])
        .execute(connection)
        .await
        .map_err(failure(STORE))?;
    Ok(())
}

/// Makes the entry its chain's head, and has it wait for its witness.
async fn put_head(connection: &mut Connection, entry: &AuditEntry) -> Result<(), StoreError> {
    query("UPDATE audit_heads SET hash = $1 WHERE workspace_id = $2")
        .bind(&entry.hash[..])
        .bind(entry.workspace.as_str())
        .execute(&mut *connection)
        .await
        .map_err(failure(STORE))?;
    query("INSERT INTO audit_outbox (workspace_id, sequence, hash) VALUES ($1, $2, $3)")
        .bind(entry.workspace.as_str())
        .bind(to_column(entry.sequence))
        .bind(&entry.hash[..])
        .execute(connection)
        .await
        .map_err(failure(STORE))?;
    Ok(())
}
