//! A workspace as a file, through the commands that people type.

use std::path::{Path, PathBuf};

use rateguard_proto::v1;
use tempfile::TempDir;
use tokio::process::Command;

use crate::clients::Clients;
use crate::process::{Installation, PROGRAM, Server};

/// One of everything, each naming what it can.
const FILE: &str = "\
version: 1
workspace: {currency: USD, time_zone: UTC}
apis:
  - slug: openai
    base_url: https://api.openai.com/v1
    dialect: openai
    auth: bearer
    credential: {env: UPSTREAM_KEY}
    timeout: 90s
    unknown_price: {charge_default: '0.05'}
keys:
  - name: app
    scopes: [gateway]
    apis: [openai]
rules:
  - name: per customer
    match: {apis: [openai], keys: [app], models: ['gpt-*']}
    scope: [subject, {attribute: plan}]
    algorithm: {token_bucket: {capacity: 200, refill: 100, per: 1s}}
  - name: by the calendar
    unit: tokens
    algorithm: {calendar_window: {limit: 1000000, period: day, time_zone: Europe/Berlin}}
budgets:
  - name: month
    match: {keys: [app]}
    amount: '250.5'
    period: month
prices:
  - provider: openai
    model: gpt-4o
    effective_from: 2026-01-01T00:00:00Z
    per_million_tokens: {input: '2.5', output: '10'}
  - provider: openai
    model: gpt-4o
    effective_from: 2099-05-01T00:00:00.25Z
    per_million_tokens: {input: '3', output: '12'}
  - provider: openai
    model: gpt-4o-mini
    per_request: '0.001'
";

/// What a command said.
struct Said {
    ok: bool,
    out: String,
    err: String,
}

/// A server with a folder for files.
struct Desk {
    installation: Installation,
    server: Server,
    files: TempDir,
}

impl Desk {
    async fn new() -> Self {
        let installation = Installation::make().await;
        let server = installation.serve().await;
        Self { installation, server, files: tempfile::tempdir().unwrap() }
    }

    fn file(&self, text: &str) -> PathBuf {
        let path = self.files.path().join("workspace.yaml");
        std::fs::write(&path, text).unwrap();
        path
    }

    async fn run(&self, arguments: &[&str], file: Option<&Path>, secret: Option<&str>) -> Said {
        let mut command = Command::new(PROGRAM);
        command.args(arguments).args(file).env_remove("UPSTREAM_KEY");
        command.env("RATEGUARD_ADDRESS", &self.server.address);
        command.env("RATEGUARD_KEY", &self.installation.first_key);
        command.envs(secret.map(|secret| ("UPSTREAM_KEY", secret)));
        let output = command.output().await.unwrap();
        Said {
            ok: output.status.success(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    async fn apply(&self, text: &str) -> Said {
        self.run(&["apply"], Some(&self.file(text)), Some("sk-upstream")).await
    }

    async fn export(&self) -> String {
        let said = self.run(&["export"], None, None).await;
        assert!(said.ok, "{}", said.err);
        said.out
    }
}

#[tokio::test]
async fn what_is_exported_and_applied_to_an_empty_installation_is_exported_the_same_byte_for_byte() {
    let (first, second) = (Desk::new().await, Desk::new().await);
    let applied = first.apply(FILE).await;
    assert!(applied.ok, "{}", applied.err);
    assert!(applied.out.contains("key \"app\", shown only now: rg_live_"), "{}", applied.out);
    let exported = first.export().await;
    assert!(!exported.contains("sk-upstream") && !exported.contains("rg_live_"), "{exported}");
    assert!(exported.contains("env: UPSTREAM_KEY"), "{exported}");

    let applied = second.apply(&exported).await;
    assert!(applied.ok, "{}", applied.err);
    assert_eq!(second.export().await, exported);
    for desk in [&first, &second] {
        let again = desk.apply(&exported).await;
        assert!(again.out.contains("0 created, 0 changed, 0 deleted"), "{}{}", again.out, again.err);
        let diff = desk.run(&["diff", "--exit-code"], Some(&desk.file(&exported)), None).await;
        assert!(diff.ok, "{}{}", diff.out, diff.err);
    }
}

#[tokio::test]
async fn diff_shows_the_lines_that_change_and_changes_nothing() {
    let desk = Desk::new().await;
    assert!(desk.apply(FILE).await.ok);
    let exported = desk.export().await;
    let edited = FILE.replace("capacity: 200", "capacity: 300").replace("period: month", "period: week");
    let said = desk.run(&["diff", "--exit-code"], Some(&desk.file(&edited)), None).await;
    assert!(!said.ok);
    for line in
        ["~ rule \"per customer\"", "capacity: 200", "capacity: 300", "it gets new counters", "2 to change"]
    {
        assert!(said.out.contains(line), "{line}: {}", said.out);
    }
    let dry = desk.run(&["apply", "--dry-run"], Some(&desk.file(&edited)), None).await;
    assert_eq!(dry.out, said.out);
    assert_eq!(desk.export().await, exported);
}

#[tokio::test]
async fn diff_shows_the_lines_of_the_one_price_that_changes() {
    let desk = Desk::new().await;
    assert!(desk.apply(FILE).await.ok);
    let edited = FILE.replace("{input: '3', output: '12'}", "{input: '4', output: '12'}");
    let said = desk.run(&["diff"], Some(&desk.file(&edited)), None).await;
    let lines = [
        "~ price \"openai/gpt-4o@2099-05-01T00:00:00.250Z\"",
        "    -   input: \"3\"",
        "    +   input: \"4\"",
        "0 to create, 1 to change",
    ];
    for line in lines {
        assert!(said.out.contains(line), "{line}: {}", said.out);
    }
    assert!(!said.out.contains("2.5"), "{}", said.out);
}

#[tokio::test]
async fn a_credential_that_is_not_there_or_was_never_stored_is_told_and_nothing_is_done() {
    let desk = Desk::new().await;
    let before = desk.export().await;
    let said = desk.run(&["apply"], Some(&desk.file(FILE)), None).await;
    assert!(!said.ok && said.err.contains("UPSTREAM_KEY"), "{}", said.err);
    let stored = FILE.replace("{env: UPSTREAM_KEY}", "stored");
    let said = desk.apply(&stored).await;
    assert!(!said.ok && said.err.contains("none is stored"), "{}", said.err);
    assert_eq!(desk.export().await, before);
    assert!(desk.apply(FILE).await.ok);
    // Once it is stored, it may stay so.
    let kept = desk.apply(&stored).await;
    assert!(kept.ok, "{}", kept.err);
    assert!(desk.export().await.contains("credential: stored"));
}

#[tokio::test]
async fn a_key_that_does_not_exist_is_told_with_its_line_and_the_nearest() {
    let desk = Desk::new().await;
    let said = desk.apply(&FILE.replace("    timeout: 90s", "    timeuot: 90s")).await;
    assert!(!said.ok);
    assert!(
        said.err
            .contains("line 9: apis[0].timeuot: there is no \"timeuot\" here; the nearest is \"timeout\""),
        "{}",
        said.err
    );
}

#[tokio::test]
async fn of_two_who_apply_what_they_have_reviewed_one_is_refused() {
    let desk = Desk::new().await;
    assert!(desk.apply(FILE).await.ok);
    let edited = desk.file(&FILE.replace("capacity: 200", "capacity: 300"));
    let reviewed = desk.run(&["diff"], Some(&edited), None).await;
    let state = reviewed.out.trim().rsplit(' ').next().unwrap().to_owned();
    let clients = Clients::connect(&desk.server.address, &desk.installation.first_key).await;
    clients.make_rule("by hand", 3).await;

    let arguments = ["apply", "--state", &state];
    let refused = desk.run(&arguments, Some(&edited), Some("sk-upstream")).await;
    assert!(!refused.ok && refused.err.contains("has changed since"), "{}", refused.err);
    let exported = desk.export().await;
    assert!(exported.contains("capacity: 200") && exported.contains("by hand"), "{exported}");
}

#[tokio::test]
async fn pruning_deletes_what_the_file_does_not_name_and_keeps_the_key_that_asks() {
    let desk = Desk::new().await;
    assert!(desk.apply(FILE).await.ok);
    let clients = Clients::connect(&desk.server.address, &desk.installation.first_key).await;
    clients.make_rule("by hand", 3).await;
    let kept = desk.apply(FILE).await;
    assert!(kept.out.contains("= rule \"by hand\", which the file does not name, stays"), "{}", kept.out);
    let pruned = desk.run(&["apply", "--prune"], Some(&desk.file(FILE)), Some("sk-upstream")).await;
    assert!(pruned.ok && pruned.out.contains("- rule \"by hand\""), "{}{}", pruned.out, pruned.err);
    let rules = clients.rules().list_rules(v1::ListRulesRequest::default()).await.unwrap().into_inner().rules;
    assert_eq!(rules.len(), 2);
}
