//! What the build script lets through: methods that declare who may call them, without contradiction.

#[path = "../build/access.rs"]
mod access;

use prost_reflect::DescriptorPool;
use protox::Compiler;
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver, IncludeFileResolver};

/// The one file of a small contract.
const FILE: &str = "small.proto";

/// A file that is nowhere on disk.
struct InMemory(String);

impl FileResolver for InMemory {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        if name == FILE { File::from_source(name, &self.0) } else { Err(protox::Error::file_not_found(name)) }
    }
}

/// A contract of one service with these methods, each a name and its options.
fn contract(methods: &[(&str, &str)]) -> DescriptorPool {
    let rpc = |(name, options): &(&str, &str)| format!("rpc {name}(Nothing) returns (Nothing) {{{options}}}");
    let source = format!(
        "syntax = \"proto3\";\npackage small;\nimport \"rateguard/v1/access.proto\";\n\
         message Nothing {{}}\nservice Small {{ {} }}\n",
        methods.iter().map(rpc).collect::<String>()
    );
    let mut files = ChainFileResolver::new();
    files.add(InMemory(source));
    files.add(IncludeFileResolver::new(env!("CARGO_MANIFEST_DIR").into()));
    files.add(GoogleFileResolver::new());
    let mut compiler = Compiler::with_file_resolver(files);
    compiler.open_file(FILE).expect("the small contract compiles");
    compiler.descriptor_pool()
}

/// The table of a contract with one method that declares this, or what is wrong.
fn table_of(access: &str) -> Result<String, String> {
    access::table(&[contract(&[("Do", &format!("option (rateguard.v1.access) = {{{access}}};"))])])
}

fn fault_of(access: &str) -> String {
    table_of(access).expect_err(access)
}

#[test]
fn a_method_without_a_declaration_does_not_build_and_is_named() {
    let everybody = "option (rateguard.v1.access) = {everybody: true};";
    let fault = access::table(&[contract(&[("Told", everybody), ("Untold", "")])]).unwrap_err();
    assert_eq!(fault, "small.Small.Untold: declares no access; add the option (rateguard.v1.access)");
}

#[test]
fn a_contract_that_does_not_know_the_option_does_not_build() {
    let mut compiler = Compiler::with_file_resolver(InMemory(
        "syntax = \"proto3\"; package small; message N {} service S { rpc Do(N) returns (N); }".to_owned(),
    ));
    compiler.open_file(FILE).unwrap();
    let fault = access::table(&[compiler.descriptor_pool()]).unwrap_err();
    assert!(fault.starts_with("small.S.Do: declares no access"), "{fault}");
}

#[test]
fn every_fault_is_told_at_once() {
    let empty = "option (rateguard.v1.access) = {};";
    let fault = access::table(&[contract(&[("One", ""), ("Two", empty)])]).unwrap_err();
    let lines: Vec<&str> = fault.lines().collect();
    assert_eq!(lines.len(), 2, "{fault}");
    assert!(lines[0].starts_with("small.Small.One: "), "{fault}");
    assert_eq!(lines[1], "small.Small.Two: lets nobody in");
}

#[test]
fn a_declaration_that_lets_nobody_in_does_not_build() {
    for access in ["", "everybody: false", "any_person: false", "least_role: ROLE_UNSPECIFIED"] {
        assert_eq!(fault_of(access), "small.Small.Do: lets nobody in", "{access}");
    }
}

#[test]
fn everybody_and_any_person_stand_alone() {
    let others =
        ["key_scopes: [KEY_SCOPE_READ]", "least_role: ROLE_VIEWER", "gateway_use: GATEWAY_USE_FOR_APP"];
    for other in others {
        let fault = fault_of(&format!("everybody: true {other}"));
        assert!(fault.contains("lets everybody in, and names somebody besides"), "{fault}");
        let fault = fault_of(&format!("any_person: true {other}"));
        assert!(fault.contains("lets any person in, and names somebody besides"), "{fault}");
    }
    assert!(fault_of("everybody: true any_person: true").contains("everybody"));
}

#[test]
fn a_gateway_for_itself_stands_alone() {
    for other in ["key_scopes: [KEY_SCOPE_READ]", "least_role: ROLE_VIEWER"] {
        let fault = fault_of(&format!("gateway_use: GATEWAY_USE_ITSELF {other}"));
        assert!(fault.contains("has no workspace"), "{fault}");
    }
}

#[test]
fn a_scope_that_opens_nothing_or_comes_twice_does_not_build() {
    for (scopes, expected) in [
        ("KEY_SCOPE_GATEWAY", "KEY_SCOPE_GATEWAY opens no method"),
        ("KEY_SCOPE_READ, KEY_SCOPE_UNSPECIFIED", "KEY_SCOPE_UNSPECIFIED opens no method"),
        ("KEY_SCOPE_READ, KEY_SCOPE_READ", "names KEY_SCOPE_READ twice"),
    ] {
        assert_eq!(fault_of(&format!("key_scopes: [{scopes}]")), format!("small.Small.Do: {expected}"));
    }
}

#[test]
fn a_value_that_no_enum_has_does_not_build() {
    assert_eq!(fault_of("least_role: 17"), "small.Small.Do: least_role: no value 17");
}

#[test]
fn what_is_declared_stands_in_the_table_in_the_order_of_the_paths() {
    let option = |access: &str| format!("option (rateguard.v1.access) = {{{access}}};");
    let named = option(
        "key_scopes: [KEY_SCOPE_QUOTA, KEY_SCOPE_READ] least_role: ROLE_ADMIN gateway_use: GATEWAY_USE_AFTER_CALL",
    );
    let (everybody, any_person) = (option("everybody: true"), option("any_person: true"));
    let pool = contract(&[("C", &named), ("B", &everybody), ("A", &any_person)]);
    let expected = "&[\n    \
        Method { path: \"/small.Small/A\", access: Access::AnyPerson },\n    \
        Method { path: \"/small.Small/B\", access: Access::Everybody },\n    \
        Method { path: \"/small.Small/C\", access: Access::Named(Named { \
        key_scopes: &[KeyScope::Quota, KeyScope::Read], least_role: Some(Role::Admin), \
        gateway_use: Some(GatewayUse::AfterCall) }) },\n]\n";
    assert_eq!(access::table(&[pool]).unwrap(), expected);
}
