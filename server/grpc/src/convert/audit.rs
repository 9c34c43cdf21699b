//! Entries of the audit trail.

use rateguard_core::time::Millis;
use rateguard_engine::audit::{AuditEntry, AuditKind};
use rateguard_engine::error::EngineError;
use rateguard_engine::ports::AuditFilter;
use rateguard_proto::v1;

use super::{conflict, enumeration, instant, name, timestamp};

/// Which entries.
///
/// # Errors
/// FIELD_OUT_OF_BOUNDS, FIELD_MALFORMED, FIELD_CONFLICT.
pub fn audit_filter(message: v1::AuditEntryFilter) -> Result<AuditFilter, EngineError> {
    let start = message.start_time.as_ref().map(|at| instant("filter.start_time", at)).transpose()?;
    let end = message.end_time.as_ref().map(|at| instant("filter.end_time", at)).transpose()?;
    let at = start.unwrap_or(Millis::ZERO)..end.unwrap_or(Millis::new(i64::MAX));
    if at.is_empty() {
        return Err(conflict("filter.end_time", "must be after filter.start_time"));
    }
    Ok(AuditFilter {
        actor_id: Some(name("filter.actor_id", message.actor_id)?).filter(|id| !id.is_empty()),
        kind: kind(enumeration("filter.resource_kind", message.resource_kind)?),
        id: Some(name("filter.resource_id", message.resource_id)?).filter(|id| !id.is_empty()),
        at: (start.is_some() || end.is_some()).then_some(at),
    })
}

/// An entry for the wire.
pub fn audit_entry(entry: AuditEntry) -> v1::AuditEntry {
    v1::AuditEntry {
        sequence: i64::try_from(entry.sequence).unwrap_or(i64::MAX),
        create_time: Some(timestamp(entry.at)),
        actor_kind: actor_kind(&entry.actor_kind).into(),
        actor_id: entry.actor_id,
        method: entry.method,
        resource_kind: resource_kind(&entry.kind).into(),
        resource_id: entry.id,
        before_json: entry.before.unwrap_or_default(),
        after_json: entry.after.unwrap_or_default(),
        ip: entry.ip.unwrap_or_default(),
        user_agent: entry.user_agent.unwrap_or_default(),
        request_id: entry.request_id.unwrap_or_default(),
        previous_hash: hex::encode(entry.previous_hash),
        hash: hex::encode(entry.hash),
    }
}

/// What kind of actor a store's word stands for.
pub fn actor_kind(text: &str) -> v1::AuditActorKind {
    match text {
        "key" => v1::AuditActorKind::Key,
        "person" => v1::AuditActorKind::Person,
        "gateway" => v1::AuditActorKind::Gateway,
        "server" => v1::AuditActorKind::Server,
        _ => v1::AuditActorKind::Unspecified,
    }
}

fn resource_kind(text: &str) -> v1::AuditResourceKind {
    let known = AuditKind::ALL.into_iter().find(|kind| kind.as_str() == text);
    known.map_or(v1::AuditResourceKind::Unspecified, kind_message)
}

fn kind_message(kind: AuditKind) -> v1::AuditResourceKind {
    use v1::AuditResourceKind as M;
    match kind {
        AuditKind::Workspace => M::Workspace,
        AuditKind::Api => M::Api,
        AuditKind::Key => M::Key,
        AuditKind::Rule => M::Rule,
        AuditKind::Budget => M::Budget,
        AuditKind::PriceOverride => M::PriceOverride,
        AuditKind::User => M::User,
        AuditKind::Session => M::Session,
        AuditKind::Member => M::Member,
        AuditKind::Invitation => M::Invitation,
        AuditKind::SigningKey => M::SigningKey,
    }
}

fn kind(message: v1::AuditResourceKind) -> Option<AuditKind> {
    AuditKind::ALL.into_iter().find(|kind| kind_message(*kind) == message)
}
