//! `cargo xtask exhaust`: every case of the tests that look at a rotating part of theirs in `ci`.

use anyhow::Result;
use clap::Args;

use crate::stages::{cargo, show};

/// Looks at every flipped byte of a log and of a state, and at every moment of a power cut.
///
/// What `ci` looks at a part of, another one at each run. It takes long; run it before a release. What it does to
/// this machine: builds; writes small files to /dev/shm or the temporary folder, and removes them.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Every so manieth case instead of each, to do it in pieces. VIRTFLOW_ROTATION says from which on.
    #[arg(long, default_value_t = 1)]
    step: u32,
}

/// Tests whose name has one of these look at a part of their cases.
const NAMES: [&str; 2] = ["a_flipped_bit_in_any_byte", "a_power_cut"];

pub(crate) fn run(options: &Options) -> Result<()> {
    let mut command = cargo(&["test", "--locked", "--lib"]);
    command.args(["--package", "virtflow-raft", "--package", "virtflow-shadow"]);
    command.args(["--", "--nocapture"]).args(NAMES);
    show(command.env("VIRTFLOW_EXHAUSTIVE", options.step.to_string()))
}
