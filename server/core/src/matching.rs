//! Which calls a limit applies to, and which values make its counters different.

use std::net::IpAddr;
use std::sync::Arc;

use globset::{GlobBuilder, GlobMatcher};
use ipnet::IpNet;
use smallvec::SmallVec;

use crate::ids::{ApiId, KeyId};
use crate::invalid::Invalid;
use crate::limits::{MATCH_VALUES_MAX, SCOPE_DIMENSIONS_MAX, TEXT_BYTES_MAX};

/// What is known of one call. Empty text means that the caller did not say.
#[derive(Clone, Copy, Debug)]
pub struct CallFacts<'a> {
    /// The key that is charged.
    pub key: &'a KeyId,
    /// The API called, when it is one of the workspace's.
    pub api: Option<&'a ApiId>,
    /// The path within the API.
    pub endpoint: &'a str,
    /// The HTTP or RPC method.
    pub method: &'a str,
    /// The model asked for, or answered by.
    pub model: &'a str,
    /// Who is charged, named by the key's owner.
    pub subject: &'a str,
    /// Where the call comes from.
    pub ip: Option<IpAddr>,
    /// Further facts, by name.
    pub attributes: &'a [(String, String)],
}

impl<'a> CallFacts<'a> {
    fn attribute(&self, name: &str) -> &'a str {
        self.attributes.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }
}

/// Groups of alternatives in one pattern: nested ones grow the expression behind it beyond what can
/// be compiled.
const ALTERNATIVES_MAX: usize = 16;

/// A pattern over paths or model names: `*` stays within a path segment, `**` crosses them.
#[derive(Clone, Debug)]
pub struct Glob {
    text: Arc<str>,
    matcher: GlobMatcher,
}

impl PartialEq for Glob {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Glob {
    /// Compiles a pattern of at most 512 bytes.
    ///
    /// # Errors
    /// [`Invalid`] naming `field` when malformed or too long.
    pub fn parse(field: &'static str, text: &str) -> Result<Self, Invalid> {
        if text.is_empty() || text.len() > TEXT_BYTES_MAX {
            return Err(Invalid::new(field, format!("must be 1 to {TEXT_BYTES_MAX} bytes")));
        }
        if text.bytes().filter(|byte| *byte == b'{').count() > ALTERNATIVES_MAX {
            return Err(Invalid::new(
                field,
                format!("must have at most {ALTERNATIVES_MAX} groups in braces"),
            ));
        }
        GlobBuilder::new(text)
            .literal_separator(true)
            .build()
            .map(|glob| Self { text: text.into(), matcher: glob.compile_matcher() })
            .map_err(|error| Invalid::new(field, format!("is no glob pattern: {}", error.kind())))
    }

    /// The pattern.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What every text begins with that the pattern matches.
    pub(crate) fn beginning(&self) -> &str {
        let plain = self.text.find(['*', '?', '[', '{', '\\']).unwrap_or(self.text.len());
        &self.text[..plain]
    }

    /// Whether the pattern matches all of `text`.
    pub fn matches(&self, text: &str) -> bool {
        self.matcher.is_match(text)
    }
}

/// The calls that a limit applies to: every list that is not empty must hold the call's value.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Match {
    /// APIs.
    pub apis: Vec<ApiId>,
    /// Patterns over the endpoint.
    pub endpoints: Vec<Glob>,
    /// Methods, compared without regard to case.
    pub methods: Vec<String>,
    /// Patterns over the model.
    pub models: Vec<Glob>,
    /// Keys.
    pub keys: Vec<KeyId>,
    /// Ranges of IP addresses.
    pub ip_ranges: Vec<IpNet>,
    /// Subjects.
    pub subjects: Vec<String>,
    /// Attributes with the one value that each must have.
    pub attributes: Vec<(String, String)>,
}

/// The first part of a match that a call did not meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mismatch {
    /// Another API, or none known.
    Api,
    /// No pattern matches the endpoint.
    Endpoint,
    /// Another method.
    Method,
    /// No pattern matches the model.
    Model,
    /// Another key.
    Key,
    /// No range holds the address.
    Ip,
    /// Another subject.
    Subject,
    /// An attribute is missing or differs.
    Attribute,
}

impl Match {
    /// Checks the bounds of every list, and of the texts that have no type of their own.
    ///
    /// # Errors
    /// [`Invalid`] naming the list that is too long, or holds a text that is.
    pub fn check(&self) -> Result<(), Invalid> {
        let texts = [
            ("match.methods", self.methods.iter().map(String::len).max()),
            ("match.subjects", self.subjects.iter().map(String::len).max()),
            (
                "match.attributes",
                self.attributes.iter().map(|(name, value)| name.len().max(value.len())).max(),
            ),
        ];
        if let Some((field, _)) = texts.into_iter().find(|(_, longest)| *longest > Some(TEXT_BYTES_MAX)) {
            return Err(Invalid::new(field, format!("must have values of at most {TEXT_BYTES_MAX} bytes")));
        }
        let lists = [
            ("match.apis", self.apis.len()),
            ("match.endpoints", self.endpoints.len()),
            ("match.methods", self.methods.len()),
            ("match.models", self.models.len()),
            ("match.keys", self.keys.len()),
            ("match.ip_ranges", self.ip_ranges.len()),
            ("match.subjects", self.subjects.len()),
            ("match.attributes", self.attributes.len()),
        ];
        match lists.into_iter().find(|(_, len)| *len > MATCH_VALUES_MAX) {
            Some((field, _)) => {
                Err(Invalid::new(field, format!("must have at most {MATCH_VALUES_MAX} values")))
            }
            None => Ok(()),
        }
    }

    /// Whether a call is meant, or the first part that it does not meet.
    ///
    /// # Errors
    /// The [`Mismatch`], for `explain`.
    pub fn test(&self, facts: &CallFacts<'_>) -> Result<(), Mismatch> {
        meets(&self.apis, |api| Some(api) == facts.api, Mismatch::Api)?;
        meets(&self.keys, |key| key == facts.key, Mismatch::Key)?;
        meets(&self.methods, |m| m.eq_ignore_ascii_case(facts.method), Mismatch::Method)?;
        meets(&self.subjects, |subject| subject == facts.subject, Mismatch::Subject)?;
        meets(&self.endpoints, |glob| glob.matches(facts.endpoint), Mismatch::Endpoint)?;
        meets(&self.models, |glob| glob.matches(facts.model), Mismatch::Model)?;
        meets(&self.ip_ranges, |range| facts.ip.is_some_and(|ip| holds(range, ip)), Mismatch::Ip)?;
        if self.attributes.iter().all(|(name, value)| facts.attribute(name) == value) {
            Ok(())
        } else {
            Err(Mismatch::Attribute)
        }
    }
}

fn meets<T>(values: &[T], is_met: impl FnMut(&T) -> bool, mismatch: Mismatch) -> Result<(), Mismatch> {
    if values.is_empty() || values.iter().any(is_met) { Ok(()) } else { Err(mismatch) }
}

/// An IPv4 address that arrives mapped into IPv6 is the IPv4 address.
fn holds(range: &IpNet, ip: IpAddr) -> bool {
    range.contains(&ip.to_canonical())
}

/// One dimension of a scope: each of its values has a counter of its own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Dimension {
    /// The key.
    Key,
    /// The subject.
    Subject,
    /// The address: one of IPv4, a /64 of IPv6.
    Ip,
    /// The API.
    Api,
    /// The endpoint.
    Endpoint,
    /// The model.
    Model,
    /// An attribute, by name.
    Attribute(Arc<str>),
}

impl Dimension {
    /// The dimension as it stands in a counter's identity: an attribute's name, or a word in
    /// capitals, which no attribute's name is.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Key => "KEY",
            Self::Subject => "SUBJECT",
            Self::Ip => "IP",
            Self::Api => "API",
            Self::Endpoint => "ENDPOINT",
            Self::Model => "MODEL",
            Self::Attribute(name) => name,
        }
    }
}

/// What happens to a call that lacks a value of the scope.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OnMissing {
    /// All such calls share one counter.
    #[default]
    Shared,
    /// The limit does not apply to them.
    Skip,
    /// They are denied.
    Deny,
}

/// The dimensions that make a limit's counters different. None: one counter for the workspace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Scope {
    /// The dimensions, in the order given.
    pub dimensions: Vec<Dimension>,
    /// What a missing value does.
    pub on_missing: OnMissing,
}

/// The values of a scope for one call.
pub type ScopeValues<'a> = SmallVec<[ScopeValue<'a>; SCOPE_DIMENSIONS_MAX]>;

/// One value of a scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScopeValue<'a> {
    /// Text; empty when missing.
    Text(&'a str),
    /// An IPv4 address, or the upper 64 bits of an IPv6 address.
    Address([u8; 8]),
}

impl Scope {
    /// Checks the bound on dimensions, and that a call can lack what it is asked for.
    ///
    /// # Errors
    /// [`Invalid`] when there are more than 4, when one is named twice, and when missing values matter
    /// where none can be missing.
    pub fn check(&self) -> Result<(), Invalid> {
        if self.dimensions.len() > SCOPE_DIMENSIONS_MAX {
            let bound = format!("must have at most {SCOPE_DIMENSIONS_MAX} dimensions");
            return Err(Invalid::new("scope", bound));
        }
        let twice = (1..self.dimensions.len()).find(|place| {
            self.dimensions.iter().take(*place).any(|d| Some(d) == self.dimensions.get(*place))
        });
        if let Some(place) = twice {
            return Err(Invalid::new(format!("scope[{place}]"), "must not be named twice"));
        }
        // Every call has a key.
        let never_missing = self.dimensions.iter().all(|dimension| *dimension == Dimension::Key);
        if never_missing && self.on_missing != OnMissing::Shared {
            let message = "must be SHARED where no value of the scope can be missing";
            return Err(Invalid::new("on_missing", message));
        }
        Ok(())
    }

    /// The call's values, and whether any is missing.
    pub fn values<'a>(&self, facts: &CallFacts<'a>) -> (ScopeValues<'a>, bool) {
        let values: ScopeValues<'a> =
            self.dimensions.iter().map(|dimension| value(dimension, facts)).collect();
        let missing = values.contains(&ScopeValue::Text(""));
        (values, missing)
    }
}

fn value<'a>(dimension: &Dimension, facts: &CallFacts<'a>) -> ScopeValue<'a> {
    match dimension {
        Dimension::Key => ScopeValue::Text(facts.key.as_str()),
        Dimension::Subject => ScopeValue::Text(facts.subject),
        Dimension::Ip => facts.ip.map_or(ScopeValue::Text(""), |ip| ScopeValue::Address(network(ip))),
        Dimension::Api => ScopeValue::Text(facts.api.map_or("", ApiId::as_str)),
        Dimension::Endpoint => ScopeValue::Text(facts.endpoint),
        Dimension::Model => ScopeValue::Text(facts.model),
        Dimension::Attribute(name) => ScopeValue::Text(facts.attribute(name)),
    }
}

fn network(ip: IpAddr) -> [u8; 8] {
    let mut bytes = [0; 8];
    match ip.to_canonical() {
        // No IPv6 network begins with 0xff00 in these places but multicast, which calls nobody.
        IpAddr::V4(v4) => {
            bytes[0] = 0xff;
            bytes[4..].copy_from_slice(&v4.octets());
        }
        IpAddr::V6(v6) => bytes.copy_from_slice(&v6.octets()[..8]),
    }
    bytes
}

#[cfg(test)]
mod tests;
