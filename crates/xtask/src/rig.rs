//! `cargo xtask rig`: hosts without a VirtFlow on them, for trials by hand.

use std::io::Read;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use virtflow_testkit::rig::{NodeSpec, Rig, lan};

/// Starts hosts with a libvirtd each, and nothing else, until its input ends (Ctrl-D) or Ctrl-C.
///
/// Needs root and the packages that `setup` installs. The hosts are made of namespaces; they have
/// a network of their own which nothing outside can reach, and are gone when this command ends.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Folder for the files of the hosts; what an earlier run left in it is removed.
    #[arg(long, default_value = "/var/tmp/virtflow-rig")]
    dir: PathBuf,
    /// How many hosts.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=50))]
    hosts: u8,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let mut rig = Rig::start(&options.dir)?;
    for number in 1..=options.hosts {
        let node = rig.add(NodeSpec {
            name: format!("h{number}"),
            address: lan::address(20 + number),
            hypervisor: true,
        })?;
        println!(
            "{} {}\n  enter:  nsenter -t {} -m -n -p -u -i\n  libvirt: virsh -c '{}'",
            node.name(),
            node.address(),
            node.init_pid(),
            node.libvirt_uri(),
        );
    }
    println!("Running; Ctrl-D ends it.");
    std::io::stdin().read_to_end(&mut Vec::new())?;
    rig.end()
}
