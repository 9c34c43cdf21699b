//! Validated identifiers. Each kind is a type of its own, so that a key's id can never be passed
//! where a rule's is meant; cloning one is a reference count.

use std::fmt;
use std::sync::Arc;

use crate::counter::Shard;
use crate::invalid::Invalid;
use crate::limits::{DISPLAY_NAME_BYTES_MAX, ID_BYTES_MAX, NAME_BYTES_MAX};

/// Declares one kind of resource id: a prefix that tells the kind, then 1 to 40 characters of
/// `[0-9a-z]`.
macro_rules! resource_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// What every id of this kind begins with.
            pub const PREFIX: &'static str = $prefix;

            /// Parses an id.
            ///
            /// # Errors
            /// [`Invalid`] naming `field` when the prefix or a character is wrong.
            pub fn parse(field: &'static str, text: &str) -> Result<Self, Invalid> {
                check_resource_id(field, text, Self::PREFIX)?;
                Ok(Self(text.into()))
            }

            /// Makes an id from 16 random bytes, which the caller draws.
            pub fn from_random(bytes: [u8; 16]) -> Self {
                Self(random_id(Self::PREFIX, bytes).into())
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

resource_id!(
    /// The tenant. It comes from a credential, never from a request's body.
    WorkspaceId,
    "ws_"
);
resource_id!(
    /// An upstream API of a workspace.
    ApiId,
    "api_"
);
resource_id!(
    /// An API key.
    KeyId,
    "key_"
);
resource_id!(
    /// A rule.
    RuleId,
    "rule_"
);
resource_id!(
    /// A budget.
    BudgetId,
    "bud_"
);
resource_id!(
    /// A top-up of a prepaid budget.
    TopUpId,
    "top_"
);
resource_id!(
    /// A price, from the catalogue or an override.
    PriceId,
    "price_"
);
resource_id!(
    /// A reservation: 8 bits that tell the shard in which it holds something too, if any, 88 random ones, then 32
    /// that tell who took it.
    ReservationId,
    "rsv_"
);
resource_id!(
    /// A lease of a caller's.
    LeaseId,
    "lease_"
);
resource_id!(
    /// A person with an account.
    UserId,
    "user_"
);
resource_id!(
    /// One log-in of a person.
    SessionId,
    "ses_"
);
resource_id!(
    /// An invitation to a workspace.
    InvitationId,
    "inv_"
);
resource_id!(
    /// A key that signs access tokens.
    SigningKeyId,
    "sgn_"
);

impl WorkspaceId {
    const SHARD: &'static str = "shard";

    /// The name of a shard of its counters. No workspace has such an id: what is random in theirs is hexadecimal.
    #[must_use]
    pub fn shard(&self, shard: Shard) -> Self {
        Self(format!("{self}{}{:0SHARD_DIGITS$}", Self::SHARD, shard.number()).into())
    }

    /// The workspace whose shard has this name; `None` where it is no shard's.
    pub fn of_shard(&self) -> Option<Self> {
        let (workspace, number) = self.0.rsplit_once(Self::SHARD)?;
        let number = Some(number).filter(|number| number.len() == SHARD_DIGITS)?;
        number.parse().ok().and_then(Shard::new).map(|_| Self(workspace.into()))
    }
}

impl ReservationId {
    /// The shard in which it holds something beside its workspace's other counters. Ids from before there were shards
    /// may name one in which there is nothing of it.
    pub fn shard(&self) -> Option<Shard> {
        let [first, ..] = self.to_bits().to_be_bytes();
        Shard::new(first)
    }

    /// The 128 bits behind the id.
    pub fn to_bits(&self) -> u128 {
        u128::from_str_radix(&self.0[Self::PREFIX.len()..], 16).unwrap_or(0)
    }

    /// The id with these 128 bits.
    pub fn from_bits(bits: u128) -> Self {
        Self::from_random(bits.to_be_bytes())
    }
}

const RESOURCE_ID_BODY_MAX: usize = 40;
/// Digits of a shard's number.
const SHARD_DIGITS: usize = 2;
/// A shard's name is read back as an id.
const _: () = assert!(RANDOM_DIGITS + WorkspaceId::SHARD.len() + SHARD_DIGITS <= RESOURCE_ID_BODY_MAX);
/// Digits that an id has which is made of random bytes.
const RANDOM_DIGITS: usize = 32;

fn check_resource_id(field: &'static str, text: &str, prefix: &str) -> Result<(), Invalid> {
    let body =
        text.strip_prefix(prefix).ok_or_else(|| Invalid::new(field, format!("must begin with {prefix}")))?;
    let fits = (1..=RESOURCE_ID_BODY_MAX).contains(&body.len());
    let plain = body.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase());
    if fits && plain {
        return Ok(());
    }
    Err(Invalid::new(
        field,
        format!("must be {prefix} and 1 to {RESOURCE_ID_BODY_MAX} characters of [0-9a-z]"),
    ))
}

fn random_id(prefix: &str, bytes: [u8; 16]) -> String {
    format!("{prefix}{:032x}", u128::from_be_bytes(bytes))
}

/// Declares a caller-chosen text with a bound on its length and characters.
macro_rules! bounded_text {
    ($(#[$doc:meta])* $name:ident, $check:path) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Parses the text.
            ///
            /// # Errors
            /// [`Invalid`] naming `field` and the bound that was passed.
            pub fn parse(field: &'static str, text: &str) -> Result<Self, Invalid> {
                $check(field, text)?;
                Ok(Self(text.into()))
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

bounded_text!(
    /// Names one check for idempotency: 1 to 128 printable ASCII characters.
    RequestId,
    check_caller_id
);
bounded_text!(
    /// Names one usage record, unique in its workspace: 1 to 128 printable ASCII characters.
    EventId,
    check_caller_id
);
bounded_text!(
    /// A slug: 1 to 64 characters of `[a-z0-9-]`, beginning with a letter.
    Slug,
    check_slug
);
bounded_text!(
    /// A name shown to people: 1 to 128 bytes without control characters, and without those that turn
    /// the direction or the line in which text is read.
    DisplayName,
    check_display_name
);

impl EventId {
    /// Beginnings that only the server may give an event.
    pub const RESERVED_PREFIXES: [&'static str; 2] = ["expired:", "corrected:"];

    /// Parses an id that a caller sent.
    ///
    /// # Errors
    /// [`Invalid`] also for the reserved beginnings.
    pub fn parse_from_caller(field: &'static str, text: &str) -> Result<Self, Invalid> {
        if Self::RESERVED_PREFIXES.iter().any(|p| text.starts_with(p)) {
            return Err(Invalid::new(field, "must not begin with expired: or corrected:"));
        }
        Self::parse(field, text)
    }

    /// The event that an expired reservation's floor becomes.
    pub fn expired(reservation: &ReservationId) -> Self {
        Self(format!("expired:{reservation}").into())
    }

    /// The event that takes the floor back when the true report comes late.
    pub fn corrected(reservation: &ReservationId) -> Self {
        Self(format!("corrected:{reservation}").into())
    }
}

fn check_caller_id(field: &'static str, text: &str) -> Result<(), Invalid> {
    let fits = (1..=ID_BYTES_MAX).contains(&text.len());
    if fits && text.bytes().all(|b| b.is_ascii_graphic()) {
        return Ok(());
    }
    Err(Invalid::new(field, format!("must be 1 to {ID_BYTES_MAX} printable ASCII characters without spaces")))
}

fn check_slug(field: &'static str, text: &str) -> Result<(), Invalid> {
    let fits = (1..=NAME_BYTES_MAX).contains(&text.len());
    let starts = text.bytes().next().is_some_and(|b| b.is_ascii_lowercase());
    let plain = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if fits && starts && plain {
        return Ok(());
    }
    Err(Invalid::new(
        field,
        format!("must be 1 to {NAME_BYTES_MAX} characters of [a-z0-9-], beginning with a letter"),
    ))
}

fn check_display_name(field: &'static str, text: &str) -> Result<(), Invalid> {
    let fits = (1..=DISPLAY_NAME_BYTES_MAX).contains(&text.len());
    if fits && !text.chars().any(|character| character.is_control() || misleads(character)) {
        return Ok(());
    }
    Err(Invalid::new(
        field,
        format!("must be 1 to {DISPLAY_NAME_BYTES_MAX} bytes without control characters, of direction too"),
    ))
}

/// Line and paragraph separators, and the embeddings, overrides and isolates of UAX #9, section 2
/// (<https://www.unicode.org/reports/tr9/>): with them a name shows as another.
fn misleads(character: char) -> bool {
    matches!(character, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}
