//! Who may call what, as a table: each method with the roles and the scopes that open it.

use rateguard_proto::access::{Access, METHODS, Method, Named};
use rateguard_proto::v1::{GatewayUse, KeyScope, Role};

use crate::auth::DECLARED_BY_OTHERS;
use crate::front::REFLECTION_BEFORE;

/// The columns of roles, from the least to the greatest.
const ROLES: [Role; 4] = [Role::Viewer, Role::Member, Role::Admin, Role::Owner];
/// The columns of scopes. `gateway` has none: it opens no method.
const SCOPES: [KeyScope; 4] = [KeyScope::Quota, KeyScope::Usage, KeyScope::Manage, KeyScope::Read];
const YES: &str = "yes";

const HEAD: &str = "\
# Permissions

Made by `make gen` from the contract, where each method declares who may call it (`rateguard.v1.access`); do not
edit.

A method is open to whoever has a `yes` in its row: a person by their role in the workspace, an API key by any one
of its scopes. A role may do everything that the ones before it may; a scope contains no other. The scope `gateway`
opens no method: with it an app calls through the gateway, which then calls for it where the last column says so.
Whatever is neither in these tables nor in the list at the end does not exist.

A key of the scope `manage` makes and changes other keys, within these bounds: it cannot change itself, be it to lift
its expiry or its IP ranges (it may rotate and delete itself); and it hands out no scope that it lacks, neither to a
new key, nor to one that it changes, nor by giving a key that has one a new secret. An admin may do all of that. The
rest of what binds a key binds only the key itself: a key with an expiry, or for some APIs, models or addresses, can
make one without. Give `manage` to no program that is not trusted with the whole workspace.

A key belongs to its workspace, not to whoever made it: it goes on after that person has been removed or has lost the
role. The audit trail tells which keys they have made; disable or rotate those whose secret they know.
";

const OTHERS_HEAD: &str = "
## Protocols of others

Open to everybody, without a credential; they tell no secrets:

";

const OTHERS_FOOT: &str = "
What reflection does not know ends its stream with the status `NOT_FOUND` and the details of every other error, not with
a message `error_response`.
";

/// `docs/PERMISSIONS.md`.
pub fn permissions_markdown() -> String {
    let mut text = HEAD.to_owned();
    let mut service = "";
    for method in METHODS {
        let (of_method, name) = method.names();
        if of_method != service {
            service = of_method;
            text += &heading(service);
        }
        text += &row(name, method);
    }
    text + &open_to_everybody()
}

fn heading(service: &str) -> String {
    let roles = ROLES.map(|role| role.as_str_name().trim_start_matches("ROLE_").to_owned());
    let scopes = SCOPES.map(|scope| format!("`{}`", format!("{scope:?}").to_lowercase()));
    let columns = [roles, scopes].concat().join(" | ");
    let rule = "|---".repeat(ROLES.len() + SCOPES.len() + 2);
    format!("\n## {service}\n\n| method | {columns} | besides |\n{rule}|\n")
}

fn row(name: &str, method: &Method) -> String {
    let mark = |is_open: bool| if is_open { YES } else { "" };
    let roles = ROLES.map(|role| mark(opens_to_role(method.access, role)));
    let scopes = SCOPES.map(|scope| mark(opens_to_scope(method.access, scope)));
    format!("| `{name}` | {} | {} |\n", [roles, scopes].concat().join(" | "), besides(method.access))
}

fn opens_to_role(access: Access, role: Role) -> bool {
    match access {
        Access::Everybody | Access::AnyPerson => true,
        Access::Named(Named { least_role, .. }) => least_role.is_some_and(|least| role >= least),
    }
}

fn opens_to_scope(access: Access, scope: KeyScope) -> bool {
    match access {
        Access::Everybody => true,
        Access::AnyPerson => false,
        Access::Named(Named { key_scopes, .. }) => key_scopes.contains(&scope),
    }
}

/// Who else may, and what roles and scopes do not say.
fn besides(access: Access) -> &'static str {
    match access {
        Access::Everybody => "everybody, without a credential",
        Access::AnyPerson => "a person of no workspace too",
        Access::Named(Named { gateway_use, .. }) => match gateway_use {
            Some(GatewayUse::Itself) => "a gateway for itself",
            Some(GatewayUse::ForApp) => "a gateway for an app",
            Some(GatewayUse::AfterCall) => "a gateway for an app, whatever became of its key since the call",
            Some(GatewayUse::Unspecified) | None => "",
        },
    }
}

fn open_to_everybody() -> String {
    let before = format!("{REFLECTION_BEFORE}ServerReflectionInfo");
    let paths = DECLARED_BY_OTHERS.into_iter().chain([before.as_str()]);
    let rows: String = paths.map(|path| format!("* `{}`\n", path.trim_start_matches('/'))).collect();
    format!("{OTHERS_HEAD}{rows}{OTHERS_FOOT}")
}

#[cfg(test)]
mod tests;
