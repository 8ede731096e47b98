//! `cargo xtask package`: Debian packages of the three programs.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use virtflow_testkit::command::output_of;

use crate::stages::{cargo, show, workspace};

/// The workspace's packages that become packages for machines.
const PACKAGED: [&str; 3] = ["virtflow-controller", "virtflow-agent", "virtflow-cli"];

/// The program that builds them, in exactly this version.
const CARGO_DEB: (&str, &str) = ("cargo-deb", "3.8.0");

/// Builds packages of controller, agent and command line tool.
///
/// What it does to this machine: builds in `target`, with cargo-deb, which it installs into `target/tools` when it is
/// missing there.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The folder for the packages.
    #[arg(long, default_value = "target/packages")]
    out: PathBuf,
    /// Programs without optimization, which build much sooner: for trying out what packages do to a machine.
    #[arg(long)]
    dev: bool,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let out = workspace().join(&options.out);
    build(&out, options.dev)?;
    for entry in fs::read_dir(&out)? {
        let path = entry?.path();
        println!(
            "{} ({} KiB)",
            path.display(),
            fs::metadata(&path)?.len() / 1024
        );
    }
    Ok(())
}

/// Builds them into the folder `out`, which then holds nothing else.
pub(crate) fn build(out: &Path, dev: bool) -> Result<()> {
    if out.exists() {
        fs::remove_dir_all(out).with_context(|| format!("emptying {}", out.display()))?;
    }
    fs::create_dir_all(out)?;
    let (profile, folder) = if dev {
        ("dev", "debug")
    } else {
        ("release", "release")
    };
    show(&mut cargo(&[
        "build",
        "--locked",
        "--workspace",
        "--bins",
        "--profile",
        profile,
    ]))?;
    let parts = workspace().join("target/packaging");
    let manuals = workspace()
        .join("target")
        .join(folder)
        .join("virtflow-manuals");
    show(std::process::Command::new(manuals).arg(&parts))?;
    fs::write(parts.join("changelog"), changelog()?)?;

    let deb = tool(CARGO_DEB)?;
    for package in PACKAGED {
        show(
            std::process::Command::new(&deb)
                .current_dir(workspace())
                .args([
                    "--no-build",
                    "--package",
                    package,
                    "--profile",
                    profile,
                    "--output",
                ])
                .arg(out),
        )?;
    }
    Ok(())
}

/// A program of another crate, installed into the target folder when it is not there.
fn tool((name, version): (&str, &str)) -> Result<PathBuf> {
    let root = workspace().join("target/tools");
    let program = root.join("bin").join(name);
    if !program.exists() {
        let mut install = cargo(&["install", "--locked", "--version", version, name, "--root"]);
        show(install.arg(&root))?;
    }
    Ok(program)
}

/// Debian's changelog: the newest release, as of the last commit. The project's own is CHANGELOG.md.
fn changelog() -> Result<String> {
    let version = env!("CARGO_PKG_VERSION");
    let date = output_of(
        std::process::Command::new("git")
            .args(["log", "-1", "--format=%aD"])
            .current_dir(workspace()),
    )?;
    let date = date.trim();
    if date.is_empty() {
        bail!("git tells no date of the last commit");
    }
    Ok(format!(
        "virtflow ({version}-1) unstable; urgency=medium\n\n  * See CHANGELOG.md of the sources.\n\n \
         -- The VirtFlow authors <packages@virtflow.example>  {date}\n"
    ))
}
