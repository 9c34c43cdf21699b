//! People: accounts, sessions, workspaces, members and invitations.

use rateguard_core::ids::{DisplayName, SessionId, UserId, WorkspaceId};
use rateguard_core::limits::SECRET_BYTES_MAX;
use rateguard_core::money::Currency;
use rateguard_core::time::Zone;
use rateguard_engine::error::EngineError;
use rateguard_engine::people::{EMAIL_BYTES_MAX, EmailAddress, Grant, NewAccount, Role};
use rateguard_engine::ports::{Invitation, Member, Membership, Session, StoredWorkspace, User};
use rateguard_engine::secrets::SecretText;
use rateguard_proto::v1;

use super::{enumeration, etag, missing, out_of_bounds, timestamp, zone};

/// The currency of a workspace whose owner names none.
const CURRENCY_DEFAULT: Currency = Currency::USD;

/// An e-mail address.
///
/// # Errors
/// FIELD_MISSING, FIELD_OUT_OF_BOUNDS.
pub fn email(field: &'static str, text: &str) -> Result<EmailAddress, EngineError> {
    match text.len() {
        0 => Err(missing(field)),
        1..=EMAIL_BYTES_MAX => Ok(EmailAddress::parse(field, text)?),
        _ => Err(out_of_bounds(field, format!("must be at most {EMAIL_BYTES_MAX} bytes"))),
    }
}

/// A secret that must be there.
///
/// # Errors
/// FIELD_MISSING, FIELD_OUT_OF_BOUNDS.
pub fn secret(field: &str, message: Option<v1::SecretText>) -> Result<SecretText, EngineError> {
    optional_secret(field, message)?.ok_or_else(|| missing(field))
}

/// A secret that may be left out.
///
/// # Errors
/// FIELD_OUT_OF_BOUNDS.
pub fn optional_secret(
    field: &str,
    message: Option<v1::SecretText>,
) -> Result<Option<SecretText>, EngineError> {
    let text = message.map(|message| message.value).filter(|text| !text.is_empty());
    match text {
        Some(text) if text.len() > SECRET_BYTES_MAX => {
            Err(out_of_bounds(field, format!("must be at most {SECRET_BYTES_MAX} bytes")))
        }
        text => Ok(text.map(SecretText::new)),
    }
}

/// A secret for the wire, to the one who may have it.
pub fn secret_message(secret: &SecretText) -> v1::SecretText {
    // Made for this answer.
    v1::SecretText { value: secret.expose().to_owned() }
}

/// A role that must be one.
///
/// # Errors
/// FIELD_MISSING, FIELD_MALFORMED.
pub fn role(field: &str, value: i32) -> Result<Role, EngineError> {
    role_of(enumeration(field, value)?).ok_or_else(|| missing(field))
}

/// A role of the contract; `None` for none.
pub fn role_of(role: v1::Role) -> Option<Role> {
    match role {
        v1::Role::Unspecified => None,
        v1::Role::Viewer => Some(Role::Viewer),
        v1::Role::Member => Some(Role::Member),
        v1::Role::Admin => Some(Role::Admin),
        v1::Role::Owner => Some(Role::Owner),
    }
}

/// A role for the wire; none is ROLE_UNSPECIFIED.
pub fn role_message(role: Option<Role>) -> i32 {
    let message = match role {
        None => v1::Role::Unspecified,
        Some(Role::Viewer) => v1::Role::Viewer,
        Some(Role::Member) => v1::Role::Member,
        Some(Role::Admin) => v1::Role::Admin,
        Some(Role::Owner) => v1::Role::Owner,
    };
    message.into()
}

/// A person's id.
///
/// # Errors
/// FIELD_MISSING, FIELD_OUT_OF_BOUNDS.
pub fn user_id(field: &'static str, text: &str) -> Result<UserId, EngineError> {
    if text.is_empty() { Err(missing(field)) } else { Ok(UserId::parse(field, text)?) }
}

/// A workspace's id.
///
/// # Errors
/// FIELD_MISSING, FIELD_OUT_OF_BOUNDS.
pub fn workspace_id(field: &'static str, text: &str) -> Result<WorkspaceId, EngineError> {
    if text.is_empty() { Err(missing(field)) } else { Ok(WorkspaceId::parse(field, text)?) }
}

/// A session's id.
///
/// # Errors
/// FIELD_MISSING, FIELD_OUT_OF_BOUNDS.
pub fn session_id(field: &'static str, text: &str) -> Result<SessionId, EngineError> {
    if text.is_empty() { Err(missing(field)) } else { Ok(SessionId::parse(field, text)?) }
}

/// A time zone and a currency, each with its default.
///
/// # Errors
/// FIELD_OUT_OF_BOUNDS, FIELD_MALFORMED.
pub fn zone_and_currency(time_zone: String, currency_code: &str) -> Result<(Zone, Currency), EngineError> {
    let zone = zone("time_zone", time_zone)?.unwrap_or(Zone::UTC);
    let currency = match currency_code {
        "" => CURRENCY_DEFAULT,
        code => Currency::parse("currency_code", code)?,
    };
    Ok((zone, currency))
}

/// Who wants an account.
///
/// # Errors
/// Those of its fields.
pub fn new_account(message: v1::RegisterRequest) -> Result<NewAccount, EngineError> {
    let display_name = DisplayName::parse("display_name", &message.display_name)?;
    let workspace_name = match message.workspace_display_name.as_str() {
        "" => display_name.clone(),
        name => DisplayName::parse("workspace_display_name", name)?,
    };
    let (zone, currency) = zone_and_currency(message.time_zone, &message.currency_code)?;
    Ok(NewAccount {
        email: email("email", &message.email)?,
        password: secret("password", message.password)?,
        display_name,
        invitation: optional_secret("invitation_token", message.invitation_token)?,
        workspace_name,
        zone,
        currency,
    })
}

/// An account for the wire.
pub fn user_message(user: &User) -> v1::User {
    v1::User {
        id: user.id.to_string(),
        email: user.email.to_string(),
        display_name: user.display_name.to_string(),
        create_time: Some(timestamp(user.created_at)),
    }
}

/// A membership as the person sees it.
pub fn membership_message((membership, stored): &(Membership, StoredWorkspace)) -> v1::Membership {
    v1::Membership {
        workspace_id: membership.workspace.to_string(),
        workspace_display_name: stored.workspace.name.to_string(),
        role: role_message(Some(membership.role)),
        join_time: Some(timestamp(membership.joined_at)),
    }
}

/// A workspace as a person with a role in it sees it.
pub fn workspace_message(stored: &StoredWorkspace, role: Role) -> v1::Workspace {
    v1::Workspace {
        id: stored.workspace.id.to_string(),
        display_name: stored.workspace.name.to_string(),
        time_zone: stored.workspace.zone.name().to_owned(),
        currency_code: stored.workspace.currency.as_str().to_owned(),
        role: role_message(Some(role)),
        etag: etag(stored.version),
        create_time: Some(timestamp(stored.created_at)),
        update_time: Some(timestamp(stored.updated_at)),
    }
}

/// A session, seen by the person of the session `present`.
pub fn session_message(session: &Session, present: &SessionId) -> v1::Session {
    v1::Session {
        id: session.id.to_string(),
        workspace_id: session.workspace.as_ref().map(ToString::to_string).unwrap_or_default(),
        user_agent: session.user_agent.clone(),
        ip: session.ip.map(|ip| ip.to_string()).unwrap_or_default(),
        current: session.id == *present,
        create_time: Some(timestamp(session.created_at)),
        refresh_time: Some(timestamp(session.refreshed_at)),
        expire_time: Some(timestamp(session.expires_at)),
    }
}

/// Tokens for the wire, with the refresh token that is in the grant.
pub fn grant_message(grant: &Grant) -> v1::AccessGrant {
    v1::AccessGrant {
        access_token: Some(secret_message(&grant.access)),
        access_expire_time: Some(timestamp(grant.access_expires_at)),
        refresh_token: grant.refresh.as_ref().map(secret_message),
        refresh_expire_time: grant.refresh_expires_at.map(timestamp),
        workspace_id: grant.place.as_ref().map(|(workspace, _)| workspace.to_string()).unwrap_or_default(),
        role: role_message(grant.place.as_ref().map(|(_, role)| *role)),
    }
}

/// A member for the wire.
pub fn member_message(member: &Member) -> v1::Member {
    v1::Member {
        user_id: member.user.id.to_string(),
        email: member.user.email.to_string(),
        display_name: member.user.display_name.to_string(),
        role: role_message(Some(member.membership.role)),
        etag: etag(member.membership.version),
        join_time: Some(timestamp(member.membership.joined_at)),
    }
}

/// An invitation for the wire.
pub fn invitation_message(invitation: &Invitation) -> v1::Invitation {
    v1::Invitation {
        id: invitation.id.to_string(),
        email: invitation.email.as_ref().map(ToString::to_string).unwrap_or_default(),
        role: role_message(Some(invitation.role)),
        inviter_id: invitation.inviter.to_string(),
        create_time: Some(timestamp(invitation.created_at)),
        expire_time: Some(timestamp(invitation.expires_at)),
    }
}
