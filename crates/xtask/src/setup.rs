//! Getting a machine ready: the Debian packages.

use anyhow::Result;
use virtflow_testkit::packages;

use crate::stages::{as_root, show};

/// Installs what is missing; says so if nothing is.
pub(crate) fn packages() -> Result<()> {
    install(&packages::missing()?)
}

/// Installs these; says so if there is nothing to install.
pub(crate) fn install(missing: &[&str]) -> Result<()> {
    if missing.is_empty() {
        println!("All Debian packages that are needed are installed.");
        return Ok(());
    }
    println!("Debian packages to install: {}", missing.join(", "));
    show(as_root("apt-get").args(["--quiet", "update"]))?;
    // Only after the update: before it, apt may know nothing of what it offers.
    let installation = packages::installation(missing)?;
    if !installation.downgraded.is_empty() {
        println!(
            "These are newer than anything this machine's sources offer and do not fit the QEMU \
             there; they take the version that does: {}",
            installation.downgraded.join(", ")
        );
    }
    show(
        as_root("env")
            .args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "--quiet"])
            .args(installation.arguments),
    )
}
