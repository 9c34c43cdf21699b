//! Leads in SQL: a row for each limit, with its lead and its losses in a compact encoding.

use futures::TryStreamExt;
use rateguard_core::counter::CounterFamily;
use rateguard_core::ids::WorkspaceId;
use rateguard_engine::ports::{LeadRow, Loss, StoreError};
use sqlx::Error;

use super::bytes::{Malformed, Reader, Writer};
use super::state::{read_millis, read_natural, write_millis};
use super::{ROWS_PER_STATEMENT, STORE, corrupt};
use crate::database::{Connection, QueryBuilder, Row, failure, query};

/// The shape of leads as they are written now.
const VERSION: u8 = 1;

/// Writes leads; those of nothing that owe nothing are dropped.
pub(super) async fn save(connection: &mut Connection, leads: &[LeadRow]) -> Result<(), StoreError> {
    let stays = |lead: &&LeadRow| lead.units > 0 || !lead.losses.is_empty();
    let (kept, dropped): (Vec<&LeadRow>, Vec<&LeadRow>) = leads.iter().partition(stays);
    for leads in kept.chunks(ROWS_PER_STATEMENT) {
        upsert(connection, leads).await?;
    }
    for leads in dropped.chunks(ROWS_PER_STATEMENT) {
        delete(connection, leads).await?;
    }
    Ok(())
}

async fn upsert(connection: &mut Connection, leads: &[&LeadRow]) -> Result<(), StoreError> {
    let mut query = QueryBuilder::new("INSERT INTO leads (workspace_id, family, state) ");
    query.push_values(leads, |mut values, lead| {
        values.push_bind(lead.workspace.as_str()).push_bind(i64::from(lead.family.0));
        values.push_bind(encode(lead));
    });
    query.push(" ON CONFLICT (workspace_id, family) DO UPDATE SET state = excluded.state");
    query.build().execute(connection).await.map_err(failure(STORE))?;
    Ok(())
}

async fn delete(connection: &mut Connection, leads: &[&LeadRow]) -> Result<(), StoreError> {
    let mut query = QueryBuilder::new("DELETE FROM leads WHERE (workspace_id, family) IN (");
    query.push_values(leads, |mut values, lead| {
        values.push_bind(lead.workspace.as_str()).push_bind(i64::from(lead.family.0));
    });
    query.push(")");
    query.build().execute(connection).await.map_err(failure(STORE))?;
    Ok(())
}

/// Reads all leads.
pub(super) async fn read(connection: &mut Connection) -> Result<Vec<LeadRow>, StoreError> {
    query("SELECT workspace_id, family, state FROM leads ORDER BY workspace_id, family")
        .fetch(connection)
        .map_err(failure(STORE))
        .and_then(|row| async move { lead_row(&row) })
        .try_collect()
        .await
}

fn lead_row(row: &Row) -> Result<LeadRow, StoreError> {
    let parts =
        || -> Result<(&str, i64, &[u8]), Error> { Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?)) };
    let (workspace, family, bytes) = parts().map_err(failure(STORE))?;
    let of_lead = |what: String| corrupt(format!("lead {family} of {workspace}: {what}"));
    let owner = WorkspaceId::parse("workspace_id", workspace).map_err(|e| of_lead(e.to_string()))?;
    let number = u32::try_from(family).map_err(|_| of_lead("its family is not 32 bits".to_owned()))?;
    decode(owner, CounterFamily(number), bytes).map_err(|e| of_lead(e.to_string()))
}

fn encode(lead: &LeadRow) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.byte(VERSION);
    writer.signed(lead.units.into());
    writer.signed(lead.span_ms.into());
    writer.unsigned(lead.losses.len() as u128);
    for Loss { crash, at, units } in &lead.losses {
        writer.unsigned((*crash).into());
        write_millis(&mut writer, *at);
        writer.signed((*units).into());
    }
    writer.finish()
}

fn decode(workspace: WorkspaceId, family: CounterFamily, bytes: &[u8]) -> Result<LeadRow, Malformed> {
    let mut reader = Reader::new(bytes);
    if reader.byte("version")? != VERSION {
        return Err(Malformed("version"));
    }
    let (units, span_ms) = (read_natural(&mut reader, "lead")?, read_natural(&mut reader, "span")?);
    let mut losses = Vec::new();
    for _ in 0..reader.length("number of losses")? {
        losses.push(read_loss(&mut reader)?);
    }
    reader.finish()?;
    Ok(LeadRow { workspace, family, units, span_ms, losses })
}

fn read_loss(reader: &mut Reader<'_>) -> Result<Loss, Malformed> {
    let crash = u32::try_from(reader.unsigned("crash")?).map_err(|_| Malformed("crash"))?;
    Ok(Loss { crash, at: read_millis(reader, "instant")?, units: read_natural(reader, "loss")? })
}
