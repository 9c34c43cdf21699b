//! What the contract promises about itself, read from its descriptors.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;
use prost_reflect::DescriptorPool;
use prost_types::{FileDescriptorProto, FileDescriptorSet};

use crate::access::{self, Access, METHODS, Method, Named};
use crate::v1::{CheckQuotaRequest, ErrorReason, GatewayUse, KeyScope, Role, SecretText};
use crate::{ENVOY_FILE_DESCRIPTOR_SET, FILE_DESCRIPTOR_SET, INTERNAL_FILE_DESCRIPTOR_SET};

/// Every service of the public package and its methods.
const PUBLIC_SERVICES: [(&str, &[&str]); 13] = [
    (
        "QuotaService",
        &[
            "CheckQuota",
            "BatchCheckQuota",
            "StreamCheckQuota",
            "GetQuota",
            "ReleaseReservation",
            "RenewReservation",
            "LeaseQuota",
            "ReturnLease",
            "ResetQuota",
        ],
    ),
    ("UsageService", &["ReportUsage", "ListUsageEvents"]),
    ("ApiService", &["CreateApi", "GetApi", "ListApis", "UpdateApi", "DeleteApi"]),
    ("KeyService", &["CreateKey", "GetKey", "ListKeys", "UpdateKey", "RotateKey", "DeleteKey"]),
    ("RuleService", &["CreateRule", "GetRule", "ListRules", "UpdateRule", "DeleteRule"]),
    (
        "BudgetService",
        &[
            "CreateBudget",
            "GetBudget",
            "ListBudgets",
            "UpdateBudget",
            "TopUpBudget",
            "ListBudgetTopUps",
            "DeleteBudget",
        ],
    ),
    (
        "PriceService",
        &["ListPrices", "GetPrice", "CreatePriceOverride", "UpdatePriceOverride", "DeletePriceOverride"],
    ),
    ("AnalyticsService", &["GetSummary", "QueryTimeSeries"]),
    ("AuditService", &["ListAuditEntries"]),
    ("ConfigurationService", &["ExportWorkspace", "ApplyWorkspace"]),
    (
        "AuthService",
        &[
            "Register",
            "Login",
            "GetAuthMethods",
            "BeginOidcLogin",
            "CompleteOidcLogin",
            "LinkOidc",
            "RefreshToken",
            "Logout",
            "GetMe",
            "ChangePassword",
            "SwitchWorkspace",
            "ListSessions",
            "RevokeSession",
        ],
    ),
    ("WorkspaceService", &["CreateWorkspace", "GetWorkspace", "ListWorkspaces", "UpdateWorkspace"]),
    (
        "MemberService",
        &[
            "InviteMember",
            "ListInvitations",
            "RevokeInvitation",
            "AcceptInvitation",
            "ListMembers",
            "UpdateMember",
            "RemoveMember",
            "TransferOwnership",
        ],
    ),
];

/// The files of RateGuard's own packages in an encoded set, without those of protobuf itself.
fn own_files(encoded: &[u8]) -> Vec<FileDescriptorProto> {
    let set = FileDescriptorSet::decode(encoded).expect("a descriptor set decodes");
    set.file.into_iter().filter(|file| file.package().starts_with("rateguard.")).collect()
}

fn services_of(files: &[FileDescriptorProto]) -> BTreeMap<String, Vec<String>> {
    files
        .iter()
        .flat_map(|file| &file.service)
        .map(|service| {
            let methods = service.method.iter().map(|method| method.name().to_owned());
            (service.name().to_owned(), methods.collect())
        })
        .collect()
}

/// The paths of all elements of a file that need a comment, as descriptors number them.
fn element_paths(file: &FileDescriptorProto) -> Vec<Vec<i32>> {
    let mut paths = Vec::new();
    for (index, message) in (0..).zip(&file.message_type) {
        assert!(message.enum_type.is_empty(), "enums stand by themselves");
        paths.push(vec![4, index]);
        paths.extend((0..).zip(&message.field).map(|(field, _)| vec![4, index, 2, field]));
    }
    for (index, service) in (0..).zip(&file.service) {
        paths.push(vec![6, index]);
        paths.extend((0..).zip(&service.method).map(|(method, _)| vec![6, index, 2, method]));
    }
    paths.extend((0..).zip(&file.extension).map(|(index, _)| vec![7, index]));
    for (index, kind) in (0..).zip(&file.enum_type) {
        paths.push(vec![5, index]);
        paths.extend((0..).zip(&kind.value).map(|(value, _)| vec![5, index, 2, value]));
    }
    paths
}

fn commented_paths(file: &FileDescriptorProto) -> BTreeSet<Vec<i32>> {
    let locations = file.source_code_info.iter().flat_map(|info| &info.location);
    locations
        .filter(|location| !location.leading_comments().trim().is_empty())
        .map(|location| location.path.clone())
        .collect()
}

#[test]
fn the_public_set_holds_exactly_the_services_that_work() {
    let expected = PUBLIC_SERVICES.map(|(service, methods)| {
        let methods = methods.iter().map(|method| (*method).to_owned());
        (service.to_owned(), methods.collect::<Vec<_>>())
    });
    assert_eq!(services_of(&own_files(FILE_DESCRIPTOR_SET)), expected.into());
}

#[test]
fn the_public_set_shows_nothing_internal() {
    for file in own_files(FILE_DESCRIPTOR_SET) {
        assert_eq!(file.package(), "rateguard.v1", "{}", file.name());
    }
}

#[test]
fn the_internal_set_holds_the_gateway_service_alone() {
    let services = services_of(&own_files(INTERNAL_FILE_DESCRIPTOR_SET));
    let methods = ["ResolveRoute", "WatchRoutes", "PriceUsage"].map(str::to_owned);
    assert_eq!(services, [("GatewayService".to_owned(), methods.to_vec())].into());
}

#[test]
fn every_element_has_a_comment() {
    let mut files = own_files(FILE_DESCRIPTOR_SET);
    files.extend(own_files(INTERNAL_FILE_DESCRIPTOR_SET));
    for file in files {
        let commented = commented_paths(&file);
        for path in element_paths(&file) {
            assert!(commented.contains(&path), "{} {path:?}", file.name());
        }
    }
}

/// The files of Envoy's packages.
fn envoys_files() -> Vec<FileDescriptorProto> {
    let set = FileDescriptorSet::decode(ENVOY_FILE_DESCRIPTOR_SET).expect("a descriptor set decodes");
    set.file.into_iter().filter(|file| file.package().starts_with("envoy.")).collect()
}

#[test]
fn of_envoy_one_service_is_spoken() {
    let methods = vec!["ShouldRateLimit".to_owned()];
    assert_eq!(services_of(&envoys_files()), [("RateLimitService".to_owned(), methods)].into());
}

/// The names and numbers are Envoy's: they are what makes the two understand each other.
#[test]
fn what_is_spoken_of_envoy_has_its_published_numbers() {
    let pool = DescriptorPool::decode(ENVOY_FILE_DESCRIPTOR_SET).unwrap();
    let numbers = |name: &str| {
        let message = pool.get_message_by_name(name).unwrap_or_else(|| panic!("no message {name}"));
        message.fields().map(|field| (field.name().to_owned(), field.number())).collect::<BTreeMap<_, _>>()
    };
    for (name, expected) in [
        (
            "service.ratelimit.v3.RateLimitRequest",
            &[("domain", 1), ("descriptors", 2), ("hits_addend", 3)][..],
        ),
        (
            "service.ratelimit.v3.RateLimitResponse",
            &[("overall_code", 1), ("statuses", 2), ("response_headers_to_add", 3)],
        ),
        (
            "service.ratelimit.v3.RateLimitResponse.DescriptorStatus",
            &[("code", 1), ("current_limit", 2), ("limit_remaining", 3), ("duration_until_reset", 4)],
        ),
        (
            "service.ratelimit.v3.RateLimitResponse.RateLimit",
            &[("requests_per_unit", 1), ("unit", 2), ("name", 3), ("unit_multiplier", 4)],
        ),
        (
            "extensions.common.ratelimit.v3.RateLimitDescriptor",
            &[("entries", 1), ("limit", 2), ("hits_addend", 3), ("is_negative_hits", 4)],
        ),
        ("extensions.common.ratelimit.v3.RateLimitDescriptor.Entry", &[("key", 1), ("value", 2)]),
        (
            "extensions.common.ratelimit.v3.RateLimitDescriptor.RateLimitOverride",
            &[("requests_per_unit", 1), ("unit", 2), ("unit_multiplier", 3)],
        ),
        ("config.core.v3.HeaderValue", &[("key", 1), ("value", 2)]),
    ] {
        let expected = expected.iter().map(|(name, number)| ((*name).to_owned(), *number)).collect();
        assert_eq!(numbers(&format!("envoy.{name}")), expected, "{name}");
    }
}

/// The path of every method that files declare.
fn method_paths(files: &[FileDescriptorProto]) -> BTreeSet<String> {
    let path = |package: &str, service: &str, method: &str| format!("/{package}.{service}/{method}");
    let mut paths = BTreeSet::new();
    for file in files {
        for service in &file.service {
            let methods = service.method.iter();
            paths.extend(methods.map(|method| path(file.package(), service.name(), method.name())));
        }
    }
    paths
}

#[test]
fn every_method_of_every_service_stands_in_the_table_once_and_in_order() {
    let mut expected = method_paths(&own_files(FILE_DESCRIPTOR_SET));
    expected.extend(method_paths(&own_files(INTERNAL_FILE_DESCRIPTOR_SET)));
    expected.extend(method_paths(&envoys_files()));
    let paths: Vec<&str> = METHODS.iter().map(|method| method.path).collect();
    assert_eq!(paths, expected.iter().map(String::as_str).collect::<Vec<_>>());
    for method in METHODS {
        assert_eq!(access::of(method.path), Some(method.access), "{}", method.path);
    }
}

#[test]
fn a_path_that_no_service_has_stands_in_no_row() {
    let beside = ["/rateguard.v1.QuotaService/CheckQuot", "/rateguard.v1.QuotaService/CheckQuotaX"];
    for path in ["", "/", "/a/b", "/z/z", "rateguard.v1.QuotaService/CheckQuota", beside[0], beside[1]] {
        assert_eq!(access::of(path), None, "{path}");
    }
}

#[test]
fn a_method_is_told_apart_into_its_service_and_its_name() {
    let names: Vec<_> = METHODS.iter().map(Method::names).collect();
    assert!(names.contains(&("rateguard.v1.QuotaService", "CheckQuota")), "{names:?}");
    assert!(names.iter().all(|(service, method)| !service.is_empty() && !method.contains('/')), "{names:?}");
}

#[test]
fn a_role_may_do_what_the_ones_below_it_may() {
    let roles = [Role::Viewer, Role::Member, Role::Admin, Role::Owner];
    assert!(roles.is_sorted(), "{roles:?}");
}

fn named(method: &Method) -> Named {
    match method.access {
        Access::Named(named) => named,
        Access::Everybody | Access::AnyPerson => panic!("{method:?} names nobody"),
    }
}

#[test]
fn what_a_call_takes_and_reports_is_for_keys_and_their_gateways_alone() {
    let of_calls = [
        "CheckQuota",
        "BatchCheckQuota",
        "StreamCheckQuota",
        "ReleaseReservation",
        "RenewReservation",
        "ReportUsage",
    ];
    let methods: Vec<_> = METHODS.iter().filter(|method| of_calls.contains(&method.names().1)).collect();
    assert_eq!(methods.len(), of_calls.len());
    for method in methods {
        let Named { key_scopes, least_role, gateway_use } = named(method);
        assert_eq!((key_scopes.len(), least_role), (1, None), "{}", method.path);
        assert!(gateway_use.is_some(), "{}", method.path);
    }
}

#[test]
fn a_viewer_may_look_at_what_a_key_of_the_scope_read_may() {
    let is_readable = |method: &&Method| matches!(method.access, Access::Named(Named { key_scopes, .. }) if key_scopes.contains(&KeyScope::Read));
    let readable: Vec<_> = METHODS.iter().filter(is_readable).collect();
    assert!(readable.len() > 10, "only {} methods", readable.len());
    for method in readable {
        // Which limits apply to a call depends on the key that makes it.
        let is_of_a_call = method.names().1 == "GetQuota";
        let least = if is_of_a_call { None } else { Some(Role::Viewer) };
        assert_eq!(named(method).least_role, least, "{}", method.path);
    }
}

#[test]
fn only_who_is_not_known_yet_needs_no_credential() {
    let is_open = |method: &&Method| method.access == Access::Everybody;
    let open: Vec<_> = METHODS.iter().filter(is_open).map(Method::names).collect();
    let ways_in =
        ["BeginOidcLogin", "CompleteOidcLogin", "GetAuthMethods", "Login", "RefreshToken", "Register"];
    let ways_in = ways_in.map(|name| ("rateguard.v1.AuthService", name));
    assert_eq!(open, ways_in);
}

#[test]
fn no_key_and_no_gateway_does_what_people_do_for_themselves() {
    let services =
        ["AuthService", "WorkspaceService", "MemberService"].map(|name| format!("rateguard.v1.{name}"));
    for method in METHODS.iter().filter(|method| services.iter().any(|name| name == method.names().0)) {
        if let Access::Named(Named { key_scopes, least_role, gateway_use }) = method.access {
            assert_eq!((key_scopes, gateway_use), (&[][..], None), "{}", method.path);
            assert!(least_role.is_some(), "{}", method.path);
        }
    }
}

#[test]
fn only_admins_change_what_gives_others_power() {
    for method in METHODS {
        let (service, name) = method.names();
        let changes = ["Create", "Update", "Delete"].iter().any(|verb| name.starts_with(verb));
        if changes && matches!(service, "rateguard.v1.ApiService" | "rateguard.v1.KeyService") {
            assert_eq!(named(method).least_role, Some(Role::Admin), "{}", method.path);
        }
    }
}

#[test]
fn the_internal_package_is_open_to_gateways_alone() {
    for method in METHODS.iter().filter(|method| method.path.starts_with("/rateguard.internal.")) {
        let Named { key_scopes, least_role, gateway_use } = named(method);
        assert_eq!((key_scopes, least_role), (&[][..], None), "{}", method.path);
        assert!(gateway_use.is_some(), "{}", method.path);
    }
}

/// Whoever asks for reflection sees who may call what: the option comes out as it was put in.
#[test]
fn the_encoded_descriptors_carry_the_declarations() {
    let pool = DescriptorPool::decode(FILE_DESCRIPTOR_SET).unwrap();
    let option = pool.get_extension_by_name("rateguard.v1.access").unwrap();
    let services: Vec<_> = pool.services().collect();
    for method in services.iter().flat_map(|service| service.methods()) {
        let options = method.options();
        assert!(options.has_extension(&option), "{}", method.full_name());
    }
    let check = pool.get_service_by_name("rateguard.v1.QuotaService").unwrap().methods().next().unwrap();
    let declared = check.options().get_extension(&option).into_owned();
    let declared: crate::v1::Access = declared.as_message().unwrap().transcode_to().unwrap();
    assert_eq!(declared.key_scopes().collect::<Vec<_>>(), [KeyScope::Quota]);
    assert_eq!(declared.gateway_use(), GatewayUse::ForApp);
    assert_eq!(declared.least_role(), Role::Unspecified);
}

#[test]
fn a_secret_prints_redacted() {
    let secret = SecretText { value: "sk-very-secret".to_owned() };
    assert_eq!(format!("{secret:?}"), "SecretText([redacted])");
}

#[test]
fn every_error_reason_is_read_back_from_its_name() {
    let reasons: Vec<_> = (1..=99).filter_map(|number| ErrorReason::try_from(number).ok()).collect();
    assert!(reasons.contains(&ErrorReason::Internal));
    for reason in reasons {
        let name = reason.as_error_info_reason();
        assert!(!name.starts_with("ERROR_REASON_"), "{name}");
        assert_eq!(ErrorReason::from_error_info_reason(name), Some(reason));
    }
}

#[test]
fn an_unknown_or_unspecified_error_reason_is_none() {
    assert_eq!(ErrorReason::from_error_info_reason("NEVER_HEARD_OF"), None);
    assert_eq!(ErrorReason::from_error_info_reason("UNSPECIFIED"), None);
}

#[test]
fn the_same_attributes_are_the_same_bytes_in_whatever_order_they_were_set() {
    let pairs = [("plan", "free"), ("region", "eu"), ("team", "search")];
    let to_map = |pair: (&str, &str)| (pair.0.to_owned(), pair.1.to_owned());
    let forward = CheckQuotaRequest {
        attributes: pairs.map(to_map).into_iter().collect(),
        ..CheckQuotaRequest::default()
    };
    let backward = CheckQuotaRequest {
        attributes: pairs.map(to_map).into_iter().rev().collect(),
        ..CheckQuotaRequest::default()
    };
    assert_eq!(forward.encode_to_vec(), backward.encode_to_vec());
}
