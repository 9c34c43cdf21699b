//! Every special range, from its first address to its last, and the addresses beside it.

use proptest::prelude::*;

use super::*;

fn class_of(address: &str) -> AddressClass {
    classify(address.parse().unwrap())
}

fn public(address: &str) -> Result<(), AddressClass> {
    UpstreamPolicy::PublicOnly.check(address.parse().unwrap())
}

fn private(address: &str) -> Result<(), AddressClass> {
    UpstreamPolicy::PrivateAllowed.check(address.parse().unwrap())
}

#[test]
fn every_special_range_is_named_to_its_edges() {
    use AddressClass::{
        LinkLocal, Loopback, Metadata, Multicast, Private, Reserved, SharedNat, Transition, UniqueLocal,
        Unspecified,
    };
    let cases = [
        ("0.0.0.0", Unspecified),
        ("0.255.255.255", Unspecified),
        ("10.0.0.0", Private),
        ("10.255.255.255", Private),
        ("100.64.0.0", SharedNat),
        ("100.127.255.255", SharedNat),
        ("100.100.100.200", Metadata),
        ("127.0.0.1", Loopback),
        ("127.255.255.255", Loopback),
        ("168.63.129.16", Metadata),
        ("169.254.0.0", LinkLocal),
        ("169.254.169.254", Metadata),
        ("169.254.170.2", LinkLocal),
        ("172.16.0.0", Private),
        ("172.31.255.255", Private),
        ("192.0.0.192", Reserved),
        ("192.0.2.1", Reserved),
        ("192.88.99.1", Transition),
        ("192.168.0.0", Private),
        ("192.168.255.255", Private),
        ("198.18.0.0", Reserved),
        ("198.19.255.255", Reserved),
        ("198.51.100.7", Reserved),
        ("203.0.113.7", Reserved),
        ("224.0.0.1", Multicast),
        ("239.255.255.255", Multicast),
        ("240.0.0.0", Reserved),
        ("255.255.255.255", Reserved),
        ("::", Unspecified),
        ("::1", Loopback),
        ("::2", Transition),
        ("::8.8.8.8", Transition),
        ("::7f00:1", Transition),
        ("fc00::", UniqueLocal),
        ("fdff:ffff::1", UniqueLocal),
        ("fd00:ec2::254", Metadata),
        ("fe80::1", LinkLocal),
        ("febf:ffff::1", LinkLocal),
        ("fec0::1", Reserved),
        ("ff02::1", Multicast),
        ("100::1", Reserved),
        ("64:ff9b:1::8.8.8.8", Transition),
        ("2001::1", Transition),
        ("2001:2::1", Reserved),
        ("2001:1ff:ffff::1", Reserved),
        ("2001:db8::1", Reserved),
        ("2002:7f00:1::", Transition),
        ("2002:808:808::", Transition),
        ("3fff::1", Reserved),
        ("4000::1", Reserved),
        ("5f00::1", Reserved),
    ];
    for (address, class) in cases {
        assert_eq!(class_of(address), class, "{address}");
        assert_eq!(public(address), Err(class), "{address}");
    }
}

#[test]
fn the_open_internet_is_open() {
    let open = [
        "1.1.1.1",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.0",
        "168.63.129.15",
        "169.253.255.255",
        "172.15.255.255",
        "172.32.0.0",
        "192.167.255.255",
        "198.17.255.255",
        "198.20.0.0",
        "223.255.255.255",
        "2001:200::1",
        "2606:4700::1111",
        "2a00:1450::1",
        "3ffe::1",
        "64:ff9b::8.8.8.8",
    ];
    for address in open {
        assert_eq!(class_of(address), AddressClass::Global, "{address}");
        assert_eq!(public(address), Ok(()), "{address}");
        assert_eq!(private(address), Ok(()), "{address}");
    }
}

#[test]
fn an_ipv4_address_in_disguise_is_what_it_is() {
    assert_eq!(public("::ffff:127.0.0.1"), Err(AddressClass::Loopback));
    assert_eq!(public("::ffff:169.254.169.254"), Err(AddressClass::Metadata));
    assert_eq!(public("64:ff9b::10.0.0.1"), Err(AddressClass::Private));
    assert_eq!(public("64:ff9b::169.254.169.254"), Err(AddressClass::Metadata));
}

#[test]
fn a_mapped_address_is_refused_even_where_it_maps_to_the_open_internet() {
    assert_eq!(public("::ffff:8.8.8.8"), Err(AddressClass::Transition));
}

#[test]
fn allowing_private_upstreams_opens_private_ranges_and_no_more() {
    for open in ["127.0.0.1", "::1", "10.1.2.3", "192.168.1.1", "100.64.0.1", "fd12::1", "::ffff:10.0.0.1"] {
        assert_eq!(private(open), Ok(()), "{open}");
    }
    let closed =
        ["169.254.169.254", "169.254.1.1", "fd00:ec2::254", "0.0.0.0", "224.0.0.1", "fe80::1", "2002::"];
    for address in closed {
        assert!(private(address).is_err(), "{address}");
    }
}

proptest! {
    #[test]
    fn no_ipv4_address_that_the_standard_library_knows_as_special_is_public(bits in any::<u32>()) {
        let address = Ipv4Addr::from(bits);
        let special = address.is_private() || address.is_loopback() || address.is_link_local()
            || address.is_broadcast() || address.is_documentation() || address.is_multicast()
            || address.is_unspecified();
        if special {
            prop_assert!(UpstreamPolicy::PublicOnly.check(IpAddr::V4(address)).is_err());
        }
    }

    #[test]
    fn a_mapped_address_is_never_better_off_than_its_ipv4_form(bits in any::<u32>()) {
        let plain = Ipv4Addr::from(bits);
        let mapped = IpAddr::V6(plain.to_ipv6_mapped());
        prop_assert!(UpstreamPolicy::PublicOnly.check(mapped).is_err());
        prop_assert_eq!(
            UpstreamPolicy::PrivateAllowed.check(mapped),
            UpstreamPolicy::PrivateAllowed.check(IpAddr::V4(plain))
        );
    }

    #[test]
    fn only_global_unicast_and_nat64_are_public(bits in any::<u128>()) {
        let address = Ipv6Addr::from(bits);
        if UpstreamPolicy::PublicOnly.check(IpAddr::V6(address)).is_ok() {
            prop_assert!(GLOBAL_UNICAST.contains(&address) || NAT64.contains(&address));
        }
    }
}
