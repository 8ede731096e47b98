//! `cargo xtask package`: Debian packages and RPMs of the three programs.

mod rpm;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use virtflow_testkit::command::output_of;
use virtflow_testkit::packages;

use crate::setup;
use crate::stages::{cargo, show, workspace};

/// The workspace's packages that become packages for machines, and their folders.
const PACKAGED: [(&str, &str); 3] = [
    ("virtflow-controller", "controller"),
    ("virtflow-agent", "agent"),
    ("virtflow-cli", "crates/cli"),
];

/// A program of another crate, in exactly one version.
struct Tool {
    name: &'static str,
    version: &'static str,
    is_optimized: bool,
}

/// The program that builds them. Without optimization: what takes time it leaves to gzip and xz, and building it takes
/// longer than all that it is asked to do.
const CARGO_DEB: Tool = Tool {
    name: "cargo-deb",
    version: "3.8.0",
    is_optimized: false,
};

/// Builds packages of controller, agent and command line tool, for Debian and as RPMs.
///
/// A package's revision is the time of the last commit, so that a newer build counts as newer. What it does to this
/// machine: builds in `target`, with cargo-deb and cargo-generate-rpm, which it installs into `target/tools` when they
/// are missing there.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The folder for the packages.
    #[arg(long, default_value = "target/packages")]
    out: PathBuf,
    /// Also look at the Debian packages with lintian, which is installed when it is missing: nothing may be wrong, or
    /// `packaging/debian/overrides` says why it is not.
    #[arg(long)]
    check: bool,
    /// Programs without optimization, which build much sooner: for trying out what packages do to a machine.
    #[arg(long)]
    dev: bool,
}

/// What packages of programs without optimization are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trial {
    /// Debian's alone, which take half as long.
    Debian,
    /// Debian's and RPMs.
    All,
}

/// What the packages are made of.
struct Build {
    profile: &'static str,
    /// How Debian packages are compressed.
    compression: &'static [&'static str],
    /// The folder that holds the programs.
    programs: PathBuf,
    /// What comes after the release's version: the time of the last commit, in UTC.
    revision: String,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let out = workspace().join(&options.out);
    all(&out, options.dev.then_some(Trial::All))?;
    for entry in fs::read_dir(&out)? {
        let path = entry?.path();
        println!(
            "{} ({} KiB)",
            path.display(),
            fs::metadata(&path)?.len() / 1024
        );
    }
    if options.check {
        check(&out)?;
    }
    Ok(())
}

/// Has lintian look at the Debian packages in a folder.
pub(crate) fn check(folder: &Path) -> Result<()> {
    setup::install(&packages::missing_of(&["lintian"])?)?;
    let mut lintian = Command::new("lintian");
    lintian.args(["--allow-root", "--fail-on", "error,warning"]);
    let mut found = 0;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            lintian.arg(path);
            found += 1;
        }
    }
    ensure!(found > 0, "no Debian packages in {}", folder.display());
    show(&mut lintian)
}

/// Builds packages of the programs without optimization: for trying out what packages do to a machine.
pub(crate) fn for_trial(out: &Path, trial: Trial) -> Result<()> {
    all(out, Some(trial))
}

/// Builds the Debian packages of another revision of the sources, in a copy of them that stays for the next time.
pub(crate) fn of_revision(revision: &str, out: &Path) -> Result<()> {
    let copy = workspace().join("target/older");
    if !copy.join(".git").exists() {
        show(
            Command::new("git")
                .args(["clone", "--quiet", "--shared", "--no-checkout"])
                .arg(workspace())
                .arg(&copy),
        )?;
    }
    let id = output_of(
        Command::new("git")
            .args(["rev-parse", "--verify", "--end-of-options"])
            .arg(format!("{revision}^{{commit}}"))
            .current_dir(workspace()),
    )?;
    show(
        Command::new("git")
            .args(["checkout", "--quiet", "--force", "--detach", id.trim()])
            .current_dir(&copy),
    )?;
    // By the recipe of that revision, with the tools that are there.
    let tools = copy.join("target/tools");
    if !tools.exists() {
        fs::create_dir_all(copy.join("target"))?;
        std::os::unix::fs::symlink(workspace().join("target/tools"), &tools)?;
    }
    show(
        cargo(&["xtask", "package", "--dev", "--out"])
            .arg(out)
            .current_dir(&copy)
            .env_remove("CARGO_TARGET_DIR"),
    )
}

/// Builds the programs and packages of them into the folder `out`, which then holds nothing else; optimized, unless it
/// is for a trial.
fn all(out: &Path, trial: Option<Trial>) -> Result<()> {
    if out.exists() {
        fs::remove_dir_all(out).with_context(|| format!("emptying {}", out.display()))?;
    }
    fs::create_dir_all(out)?;
    let (profile, folder, compression): (_, _, &[&str]) = if trial.is_some() {
        ("dev", "debug", &["--fast", "-Z", "gz"])
    } else {
        ("release", "release", &["-Z", "xz"])
    };
    let build = Build {
        profile,
        compression,
        programs: workspace().join("target").join(folder),
        revision: last_commit("%cd")?,
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
    show(Command::new(build.programs.join("virtflow-manuals")).arg(&parts))?;
    fs::write(parts.join("changelog"), changelog(&build.revision)?)?;
    for (package, folder) in PACKAGED {
        debian(package, &build, out)?;
        if trial != Some(Trial::Debian) {
            rpm::build(&workspace().join(folder), &build, out)?;
        }
    }
    Ok(())
}

fn debian(package: &str, build: &Build, out: &Path) -> Result<()> {
    show(
        Command::new(tool(&CARGO_DEB)?)
            .current_dir(workspace())
            .args(["--no-build", "--package", package])
            .args(["--profile", build.profile])
            .args(["--deb-revision", &build.revision])
            .arg("--compress-system")
            .args(build.compression)
            .arg("--output")
            .arg(out),
    )
}

/// Where a tool is, after it was installed into the target folder when it was not there.
fn tool(tool: &Tool) -> Result<PathBuf> {
    let root = workspace().join("target/tools");
    let program = root.join("bin").join(tool.name);
    if !program.exists() {
        let mut install = cargo(&["install", "--locked", "--version", tool.version, tool.name]);
        if !tool.is_optimized {
            install.arg("--debug");
        }
        show(install.arg("--root").arg(&root))?;
    }
    Ok(program)
}

/// What git tells of the last commit; dates such as 20261127.055445, in UTC.
fn last_commit(format: &str) -> Result<String> {
    let told = output_of(
        Command::new("git")
            .args(["log", "-1", "--date=format-local:%Y%m%d.%H%M%S"])
            .arg(format!("--format={format}"))
            .env("TZ", "UTC")
            .current_dir(workspace()),
    )?;
    let told = told.trim();
    if told.is_empty() {
        bail!("git tells no date of the last commit");
    }
    Ok(told.to_owned())
}

/// Debian's changelog: the newest release, as of the last commit. The project's own is CHANGELOG.md.
fn changelog(revision: &str) -> Result<String> {
    let version = env!("CARGO_PKG_VERSION");
    let date = last_commit("%cD")?;
    Ok(format!(
        "virtflow ({version}-{revision}) unstable; urgency=medium\n\n  * See CHANGELOG.md of the sources.\n\n \
         -- The VirtFlow authors <packages@virtflow.example>  {date}\n"
    ))
}
