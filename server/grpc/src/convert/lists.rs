//! What lists can be narrowed to. Whatever is empty narrows nothing.

use rateguard_core::ids::{ApiId, KeyId};
use rateguard_core::limits::DISPLAY_NAME_BYTES_MAX;
use rateguard_engine::error::EngineError;
use rateguard_engine::listing::TextPart;
use rateguard_engine::manage::{ResourceFilter, ResourceState};
use rateguard_engine::people::{
    EMAIL_BYTES_MAX, InvitationFilter, MemberFilter, Role, SessionFilter, WorkspaceFilter,
};
use rateguard_engine::secrets::KEY_PREFIX_CHARS;
use rateguard_proto::v1;

use super::people::{role, workspace_id};
use super::{bounded_text, enumeration, out_of_bounds, text};

/// The APIs that a request means.
///
/// # Errors
/// [`Reason::FieldMalformed`] and [`Reason::FieldOutOfBounds`], here and below.
///
/// [`Reason::FieldMalformed`]: rateguard_engine::error::Reason::FieldMalformed
/// [`Reason::FieldOutOfBounds`]: rateguard_engine::error::Reason::FieldOutOfBounds
pub fn api_filter(request: &v1::ListApisRequest) -> Result<ResourceFilter, EngineError> {
    named(request.state, &request.display_name_contains)
}

/// The keys that a request means.
///
/// # Errors
/// As [`api_filter`].
pub fn key_filter(request: &v1::ListKeysRequest) -> Result<ResourceFilter, EngineError> {
    Ok(ResourceFilter {
        key_prefix: key_prefix(&request.prefix)?,
        ..calls(
            named(request.state, &request.display_name_contains)?,
            (&request.api_id, ""),
            (&request.model, &request.subject),
        )?
    })
}

/// The rules that a request means.
///
/// # Errors
/// As [`api_filter`].
pub fn rule_filter(request: &v1::ListRulesRequest) -> Result<ResourceFilter, EngineError> {
    let filter = named(request.state, &request.display_name_contains)?;
    calls(filter, (&request.api_id, &request.key_id), (&request.model, &request.subject))
}

/// The budgets that a request means.
///
/// # Errors
/// As [`api_filter`].
pub fn budget_filter(request: &v1::ListBudgetsRequest) -> Result<ResourceFilter, EngineError> {
    let filter = named(request.state, &request.display_name_contains)?;
    calls(filter, (&request.api_id, &request.key_id), (&request.model, &request.subject))
}

/// The members that a request means.
///
/// # Errors
/// As [`api_filter`].
pub fn member_filter(request: &v1::ListMembersRequest) -> Result<MemberFilter, EngineError> {
    Ok(MemberFilter {
        name: name_part(&request.display_name_contains)?,
        email: email_part(&request.email_contains)?,
        role: optional_role(request.role)?,
    })
}

/// The invitations that a request means.
///
/// # Errors
/// As [`api_filter`].
pub fn invitation_filter(request: &v1::ListInvitationsRequest) -> Result<InvitationFilter, EngineError> {
    Ok(InvitationFilter { email: email_part(&request.email_contains)?, role: optional_role(request.role)? })
}

/// The workspaces that a request means.
///
/// # Errors
/// As [`api_filter`].
pub fn workspace_filter(request: &v1::ListWorkspacesRequest) -> Result<WorkspaceFilter, EngineError> {
    Ok(WorkspaceFilter {
        name: name_part(&request.display_name_contains)?,
        role: optional_role(request.role)?,
    })
}

/// The sessions that a request means.
///
/// # Errors
/// As [`api_filter`].
pub fn session_filter(request: &v1::ListSessionsRequest) -> Result<SessionFilter, EngineError> {
    let workspace = given(&request.workspace_id).map(|id| workspace_id("workspace_id", id));
    Ok(SessionFilter { workspace: workspace.transpose()? })
}

fn named(state: i32, name: &str) -> Result<ResourceFilter, EngineError> {
    let state = match enumeration("state", state)? {
        v1::ResourceState::Unspecified => None,
        v1::ResourceState::Active => Some(ResourceState::Active),
        v1::ResourceState::Disabled => Some(ResourceState::Disabled),
        v1::ResourceState::Expired => Some(ResourceState::Expired),
    };
    Ok(ResourceFilter { state, name: name_part(name)?, ..ResourceFilter::default() })
}

/// Narrows a filter to an API and a key, and to a model and a subject.
fn calls(
    filter: ResourceFilter,
    (api, key): (&str, &str),
    (model, subject): (&str, &str),
) -> Result<ResourceFilter, EngineError> {
    Ok(ResourceFilter {
        api: given(api).map(|id| ApiId::parse("api_id", id)).transpose()?,
        key: given(key).map(|id| KeyId::parse("key_id", id)).transpose()?,
        model: given(model).map(|model| text("model", model.to_owned())).transpose()?,
        subject: given(subject).map(|subject| text("subject", subject.to_owned())).transpose()?,
        ..filter
    })
}

fn name_part(name: &str) -> Result<Option<TextPart>, EngineError> {
    part("display_name_contains", name, DISPLAY_NAME_BYTES_MAX)
}

fn email_part(email: &str) -> Result<Option<TextPart>, EngineError> {
    part("email_contains", email, EMAIL_BYTES_MAX)
}

fn part(field: &str, value: &str, bytes_max: usize) -> Result<Option<TextPart>, EngineError> {
    let bounded = given(value).map(|value| bounded_text(field, value.to_owned(), bytes_max));
    Ok(bounded.transpose()?.as_deref().map(TextPart::new))
}

/// No more of a key than is shown: whoever sends a whole one has told a secret, and is not answered.
fn key_prefix(prefix: &str) -> Result<Option<String>, EngineError> {
    if prefix.chars().count() > KEY_PREFIX_CHARS {
        return Err(out_of_bounds("prefix", format!("must be at most {KEY_PREFIX_CHARS} characters")));
    }
    given(prefix).map(|prefix| text("prefix", prefix.to_owned())).transpose()
}

fn optional_role(value: i32) -> Result<Option<Role>, EngineError> {
    if value == i32::from(v1::Role::Unspecified) { Ok(None) } else { role("role", value).map(Some) }
}

fn given(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}
