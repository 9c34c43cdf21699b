//! What cargo knows of the workspace and its dependencies, asked once.

use std::sync::OnceLock;

use cargo_metadata::{Metadata, MetadataCommand, Package, PackageId};

use crate::{dependencies::deny_toml, tree};

/// Everything that a build for the first platform of `deny.toml` brings in, tests
/// included. Needs no network once that has been built.
pub fn workspace() -> &'static Metadata {
    static METADATA: OnceLock<Metadata> = OnceLock::new();
    METADATA.get_or_init(|| {
        MetadataCommand::new()
            .manifest_path(tree::root().join("Cargo.toml"))
            .other_options(["--filter-platform".to_owned(), deny_toml().graph.targets[0].clone()])
            .exec()
            .expect("cargo metadata answers")
    })
}

/// The packages of this repository.
pub fn members() -> Vec<&'static Package> {
    workspace().workspace_packages()
}

/// The packages of the platform's builds, tests included. A few more than are
/// built: cargo's answer follows optional dependencies of dependencies that
/// nobody turned on, as sqlx's other databases.
pub fn resolved_packages() -> Vec<&'static Package> {
    let resolve = workspace().resolve.as_ref().expect("metadata was asked for dependencies");
    resolve.nodes.iter().map(|node| &workspace()[&node.id]).collect()
}

/// The names of everything that `package` needs to run, itself included: tests'
/// and build scripts' own dependencies are left out.
pub fn names_needed_to_run(package: &PackageId) -> Vec<&'static str> {
    let mut seen = vec![package.clone()];
    let mut next = 0;
    while next < seen.len() {
        for dependency in direct_dependencies(&seen[next]) {
            if !seen.contains(&dependency) {
                seen.push(dependency);
            }
        }
        next += 1;
    }
    seen.iter().map(|id| workspace()[id].name.as_str()).collect()
}

fn direct_dependencies(package: &PackageId) -> Vec<PackageId> {
    let resolve = workspace().resolve.as_ref().expect("metadata was asked for dependencies");
    let node = resolve.nodes.iter().find(|node| &node.id == package).expect("each package is a node");
    let runs = |kinds: &[cargo_metadata::DepKindInfo]| {
        kinds.iter().any(|kind| kind.kind == cargo_metadata::DependencyKind::Normal)
    };
    node.deps.iter().filter(|dep| runs(&dep.dep_kinds)).map(|dep| dep.pkg.clone()).collect()
}
