use std::collections::HashMap;
use std::net::SocketAddr;

use rateguard_proto::v1::configuration_service_server::{ConfigurationService, ConfigurationServiceServer};
use rateguard_proto::v1::{self, ConfigurationChange, ConfigurationKind};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tonic::Response;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic_types::ErrorDetails;

use super::*;

/// Resources that a configuration has at most.
const RESOURCES_MAX: usize = 10_000;

/// Answers as a server does whose largest workspace has become wholly another one.
struct Largest;

#[tonic::async_trait]
impl ConfigurationService for Largest {
    async fn export_workspace(
        &self,
        _: Request<v1::ExportWorkspaceRequest>,
    ) -> Result<Response<v1::ExportWorkspaceResponse>, Status> {
        let configuration = Some(largest());
        Ok(Response::new(v1::ExportWorkspaceResponse { configuration, ..Default::default() }))
    }

    async fn apply_workspace(
        &self,
        _: Request<v1::ApplyWorkspaceRequest>,
    ) -> Result<Response<v1::ApplyWorkspaceResponse>, Status> {
        let difference = v1::ConfigurationDifference {
            kind: ConfigurationKind::Key.into(),
            name: "a key".to_owned(),
            change: ConfigurationChange::Create.into(),
            ..v1::ConfigurationDifference::default()
        };
        let secret = v1::SecretText { value: "rg_live_0123456789".to_owned() };
        let created = v1::CreatedKey { name: "a key".to_owned(), secret: Some(secret) };
        Ok(Response::new(v1::ApplyWorkspaceResponse {
            differences: vec![difference; 2 * RESOURCES_MAX],
            before: Some(largest()),
            after: Some(largest()),
            created_keys: vec![created; RESOURCES_MAX],
            ..v1::ApplyWorkspaceResponse::default()
        }))
    }
}

fn largest() -> v1::WorkspaceConfiguration {
    let key = v1::Key { display_name: "a key".to_owned(), ..v1::Key::default() };
    v1::WorkspaceConfiguration { keys: vec![key; RESOURCES_MAX], ..Default::default() }
}

/// A client of a server that is run for it.
async fn client_of(service: impl ConfigurationService) -> Client {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let server = Server::builder().add_service(ConfigurationServiceServer::new(service));
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
    Client::connect(&address, &ServerTls::default(), "rg_live_any").await.unwrap()
}

#[tokio::test]
async fn the_keys_of_the_largest_application_reach_whoever_applied_it() {
    let client = client_of(Largest).await;
    let answer = client.configurations().apply_workspace(v1::ApplyWorkspaceRequest::default()).await;
    let answer = answer.unwrap().into_inner();
    assert_eq!((answer.created_keys.len(), answer.differences.len()), (RESOURCES_MAX, 2 * RESOURCES_MAX));
    assert!(answer.created_keys.iter().all(|key| key.secret.is_some()));
}

#[tokio::test]
async fn the_largest_workspace_can_be_exported() {
    let client = client_of(Largest).await;
    let answer = client.configurations().export_workspace(v1::ExportWorkspaceRequest {}).await.unwrap();
    assert_eq!(answer.into_inner().configuration.unwrap().keys.len(), RESOURCES_MAX);
}

/// Takes what is asked, and goes away without a word.
async fn address_of_one_who_leaves() -> String {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut connection, _) = listener.accept().await.unwrap();
        // As much as begins any connection of HTTP/2, so that the client goes on to ask.
        let mut begun = [0; 24];
        connection.read_exact(&mut begun).await.unwrap();
    });
    address
}

#[tokio::test]
async fn of_an_application_that_is_cut_off_nobody_knows_whether_it_was_made() {
    let address = address_of_one_who_leaves().await;
    let client = Client::connect(&address, &ServerTls::default(), "rg_live_any").await.unwrap();
    let refused = client.configurations().apply_workspace(v1::ApplyWorkspaceRequest::default()).await;
    let refused = refused.unwrap_err();
    assert!(is_outcome_unknown(&refused), "{refused:?}");
    let told = describe(&refused).to_string();
    assert!(told.starts_with("the call was ") && !told.ends_with("transport error"), "{told}");
}

#[test]
fn what_a_server_refuses_was_not_made_unless_it_says_that_it_does_not_know() {
    let of = |code, reason: &str| {
        let details = ErrorDetails::with_error_info(reason, "rateguard", HashMap::new());
        Status::with_error_details(code, "there is no such API", details)
    };
    let refused = of(Code::NotFound, "RESOURCE_NOT_FOUND");
    assert!(!is_outcome_unknown(&refused));
    assert_eq!(describe(&refused).to_string(), "there is no such API");
    assert!(is_outcome_unknown(&of(Code::Unavailable, "OUTCOME_UNKNOWN")));
    assert!(!is_outcome_unknown(&of(Code::Unavailable, "STORE_UNAVAILABLE")));
    assert!(is_outcome_unknown(&of(Code::DeadlineExceeded, "DEADLINE_EXCEEDED")));
}
