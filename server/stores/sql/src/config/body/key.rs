//! A key's row. Its secret is a hash in a column of its own.

use rateguard_core::ids::{ApiId, DisplayName, KeyId};
use rateguard_core::invalid::Invalid;
use rateguard_core::matching::Glob;
use rateguard_core::time::Millis;
use rateguard_engine::resources::{Key, KeyLabel, Scope};
use serde::{Deserialize, Serialize};

use super::limit::ip_ranges;
use super::parse_all;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyBody {
    display_name: String,
    prefix: String,
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
