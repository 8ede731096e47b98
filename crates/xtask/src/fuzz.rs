//! `cargo xtask fuzz`: the fuzz targets of the tests, for as long as one likes, guided by coverage.
//!
//! The compiler's own counters say which branches an input took: flags of the stable compiler put them in,
//! in the product and in what it is built from, and the test kit reads them. Inputs that took new ones are
//! kept in `target/fuzz/corpus` and lead on, in this run and the next.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use clap::Args;
use virtflow_testkit::fuzz::{Listed, SEED_DEFAULT, TARGETS, variable};

use crate::stages::{cargo, show};

/// Gives decoders what no encoder ever wrote.
///
/// Without a target it tries all of them, one after the other. With `--seconds` it builds with coverage
/// counters in `target/fuzz/build` and tries inputs for so long a target; with `--seed`, `--iterations` or
/// `--input` it repeats what a test did, in the tests' own build. A failing input is cut down and kept in
/// `target/fuzz/failures`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The target; `--list` shows them
    target: Option<String>,
    /// Seconds for each target, guided by coverage
    #[arg(long, conflicts_with_all = ["iterations", "input"])]
    seconds: Option<u64>,
    /// Seed of all chance; for a run by time, that of the clock if none is given
    #[arg(long)]
    seed: Option<u64>,
    /// How many mutated inputs
    #[arg(long)]
    iterations: Option<u64>,
    /// Try this file and nothing else
    #[arg(long, requires = "target")]
    input: Option<PathBuf>,
    /// Show the targets and what they decode
    #[arg(long)]
    list: bool,
}

/// Seconds for each target where nothing else is said.
const SECONDS_DEFAULT: u64 = 60;

/// Counters, one byte a branch, and names for no one: all flags of the stable compiler.
const FLAGS: &[&str] = &[
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=3",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Ccodegen-units=4",
    "--cfg=fuzz_coverage",
];

/// Named, so that build scripts and macros are built without counters.
const PLATFORM: &str = "x86_64-unknown-linux-gnu";

pub(crate) fn run(options: &Options) -> Result<()> {
    if options.list {
        for listed in TARGETS {
            println!("{:<20} {}", listed.name, listed.decodes);
        }
        return Ok(());
    }
    let chosen: Vec<&Listed> = TARGETS
        .iter()
        .filter(|listed| {
            options
                .target
                .as_deref()
                .is_none_or(|name| name == listed.name)
        })
        .collect();
    if chosen.is_empty() {
        bail!("there is no such target; `cargo xtask fuzz --list` shows them");
    }
    let repeats = options.input.is_some() || options.iterations.is_some();
    let mut failed = Vec::new();
    for listed in &chosen {
        let tried = if repeats {
            repeat(listed, options)
        } else {
            explore(listed, options)
        };
        if let Err(error) = tried {
            eprintln!("{}: {error:#}", listed.name);
            failed.push(listed.name);
        }
    }
    if failed.is_empty() {
        Ok(())
    } else {
        bail!("{} failed", failed.join(", "))
    }
}

/// The arguments that run one target's test.
fn test(listed: &Listed) -> Vec<&str> {
    let place: &[&str] = if listed.test.contains("::") {
        &["--lib"]
    } else {
        &["--test", "fuzz"]
    };
    let mut arguments = vec!["--locked", "--package", listed.package];
    arguments.extend(place);
    arguments.extend(["--", "--exact", listed.test, "--nocapture"]);
    arguments
}

fn repeat(listed: &Listed, options: &Options) -> Result<()> {
    let mut command = cargo(&["test"]);
    command.args(test(listed));
    let seed = options.seed.unwrap_or(SEED_DEFAULT);
    command.env(variable::SEED, seed.to_string());
    if let Some(iterations) = options.iterations {
        command.env(variable::ITERATIONS, iterations.to_string());
    }
    if let Some(input) = &options.input {
        let input = input.canonicalize();
        command.env(variable::INPUT, input.context("looking for the input")?);
    }
    show(&mut command)
}

fn explore(listed: &Listed, options: &Options) -> Result<()> {
    let clock = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let seed = options.seed.unwrap_or(clock.as_secs());
    let seconds = options.seconds.unwrap_or(SECONDS_DEFAULT);
    let mut command = cargo(&["test", "--profile", "fuzz", "--target", PLATFORM]);
    command
        .args(["--target-dir", "target/fuzz/build"])
        .args(test(listed))
        .env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\u{1f}"))
        .env(variable::SEED, seed.to_string())
        .env(variable::SECONDS, seconds.to_string());
    show(&mut command)
}
