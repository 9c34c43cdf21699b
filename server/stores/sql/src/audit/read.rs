//! Reading entries: pages for people, and chains for verification.

use rateguard_core::time::Millis;
use rateguard_engine::audit::{AuditEntry, AuditHead};
use rateguard_engine::ports::{AuditFilter, AuditLink, AuditQuery, StoreError};
use sqlx::Error;

use super::{STORE, corrupt, from_column, hash_of, to_column};
use crate::database::{Connection, QueryBuilder, Row, failure, push_part, query};

const SELECT: &str = "SELECT workspace_id, sequence, changed_at, actor_kind, actor_id, method, kind, id, \
                      state_before, state_after, ip, user_agent, request_id, previous_hash, hash FROM audit_entries \
                      WHERE workspace_id = ";

pub(super) async fn page(
    connection: &mut Connection,
    chain: &str,
    query: &AuditQuery,
) -> Result<Vec<AuditEntry>, StoreError> {
    let mut select = QueryBuilder::new(SELECT);
    select.push_bind(chain.to_owned());
    push_filter(&mut select, &query.filter);
    push_part(&mut select, &query.part);
    let rows = select.build().fetch_all(connection).await.map_err(failure(STORE))?;
    let read = |row: &Row| {
        let unreadable = |error| corrupt(format!("an entry of the chain {chain:?} cannot be read: {error}"));
        entry(row).map_err(unreadable)
    };
    rows.iter().map(read).collect()
}

fn push_filter(select: &mut QueryBuilder, filter: &AuditFilter) {
    if let Some(actor) = &filter.actor_id {
        select.push(" AND actor_id = ").push_bind(actor.clone());
    }
    if let Some(kind) = filter.kind {
        select.push(" AND kind = ").push_bind(kind.as_str());
    }
    if let Some(id) = &filter.id {
        select.push(" AND id = ").push_bind(id.clone());
    }
    if let Some(at) = &filter.at {
        select.push(" AND changed_at >= ").push_bind(at.start.get());
        select.push(" AND changed_at < ").push_bind(at.end.get());
    }
}

pub(super) async fn heads(connection: &mut Connection) -> Result<Vec<AuditHead>, StoreError> {
    let sql = "SELECT workspace_id, sequence, hash FROM audit_heads ORDER BY workspace_id";
    let rows = query(sql).fetch_all(connection).await.map_err(failure(STORE))?;
    rows.iter().map(head).collect()
}

/// One step of a walk over the first column of the primary key, which reads one row and not the table.
pub(super) async fn chain_after(
    connection: &mut Connection,
    chain: Option<&str>,
) -> Result<Option<String>, StoreError> {
    let mut select = QueryBuilder::new("SELECT workspace_id FROM audit_entries");
    if let Some(chain) = chain {
        select.push(" WHERE workspace_id > ").push_bind(chain.to_owned());
    }
    select.push(" ORDER BY workspace_id LIMIT 1");
    let row = select.build().fetch_optional(connection).await.map_err(failure(STORE))?;
    row.map(|row| row.try_get("workspace_id").map_err(failure(STORE))).transpose()
}

pub(super) async fn chain(
    connection: &mut Connection,
    chain: &str,
    after: u64,
    limit: usize,
) -> Result<Vec<AuditLink>, StoreError> {
    let mut select = QueryBuilder::new(SELECT);
    select.push_bind(chain.to_owned()).push(" AND sequence > ").push_bind(to_column(after));
    select.push(" ORDER BY sequence LIMIT ").push_bind(i64::try_from(limit).unwrap_or(i64::MAX));
    let rows = select.build().fetch_all(connection).await.map_err(failure(STORE))?;
    rows.iter().map(link).collect()
}

fn link(row: &Row) -> Result<AuditLink, StoreError> {
    let sequence = from_column(row.try_get("sequence").map_err(failure(STORE))?)?;
    // Whatever somebody has put into the other columns is a finding about this entry, not a failure.
    Ok(entry(row).map_or(AuditLink::Unreadable { sequence }, |entry| AuditLink::Entry(Box::new(entry))))
}

fn entry(row: &Row) -> Result<AuditEntry, Error> {
    let hash = |column| {
        let bytes: Vec<u8> = row.try_get(column)?;
        bytes.try_into().map_err(|_| Error::Decode(format!("{column} is not 32 bytes").into()))
    };
    let sequence: i64 = row.try_get("sequence")?;
    Ok(AuditEntry {
        workspace: row.try_get("workspace_id")?,
        sequence: u64::try_from(sequence).map_err(|error| Error::Decode(error.into()))?,
        at: Millis::new(row.try_get("changed_at")?),
        actor_kind: row.try_get("actor_kind")?,
        actor_id: row.try_get("actor_id")?,
        method: row.try_get("method")?,
        kind: row.try_get("kind")?,
        id: row.try_get("id")?,
        before: row.try_get("state_before")?,
        after: row.try_get("state_after")?,
        ip: row.try_get("ip")?,
        user_agent: row.try_get("user_agent")?,
        request_id: row.try_get("request_id")?,
        previous_hash: hash("previous_hash")?,
        hash: hash("hash")?,
    })
}

pub(super) async fn unwitnessed(
    connection: &mut Connection,
    chain: &str,
) -> Result<Vec<AuditHead>, StoreError> {
    let sql = "SELECT workspace_id, sequence, hash FROM audit_outbox WHERE workspace_id = $1";
    let rows = query(sql).bind(chain).fetch_all(connection).await.map_err(failure(STORE))?;
    rows.iter().map(head).collect()
}

/// A place and its hash.
pub(super) fn head(row: &Row) -> Result<AuditHead, StoreError> {
    Ok(AuditHead {
        workspace: row.try_get("workspace_id").map_err(failure(STORE))?,
        sequence: from_column(row.try_get("sequence").map_err(failure(STORE))?)?,
        hash: hash_of(row.try_get("hash").map_err(failure(STORE))?)?,
    })
}
