//! The programs that the rig and the demo need: Debian's, and our own.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

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
    missing_of(REQUIRED)
}

/// Those of `packages` that are not installed.
///
/// # Errors
/// When this is no Debian system.
pub fn missing_of(packages: &[&'static str]) -> Result<Vec<&'static str>> {
    let mut missing = Vec::new();
    for package in packages {
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

/// What installing takes, as apt itself foretells it.
#[derive(Debug)]
pub struct Installation {
    /// The arguments for `apt-get`.
    pub arguments: Vec<String>,
    /// Installed packages that get an older version, because the one they have fits no QEMU that
    /// the machine's sources offer; `name=version` each.
    pub downgraded: Vec<String>,
}

/// How to install `packages` so that nothing that is installed goes.
///
/// Where QEMU's tools are already from Debian's backports, and that suite is among the sources,
/// everything comes from there, so that the parts of QEMU are of one version. Where they are newer
/// than anything the sources offer, apt alone would remove them; here they take the version that
/// fits instead.
///
/// # Errors
/// When apt cannot be asked, or cannot install these without removing something.
pub fn installation(packages: &[&str]) -> Result<Installation> {
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

    let mut downgraded = Vec::new();
    for package in would_remove(&arguments)? {
        let offered = command::call("apt-cache", ["madison", &package])?;
        let Some(version) = newest_offered(&offered) else {
            bail!(
                "installing {} would remove {package}, which no source of this machine offers: \
                 add Debian's own sources, or install these packages by hand",
                packages.join(", ")
            );
        };
        downgraded.push(format!("{package}={version}"));
    }
    if !downgraded.is_empty() {
        arguments.push("--allow-downgrades".to_owned());
        arguments.extend(downgraded.iter().cloned());
        let still = would_remove(&arguments)?;
        if !still.is_empty() {
            bail!(
                "installing {} would remove {}: make room for them by hand with `apt-get {}`",
                packages.join(", "),
                still.join(", "),
                arguments.join(" ")
            );
        }
    }
    Ok(Installation {
        arguments,
        downgraded,
    })
}

/// The installed packages that apt would remove, foretold by its own simulation.
fn would_remove(arguments: &[String]) -> Result<Vec<String>> {
    let mut simulate = vec!["--simulate".to_owned()];
    simulate.extend_from_slice(arguments);
    let told = command::call("apt-get", &simulate)?;
    Ok(removed_in(&told))
}

/// The packages of the `Remv` lines of an apt simulation.
fn removed_in(told: &str) -> Vec<String> {
    told.lines()
        .filter_map(|line| line.strip_prefix("Remv "))
        .filter_map(|rest| rest.split_whitespace().next())
        .map(str::to_owned)
        .collect()
}

/// The version in the first line of `apt-cache madison`, which lists what sources offer, newest
/// first: `package | version | source`.
fn newest_offered(madison: &str) -> Option<&str> {
    let version = madison.lines().next()?.split('|').nth(1)?.trim();
    (!version.is_empty()).then_some(version)
}

/// A Debian package downloaded from the machine's sources and unpacked in a folder of its own below `directory`,
/// called `name`; nothing is installed. `package` says which, if it is not there from an earlier call.
///
/// # Errors
/// When the package can't be had or unpacked.
pub fn unpacked(
    directory: &Path,
    name: &str,
    package: impl FnOnce() -> Result<String>,
) -> Result<PathBuf> {
    // Tests run beside each other; the kernel unlocks it however this ends.
    let lock = File::create(directory.join("lock"))
        .with_context(|| format!("writing into {}", directory.display()))?;
    lock.lock()?;
    let whole = directory.join(name);
    if whole.exists() {
        return Ok(whole);
    }
    // Under another name until whole: an interrupted download is no package.
    let partial = directory.join(format!("{name}.partial"));
    if partial.exists() {
        fs::remove_dir_all(&partial)?;
    }
    fs::create_dir_all(&partial).with_context(|| format!("creating {}", partial.display()))?;
    command::output_of(
        command::system("apt-get")
            // The unprivileged downloader cannot write into a folder that is closed to it.
            .args(["--option", "APT::Sandbox::User=root", "download"])
            .arg(package()?)
            .current_dir(&partial),
    )
    .context("is the package list up to date? `apt-get update`")?;
    let archive = only_entry(&partial, "")?;
    command::output_of(
        command::system("dpkg-deb")
            .arg("--extract")
            .arg(&archive)
            .arg(&partial),
    )?;
    fs::remove_file(&archive)?;
    fs::rename(&partial, &whole)?;
    Ok(whole)
}

/// The one entry of a folder whose name begins so.
pub(crate) fn only_entry(directory: &Path, prefix: &str) -> Result<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(directory)
        .with_context(|| format!("reading {}", directory.display()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with(prefix))
        })
        .collect();
    match (found.pop(), found.is_empty()) {
        (Some(path), true) => Ok(path),
        (Some(_), false) => bail!("more than one `{prefix}*` in {}", directory.display()),
        (None, _) => bail!("no `{prefix}*` in {}", directory.display()),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_apt_would_remove_is_read_from_its_simulation() {
        let told = "Reading package lists...\n\
            The following packages will be REMOVED:\n  qemu-utils\n\
            Remv qemu-utils [1:10.0.2+ds-2+deb13u1~bpo12+1]\n\
            Inst sqlite3 (3.40.1-2 Debian:12.15/oldstable [amd64])\n";
        assert_eq!(removed_in(told), ["qemu-utils"]);
        assert!(removed_in("Inst sqlite3 (3.40.1-2 Debian [amd64])\n").is_empty());
    }

    #[test]
    fn the_newest_version_that_is_offered_is_the_first_of_the_list() {
        let listed = "qemu-utils | 1:7.2+dfsg-7+deb12u18+b3 | http://deb.debian.org bookworm/main\n\
            qemu-utils | 1:7.2+dfsg-7+deb12u15 | http://deb.debian.org bookworm-security/main\n";
        assert_eq!(newest_offered(listed), Some("1:7.2+dfsg-7+deb12u18+b3"));
        assert_eq!(newest_offered(""), None);
    }
}
