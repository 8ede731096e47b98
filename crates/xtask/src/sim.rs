//! `cargo xtask sim`: the whole control plane in one thread, seed by seed.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::stages::{cargo, show, workspace};

/// Runs seeds of the deterministic simulation and says which broke a promise.
///
/// A build of its own (in target/sim) puts simulated time, chance, network and disks under the product's code. A
/// seed gives the same run on every machine with the same build. What it does to this machine: builds; writes small
/// files to /dev/shm or the temporary folder, and removes them.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many seeds.
    #[arg(long, default_value_t = 1)]
    runs: u64,
    /// Virtual seconds in which clients work and things break.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Processes side by side. Absent: one a core.
    #[arg(long)]
    jobs: Option<u64>,
    /// Each seed twice: the traces must be equal.
    #[arg(long)]
    twice: bool,
    /// Writes the trace of a single seed there.
    #[arg(long)]
    trace: Option<PathBuf>,
    /// Appends a line to docs/simulations.tsv.
    #[arg(long)]
    record: bool,
}

impl Options {
    /// What continuous integration runs; two of these seeds have dozens of hosts.
    pub(crate) fn short() -> Self {
        Self {
            seed: 8,
            runs: 20,
            seconds: 20,
            jobs: None,
            twice: false,
            trace: None,
            record: false,
        }
    }

    /// Small ones, twice each.
    pub(crate) fn twins() -> Self {
        Self {
            seed: 1006,
            runs: 6,
            twice: true,
            ..Self::short()
        }
    }
}

impl Options {
    /// Seeds of this run.
    pub(crate) fn count(&self) -> usize {
        usize::try_from(self.runs).unwrap_or(usize::MAX)
    }
}

/// What the build is told: a seeded scheduler, and this workspace's simulated parts.
pub(crate) const FLAGS: &str = "--cfg tokio_unstable --cfg virtflow_sim";

/// Cargo's arguments for it.
pub(crate) const BUILD: [&str; 8] = [
    "build",
    "--locked",
    "--profile",
    "sim",
    "--package",
    "virtflow-testkit",
    "--bin",
    "virtflow-sim",
];

fn target(root: &Path) -> PathBuf {
    root.join("target/sim")
}

/// Lints what only a simulation has.
pub(crate) fn lint() -> Result<()> {
    let root = workspace();
    let mut command = cargo(&["clippy", "--locked", "--profile", "sim"]);
    for package in [
        "virtflow-types",
        "virtflow-pki",
        "virtflow-raft",
        "virtflow-controller",
        "virtflow-testkit",
    ] {
        command.args(["--package", package]);
    }
    command
        .args(["--lib", "--", "--deny", "warnings"])
        .env("RUSTFLAGS", FLAGS)
        .env("CARGO_TARGET_DIR", target(&root));
    show(&mut command)
}

/// Builds the simulator of the workspace in `root`; its program.
pub(crate) fn build(root: &Path) -> Result<PathBuf> {
    let mut command = cargo(&BUILD);
    command
        .current_dir(root)
        .env("RUSTFLAGS", FLAGS)
        .env("CARGO_TARGET_DIR", target(root));
    show(&mut command)?;
    Ok(target(root).join("sim/virtflow-sim"))
}

/// Runs what the options say; how many seeds were run and which of them broke a promise.
pub(crate) fn seeds(program: &Path, options: &Options) -> Result<Vec<u64>> {
    let jobs = options
        .jobs
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, |n| n.get() as u64))
        .clamp(1, options.runs.max(1));
    let share = options.runs.div_ceil(jobs);
    let mut children = Vec::new();
    for job in 0..jobs {
        let first = options.seed + job * share;
        let runs = share.min((options.seed + options.runs).saturating_sub(first));
        if runs == 0 {
            continue;
        }
        let mut command = Command::new(program);
        command
            .args(["--seed", &first.to_string()])
            .args(["--runs", &runs.to_string()])
            .args(["--seconds", &options.seconds.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        if options.twice {
            command.arg("--twice");
        }
        if let Some(trace) = &options.trace {
            command.arg("--trace").arg(trace);
        }
        children.push((
            first,
            runs,
            command.spawn().context("starting the simulator")?,
        ));
    }
    let mut broken = Vec::new();
    for (first, runs, child) in children {
        let output = child.wait_with_output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        print!("{text}");
        let done = text
            .lines()
            .filter(|line| line.starts_with("seed "))
            .count();
        for line in text.lines() {
            if let Some(seed) = line.strip_prefix("    again: cargo xtask sim --seed ") {
                let seed = seed.split_whitespace().next().unwrap_or_default();
                broken.push(seed.parse().unwrap_or(first));
            }
        }
        // A panic ends the process: the seed it was at, and those after it, have no line.
        if (done as u64) < runs {
            let seed = first + done as u64;
            println!("seed {seed}: the simulator ended with {}", output.status);
            broken.push(seed);
        }
    }
    Ok(broken)
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let program = build(&workspace())?;
    let began = Instant::now();
    let broken = seeds(&program, options)?;
    let took_s = began.elapsed().as_secs();
    if options.record {
        record(options, &broken, took_s)?;
    }
    println!("\n{} seeds in {took_s} s", options.runs);
    if !broken.is_empty() {
        bail!("promises were broken by the seeds {broken:?}");
    }
    Ok(())
}

/// One line a long run: which code, which seeds, what came of it.
fn record(options: &Options, broken: &[u64], took_s: u64) -> Result<()> {
    use std::io::Write as _;

    let git = |arguments: &[&str]| -> Result<String> {
        let output = Command::new("git")
            .args(arguments)
            .current_dir(workspace())
            .output()?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let commit = git(&["describe", "--always", "--dirty"])?;
    let date = git(&["show", "--no-patch", "--format=%cs", "HEAD"])?;
    let path = workspace().join("docs/simulations.tsv");
    let mut file = std::fs::File::options()
        .append(true)
        .create(true)
        .open(&path)?;
    writeln!(
        file,
        "{commit}\t{date}\t{}\t{}\t{}\t{took_s}\t{broken:?}",
        options.seed, options.runs, options.seconds
    )
    .with_context(|| format!("writing {}", path.display()))
}
