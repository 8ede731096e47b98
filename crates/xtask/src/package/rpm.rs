//! RPM packages, of the very files that the Debian packages hold.
//!
//! What goes where is said once, in each program's `package.metadata.deb`; what only an RPM needs (scripts,
//! dependencies by their names there) in its `package.metadata.generate-rpm`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::{Build, Tool, tool};
use crate::stages::{show, workspace};

/// The program that builds them, and compresses and hashes what goes into them itself.
const CARGO_GENERATE_RPM: Tool = Tool {
    name: "cargo-generate-rpm",
    version: "0.21.1",
    is_optimized: true,
};

/// What only Debian's own checker reads.
const DEBIAN_ONLY: &str = "usr/share/lintian/";

/// Folders that are elsewhere in the distributions that use RPM.
const MOVED: [(&str, &str); 1] = [(
    "usr/share/zsh/vendor-completions/",
    "usr/share/zsh/site-functions/",
)];

#[derive(Debug, Deserialize)]
struct Manifest {
    package: Package,
}

#[derive(Debug, Deserialize)]
struct Package {
    metadata: Metadata,
}

#[derive(Debug, Deserialize)]
struct Metadata {
    deb: Debian,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Debian {
    /// Source, target, mode.
    assets: Vec<(String, String, String)>,
    #[serde(default)]
    conf_files: Vec<String>,
    #[serde(default)]
    systemd_units: Units,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Units {
    One(Unit),
    Many(Vec<Unit>),
}

impl Default for Units {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl Units {
    fn each(&self) -> &[Unit] {
        match self {
            Self::One(unit) => std::slice::from_ref(unit),
            Self::Many(units) => units,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Unit {
    unit_name: String,
    unit_scripts: String,
}

/// What overwrites `package.metadata.generate-rpm`.
#[derive(Debug, PartialEq, Serialize)]
struct Overwrite {
    release: String,
    assets: Vec<Asset>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Asset {
    source: String,
    dest: String,
    mode: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    config: Option<&'static str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    doc: bool,
}

/// Builds the RPM of the program in the workspace's folder `member` into `out`.
pub(super) fn build(member: &Path, build: &Build, out: &Path) -> Result<()> {
    let manifest = fs::read_to_string(member.join("Cargo.toml"))?;
    let manifest: Manifest =
        toml::from_str(&manifest).with_context(|| member.display().to_string())?;
    let mut overwrite = overwrite(&manifest.package.metadata.deb, member, &build.revision);
    strip(&mut overwrite, &build.programs)?;

    let parts = workspace().join("target/packaging/rpm");
    fs::create_dir_all(&parts)?;
    let name = member.file_name().context("a member without a name")?;
    let file = parts.join(name).with_extension("toml");
    fs::write(&file, toml::to_string(&overwrite)?)?;
    show(
        Command::new(tool(&CARGO_GENERATE_RPM)?)
            .current_dir(workspace())
            .arg("--package")
            .arg(member)
            .arg("--metadata-overwrite")
            .arg(&file)
            .arg("--output")
            .arg(out),
    )
}

/// The files of the Debian package, and the units that its tool finds by their names.
fn overwrite(debian: &Debian, member: &Path, revision: &str) -> Overwrite {
    let mut assets: Vec<Asset> = debian
        .assets
        .iter()
        .filter(|(_, dest, _)| !dest.starts_with(DEBIAN_ONLY))
        .map(|(source, dest, mode)| {
            let dest = moved(dest);
            let config = debian.conf_files.contains(&dest).then_some("noreplace");
            Asset {
                source: source_path(source, member),
                doc: dest.starts_with("/usr/share/doc/"),
                dest,
                mode: mode.clone(),
                config,
            }
        })
        .collect();
    for unit in debian.systemd_units.each() {
        let name = &unit.unit_name;
        for (ending, dest) in [
            ("service", format!("/usr/lib/systemd/system/{name}.service")),
            ("timer", format!("/usr/lib/systemd/system/{name}.timer")),
            ("sysusers", format!("/usr/lib/sysusers.d/{name}.conf")),
        ] {
            let source = member
                .join(&unit.unit_scripts)
                .join(format!("{name}.{ending}"));
            if source.exists() {
                assets.push(Asset {
                    source: source.display().to_string(),
                    dest,
                    mode: "644".to_owned(),
                    config: None,
                    doc: false,
                });
            }
        }
    }
    Overwrite {
        release: revision.to_owned(),
        assets,
    }
}

fn source_path(source: &str, member: &Path) -> String {
    if source.starts_with("target/") {
        return source.to_owned();
    }
    member.join(source).display().to_string()
}

fn moved(dest: &str) -> String {
    let moved = MOVED
        .iter()
        .find_map(|(from, to)| Some(format!("{to}{}", dest.strip_prefix(from)?)));
    let dest = moved.as_deref().unwrap_or(dest);
    format!("/{}", dest.trim_start_matches('/'))
}

/// The programs without what only a debugger reads, as the Debian tool does by itself.
fn strip(overwrite: &mut Overwrite, programs: &Path) -> Result<()> {
    let stripped = workspace().join("target/packaging/rpm/bin");
    fs::create_dir_all(&stripped)?;
    for asset in &mut overwrite.assets {
        let Some(name) = asset.source.strip_prefix("target/release/") else {
            continue;
        };
        let to: PathBuf = stripped.join(name);
        show(
            Command::new("strip")
                .args(["--strip-unneeded", "-o"])
                .arg(&to)
                .arg(programs.join(name)),
        )?;
        asset.source = to.display().to_string();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asset(source: &str, dest: &str, mode: &str) -> Asset {
        Asset {
            source: source.to_owned(),
            dest: dest.to_owned(),
            mode: mode.to_owned(),
            config: None,
            doc: false,
        }
    }

    #[test]
    fn an_rpm_holds_what_the_debian_package_holds() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let member = folder.path().join("agent");
        let units = folder.path().join("systemd");
        fs::create_dir_all(&member)?;
        fs::create_dir_all(&units)?;
        fs::write(units.join("virtflow-agent.service"), "")?;
        fs::write(units.join("virtflow-agent.sysusers"), "")?;
        let manifest: Manifest = toml::from_str(
            r#"
            [package.metadata.deb]
            conf-files = ["/etc/virtflow/agent.toml"]
            systemd-units = { unit-name = "virtflow-agent", unit-scripts = "../systemd" }
            assets = [
                ["target/release/virtflow-agent", "usr/bin/", "755"],
                ["../systemd/agent.toml", "etc/virtflow/agent.toml", "644"],
                ["../docs/metrics.md", "usr/share/doc/virtflow-agent/", "644"],
                ["../packaging/debian/overrides/virtflow-agent", "usr/share/lintian/overrides/virtflow-agent", "644"],
                ["../target/packaging/zsh/_virtflow-agent", "usr/share/zsh/vendor-completions/", "644"],
            ]
            "#,
        )?;
        let made = overwrite(&manifest.package.metadata.deb, &member, "20261127.101112");
        let under = |path: &str| member.join(path).display().to_string();
        assert_eq!(made.release, "20261127.101112");
        assert_eq!(
            made.assets,
            [
                asset("target/release/virtflow-agent", "/usr/bin/", "755"),
                Asset {
                    config: Some("noreplace"),
                    ..asset(
                        &under("../systemd/agent.toml"),
                        "/etc/virtflow/agent.toml",
                        "644"
                    )
                },
                Asset {
                    doc: true,
                    ..asset(
                        &under("../docs/metrics.md"),
                        "/usr/share/doc/virtflow-agent/",
                        "644"
                    )
                },
                asset(
                    &under("../target/packaging/zsh/_virtflow-agent"),
                    "/usr/share/zsh/site-functions/",
                    "644"
                ),
                asset(
                    &under("../systemd/virtflow-agent.service"),
                    "/usr/lib/systemd/system/virtflow-agent.service",
                    "644"
                ),
                asset(
                    &under("../systemd/virtflow-agent.sysusers"),
                    "/usr/lib/sysusers.d/virtflow-agent.conf",
                    "644"
                ),
            ]
        );
        Ok(())
    }
}
