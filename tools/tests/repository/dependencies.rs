//! Licences, duplicate versions and banned crates, as `deny.toml` lists them: the
//! one list serves this test and anybody's own `cargo deny`.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use cargo_metadata::Package;
use cargo_metadata::semver::VersionReq;
use serde::Deserialize;
use spdx::{Expression, LicenseReq, ParseMode};

use crate::{metadata, tree};

/// A shorter reason says nothing.
const REASON_CHARS_MIN: usize = 15;

#[derive(Deserialize)]
pub struct DenyToml {
    pub graph: Graph,
    licenses: Licenses,
    bans: Bans,
}

#[derive(Deserialize)]
pub struct Graph {
    pub targets: Vec<String>,
}

#[derive(Deserialize)]
struct Licenses {
    allow: Vec<String>,
}

#[derive(Deserialize)]
struct Bans {
    deny: Vec<Listed>,
    skip: Vec<Listed>,
}

/// A crate, or some of its versions as `name:requirement`.
#[derive(Deserialize)]
struct Listed {
    #[serde(rename = "crate")]
    name: String,
    reason: String,
}

impl Listed {
    fn matches(&self, package: &Package) -> bool {
        let (name, requirement) = self.name.split_once(':').unwrap_or((&self.name, "*"));
        let requirement: VersionReq = requirement.parse().expect("deny.toml holds a version requirement");
        package.name == name && requirement.matches(&package.version)
    }
}

/// The file, read once.
pub fn deny_toml() -> &'static DenyToml {
    static DENY: OnceLock<DenyToml> = OnceLock::new();
    DENY.get_or_init(|| {
        let text = std::fs::read_to_string(tree::root().join("deny.toml")).expect("deny.toml is readable");
        toml::from_str(&text).expect("deny.toml has the sections that this test reads")
    })
}

#[test]
fn every_dependency_is_under_an_allowed_licence() {
    let wrong: Vec<String> = metadata::resolved_packages()
        .into_iter()
        .filter(|package| !licence_is_allowed(package))
        .map(|package| format!("{} {}: {:?}", package.name, package.version, package.license))
        .collect();
    assert!(wrong.is_empty(), "not allowed by deny.toml: {wrong:#?}");
}

#[test]
fn a_licence_outside_the_list_would_be_refused() {
    assert!(expression_is_allowed("MIT OR Apache-2.0"));
    assert!(expression_is_allowed("GPL-3.0-only OR MIT"));
    assert!(!expression_is_allowed("GPL-3.0-only"));
    assert!(!expression_is_allowed("MIT AND AGPL-3.0-only"));
}

#[test]
fn a_crate_occurs_in_one_version_or_its_older_ones_are_excused() {
    let duplicates = older_duplicates();
    let excuses = |listed: &Listed| duplicates.iter().any(|package| listed.matches(package));
    let skip = &deny_toml().bans.skip;
    let wrong: Vec<String> = duplicates
        .iter()
        .filter(|package| !skip.iter().any(|listed| listed.matches(package)))
        .map(|package| format!("{}:{}", package.name, package.version))
        .collect();
    assert!(wrong.is_empty(), "in deny.toml, excuse or avoid: {wrong:#?}");
    let stale: Vec<&str> =
        skip.iter().filter(|listed| !excuses(listed)).map(|listed| listed.name.as_str()).collect();
    assert!(stale.is_empty(), "no longer duplicated, take out of deny.toml: {stale:#?}");
}

#[test]
fn banned_crates_are_absent() {
    let banned = &deny_toml().bans.deny;
    for system_library in ["openssl-sys", "aws-lc-sys"] {
        assert!(banned.iter().any(|listed| listed.name == system_library), "{system_library} is not banned");
    }
    let found: Vec<&str> = metadata::resolved_packages()
        .into_iter()
        .filter(|package| banned.iter().any(|listed| listed.matches(package)))
        .map(|package| package.name.as_str())
        .collect();
    assert!(found.is_empty(), "banned in deny.toml: {found:?}");
}

#[test]
fn every_exception_says_why() {
    let bans = &deny_toml().bans;
    let silent: Vec<&str> = bans
        .skip
        .iter()
        .chain(&bans.deny)
        .filter(|listed| listed.reason.chars().count() < REASON_CHARS_MIN)
        .map(|listed| listed.name.as_str())
        .collect();
    assert!(silent.is_empty(), "without a reason in deny.toml: {silent:?}");
}

fn licence_is_allowed(package: &Package) -> bool {
    package.license.as_deref().is_some_and(expression_is_allowed)
}

/// Lax, because older manifests separate licences by a slash.
fn expression_is_allowed(expression: &str) -> bool {
    Expression::parse_mode(expression, ParseMode::LAX)
        .is_ok_and(|parsed| parsed.evaluate(requirement_is_allowed))
}

fn requirement_is_allowed(requirement: &LicenseReq) -> bool {
    deny_toml().licenses.allow.iter().any(|allowed| *allowed == requirement.to_string())
}

/// Of each crate that occurs more than once, all versions but the newest.
fn older_duplicates() -> Vec<&'static Package> {
    let mut by_name = BTreeMap::<&str, Vec<&Package>>::new();
    for package in metadata::resolved_packages() {
        by_name.entry(package.name.as_str()).or_default().push(package);
    }
    by_name.into_values().flat_map(all_but_newest).collect()
}

fn all_but_newest(mut versions: Vec<&Package>) -> Vec<&Package> {
    versions.sort_by(|one, other| one.version.cmp(&other.version));
    versions.pop();
    versions
}
