//! `cargo xtask ci`: every check there is, in one go, the same on a developer's machine as
//! anywhere else. Nothing is left out quietly: a test that was not run makes it fail.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;
use virtflow_testkit::guest;
use virtflow_testkit::rig::{NodeSpec, Rig, lan};

use crate::stages::{cargo, show, tee, workspace};
use crate::{install, setup, sim};

/// Checks everything: formatting, lints, tests of every kind, documentation.
///
/// What it does to this machine: installs missing Debian packages as `setup` does; builds in
/// `target` and, with other settings, `target/sim`; downloads Debian's cloud kernel to /var/tmp/virtflow-guest-image; and, as root, runs
/// machines made of namespaces with a libvirtd and QEMU each, and boots two from a Debian tree that it makes in
/// /var/tmp/virtflow-install. These have networks of their own which nothing outside can reach, and all of them end with
/// the tests. Source files are not changed.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Leave out the tests that need root, libvirt and QEMU, and the installation. The run then says that it is not
    /// complete, and fails at its end.
    #[arg(long)]
    without_rig: bool,
}

/// Where the guests' kernel is kept between runs; the tests look there too.
pub(crate) const IMAGE_FOLDER: &str = "/var/tmp/virtflow-guest-image";

/// Where the host is whose libvirtd the agent's own tests use.
const HOST_FOLDER: &str = "/var/tmp/virtflow-ci-host";

/// What a test runner says it did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Count {
    passed: usize,
    skipped: usize,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    if !options.without_rig && !rustix::process::geteuid().is_root() {
        bail!("the rig's tests need root: run with sudo, or with --without-rig");
    }
    setup::packages()?;
    show(&mut cargo(&["fmt", "--all", "--check"]))?;
    show(&mut cargo(&[
        "clippy",
        "--locked",
        "--workspace",
        "--all-targets",
        "--",
        "--deny",
        "warnings",
    ]))?;
    // Before what takes long: a link that leads nowhere is quickly found.
    show(
        cargo(&["doc", "--locked", "--workspace", "--no-deps"])
            .env("RUSTDOCFLAGS", "--deny warnings"),
    )?;
    // The rig's tests start these programs.
    show(&mut cargo(&["build", "--locked", "--workspace", "--bins"]))?;

    let runner = Runner::find();
    let plain = runner.run(false, &[])?;
    // Nextest does not run the examples in the documentation.
    let examples = match runner {
        Runner::Nextest => parse_cargo_test(&tee(&mut cargo(&[
            "test",
            "--locked",
            "--workspace",
            "--doc",
        ]))?),
        Runner::CargoTest => Count::default(),
    };
    let simulated = simulate()?;
    let rig = if options.without_rig {
        Count::default()
    } else {
        with_a_host(|environment| runner.run(true, environment))?
    };

    let installed = if options.without_rig {
        0
    } else {
        install::in_ci()?
    };

    let passed = plain.passed + examples.passed + simulated + rig.passed + installed;
    let skipped = plain.skipped.saturating_sub(rig.passed) + examples.skipped;
    println!("\nci: {passed} passed, 0 failed, {skipped} skipped");
    if plain.passed == 0 {
        bail!("no test was run");
    }
    if skipped > 0 {
        bail!("{skipped} tests were not run");
    }
    Ok(())
}

/// The short tier of the simulation; how many seeds kept every promise.
fn simulate() -> Result<usize> {
    sim::lint()?;
    let program = sim::build(&workspace())?;
    let mut passed = 0;
    for options in [sim::Options::short(), sim::Options::twins()] {
        let broken = sim::seeds(&program, &options)?;
        if !broken.is_empty() {
            bail!("promises were broken by the seeds {broken:?}");
        }
        passed += options.count();
    }
    Ok(passed)
}

/// Runs `work` while there is a host, with a libvirtd of its own and a kernel to boot, that the tests
/// of the agent's libvirt layer find by these variables of their environment.
fn with_a_host<T>(work: impl FnOnce(&[(&str, String)]) -> Result<T>) -> Result<T> {
    let image = guest::build(Path::new(IMAGE_FOLDER))?;
    let mut rig = Rig::start(Path::new(HOST_FOLDER))?;
    let node = rig.add(NodeSpec {
        name: "h1".to_owned(),
        address: lan::address(21),
        hypervisor: true,
    })?;
    let result = work(&[
        ("VIRTFLOW_TEST_LIBVIRT", node.libvirt_uri()),
        (
            "VIRTFLOW_TEST_KERNEL",
            image.kernel.to_string_lossy().into_owned(),
        ),
        (
            "VIRTFLOW_TEST_INITRD",
            image.initramfs.to_string_lossy().into_owned(),
        ),
    ]);
    rig.end()?;
    result
}

pub(crate) fn fix() -> Result<()> {
    show(&mut cargo(&["fmt", "--all"]))?;
    show(&mut cargo(&[
        "clippy",
        "--workspace",
        "--all-targets",
        "--fix",
        "--allow-dirty",
        "--allow-staged",
    ]))?;
    show(&mut cargo(&["fmt", "--all"]))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Runner {
    Nextest,
    CargoTest,
}

impl Runner {
    fn find() -> Self {
        let nextest = cargo(&["nextest", "--version"])
            .output()
            .is_ok_and(|output| output.status.success());
        if nextest {
            Self::Nextest
        } else {
            Self::CargoTest
        }
    }

    /// Runs the tests that need nothing (`rig` false), or those marked `ignore`, which need the
    /// rig: one after the other, since they are about time and share two cores.
    fn run(self, rig: bool, environment: &[(&str, String)]) -> Result<Count> {
        let mut command = self.command(rig);
        command.envs(environment.iter().map(|(key, value)| (key, value)));
        let text = tee(&mut command)?;
        match self {
            Self::Nextest => parse_nextest(&text)
                .context("nextest ended without saying how many tests it had run"),
            Self::CargoTest => Ok(parse_cargo_test(&text)),
        }
    }

    fn command(self, rig: bool) -> Command {
        let mut arguments = match self {
            Self::Nextest => vec![
                "nextest",
                "run",
                "--locked",
                "--workspace",
                "--no-fail-fast",
            ],
            Self::CargoTest => vec!["test", "--locked", "--workspace", "--no-fail-fast"],
        };
        arguments.extend_from_slice(match (self, rig) {
            (Self::Nextest, false) => &[],
            (Self::Nextest, true) => &["--run-ignored", "only", "--test-threads", "1"],
            (Self::CargoTest, false) => &[],
            (Self::CargoTest, true) => &["--", "--ignored", "--test-threads", "1"],
        });
        cargo(&arguments)
    }
}

/// Finds `Summary [ 2.1s] 28 tests run: 28 passed, 1 skipped`.
fn parse_nextest(text: &str) -> Option<Count> {
    let line = text
        .lines()
        .rfind(|line| line.trim_start().starts_with("Summary [") && line.contains("run:"))?;
    Some(Count {
        passed: number_before(line, "passed"),
        skipped: number_before(line, "skipped"),
    })
}

/// Adds up all `test result: ok. 5 passed; 0 failed; 1 ignored; ...`.
fn parse_cargo_test(text: &str) -> Count {
    text.lines()
        .filter(|line| line.starts_with("test result:"))
        .fold(Count::default(), |count, line| Count {
            passed: count.passed + number_before(line, "passed"),
            skipped: count.skipped + number_before(line, "ignored"),
        })
}

fn number_before(line: &str, word: &str) -> usize {
    let words: Vec<&str> = line
        .split(|c: char| !c.is_alphanumeric())
        .filter(|part| !part.is_empty())
        .collect();
    words
        .windows(2)
        .find(|pair| pair[1] == word)
        .and_then(|pair| pair[0].parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_runners_are_understood() {
        let nextest = "\
    PASS [   0.004s] a b
------------
     Summary [   3.110s] 28 tests run: 27 passed (1 slow), 1 failed, 12 skipped
";
        let expected = Count {
            passed: 27,
            skipped: 12,
        };
        assert_eq!(parse_nextest(nextest), Some(expected));
        assert_eq!(parse_nextest("error: could not compile"), None);

        let cargo = "\
test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s
test x ... ok
test result: ok. 11 passed; 0 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.00s
";
        let expected = Count {
            passed: 16,
            skipped: 3,
        };
        assert_eq!(parse_cargo_test(cargo), expected);
    }
}
