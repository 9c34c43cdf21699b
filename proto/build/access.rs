//! Who may call each method, read from the option `rateguard.v1.access` beside it. A method that does
//! not declare it, or contradicts itself, does not build.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor, Value};

/// The option that every method carries.
const OPTION: &str = "rateguard.v1.access";
/// What the names of the values of each enum begin with in the proto, and go without in Rust.
const SCOPE_PREFIX: &str = "KEY_SCOPE_";
const ROLE_PREFIX: &str = "ROLE_";
const GATEWAY_PREFIX: &str = "GATEWAY_USE_";
/// The scope that opens no method.
const SCOPE_THAT_OPENS_NOTHING: &str = "KEY_SCOPE_GATEWAY";
/// A gateway for itself has no workspace in which others could be let in beside it.
const GATEWAY_ITSELF: &str = "GATEWAY_USE_ITSELF";

/// What a method declares; enum values by their names in the proto, unspecified ones left out.
#[derive(Default)]
struct Declared {
    everybody: bool,
    any_person: bool,
    key_scopes: Vec<String>,
    least_role: Option<String>,
    gateway_use: Option<String>,
}

/// The table of every method of these packages as a Rust expression, in the order of the paths.
///
/// # Errors
/// A line for each method whose declaration is missing or contradicts itself.
pub fn table(pools: &[DescriptorPool]) -> Result<String, String> {
    let mut rows = BTreeMap::new();
    let mut faults = Vec::new();
    let services: Vec<_> = pools.iter().flat_map(DescriptorPool::services).collect();
    for method in services.iter().flat_map(|service| service.methods()) {
        let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
        match declared(&method) {
            Ok(declared) => drop(rows.insert(path, expression(&declared))),
            Err(fault) => faults.push(format!("{}: {fault}", method.full_name())),
        }
    }
    if !faults.is_empty() {
        return Err(faults.join("\n"));
    }
    let mut table = String::from("&[\n");
    for (path, access) in rows {
        writeln!(table, "    Method {{ path: {path:?}, access: {access} }},")
            .map_err(|error| error.to_string())?;
    }
    Ok(table + "]\n")
}

/// What a method declares, whole and without contradiction.
fn declared(method: &MethodDescriptor) -> Result<Declared, String> {
    let missing = || format!("declares no access; add the option ({OPTION})");
    let extension = method.parent_pool().get_extension_by_name(OPTION).ok_or_else(missing)?;
    let options = method.options();
    if !options.has_extension(&extension) {
        return Err(missing());
    }
    let value = options.get_extension(&extension);
    let declared = read(value.as_message().ok_or("the option is no message")?)?;
    match contradiction(&declared) {
        Some(fault) => Err(fault),
        None => Ok(declared),
    }
}

/// Reads the option. A field that is new there stops the build until it is read here.
fn read(access: &DynamicMessage) -> Result<Declared, String> {
    let mut declared = Declared::default();
    for (field, value) in access.fields() {
        let name = |value: &Value| {
            let kind = field.kind();
            let number = value.as_enum_number().unwrap_or_default();
            let named = kind.as_enum().and_then(|kind| kind.get_value(number));
            named.map(|value| value.name().to_owned()).ok_or(format!("{}: no value {number}", field.name()))
        };
        match field.name() {
            "everybody" => declared.everybody = value == &Value::Bool(true),
            "any_person" => declared.any_person = value == &Value::Bool(true),
            "key_scopes" => {
                let scopes = value.as_list().unwrap_or_default();
                declared.key_scopes = scopes.iter().map(name).collect::<Result<_, _>>()?;
            }
            "least_role" => declared.least_role = Some(name(value)?),
            "gateway_use" => declared.gateway_use = Some(name(value)?),
            other => return Err(format!("declares {other}, which nothing enforces")),
        }
    }
    Ok(declared)
}

/// What is wrong with a declaration; `None` when nothing is.
fn contradiction(declared: &Declared) -> Option<String> {
    let Declared { everybody, any_person, key_scopes, least_role, gateway_use } = declared;
    let of_a_workspace = !key_scopes.is_empty() || least_role.is_some();
    let itself = gateway_use.as_deref() == Some(GATEWAY_ITSELF);
    let never =
        |scope: &&String| scope.as_str() == SCOPE_THAT_OPENS_NOTHING || scope.ends_with("_UNSPECIFIED");
    let twice = |(at, scope): &(usize, &String)| key_scopes[..*at].contains(scope);
    if !everybody && !any_person && !of_a_workspace && gateway_use.is_none() {
        Some("lets nobody in".to_owned())
    } else if *everybody && (*any_person || of_a_workspace || gateway_use.is_some()) {
        Some("lets everybody in, and names somebody besides".to_owned())
    } else if *any_person && (of_a_workspace || gateway_use.is_some()) {
        Some("lets any person in, and names somebody besides".to_owned())
    } else if itself && of_a_workspace {
        Some("lets in a gateway for itself, which has no workspace, and somebody of a workspace".to_owned())
    } else if let Some(scope) = key_scopes.iter().find(never) {
        Some(format!("{scope} opens no method"))
    } else {
        key_scopes.iter().enumerate().find(twice).map(|(_, scope)| format!("names {scope} twice"))
    }
}

/// A declaration as a Rust expression.
fn expression(declared: &Declared) -> String {
    let Declared { everybody, any_person, key_scopes, least_role, gateway_use } = declared;
    if *everybody {
        return "Access::Everybody".to_owned();
    }
    if *any_person {
        return "Access::AnyPerson".to_owned();
    }
    let scopes: Vec<_> = key_scopes.iter().map(|name| variant("KeyScope", SCOPE_PREFIX, name)).collect();
    let scopes = scopes.join(", ");
    let role = optional(least_role.as_deref(), "Role", ROLE_PREFIX);
    let gateway = optional(gateway_use.as_deref(), "GatewayUse", GATEWAY_PREFIX);
    format!("Access::Named(Named {{ key_scopes: &[{scopes}], least_role: {role}, gateway_use: {gateway} }})")
}

fn optional(name: Option<&str>, kind: &str, prefix: &str) -> String {
    name.map_or("None".to_owned(), |name| format!("Some({})", variant(kind, prefix, name)))
}

/// The Rust variant of an enum's value: `ROLE_VIEWER` is `Role::Viewer`.
fn variant(kind: &str, prefix: &str, name: &str) -> String {
    let words = name.strip_prefix(prefix).unwrap_or(name).split('_');
    let camel: String = words
        .map(|word| {
            let (first, rest) = word.split_at(word.len().min(1));
            first.to_owned() + &rest.to_lowercase()
        })
        .collect();
    format!("{kind}::{camel}")
}
