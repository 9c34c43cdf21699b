//! The audit trail from the command line, beside a running server and after it was killed.

use std::path::Path;
use std::process::Output;

use rateguard_proto::v1;
use tokio::process::Command;

use crate::clients::Clients;
use crate::process::{Installation, PROGRAM};

/// Runs `rateguard audit`.
async fn audit(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(PROGRAM);
    command.arg("audit").args(arguments).arg("--data-dir").arg(folder);
    command.output().await.unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[tokio::test]
async fn the_trail_verifies_beside_a_server_and_after_it_was_killed() {
    let installation = Installation::make().await;
    let server = installation.serve().await;
    let clients = Clients::connect(&server.address, &installation.first_key).await;
    clients.make_key(&[v1::KeyScope::Read]).await;
    let beside = audit(installation.path(), &["verify"]).await;
    assert!(beside.status.success(), "{beside:?}");
    let rule = clients.make_rule("hourly", 10).await;
    server.kill().await;
    let after = audit(installation.path(), &["verify"]).await;
    assert!(after.status.success(), "{after:?}");
    let workspace = text(&after).lines().find(|line| line.starts_with("ws_")).unwrap().to_owned();
    let (id, rest) = workspace.split_once(':').unwrap();
    // The set-up's workspace, member, user and key, then a key and a rule.
    assert!(rest.starts_with(" 6 entries"), "{rest}");
    let listed = audit(installation.path(), &["list", "--workspace", id, "--limit", "1", "--json"]).await;
    let entry: serde_json::Value = serde_json::from_str(text(&listed).trim()).unwrap();
    assert_eq!(entry["method"], "rateguard.v1.RuleService/CreateRule");
    assert_eq!((&entry["id"], &entry["ip"]), (&rule.id.into(), &"127.0.0.1".into()));
    let of_installation = audit(installation.path(), &["list"]).await;
    assert!(text(&of_installation).contains("RotateSigningKeys"), "{of_installation:?}");
}

#[tokio::test]
async fn heads_that_were_kept_must_still_be_in_their_chains() {
    let installation = Installation::make().await;
    let heads = audit(installation.path(), &["heads"]).await;
    let kept = installation.path().join("heads.txt");
    std::fs::write(&kept, text(&heads)).unwrap();
    let kept_option = ["verify", "--kept", kept.to_str().unwrap()];
    let verified = audit(installation.path(), &kept_option).await;
    assert!(verified.status.success(), "{verified:?}");
    let line = text(&heads).lines().find(|line| line.starts_with("ws_")).unwrap().to_owned();
    let (chain, _) = line.split_once(' ').unwrap();
    for (head, fault) in [
        (format!("{chain} 4 {}", "0".repeat(64)), "entry 4 is not the entry that a head names"),
        (format!("{chain} 9 {}", "0".repeat(64)), "entry 5 is missing at the end of the chain"),
        (format!("ws_gone 1 {}", "0".repeat(64)), "ws_gone: entry 1 is missing at the end of the chain"),
    ] {
        std::fs::write(&kept, head).unwrap();
        let verified = audit(installation.path(), &kept_option).await;
        assert_eq!(verified.status.code(), Some(1), "{verified:?}");
        assert!(text(&verified).contains(fault), "{}", text(&verified));
    }
}

#[tokio::test]
async fn a_folder_without_an_installation_has_no_trail() {
    let folder = tempfile::tempdir().unwrap();
    let verified = audit(folder.path(), &["verify"]).await;
    assert!(!verified.status.success());
    assert!(String::from_utf8_lossy(&verified.stderr).contains("cannot be read"), "{verified:?}");
}
