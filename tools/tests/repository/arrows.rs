//! Who may depend on whom, inside the workspace and outside it.
//!
//! Dependencies point one way: server → grpc → engine → core, stores → engine,
//! gateway → proto. `docs/ARCHITECTURE.md` says why; this file says it so that a
//! build notices.

use cargo_metadata::{Dependency, DependencyKind, Package};

use crate::metadata;

/// What one crate of the workspace may depend on among the others.
struct Arrow {
    from: &'static str,
    /// To build and run.
    to: &'static [&'static str],
    /// In its tests alone, besides.
    to_in_tests: &'static [&'static str],
}

const PREFIX: &str = "rateguard-";
/// The crate that goes by the name alone: the client for Rust.
const CLIENT: &str = "rateguard";

const ARROWS: &[Arrow] = &[
    Arrow { from: "proto", to: &[], to_in_tests: &[] },
    Arrow { from: "core", to: &[], to_in_tests: &[] },
    Arrow { from: "engine", to: &["core"], to_in_tests: &["store-memory"] },
    Arrow { from: "store-memory", to: &["engine", "core"], to_in_tests: &["store-suite"] },
    Arrow {
        from: "store-redis",
        to: &["engine", "core"],
        to_in_tests: &["store-memory", "store-suite", "test-servers"],
    },
    Arrow { from: "store-sql", to: &["engine", "core"], to_in_tests: &["store-suite", "test-servers"] },
    Arrow { from: "store-suite", to: &["engine", "core"], to_in_tests: &[] },
    Arrow { from: "sim", to: &["engine", "core", "store-memory"], to_in_tests: &[] },
    Arrow { from: "test-servers", to: &[], to_in_tests: &[] },
    Arrow {
        from: "grpc",
        to: &["engine", "core", "proto"],
        to_in_tests: &["oidc", "store-memory", "store-sql"],
    },
    Arrow { from: "oidc", to: &["engine", "core"], to_in_tests: &[] },
    Arrow { from: CLIENT, to: &["proto"], to_in_tests: &[] },
    Arrow { from: "serving", to: &[], to_in_tests: &[] },
    Arrow { from: "demo-upstream", to: &["serving"], to_in_tests: &[] },
    Arrow { from: "gateway-http", to: &["proto", "serving"], to_in_tests: &["demo-upstream"] },
    Arrow {
        from: "server",
        to: &[
            "core",
            "demo-upstream",
            "engine",
            "gateway-http",
            "grpc",
            "oidc",
            "proto",
            "serving",
            "store-memory",
            "store-redis",
            "store-sql",
        ],
        to_in_tests: &["test-servers", CLIENT],
    },
    Arrow {
        from: "bench",
        to: &[
            "core",
            "demo-upstream",
            "engine",
            "proto",
            "store-memory",
            "store-redis",
            "store-sql",
            "test-servers",
        ],
        to_in_tests: &[],
    },
    Arrow { from: "tools", to: &["grpc", "server"], to_in_tests: &[] },
];

/// A library of others, and the crates that may name it in their manifest.
struct Reserved {
    library: &'static str,
    users: &'static [&'static str],
}

const WIRE_USERS: &[&str] = &["proto", "grpc", "gateway-http", "server", "bench", CLIENT];
const HTTP_USERS: &[&str] = &["grpc", "oidc", "serving", "gateway-http", "demo-upstream", "server", "bench"];

const RESERVED: &[Reserved] = &[
    Reserved { library: "tonic", users: WIRE_USERS },
    Reserved { library: "tonic-prost", users: WIRE_USERS },
    Reserved { library: "tonic-prost-build", users: &["proto"] },
    Reserved { library: "tonic-health", users: &["grpc", "server", "bench"] },
    Reserved { library: "tonic-reflection", users: &["grpc", "server"] },
    Reserved { library: "tonic-types", users: &["grpc", "gateway-http", "server", "bench", CLIENT] },
    Reserved { library: "tonic-web", users: &["grpc", "server"] },
    Reserved { library: "prost", users: &["proto", "grpc", "gateway-http", "server", "bench"] },
    Reserved { library: "axum", users: HTTP_USERS },
    Reserved { library: "hyper", users: HTTP_USERS },
    Reserved { library: "hyper-util", users: HTTP_USERS },
    Reserved { library: "hyper-rustls", users: &["gateway-http", "oidc"] },
    Reserved { library: "tokio-rustls", users: &["serving"] },
    // The benchmarks insert by hand what the store is compared with.
    Reserved { library: "sqlx", users: &["store-sql", "bench"] },
    // The benchmarks run the bare script that the store is compared with.
    Reserved { library: "redis", users: &["store-redis", "bench"] },
    Reserved { library: "rdkafka", users: &[] },
    Reserved { library: "clickhouse", users: &[] },
];

/// What the pure core must not even bring in through somebody else.
const NEVER_IN_CORE: &[&str] =
    &["tokio", "futures", "async-trait", "serde_json", "prost", "tonic", "http", "hyper", "axum", "sqlx"];

#[test]
fn every_crate_of_the_workspace_has_its_arrows_written_down() {
    let mut written: Vec<&str> = ARROWS.iter().map(|arrow| arrow.from).collect();
    let mut found: Vec<&str> = metadata::members().into_iter().map(short_name).collect();
    written.sort_unstable();
    found.sort_unstable();
    assert_eq!(found, written);
}

#[test]
fn crates_of_the_workspace_depend_only_along_the_arrows() {
    let wrong: Vec<String> = edges(|_| true)
        .filter(|(package, dependency)| {
            let is_ours = dependency.name.starts_with(PREFIX) || dependency.name == CLIENT;
            is_ours && !arrow_allows(package, dependency)
        })
        .map(|(package, dependency)| describe(package, dependency))
        .collect();
    assert!(wrong.is_empty(), "against the arrows: {wrong:#?}");
}

#[test]
fn libraries_with_a_room_of_their_own_stay_in_it() {
    let mut wrong = Vec::new();
    for Reserved { library, users } in RESERVED {
        let named = edges(|package| !users.contains(&short_name(package))).filter(|(_, dependency)| {
            dependency.name == *library && dependency.kind != DependencyKind::Development
        });
        wrong.extend(named.map(|(package, dependency)| describe(package, dependency)));
    }
    assert!(wrong.is_empty(), "a library outside its room: {wrong:#?}");
}

#[test]
fn the_core_brings_in_nothing_that_does_input_or_output() {
    let core = metadata::members()
        .into_iter()
        .find(|package| short_name(package) == "core")
        .expect("the workspace has a core");
    let needed = metadata::names_needed_to_run(&core.id);
    let wrong: Vec<_> = NEVER_IN_CORE.iter().filter(|name| needed.contains(name)).collect();
    assert!(wrong.is_empty(), "the core needs {wrong:?}");
}

/// Each dependency that a manifest among `packages` names.
fn edges(
    packages: impl Fn(&Package) -> bool,
) -> impl Iterator<Item = (&'static Package, &'static Dependency)> {
    metadata::members()
        .into_iter()
        .filter(move |package| packages(package))
        .flat_map(|package| package.dependencies.iter().map(move |dependency| (package, dependency)))
}

fn arrow_allows(package: &Package, dependency: &Dependency) -> bool {
    let to = dependency.name.trim_start_matches(PREFIX);
    ARROWS.iter().filter(|arrow| arrow.from == short_name(package)).any(|arrow| {
        let in_tests = dependency.kind == DependencyKind::Development;
        arrow.to.contains(&to) || (in_tests && arrow.to_in_tests.contains(&to))
    })
}

fn short_name(package: &Package) -> &str {
    package.name.trim_start_matches(PREFIX)
}

fn describe(package: &Package, dependency: &Dependency) -> String {
    format!("{} -> {} ({:?})", package.name, dependency.name, dependency.kind)
}
