//! The copy of the sources that bugs are put into, and the tests that are run there.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::sim;
use crate::stages::{cargo, workspace};

/// The copy that bugs are put into. Its own target folder stays between runs.
pub(super) struct Copy {
    root: PathBuf,
}

impl Copy {
    /// Makes it equal to the working tree. Files that are equal already are left alone, so that
    /// builds go on where they were.
    pub(super) fn make() -> Result<Self> {
        let root = workspace().join("target/mutants/tree");
        std::fs::create_dir_all(&root)?;
        let listed = Command::new("git")
            .args(["ls-files", "-z", "--cached", "--others"])
            .args(["--exclude-standard", "--deduplicate"])
            .current_dir(workspace())
            .output()
            .context("listing the sources")?;
        if !listed.status.success() {
            bail!("git cannot list the sources");
        }
        let mut wanted = BTreeSet::new();
        for name in String::from_utf8(listed.stdout)?
            .split('\0')
            .filter(|name| !name.is_empty())
        {
            // Deleted and not yet committed.
            let Ok(content) = std::fs::read(workspace().join(name)) else {
                continue;
            };
            wanted.insert(root.join(name));
            let to = root.join(name);
            if std::fs::read(&to).is_ok_and(|known| known == content) {
                continue;
            }
            if let Some(folder) = to.parent() {
                std::fs::create_dir_all(folder)?;
            }
            std::fs::write(&to, content)?;
        }
        let target = root.join("target");
        remove_others(&root, &target, &wanted)?;
        Ok(Self { root })
    }

    pub(super) fn apply(&self, patch: &Path) -> Result<()> {
        let output = Command::new("git")
            .args(["apply", "--recount", "-C1"])
            .arg(patch)
            .current_dir(&self.root)
            // Within a repository git would take the names for its own.
            .env("GIT_CEILING_DIRECTORIES", self.root.join(".."))
            .output()?;
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr);
            bail!("it does not apply: {}", first_line(&why));
        }
        Ok(())
    }

    fn cargo(&self, arguments: &[&str]) -> Command {
        let mut command = cargo(arguments);
        command
            .current_dir(&self.root)
            .env("CARGO_TARGET_DIR", self.root.join("target"))
            .env("CARGO_INCREMENTAL", "1");
        command
    }

    pub(super) fn build_sim(&self) -> Result<PathBuf> {
        let target = self.root.join("target/sim");
        let mut command = self.cargo(&sim::BUILD);
        command
            .env("RUSTFLAGS", sim::FLAGS)
            .env("CARGO_TARGET_DIR", &target);
        built(&mut command)?;
        Ok(target.join("sim/virtflow-sim"))
    }

    fn test_command(&self, packages: &[String], more: &[&str]) -> Command {
        let mut command = match has_nextest() {
            true => self.cargo(&["nextest", "run", "--locked"]),
            false => self.cargo(&["test", "--locked"]),
        };
        for package in packages {
            command.args(["--package", package]);
        }
        command.args(more);
        command
    }
}

fn has_nextest() -> bool {
    cargo(&["nextest", "--version"])
        .output()
        .is_ok_and(|output| output.status.success())
}

fn remove_others(folder: &Path, but: &Path, wanted: &BTreeSet<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path == but {
            continue;
        }
        if path.is_dir() {
            remove_others(&path, but, wanted)?;
        } else if !wanted.contains(&path) {
            std::fs::remove_file(&path)?;
        }
    }
    Ok(())
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

fn built(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output()?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        let error = text.lines().find(|line| line.starts_with("error"));
        bail!("it does not build: {}", error.unwrap_or("see cargo"));
    }
    Ok(())
}

/// What a run of the tests came to: the first thing it complained of, if it did.
pub(super) type Complaint = Option<String>;

/// Runs one seed.
pub(super) fn seed(program: &Path, seed: u64, seconds: u64) -> Result<Complaint> {
    let output = Command::new(program)
        .args(["--seed", &seed.to_string()])
        .args(["--seconds", &seconds.to_string()])
        .stdin(Stdio::null())
        .output()?;
    if output.status.success() {
        return Ok(None);
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let broken = text
        .lines()
        .skip_while(|line| !line.contains(": BROKEN"))
        .nth(1);
    let said = match broken {
        Some(line) => line.trim().to_owned(),
        None => {
            let errors = String::from_utf8_lossy(&output.stderr);
            let why = errors.lines().find(|line| !line.trim().is_empty());
            why.unwrap_or("it ended without a word").trim().to_owned()
        }
    };
    Ok(Some(said))
}

/// Runs seeds, several at a time, until one breaks: the lowest of those.
pub(super) fn seeds(
    program: &Path,
    first: u64,
    runs: u64,
    seconds: u64,
) -> Result<Option<(u64, String)>> {
    let jobs = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let mut at = first;
    while at < first + runs {
        let until = (at + jobs).min(first + runs);
        let results: Vec<Result<Complaint>> = std::thread::scope(|scope| {
            let running: Vec<_> = (at..until)
                .map(|number| scope.spawn(move || seed(program, number, seconds)))
                .collect();
            let joined = running.into_iter().map(|run| run.join());
            joined
                .map(|end| end.unwrap_or_else(|_| bail!("a thread panicked")))
                .collect()
        });
        for (number, result) in (at..until).zip(results) {
            if let Some(said) = result? {
                return Ok(Some((number, said)));
            }
        }
        at = until;
    }
    Ok(None)
}

/// Runs one test; what it said if it failed. An error if there is no such test. `all_cases`: also those that a test which
/// looks at a part of them leaves out.
pub(super) fn test(
    copy: &Copy,
    packages: &[String],
    name: &str,
    all_cases: bool,
) -> Result<Complaint> {
    built(&mut copy.test_command(packages, &["--no-run"]))?;
    let output = copy
        .test_command(packages, &[name])
        .envs(all_cases.then_some(("VIRTFLOW_EXHAUSTIVE", "1")))
        .stdin(Stdio::null())
        .output()?;
    let text = format!(
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    let about = |line: &&str| line.contains(name);
    if output.status.success() {
        let ran = text.lines().filter(about);
        if !ran
            .into_iter()
            .any(|l| l.contains("PASS") || l.ends_with("ok"))
        {
            bail!("there is no test {name} in {}", packages.join(", "));
        }
        return Ok(None);
    }
    let failed = ["FAIL", "SIGABRT", "TIMEOUT"];
    if !text
        .lines()
        .filter(about)
        .any(|line| failed.iter().any(|word| line.contains(word)))
    {
        bail!(
            "the tests ended with {}, {name} did not fail",
            output.status
        );
    }
    let panicked = text
        .lines()
        .skip_while(|line| !line.contains("panicked at"))
        .nth(1);
    Ok(Some(panicked.unwrap_or("it failed").trim().to_owned()))
}
