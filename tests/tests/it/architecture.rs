//! Which crate may see which, and what may come in from outside.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{Dependency, DependencyKind, Metadata, MetadataCommand, Package};

/// For every crate of the workspace, the crates of the workspace that it may depend on.
const ALLOWED: &[(&str, &[&str])] = &[
    ("virtflow-types", &[]),
    ("virtflow-proto", &[]),
    ("virtflow-settings", &[]),
    ("virtflow-model", &["virtflow-types"]),
    ("virtflow-policy", &["virtflow-types", "virtflow-model"]),
    ("virtflow-scheduler", &["virtflow-types", "virtflow-model"]),
    ("virtflow-state", &["virtflow-types"]),
    ("virtflow-shadow", &["virtflow-types", "virtflow-state"]),
    ("virtflow-pki", &["virtflow-types"]),
    (
        "virtflow-raft",
        &[
            "virtflow-types",
            "virtflow-state",
            "virtflow-pki",
            "virtflow-proto",
        ],
    ),
    (
        "virtflow-logic",
        &[
            "virtflow-types",
            "virtflow-model",
            "virtflow-policy",
            "virtflow-scheduler",
            "virtflow-state",
        ],
    ),
    (
        "virtflow-agent",
        &[
            "virtflow-types",
            "virtflow-pki",
            "virtflow-proto",
            "virtflow-settings",
        ],
    ),
    (
        "virtflow-controller",
        &[
            "virtflow-types",
            "virtflow-model",
            "virtflow-policy",
            "virtflow-scheduler",
            "virtflow-state",
            "virtflow-logic",
            "virtflow-shadow",
            "virtflow-raft",
            "virtflow-pki",
            "virtflow-proto",
            "virtflow-settings",
        ],
    ),
    (
        "virtflow-client",
        &["virtflow-types", "virtflow-model", "virtflow-pki"],
    ),
    (
        "virtflow-cli",
        &["virtflow-types", "virtflow-model", "virtflow-client"],
    ),
    (
        "virtflow-packaging",
        &["virtflow-agent", "virtflow-cli", "virtflow-controller"],
    ),
    ("virtflow-powercut", &[]),
    ("virtflow-testkit", &[]),
    ("xtask", &["virtflow-testkit"]),
];

/// What only a crate's tests may name: where two that never see each other meet by a trait.
const TESTS_ONLY: &[(&str, &str)] = &[
    ("virtflow-raft", "virtflow-shadow"),
    ("virtflow-raft", "virtflow-powercut"),
    ("virtflow-shadow", "virtflow-powercut"),
    ("virtflow-cli", "virtflow-controller"),
    ("virtflow-cli", "virtflow-pki"),
];

/// Crates from outside that only one crate of ours may name.
const SINGLE_USER: &[(&str, &str)] = &[
    ("sqlx", "virtflow-shadow"),
    ("openraft", "virtflow-raft"),
    ("raft-log", "virtflow-raft"),
    ("virt", "virtflow-agent"),
    ("virt-sys", "virtflow-agent"),
];

/// Not a part of the product: it may look at everything.
const TESTS: &str = "virtflow-tests";

const PLATFORM: &str = "x86_64-unknown-linux-gnu";

fn metadata() -> Metadata {
    MetadataCommand::new()
        .manifest_path(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"))
        // Without a platform, cargo would fetch what only other systems need.
        .other_options(["--locked", "--filter-platform", PLATFORM].map(str::to_owned))
        .exec()
        .unwrap()
}

/// Dependencies that are part of the crate as built, and those for its tests alike: a test that
/// reaches across is a dependency too. What the kit needs in builds of the simulator only is left out: there
/// it runs the product, which nothing that is released does.
fn dependency_names(package: &Package) -> BTreeSet<&str> {
    let is_simulators = |dependency: &&Dependency| {
        let target = dependency.target.as_ref().map(ToString::to_string);
        package.name.as_str() == "virtflow-testkit"
            && target.as_deref() == Some("cfg(virtflow_sim)")
    };
    package
        .dependencies
        .iter()
        .filter(|dependency| !is_simulators(dependency))
        .map(|dependency| dependency.name.as_str())
        .collect()
}

#[test]
fn crates_depend_only_on_those_below_them() {
    let metadata = metadata();
    let members: BTreeSet<&str> = metadata
        .workspace_packages()
        .iter()
        .map(|package| package.name.as_str())
        .collect();
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED.iter().copied().collect();
    let mut wrong = Vec::new();
    for package in metadata.workspace_packages() {
        let name = package.name.as_str();
        if name == TESTS {
            continue;
        }
        let Some(allowed) = allowed.get(name) else {
            wrong.push(format!("{name} is new: say here what it may depend on"));
            continue;
        };
        // A crate's own tests may use the kit, which sees nothing of the product.
        for dependency in dependency_names(package) {
            let for_tests = TESTS_ONLY.contains(&(name, dependency))
                && package
                    .dependencies
                    .iter()
                    .filter(|named| named.name == dependency)
                    .all(|named| named.kind == DependencyKind::Development);
            if members.contains(dependency)
                && !allowed.contains(&dependency)
                && dependency != "virtflow-testkit"
                && !for_tests
            {
                wrong.push(format!("{name} must not depend on {dependency}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    for (name, _) in ALLOWED {
        assert!(members.contains(name), "{name} is listed but gone");
    }
}

#[test]
fn the_kit_is_for_tests_only() {
    for package in metadata().workspace_packages() {
        let name = package.name.as_str();
        if [TESTS, "xtask"].contains(&name) {
            continue;
        }
        for dependency in &package.dependencies {
            assert!(
                dependency.name != "virtflow-testkit"
                    || dependency.kind == cargo_metadata::DependencyKind::Development,
                "{name} ships the test kit"
            );
        }
    }
}

#[test]
fn some_dependencies_have_one_user() {
    for package in metadata().workspace_packages() {
        for (dependency, user) in SINGLE_USER {
            assert!(
                package.name.as_str() == *user || !dependency_names(package).contains(dependency),
                "{} names {dependency}, which only {user} may",
                package.name
            );
        }
    }
}

#[test]
fn no_direct_dependency_has_two_versions() {
    let metadata = metadata();
    let members: BTreeSet<_> = metadata.workspace_members.iter().collect();
    let mut versions: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for node in &metadata.resolve.as_ref().unwrap().nodes {
        if !members.contains(&node.id) {
            continue;
        }
        for dependency in &node.deps {
            let package = &metadata[&dependency.pkg];
            versions
                .entry(package.name.as_str())
                .or_default()
                .insert(package.version.to_string());
        }
    }
    assert!(versions.contains_key("serde"), "nothing was looked at");
    versions.retain(|_, versions| versions.len() > 1);
    assert!(versions.is_empty(), "{versions:#?}");
}

#[test]
fn dependencies_are_named_once_at_the_root() {
    for package in metadata().workspace_packages() {
        let text = std::fs::read_to_string(&package.manifest_path).unwrap();
        let mut in_dependencies = false;
        for line in text.lines() {
            if line.starts_with('[') {
                in_dependencies = line.contains("dependencies");
            } else if in_dependencies && line.contains('=') {
                assert!(
                    line.contains("workspace"),
                    "{}: `{line}` does not come from the workspace's list",
                    package.manifest_path
                );
            }
        }
        assert_eq!(
            package.edition.to_string(),
            "2024",
            "{} is of another edition",
            package.name
        );
        assert!(
            text.contains("[lints]\nworkspace = true"),
            "{} leaves out the workspace's lints",
            package.manifest_path
        );
    }
}
