//! Which addresses the gateway may dial.
//!
//! Whoever may set a base URL could otherwise make the gateway call its own neighbours: databases,
//! cloud metadata, itself. The check is on the address that is dialled, at the moment it is dialled
//! (see [`super::connector`]), so neither a name that changes its mind nor an odd spelling of an
//! address gets past it.
//!
//! Source of the ranges: the IANA special-purpose address registries
//! (<https://www.iana.org/assignments/iana-ipv4-special-registry>,
//! <https://www.iana.org/assignments/iana-ipv6-special-registry>) and the clouds' own documents for
//! metadata addresses. Of IPv6 only global unicast, `2000::/3`, is open at all.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

/// What an address is, as far as dialling it is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AddressClass {
    /// On the open internet.
    Global,
    /// The machine itself.
    Loopback,
    /// A private network (RFC 1918).
    Private,
    /// Behind a carrier's NAT (RFC 6598).
    SharedNat,
    /// A private IPv6 network (RFC 4193).
    UniqueLocal,
    /// The same link only.
    LinkLocal,
    /// A cloud's metadata or host service.
    Metadata,
    /// Many receivers.
    Multicast,
    /// No address.
    Unspecified,
    /// Documentation, benchmarking, broadcast or future use.
    Reserved,
    /// A transition mechanism that hides another address.
    Transition,
}

/// Which classes an API's upstream may be in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum UpstreamPolicy {
    /// The open internet alone.
    #[default]
    PublicOnly,
    /// Also loopback and private networks, as an admin allowed explicitly. Link-local, metadata,
    /// multicast and reserved addresses stay closed: no API lives there.
    PrivateAllowed,
}

impl UpstreamPolicy {
    /// Whether `address` may be dialled.
    ///
    /// # Errors
    /// Names the class for which it may not.
    pub fn check(self, address: IpAddr) -> Result<(), AddressClass> {
        use AddressClass::{Global, Loopback, Private, SharedNat, UniqueLocal};
        match (self, classify(address)) {
            (_, Global) if !is_mapped(address) => Ok(()),
            (Self::PrivateAllowed, Global | Loopback | Private | SharedNat | UniqueLocal) => Ok(()),
            (Self::PublicOnly, Global) => Err(AddressClass::Transition),
            (_, class) => Err(class),
        }
    }
}

/// Ranges inside larger ones stand first.
const IPV4_CLASSES: [(Ipv4Net, AddressClass); 18] = [
    (v4(169, 254, 169, 254, 32), AddressClass::Metadata),
    // Alibaba's metadata service, inside the carriers' range.
    (v4(100, 100, 100, 200, 32), AddressClass::Metadata),
    // Azure's host service, outside every special range.
    (v4(168, 63, 129, 16, 32), AddressClass::Metadata),
    (v4(0, 0, 0, 0, 8), AddressClass::Unspecified),
    (v4(10, 0, 0, 0, 8), AddressClass::Private),
    (v4(100, 64, 0, 0, 10), AddressClass::SharedNat),
    (v4(127, 0, 0, 0, 8), AddressClass::Loopback),
    (v4(169, 254, 0, 0, 16), AddressClass::LinkLocal),
    (v4(172, 16, 0, 0, 12), AddressClass::Private),
    (v4(192, 0, 0, 0, 24), AddressClass::Reserved),
    (v4(192, 0, 2, 0, 24), AddressClass::Reserved),
    (v4(192, 88, 99, 0, 24), AddressClass::Transition),
    (v4(192, 168, 0, 0, 16), AddressClass::Private),
    (v4(198, 18, 0, 0, 15), AddressClass::Reserved),
    (v4(198, 51, 100, 0, 24), AddressClass::Reserved),
    (v4(203, 0, 113, 0, 24), AddressClass::Reserved),
    (v4(224, 0, 0, 0, 4), AddressClass::Multicast),
    (v4(240, 0, 0, 0, 4), AddressClass::Reserved),
];

/// Ranges inside larger ones stand first.
const IPV6_CLASSES: [(Ipv6Net, AddressClass); 13] = [
    (v6([0, 0, 0, 0, 0, 0, 0, 0], 128), AddressClass::Unspecified),
    (v6([0, 0, 0, 0, 0, 0, 0, 1], 128), AddressClass::Loopback),
    // IPv4-compatible, long withdrawn.
    (v6([0, 0, 0, 0, 0, 0, 0, 0], 96), AddressClass::Transition),
    // AWS's metadata service, inside the private range.
    (v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254], 128), AddressClass::Metadata),
    (v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7), AddressClass::UniqueLocal),
    (v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10), AddressClass::LinkLocal),
    (v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8), AddressClass::Multicast),
    // NAT64 with a prefix of the network's own choice hides IPv4 addresses.
    (v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48), AddressClass::Transition),
    // Teredo, then the rest of the protocol assignments.
    (v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 32), AddressClass::Transition),
    (v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23), AddressClass::Reserved),
    (v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32), AddressClass::Reserved),
    (v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16), AddressClass::Transition),
    (v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20), AddressClass::Reserved),
];

/// NAT64 with the well-known prefix (RFC 6052): how a host without IPv4 reaches IPv4.
const NAT64: Ipv6Net = v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96);

const GLOBAL_UNICAST: Ipv6Net = v6([0x2000, 0, 0, 0, 0, 0, 0, 0], 3);

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(segments: [u16; 8], prefix: u8) -> Ipv6Net {
    let [a, b, c, d, e, f, g, h] = segments;
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, e, f, g, h), prefix)
}

/// What `address` is. Addresses that carry an IPv4 address in a way that reaches it are what that is.
pub fn classify(address: IpAddr) -> AddressClass {
    match address {
        IpAddr::V4(address) => classify_v4(address),
        IpAddr::V6(address) => classify_v6(address),
    }
}

fn classify_v4(address: Ipv4Addr) -> AddressClass {
    let found = IPV4_CLASSES.iter().find(|(net, _)| net.contains(&address));
    found.map_or(AddressClass::Global, |(_, class)| *class)
}

fn classify_v6(address: Ipv6Addr) -> AddressClass {
    if let Some(embedded) = reachable_v4(address) {
        return classify_v4(embedded);
    }
    let found = IPV6_CLASSES.iter().find(|(net, _)| net.contains(&address));
    match found {
        Some((_, class)) => *class,
        None if GLOBAL_UNICAST.contains(&address) => AddressClass::Global,
        None => AddressClass::Reserved,
    }
}

/// The IPv4 address that dialling `address` reaches, if it is one in disguise.
fn reachable_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [.., a, b, c, d] = address.octets();
    let translated = NAT64.contains(&address).then(|| Ipv4Addr::new(a, b, c, d));
    address.to_ipv4_mapped().or(translated)
}

/// A mapped address has no business in an upstream's name, whatever it maps to.
fn is_mapped(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.to_ipv4_mapped().is_some())
}

#[cfg(test)]
mod tests;
