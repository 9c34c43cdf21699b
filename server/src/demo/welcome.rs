//! What the demo says when it is ready.

use std::path::Path;

use super::{DemoKeys, keys};

/// For people: the address, the keys, and four commands to paste.
pub fn as_text(url: &str, folder: &Path, keys: &DemoKeys) -> String {
    let program = program();
    let file = keys::path(folder);
    let file = file.display();
    let DemoKeys { manage, app, owner_email, owner_password, .. } = keys;
    format!(
        r#"RateGuard is ready at {url}

  key for back ends (check, report, read, manage)   {manage}
  key for apps (through the gateway)                {app}
  the workspace's owner logs in with                {owner_email} {owner_password}
  all of it, and two more keys to try limits with   {file}

1. May this call go ahead?

  . {file}; {program} check --address {url} --key "$MANAGE_KEY" --api demo-openai --model gpt-4o-mini

2. Call a model through the gateway (the upstream is a demo: no model runs):

  . {file}; curl -si {url}/proxy/demo-openai/v1/chat/completions -H "authorization: Bearer $APP_KEY" -H 'content-type: application/json' -d '{{"model":"gpt-4o-mini","messages":[{{"role":"user","content":"Hello"}}]}}'

3. The same as a stream, from the other vendor:

  . {file}; curl -sN {url}/proxy/demo-anthropic/v1/messages -H "x-api-key: $APP_KEY" -H 'anthropic-version: 2023-06-01' -H 'content-type: application/json' -d '{{"model":"claude-haiku-4-5","max_tokens":256,"stream":true,"messages":[{{"role":"user","content":"Hello"}}]}}'

4. Report what a call of your own used:

  . {file}; {program} usage report --address {url} --key "$MANAGE_KEY" --event-id "my-call-$(date +%s)" --api demo-openai --model gpt-4o-mini --input-tokens 1200 --output-tokens 300

Ctrl-C stops it; nothing that was accepted is lost."#
    )
}

/// For programs: one line.
pub fn as_json(url: &str, keys: &DemoKeys) -> String {
    let DemoKeys { manage, app, tight, broke, owner_email, owner_password } = keys;
    serde_json::json!({
        "address": url,
        "keys": { "manage": manage, "app": app, "tight": tight, "broke": broke },
        "owner": { "email": owner_email, "password": owner_password },
        "apis": { "openai": "demo-openai", "anthropic": "demo-anthropic" },
    })
    .to_string()
}

/// How the program was started, relative to the present folder where it lies below it.
fn program() -> String {
    let here = std::env::current_dir().unwrap_or_default();
    let Ok(program) = std::env::current_exe() else { return "rateguard".to_owned() };
    program.strip_prefix(&here).unwrap_or(&program).display().to_string()
}
