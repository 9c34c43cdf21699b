//! `ConfigurationService`: a workspace as a whole.
//!
//! Inward, names become ids: present ones, or such as are drawn for what is new. Outward, ids become
//! names again. What differs, and the one transaction, are the engine's.

mod dates;
mod names;
mod read;
mod show;

use std::collections::HashSet;
use std::sync::Arc;

use prost::Message;
use rateguard_core::ids::KeyId;
use rateguard_engine::engine::Engine;
use rateguard_engine::error::{EngineError, Reason};
use rateguard_engine::manage::Difference;
use rateguard_engine::ports::{Resource, ResourceKind, Stored};
use rateguard_engine::secrets::SecretText;
use rateguard_proto::v1;
use rateguard_proto::v1::configuration_service_server::ConfigurationService;
use tonic::{Request, Response, Status};

use super::answer;
use super::managed::{Desk, at_desk, to_the_end};
use crate::convert::{etag, etag_version, missing};
use crate::details::MESSAGE_BYTES_MAX;
use names::Names;
use read::{Intent, read};
use show::{configuration, differences};

/// The service over the engine.
pub struct Configurations(pub Arc<Engine>);

#[tonic::async_trait]
impl ConfigurationService for Configurations {
    async fn export_workspace(
        &self,
        request: Request<v1::ExportWorkspaceRequest>,
    ) -> Result<Response<v1::ExportWorkspaceResponse>, Status> {
        let (desk, _) = at_desk(&self.0, request)?;
        answer(export(&desk)).await
    }

    async fn apply_workspace(
        &self,
        request: Request<v1::ApplyWorkspaceRequest>,
    ) -> Result<Response<v1::ApplyWorkspaceResponse>, Status> {
        let (desk, message) = at_desk(&self.0, request)?;
        answer(apply(&desk, message)).await
    }
}

async fn export(desk: &Desk<'_>) -> Result<v1::ExportWorkspaceResponse, EngineError> {
    let state = desk.engine.workspace_state(&desk.who).await?;
    let names = Names::of(&state.resources);
    let configuration = configuration(desk, &names, state.resources.iter().cloned());
    check_fits(&configuration, MESSAGE_BYTES_MAX)?;
    Ok(v1::ExportWorkspaceResponse { configuration: Some(configuration), etag: etag(state.revision) })
}

/// What is exported can be applied: no message is taken that is larger.
fn check_fits(configuration: &v1::WorkspaceConfiguration, bytes_max: usize) -> Result<(), EngineError> {
    if configuration.encoded_len() <= bytes_max {
        return Ok(());
    }
    let message = format!("a workspace of more than {bytes_max} bytes is not one message");
    Err(EngineError::new(Reason::QueryTooLarge, message))
}

async fn apply(
    desk: &Desk<'_>,
    message: v1::ApplyWorkspaceRequest,
) -> Result<v1::ApplyWorkspaceResponse, EngineError> {
    let wanted = message.configuration.ok_or_else(|| missing("configuration"))?;
    check_facts(desk, &wanted)?;
    let reviewed = etag_version(&message.etag)?;
    let state = desk.engine.workspace_state(&desk.who).await?;
    let intent = Intent { prune: message.prune, dry_run: message.dry_run };
    let reading = read(desk, &state, wanted, intent)?;
    let applied = desk.engine.compare(&desk.who, &state, &reading.desired)?;
    let mut answer = differences(desk, &reading.names, &applied);
    if message.dry_run {
        return Ok(v1::ApplyWorkspaceResponse { etag: etag(state.revision), ..answer });
    }
    answer.created_keys = created_keys(&reading.names, &applied.differences, &reading.secrets);
    let seen = reviewed.map_or(state.revision, |reviewed| reviewed.min(state.revision));
    let (engine, who) = (desk.engine.clone(), desk.who.clone());
    to_the_end(async move { engine.apply(&who, &applied, seen).await }).await?;
    Ok(answer)
}

/// A configuration of another currency or zone would mean something else here.
fn check_facts(desk: &Desk<'_>, wanted: &v1::WorkspaceConfiguration) -> Result<(), EngineError> {
    let workspace = &desk.view.workspace;
    let differs = |value: &str, own: &str| !value.is_empty() && value != own;
    if differs(&wanted.currency_code, workspace.currency.as_str()) {
        let message = format!("the workspace's currency is {}, which cannot change", workspace.currency);
        return Err(EngineError::field(Reason::CurrencyMismatch, "configuration.currency_code", message));
    }
    if differs(&wanted.time_zone, workspace.zone.name()) {
        let message = format!("the workspace's time zone is {}, which cannot change", workspace.zone.name());
        return Err(EngineError::field(Reason::FieldConflict, "configuration.time_zone", message));
    }
    Ok(())
}

fn created_keys(
    names: &Names,
    differences: &[Difference],
    secrets: &[(KeyId, SecretText)],
) -> Vec<v1::CreatedKey> {
    let new_ids: HashSet<&str> = differences
        .iter()
        .filter(|difference| difference.before.is_none())
        .filter_map(|difference| Some(difference.after.as_ref()?.id()))
        .collect();
    let created = |(id, secret): &(KeyId, SecretText)| v1::CreatedKey {
        name: names.name(ResourceKind::Key, id.as_str()).to_owned(),
        // The one time that anybody but its owner sees it.
        secret: Some(v1::SecretText { value: secret.expose().to_owned() }),
    };
    secrets.iter().filter(|(id, _)| new_ids.contains(id.as_str())).map(created).collect()
}

/// A resource that is not stored yet, for where only its content is shown.
fn unstored(desk: &Desk<'_>, value: Resource) -> Stored<Resource> {
    let (workspace, now) = (desk.view.workspace.id.clone(), desk.engine.now());
    Stored { workspace, value, version: 0, created_at: now, updated_at: now }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_message_has_room_for_is_not_exported() {
        let rules = vec![v1::Rule { display_name: "a rule".to_owned(), ..v1::Rule::default() }];
        let configuration = v1::WorkspaceConfiguration { rules, ..v1::WorkspaceConfiguration::default() };
        let bytes = configuration.encoded_len();
        assert_eq!(check_fits(&configuration, bytes), Ok(()));
        assert_eq!(check_fits(&configuration, bytes - 1).unwrap_err().reason, Reason::QueryTooLarge);
    }
}
