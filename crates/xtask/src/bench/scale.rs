//! `cargo xtask bench scale`: one large group in one process. The program is an example of the controller, for
//! it looks at what this crate must not see.

use anyhow::Result;
use clap::Args;

use crate::stages::{cargo, show};

/// Measures one group with many hosts and VMs, in one process, in a release build.
///
/// Nothing of the machine is changed. With the defaults it takes some minutes and 6 GiB of memory.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// Hosts.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    hosts: u32,
    /// Virtual machines.
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    vms: u32,
    /// Puts the table into the marked section of `docs/BENCHMARKS.md`.
    #[arg(long)]
    write: bool,
}

pub(super) fn run(options: &Options) -> Result<()> {
    let (hosts, vms) = (options.hosts.to_string(), options.vms.to_string());
    let mut command = cargo(&[
        "run",
        "--locked",
        "--release",
        "--package",
        "virtflow-controller",
        "--example",
        "scale",
        "--",
        "--hosts",
        &hosts,
        "--vms",
        &vms,
    ]);
    if options.write {
        command.arg("--write");
    }
    show(&mut command)
}
