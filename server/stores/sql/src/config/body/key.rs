//! A key's row. Its secret is a hash in a column of its own.

use rateguard_core::ids::{ApiId, DisplayName, KeyId};
use rateguard_core::invalid::Invalid;
use rateguard_core::matching::Glob;
use rateguard_core::time::Millis;
use rateguard_engine::resources::{Key, KeyLabel, PreviousSecret, Scope};
use serde::{Deserialize, Serialize};

use super::limit::ip_ranges;
use super::parse_all;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyBody {
    display_name: String,
    prefix: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    previous: Option<PreviousBody>,
    label: LabelBody,
    scopes: Vec<ScopeBody>,
    apis: Vec<String>,
    models: Vec<String>,
    ip_ranges: Vec<String>,
    bound_subject: Option<String>,
    allow_subject_header: bool,
    expires_at_ms: Option<i64>,
    active: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PreviousBody {
    sha256_hex: String,
    prefix: String,
    until_ms: i64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum LabelBody {
    Live,
    Test,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ScopeBody {
    Quota,
    Usage,
    Gateway,
    Manage,
    Read,
}

impl From<&Key> for KeyBody {
    fn from(key: &Key) -> Self {
        Self {
            display_name: key.display_name.as_str().to_owned(),
            prefix: key.prefix.clone(),
            previous: key.previous.as_ref().map(PreviousBody::from),
            label: match key.label {
                KeyLabel::Live => LabelBody::Live,
                KeyLabel::Test => LabelBody::Test,
            },
            scopes: key.scopes.iter().map(ScopeBody::from).collect(),
            apis: key.apis.iter().map(ToString::to_string).collect(),
            models: key.models.iter().map(|glob| glob.as_str().to_owned()).collect(),
            ip_ranges: key.ip_ranges.iter().map(ToString::to_string).collect(),
            bound_subject: key.bound_subject.clone(),
            allow_subject_header: key.allow_subject_header,
            expires_at_ms: key.expires_at.map(Millis::get),
            active: key.active,
        }
    }
}

impl KeyBody {
    pub(super) fn into_key(self, id: &str, secret_sha256: &[u8]) -> Result<Key, Invalid> {
        let malformed = |_| Invalid::new("secret_sha256", "must be 32 bytes");
        Ok(Key {
            id: KeyId::parse("id", id)?,
            display_name: DisplayName::parse("display_name", &self.display_name)?,
            secret_sha256: secret_sha256.try_into().map_err(malformed)?,
            prefix: self.prefix,
            previous: self.previous.map(PreviousBody::into_previous).transpose()?,
            label: match self.label {
                LabelBody::Live => KeyLabel::Live,
                LabelBody::Test => KeyLabel::Test,
            },
            scopes: self.scopes.into_iter().map(Scope::from).collect(),
            apis: parse_all(&self.apis, ApiId::parse, "apis")?,
            models: parse_all(&self.models, Glob::parse, "models")?,
            ip_ranges: ip_ranges(&self.ip_ranges)?,
            bound_subject: self.bound_subject,
            allow_subject_header: self.allow_subject_header,
            expires_at: self.expires_at_ms.map(Millis::new),
            active: self.active,
        })
    }
}

impl From<&PreviousSecret> for PreviousBody {
    fn from(previous: &PreviousSecret) -> Self {
        Self {
            sha256_hex: hex::encode(previous.secret_sha256),
            prefix: previous.prefix.clone(),
            until_ms: previous.until.get(),
        }
    }
}

impl PreviousBody {
    fn into_previous(self) -> Result<PreviousSecret, Invalid> {
        let mut secret_sha256 = [0; 32];
        hex::decode_to_slice(&self.sha256_hex, &mut secret_sha256)
            .map_err(|_| Invalid::new("previous.sha256_hex", "must be 32 bytes in hexadecimal digits"))?;
        Ok(PreviousSecret { secret_sha256, prefix: self.prefix, until: Millis::new(self.until_ms) })
    }
}

impl From<Scope> for ScopeBody {
    fn from(scope: Scope) -> Self {
        match scope {
            Scope::Quota => Self::Quota,
            Scope::Usage => Self::Usage,
            Scope::Gateway => Self::Gateway,
            Scope::Manage => Self::Manage,
            Scope::Read => Self::Read,
        }
    }
}

impl From<ScopeBody> for Scope {
    fn from(body: ScopeBody) -> Self {
        match body {
            ScopeBody::Quota => Self::Quota,
            ScopeBody::Usage => Self::Usage,
            ScopeBody::Gateway => Self::Gateway,
            ScopeBody::Manage => Self::Manage,
            ScopeBody::Read => Self::Read,
        }
    }
}
