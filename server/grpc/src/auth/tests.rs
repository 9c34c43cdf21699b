use prost::Message as _;
use prost_types::FileDescriptorSet;
use rateguard_core::ids::WorkspaceId;
use rateguard_engine::resources::Scopes;
use rateguard_proto::v1::Role;

use super::*;
use crate::tests::world::plain_key;

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
        rateguard_proto::ENVOY_FILE_DESCRIPTOR_SET,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
    ];
    sets.into_iter().flat_map(paths_of).collect()
}

#[test]
fn every_method_of_every_service_is_known_and_none_besides() {
    let mut known: Vec<&str> = access::METHODS.iter().map(|method| method.path).collect();
    known.extend(DECLARED_BY_OTHERS);
    known.sort_unstable();
    let mut served = served();
    served.sort_unstable();
    assert_eq!(known, served);
    for path in served {
        assert!(method_of(&path).is_some(), "{path}");
    }
}

#[test]
fn only_what_others_have_declared_and_the_ways_in_are_open_to_everybody() {
    let ways_in =
        ["Register", "Login", "RefreshToken", "GetAuthMethods", "BeginOidcLogin", "CompleteOidcLogin"]
            .map(|name| format!("/rateguard.v1.AuthService/{name}"));
    for path in served() {
        let is_open = method_of(&path).is_some_and(|method| method.access == Access::Everybody);
        assert_eq!(is_open, path.starts_with("/grpc.") || ways_in.contains(&path), "{path}");
    }
}

#[test]
fn what_is_charged_is_open_to_no_person() {
    let services = [
        "rateguard.v1.QuotaService",
        "rateguard.internal.v1.GatewayService",
        "envoy.service.ratelimit.v3.RateLimitService",
    ];
    for service in services {
        let of_service = |method: &&Method| method.names().0 == service;
        // What sets counters back is management.
        let charging = |method: &&Method| method.names().1 != "ResetQuota";
        for method in access::METHODS.iter().filter(of_service).filter(charging) {
            let is_closed = matches!(method.access, Access::Named(Named { least_role: None, .. }));
            assert!(is_closed, "{}", method.path);
        }
    }
}

#[test]
fn a_path_that_no_service_has_is_open_to_nobody() {
    for path in ["", "/", "/rateguard.v1.QuotaService", "/rateguard.v1.QuotaService/", "/x/y", "//CheckQuota"]
    {
        assert_eq!(method_of(path), None, "{path}");
    }
}

/// What a key with every scope is told by a method that declares this.
fn refusal(named: Named) -> (Reason, String) {
    let key = Arc::new(plain_key(&Scopes::ALL));
    let caller = Caller::new(WorkspaceId::from_random([1; 16]), key);
    let error = check_scopes(&caller, named).unwrap_err();
    (error.reason, error.to_string())
}

#[test]
fn what_people_alone_may_do_is_refused_to_a_key_whatever_its_scopes() {
    let no_program = (Reason::PersonOnly, "only a person who is logged in may call this".to_owned());
    assert_eq!(refusal(NO_PROGRAM), no_program);
    assert_eq!(refusal(Named { least_role: Some(Role::Viewer), ..NO_PROGRAM }), no_program);
}

#[test]
fn what_gateways_alone_may_do_is_refused_to_a_key_whatever_its_scopes() {
    for gateway_use in [GatewayUse::Itself, GatewayUse::ForApp, GatewayUse::AfterCall] {
        let named = Named { gateway_use: Some(gateway_use), ..NO_PROGRAM };
        assert_eq!(refusal(named).0, Reason::GatewayOnly, "{gateway_use:?}");
    }
}

#[test]
fn a_refusal_names_the_scopes_that_would_do() {
    let error = scope_missing(&[KeyScope::Manage, KeyScope::Read]);
    assert_eq!(error.to_string(), "the key lacks the scope manage or read");
}

#[test]
fn the_audit_trails_headers_are_read_where_something_is_managed_and_not_where_calls_are_made() {
    let read_by = |service: &str| -> Vec<&str> {
        let methods = access::METHODS.iter().filter(|method| method.names().0 == service);
        methods.filter(|method| may_leave_entries(method.access)).map(|method| method.names().1).collect()
    };
    assert_eq!(read_by("rateguard.v1.QuotaService"), ["ResetQuota"]);
    for service in ["UsageService", "AnalyticsService"] {
        assert_eq!(read_by(&format!("rateguard.v1.{service}")), [""; 0], "{service}");
    }
    assert_eq!(read_by("rateguard.v1.QuotaService"), ["ResetQuota"]);
    let every = ["AcceptInvitation", "CreateRule", "UpdateRule", "DeleteRule", "Login", "ChangePassword"];
    for name in every {
        let method = access::METHODS.iter().find(|method| method.names().1 == name).unwrap();
        assert!(may_leave_entries(method.access), "{name}");
    }
}
