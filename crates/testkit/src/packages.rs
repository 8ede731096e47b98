//! The programs that the rig and the demo need: Debian's, and our own.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::command;

/// The Debian packages that building and running need. None of them starts a service: libvirt's
/// units are in `libvirt-daemon-system`, which is not among them.
pub const REQUIRED: &[&str] = &[
    "busybox-static",
    "curl",
    "gcc",
    "iproute2",
    "libc6-dev",
    "libfaketime",
    "libvirt-clients",
    "libvirt-daemon",
    "libvirt-daemon-driver-qemu",
    "libvirt-dev",
    "openssl",
    "pkg-config",
    "qemu-system-x86",
    "sqlite3",
    "util-linux",
];

/// Those of [`REQUIRED`] that are not installed.
///
/// # Errors
/// When this is no Debian system.
pub fn missing() -> Result<Vec<&'static str>> {
    let mut missing = Vec::new();
    for package in REQUIRED {
        let output = command::run(command::system("dpkg-query").args([
            "--show",
            "--showformat=${db:Status-Status}",
            package,
        ]))
        .context("asking dpkg which packages are installed (this needs Debian 12)")?;
        if output.stdout != b"installed" {
            missing.push(*package);
        }
    }
    Ok(missing)
}

/// The `apt-get` arguments that install `packages`.
///
/// Where QEMU's tools are already from Debian's backports, and that suite is among the sources,
/// everything comes from there, so that the parts of QEMU are of one version.
///
/// # Errors
/// When apt cannot be asked.
pub fn install_arguments(packages: &[&str]) -> Result<Vec<String>> {
    let policy = command::call("apt-cache", ["policy", "qemu-utils"])?;
    let installed_from_backports = policy
        .lines()
        .any(|line| line.trim_start().starts_with("Installed:") && line.contains("~bpo12"));
    let backports_offered = command::call("apt-cache", ["policy"])?.contains("bookworm-backports");
    let mut arguments: Vec<String> = ["install", "--yes", "--no-install-recommends"]
        .map(str::to_owned)
        .to_vec();
    if installed_from_backports && backports_offered {
        arguments.push("--target-release=bookworm-backports".to_owned());
    }
    arguments.extend(packages.iter().map(|&package| package.to_owned()));
    Ok(arguments)
}

/// Where the workspace's own programs are: beside the running one, or one folder up when that is
/// a test.
///
/// # Errors
/// When the program has not been built.
pub fn own_binary(name: &str) -> Result<PathBuf> {
    let running = std::env::current_exe().context("looking for the running program")?;
    let beside = running.parent().map(|folder| folder.join(name));
    let above = running.ancestors().nth(2).map(|folder| folder.join(name));
    for candidate in [beside, above].into_iter().flatten() {
        if candidate.is_file() {
            return Ok(candidate);
        }
    }
    bail!(
        "{name} is not beside {}: build it with `cargo build --workspace --bins`",
        running.display()
    )
}
