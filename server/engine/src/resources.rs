//! What people manage besides rules and budgets: workspaces, APIs and keys.

use std::fmt;

use ipnet::IpNet;
use rateguard_core::ids::{ApiId, DisplayName, KeyId, Slug, WorkspaceId};
use rateguard_core::matching::Glob;
use rateguard_core::money::{Currency, Price};
use rateguard_core::pricing::{PriceSheet, UnknownPricePolicy};
use rateguard_core::time::{Millis, Zone};

/// A tenant.
#[derive(Clone, Debug, PartialEq)]
pub struct Workspace {
    /// Its id.
    pub id: WorkspaceId,
    /// Its name.
    pub name: DisplayName,
    /// The zone whose calendar its windows follow unless they name another.
    pub zone: Zone,
    /// The currency of its money.
    pub currency: Currency,
}

/// Whose wire format an API speaks, so that its usage can be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// None that is known: priced per request.
    #[default]
    None,
    /// OpenAI.
    OpenAi,
    /// Anthropic.
    Anthropic,
}

/// How an upstream wants its credential.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum AuthScheme {
    /// Not at all.
    #[default]
    None,
    /// `Authorization: Bearer`.
    Bearer,
    /// `Authorization: Basic`; the credential is `user:password`.
    Basic,
    /// In a header of this name.
    Header(String),
    /// In a query parameter of this name.
    Query(String),
}

/// A credential as it stands in a store: encrypted, with the id of its key in front.
#[derive(Clone, PartialEq, Eq)]
pub struct SealedCredential(pub Vec<u8>);

impl fmt::Debug for SealedCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[sealed]")
    }
}

/// An upstream API.
#[derive(Clone, Debug, PartialEq)]
pub struct Api {
    /// Its id.
    pub id: ApiId,
    /// Its name in paths, unique in the workspace.
    pub slug: Slug,
    /// Its name for people.
    pub display_name: DisplayName,
    /// Where it is: scheme, host, port and a base path.
    pub base_url: String,
    /// Whose wire format it speaks.
    pub dialect: Dialect,
    /// How it wants its credential.
    pub auth: AuthScheme,
    /// The credential; `None` without one.
    pub credential: Option<SealedCredential>,
    /// Where its owner keeps the credential, for whoever applies a configuration: `env:` or `file:`
    /// and a name. Nothing here reads from there.
    pub credential_reference: Option<String>,
    /// Longest wait for the head of its answer.
    pub timeout_ms: i64,
    /// Whether it may be on a private network.
    pub allow_private_upstream: bool,
    /// What a call costs by itself.
    pub price_per_request: Option<Price>,
    /// What happens when a price is not known.
    pub unknown_price: UnknownPricePolicy,
    /// Tokens reserved for an answer whose length the caller does not bound.
    pub output_tokens_default: Option<i64>,
    /// Whether denials and headers may tell end users how much money is spent.
    pub show_spend: bool,
    /// Whether it may be called.
    pub active: bool,
}

/// What a key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Check quota.
    Quota,
    /// Report usage.
    Usage,
    /// Call upstreams through the gateway; opens no RPC.
    Gateway,
    /// Manage resources.
    Manage,
    /// Read resources, events and analytics.
    Read,
}

/// A set of scopes.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Scopes(u8);

impl Scopes {
    /// Every scope, in the order of the contract.
    pub const ALL: [Scope; 5] = [Scope::Quota, Scope::Usage, Scope::Gateway, Scope::Manage, Scope::Read];

    /// The set with one more.
    #[must_use]
    pub fn with(self, scope: Scope) -> Self {
        Self(self.0 | 1 << scope as u8)
    }

    /// Whether a scope is in the set.
    pub fn contains(self, scope: Scope) -> bool {
        self.0 & 1 << scope as u8 != 0
    }

    /// The scopes in the set.
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Self::ALL.into_iter().filter(move |scope| self.contains(*scope))
    }

    /// Whether none is in the set.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Debug for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        scopes.into_iter().fold(Self::default(), Self::with)
    }
}

/// Whether a key is for production or for trying things; a label without other effect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum KeyLabel {
    /// `rg_live_`.
    #[default]
    Live,
    /// `rg_test_`.
    Test,
}

/// An API key. The secret itself is known to its owner alone.
#[derive(Clone, Debug, PartialEq)]
pub struct Key {
    /// Its id.
    pub id: KeyId,
    /// Its name for people.
    pub display_name: DisplayName,
    /// SHA-256 of the secret, unique in the installation.
    pub secret_sha256: [u8; 32],
    /// The secret's first 12 characters.
    pub prefix: String,
    /// The secret before, since a rotation.
    pub previous: Option<PreviousSecret>,
    /// Live or test.
    pub label: KeyLabel,
    /// What it may do.
    pub scopes: Scopes,
    /// The APIs it may call; empty for all.
    pub apis: Vec<ApiId>,
    /// The models it may ask for; empty for all.
    pub models: Vec<Glob>,
    /// Where it may be used from; empty for anywhere.
    pub ip_ranges: Vec<IpNet>,
    /// The one subject it is bound to.
    pub bound_subject: Option<String>,
    /// Whether calls through the gateway may name their subject.
    pub allow_subject_header: bool,
    /// When it stops working.
    pub expires_at: Option<Millis>,
    /// Whether it works at all.
    pub active: bool,
}

/// The secret that a rotation has replaced. It is kept after its end too, so that whoever still uses it
/// learns why it is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreviousSecret {
    /// SHA-256 of the secret.
    pub secret_sha256: [u8; 32],
    /// Its first 12 characters.
    pub prefix: String,
    /// From when on it opens nothing.
    pub until: Millis,
}

impl Key {
    /// The hashes under which the key is known: of its secret, and of the one before.
    pub fn hashes(&self) -> impl Iterator<Item = [u8; 32]> {
        std::iter::once(self.secret_sha256).chain(self.previous.iter().map(|secret| secret.secret_sha256))
    }

    /// When the secret with this hash stops working, whatever becomes of the key: only one that was
    /// replaced does.
    pub fn secret_until(&self, secret_sha256: &[u8; 32]) -> Option<Millis> {
        let previous = self.previous.as_ref()?;
        (previous.secret_sha256 == *secret_sha256 && self.secret_sha256 != *secret_sha256)
            .then_some(previous.until)
    }

    /// A live key without restrictions. Its id, its hash and its prefix are drawn with its secret.
    pub fn plain(display_name: DisplayName, scopes: Scopes) -> Self {
        Self {
            id: KeyId::from_random([0; 16]),
            display_name,
            secret_sha256: [0; 32],
            prefix: String::new(),
            previous: None,
            label: KeyLabel::Live,
            scopes,
            apis: Vec::new(),
            models: Vec::new(),
            ip_ranges: Vec::new(),
            bound_subject: None,
            allow_subject_header: false,
            expires_at: None,
            active: true,
        }
    }
}

/// A price of the workspace's own, in force from an instant on.
#[derive(Clone, Debug, PartialEq)]
pub struct PriceOverride {
    /// The price; its `reference` carries the override's id and version.
    pub sheet: PriceSheet,
}
