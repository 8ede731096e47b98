//! Debian's Prometheus and promtool, unpacked beside the tests and not installed: a package that is installed
//! starts a service.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::packages;

const PACKAGE: &str = "prometheus";

/// The programs.
#[derive(Debug, Clone)]
pub struct Prometheus {
    /// Scrapes and evaluates rules.
    pub server: PathBuf,
    /// Checks configurations and tests rules.
    pub tool: PathBuf,
}

/// Unpacks them in `directory`, or takes what an earlier call left there.
///
/// # Errors
/// When the package cannot be had or is not as expected.
pub fn fetch(directory: &Path) -> Result<Prometheus> {
    fs::create_dir_all(directory).with_context(|| format!("creating {}", directory.display()))?;
    let unpacked = packages::unpacked(directory, PACKAGE, || Ok(PACKAGE.to_owned()))?;
    let program = |name: &str| {
        let path = unpacked.join("usr/bin").join(name);
        ensure!(path.is_file(), "{} is not in {PACKAGE}", path.display());
        Ok(path)
    };
    Ok(Prometheus {
        server: program("prometheus")?,
        tool: program("promtool")?,
    })
}
