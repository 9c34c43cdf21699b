//! What the contract promises about itself, read from its descriptors.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;
use prost_types::{FileDescriptorProto, FileDescriptorSet};

use crate::v1::{CheckQuotaRequest, ErrorReason, SecretText};
use crate::{FILE_DESCRIPTOR_SET, INTERNAL_FILE_DESCRIPTOR_SET};

/// Every service of the public package and its methods.
const PUBLIC_SERVICES: [(&str, &[&str]); 12] = [
    ("QuotaService", &["CheckQuota", "BatchCheckQuota", "GetQuota", "ReleaseReservation"]),
    ("UsageService", &["ReportUsage", "ListUsageEvents"]),
    ("ApiService", &["CreateApi", "GetApi", "ListApis", "UpdateApi", "DeleteApi"]),
    ("KeyService", &["CreateKey", "GetKey", "ListKeys", "UpdateKey", "DeleteKey"]),
    ("RuleService", &["CreateRule", "GetRule", "ListRules", "UpdateRule", "DeleteRule"]),
    ("BudgetService", &["CreateBudget", "GetBudget", "ListBudgets", "UpdateBudget", "DeleteBudget"]),
    (
        "PriceService",
        &["ListPrices", "GetPrice", "CreatePriceOverride", "UpdatePriceOverride", "DeletePriceOverride"],
    ),
    ("AnalyticsService", &["GetSummary", "QueryTimeSeries"]),
    ("ConfigurationService", &["ExportWorkspace", "ApplyWorkspace"]),
    (
        "AuthService",
        &[
            "Register",
            "Login",
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
