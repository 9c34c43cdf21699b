//! What an app's key may not do: every method of every service, by the contract's own descriptors.

use prost::Message;
use prost_types::FileDescriptorSet;
use rateguard_proto::{ENVOY_FILE_DESCRIPTOR_SET, FILE_DESCRIPTOR_SET, v1};

use crate::clients::{eventually, record};
use crate::http::{ChatCall, Http};
use crate::process::Installation;
use crate::upstream;

/// gRPC's code for a caller who is known and may not.
const PERMISSION_DENIED: &str = "7";
/// gRPC's code for a caller who is not known.
const UNAUTHENTICATED: &str = "16";

/// The ways in, which need no credential and take no notice of one.
const WAYS_IN: [&str; 6] = [
    "/rateguard.v1.AuthService/Register",
    "/rateguard.v1.AuthService/Login",
    "/rateguard.v1.AuthService/GetAuthMethods",
    "/rateguard.v1.AuthService/BeginOidcLogin",
    "/rateguard.v1.AuthService/CompleteOidcLogin",
    "/rateguard.v1.AuthService/RefreshToken",
];

/// The path of every method of every service that asks who calls.
fn methods() -> Vec<String> {
    let sets = [FILE_DESCRIPTOR_SET, ENVOY_FILE_DESCRIPTOR_SET];
    let sets = sets.map(|set| FileDescriptorSet::decode(set).unwrap());
    let mut paths = Vec::new();
    for file in sets.iter().flat_map(|set| &set.file) {
        for service in &file.service {
            let name = format!("{}.{}", file.package(), service.name());
            let of_service = service.method.iter().map(|method| format!("/{name}/{}", method.name()));
            paths.extend(of_service.filter(|path| !WAYS_IN.contains(&path.as_str())));
        }
    }
    paths
}

#[tokio::test]
async fn an_apps_key_opens_no_rpc() {
    let installation = Installation::make().await;
    let server = installation.serve().await;
    let first = installation.administer(&server).await;
    let app_key = first.make_key(&[v1::KeyScope::Gateway]).await;
    let http = Http::new();
    let paths = methods();
    assert!(paths.len() > 30, "only {} methods", paths.len());
    for path in paths {
        let url = format!("{}{path}", server.address);
        assert_eq!(http.grpc_web_status(&url, Some(&app_key)).await, PERMISSION_DENIED, "{path}");
        assert_eq!(http.grpc_web_status(&url, None).await, UNAUTHENTICATED, "{path}");
        assert_eq!(http.grpc_web_status(&url, Some("rg_live_unknown")).await, UNAUTHENTICATED, "{path}");
    }
}

#[tokio::test]
async fn the_gateways_own_service_is_on_no_public_listener() {
    let installation = Installation::make().await;
    let server = installation.serve().await;
    let url = format!("{}/rateguard.internal.v1.GatewayService/ResolveRoute", server.address);
    let status = Http::new().grpc_web_status(&url, Some(&installation.first_key)).await;
    assert_ne!(status, "0", "the service answered");
}

/// Even a key that may report and release by itself is another principal than the gateway that acts
/// on its behalf.
#[tokio::test]
async fn a_key_can_neither_settle_nor_release_its_gateways_reservation() {
    let installation = Installation::make().await;
    let server = installation.serve().await;
    let (_upstream, upstream_address) = upstream::start().await;
    let first = installation.administer(&server).await;
    upstream::make_api(&first, upstream_address).await;
    let scopes = [v1::KeyScope::Gateway, v1::KeyScope::Quota, v1::KeyScope::Usage, v1::KeyScope::Read];
    let key = first.make_key(&scopes).await;
    let answer = Http::new().call(&ChatCall::new(&server.address, "chat", &key)).await;
    assert_eq!(answer.status, 200, "{answer:?}");

    let client = server.connect(&key).await;
    eventually("the call is reported", || async { !client.all_events().await.is_empty() }).await;
    let reservation_id = client.all_events().await.remove(0).record.unwrap().reservation_id;
    assert!(reservation_id.starts_with("rsv_"));

    let release = v1::ReleaseReservationRequest { reservation_id: reservation_id.clone() };
    assert!(client.quota().release_reservation(release).await.is_err());
    let report = v1::UsageRecord { reservation_id, attempt: Some(2), ..record("mine", "", 1) };
    let result = client.report_one(report).await;
    assert_eq!(result.reason(), v1::ErrorReason::ReservationNotOwned);
}
