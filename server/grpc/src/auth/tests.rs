use std::collections::BTreeMap;

use prost::Message as _;
use prost_types::FileDescriptorSet;

use super::*;

/// Every method that the descriptors know, as a path.
fn paths_of(encoded: &[u8]) -> Vec<String> {
    let files = FileDescriptorSet::decode(encoded).unwrap().file;
    let mut paths = Vec::new();
    for file in &files {
        for service in &file.service {
            let names = service.method.iter().map(|method| method.name());
            paths.extend(names.map(|name| format!("/{}.{}/{name}", file.package(), service.name())));
        }
    }
    paths
}

fn served() -> Vec<String> {
    let sets = [
        rateguard_proto::FILE_DESCRIPTOR_SET,
        rateguard_proto::INTERNAL_FILE_DESCRIPTOR_SET,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
    ];
    sets.into_iter().flat_map(paths_of).collect()
}

#[test]
fn every_method_of_every_service_stands_in_exactly_one_row() {
    let mut rows: BTreeMap<String, usize> = BTreeMap::new();
    for (service, methods, ..) in DEMANDS {
        methods.iter().for_each(|method| *rows.entry(format!("/{service}/{method}")).or_default() += 1);
    }
    let expected: BTreeMap<String, usize> = served().into_iter().map(|path| (path, 1)).collect();
    assert_eq!(rows, expected);
}

#[test]
fn only_health_reflection_and_the_ways_in_are_open_to_everybody() {
    let ways_in =
        ["Register", "Login", "RefreshToken"].map(|name| format!("/rateguard.v1.AuthService/{name}"));
    for path in served() {
        let is_open = demand(&path).is_some_and(|(demand, _)| demand == Demand::Open);
        assert_eq!(is_open, path.starts_with("/grpc.") || ways_in.contains(&path), "{path}");
    }
}

#[test]
fn a_row_for_members_names_their_role_and_a_row_for_anybody_names_none() {
    for (_, methods, demand, role) in DEMANDS {
        match demand {
            Demand::Member => assert!(role.is_some(), "{methods:?}"),
            Demand::OneOf(_) => {}
            _ => assert!(role.is_none(), "{methods:?}"),
        }
    }
}

#[test]
fn no_method_can_be_opened_with_the_scope_gateway() {
    for (_, methods, demand, _) in DEMANDS {
        if let Demand::OneOf(scopes) = demand {
            assert!(!scopes.contains(&Scope::Gateway), "{methods:?}");
        }
    }
}

#[test]
fn a_path_that_no_service_has_stands_in_no_row() {
    for path in ["", "/", "/rateguard.v1.QuotaService", "/rateguard.v1.QuotaService/", "/x/y", "//CheckQuota"]
    {
        assert_eq!(demand(path), None, "{path}");
    }
}
