//! `docs/CONFIGURATION.md`, made from the commented default.

use super::DEFAULT;
use super::layers::variable_of;

const HEAD: &str = "\
# Configuration

Made by `make gen` from `server/config.default.toml`; do not edit.

The built-in default comes first, then the file given with `--config`, then environment variables, then flags. A key
that does not exist is an error that names the nearest one. The environment variable of a key is its name in capitals
behind `RATEGUARD_`, with two underscores for each dot: `RATEGUARD_SERVER__LISTEN` is `server.listen`. A variable without
two underscores sets nothing, for it may be another program's; the log of a start names those that look like a key's.

In a variable or a flag, a text stands as it is, without quotes; numbers and booleans as in the file; and a list as in
the file too, in brackets with each text in quotes:

```sh
RATEGUARD_SERVER__CORS_ORIGINS='[\"https://dashboard.example.com\", \"http://localhost:5173\"]'
```
";

/// The reference of every key: what it means, its default, its environment variable.
pub fn markdown() -> String {
    let mut document = HEAD.to_owned();
    let (mut section, mut comment) = (String::new(), Vec::new());
    // The first paragraph is about the file itself.
    for line in DEFAULT.lines().skip_while(|line| !line.starts_with('[')) {
        if let Some(text) = line.strip_prefix('#') {
            comment.push(text.trim());
        } else if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name.to_owned();
            document += &format!(
                "\n## `[{section}]`\n\n| key | default | meaning | environment |\n|---|---|---|---|\n"
            );
        } else if let Some((key, default)) = line.split_once(" = ") {
            document += &row(&section, key, default, &comment.join(" "));
            comment.clear();
        }
    }
    document
}

fn row(section: &str, key: &str, default: &str, meaning: &str) -> String {
    let variable = variable_of(&format!("{section}.{key}"));
    format!("| `{section}.{key}` | `{default}` | {meaning} | `{variable}` |\n")
}
