//! Who may call each method, as the contract declares it beside the method.
//!
//! The table is made by the build script, which fails for a method without a declaration and for one
//! that contradicts itself: what stands here is whole.

use crate::v1::{GatewayUse, KeyScope, Role};

/// Who may call a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Whoever asks, without a credential.
    Everybody,
    /// A person who is logged in, whatever their role and in whichever workspace.
    AnyPerson,
    /// Those who are named, each by what they come with.
    Named(Named),
}

/// Whoever one of these lets in; never nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named {
    /// A key that has one of these scopes; no key where empty.
    pub key_scopes: &'static [KeyScope],
    /// A person with this role in the workspace or one above it; `None`: no person.
    pub least_role: Option<Role>,
    /// A gateway, by the credential of its own; `None`: no gateway.
    pub gateway_use: Option<GatewayUse>,
}

/// A method and who may call it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Method {
    /// As HTTP/2 has it: `/rateguard.v1.QuotaService/CheckQuota`.
    pub path: &'static str,
    /// Who may call it.
    pub access: Access,
}

impl Method {
    /// The service's full name and the method's name.
    pub fn names(&self) -> (&'static str, &'static str) {
        self.path.trim_start_matches('/').split_once('/').unwrap_or_default()
    }
}

/// Every method of `rateguard.v1`, `rateguard.internal.v1` and what is spoken of Envoy's, in the order of the paths.
pub const METHODS: &[Method] = include!(concat!(env!("OUT_DIR"), "/access.rs"));

/// The method of a path; `None` for one that the contract does not have.
pub fn method(path: &str) -> Option<Method> {
    let at = METHODS.binary_search_by(|method| method.path.cmp(path)).ok()?;
    METHODS.get(at).copied()
}

/// Who may call the method of a path; `None` for one that the contract does not have.
pub fn of(path: &str) -> Option<Access> {
    method(path).map(|method| method.access)
}
