//! People and the program: the first owner, and what a restart and a kill leave of a log-in.

use rateguard_proto::v1;
use tonic::Code;

use crate::clients::Clients;
use crate::process::{Installation, OWNER_EMAIL};

fn secret(text: &str) -> Option<v1::SecretText> {
    Some(v1::SecretText { value: text.to_owned() })
}

/// The access and the refresh token of a new log-in.
async fn log_in(address: &str, installation: &Installation) -> (String, String) {
    let request = v1::LoginRequest {
        email: OWNER_EMAIL.to_owned(),
        password: secret(&installation.owner_password),
        workspace_id: String::new(),
    };
    let visitor = Clients::connect(address, "nobody").await;
    let grant = visitor.auth().login(request).await.unwrap().into_inner().grant.unwrap();
    (grant.access_token.unwrap().value, grant.refresh_token.unwrap().value)
}

#[tokio::test]
async fn the_first_owner_logs_in_and_manages() {
    let installation = Installation::make().await;
    let server = installation.serve().await;
    let (access, _) = log_in(&server.address, &installation).await;
    let owner = Clients::connect(&server.address, &access).await;
    let me = owner.auth().get_me(v1::GetMeRequest {}).await.unwrap().into_inner();
    assert_eq!((me.role(), me.memberships.len()), (v1::Role::Owner, 1));
    let keys = owner.make_key(&[v1::KeyScope::Read]).await;
    assert!(keys.starts_with("rg_live_"));
}

#[tokio::test]
async fn tokens_outlive_a_kill_and_spent_ones_stay_spent() {
    let installation = Installation::make().await;
    let server = installation.serve().await;
    let (access, first) = log_in(&server.address, &installation).await;
    let (ended, _) = log_in(&server.address, &installation).await;
    let refresh = |token: &str| v1::RefreshTokenRequest { refresh_token: secret(token) };
    let owner = Clients::connect(&server.address, &access).await;
    owner.auth().refresh_token(refresh(&first)).await.unwrap();
    let other = Clients::connect(&server.address, &ended).await;
    other.auth().logout(v1::LogoutRequest {}).await.unwrap();
    server.kill().await;

    let server = installation.serve().await;
    let owner = Clients::connect(&server.address, &access).await;
    owner.auth().get_me(v1::GetMeRequest {}).await.unwrap();
    let other = Clients::connect(&server.address, &ended).await;
    let refused = other.auth().get_me(v1::GetMeRequest {}).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    let reused = owner.auth().refresh_token(refresh(&first)).await.unwrap_err();
    assert_eq!(reused.code(), Code::Unauthenticated);
    let refused = owner.auth().get_me(v1::GetMeRequest {}).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
}
