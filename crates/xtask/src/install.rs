//! `cargo xtask install-test`: the packages on machines with systemd, as an operator would install them.

mod steps;
mod upgrade;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Result, ensure};
use clap::Args;
use virtflow_testkit::guest;
use virtflow_testkit::machine::{self, Machine, Yard};

use crate::stages::workspace;
use crate::{package, setup};

const BRIDGE: &str = "vfinstall0";
const CONTROLLER: &str = "virtflow-controller";
const AGENT: &str = "virtflow-agent";

/// Installs the packages on machines with systemd and lives through their first days.
///
/// Makes a Debian tree by debootstrap (once, then it is kept), boots controllers and hosts from it with systemd-nspawn
/// on a bridge that nothing outside can reach, installs the packages there with apt, makes a cluster after the guide,
/// boots a guest, restarts every service and reboots machines while it runs, and removes the packages again. Needs
/// root; installs debootstrap and systemd-container when they are missing. All machines end with it.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How many controllers.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=5))]
    controllers: u8,
    /// How many hosts.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=8))]
    hosts: u8,
    /// Packages that are built already; without it they are built, without optimization.
    #[arg(long, value_name = "FOLDER", conflicts_with = "upgrade_from")]
    packages: Option<PathBuf>,
    /// Install packages built from this revision of the sources first, and upgrade from them while guests run and a
    /// client works. (With --packages: those in its folder `older`, if there is one.)
    #[arg(long, value_name = "REVISION")]
    upgrade_from: Option<String>,
    /// Where trees and machines are.
    #[arg(long, default_value = "/var/tmp/virtflow-install")]
    dir: PathBuf,
}

/// The machines of a run.
struct Site {
    controllers: Vec<Machine>,
    hosts: Vec<Machine>,
}

impl Site {
    /// Every machine with the daemon that its package brings.
    fn daemons(&self) -> impl Iterator<Item = (&Machine, &'static str)> {
        let controllers = self.controllers.iter().map(|machine| (machine, CONTROLLER));
        controllers.chain(self.hosts.iter().map(|machine| (machine, AGENT)))
    }

    /// Where the operator sits: on the first controller.
    fn desk(&self) -> &Machine {
        &self.controllers[0]
    }
}

pub(crate) fn run(options: &Options) -> Result<()> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "booting machines needs root: run with sudo"
    );
    setup::packages()?;
    setup::install(&machine::missing()?)?;
    let packages = match &options.packages {
        Some(folder) => std::path::absolute(folder)?,
        None => {
            let folder = workspace().join("target/packages-dev");
            package::for_trial(&folder)?;
            if let Some(revision) = &options.upgrade_from {
                package::of_revision(revision, &folder.join("older"))?;
            }
            folder
        }
    };
    let start = Instant::now();
    let base = step("a Debian tree", || machine::base(&options.dir))?;
    let image = guest::build(&options.dir.join("image"))?;
    let yard = Yard::new(&options.dir.join("machines"), base, BRIDGE, &packages)?;
    let mut site = step("machines boot", || boot(&yard, options))?;
    let is_upgraded = packages.join("older").exists();
    let result = live(&mut site, &image, is_upgraded);
    if result.is_err() {
        for (machine, unit) in site.daemons() {
            if let Ok(journal) = machine.journal(unit) {
                eprintln!("--- {} {unit}\n{journal}", machine.name());
            }
        }
    }
    drop(site);
    yard.end()?;
    result?;
    println!(
        "install-test: all steps passed in {} s",
        start.elapsed().as_secs()
    );
    Ok(())
}

fn step<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    println!("{what} …");
    let start = Instant::now();
    let result = work()?;
    println!("   {:.1} s", start.elapsed().as_secs_f32());
    Ok(result)
}

fn boot(yard: &Yard, options: &Options) -> Result<Site> {
    let named = |letter: char, first: u8, count: u8| -> Vec<(String, Ipv4Addr)> {
        (1..=count)
            .map(|number| {
                (
                    format!("{letter}{number}"),
                    Ipv4Addr::new(10, 97, 0, first + number),
                )
            })
            .collect()
    };
    let controllers = named('c', 10, options.controllers);
    let hosts = named('h', 20, options.hosts);
    let names: Vec<(&str, Ipv4Addr)> = controllers
        .iter()
        .chain(&hosts)
        .map(|(name, address)| (name.as_str(), *address))
        .collect();
    let boot_all = |machines: &[(String, Ipv4Addr)]| {
        machines
            .iter()
            .map(|(name, address)| yard.boot(name, *address, &names))
            .collect::<Result<Vec<_>>>()
    };
    Ok(Site {
        controllers: boot_all(&controllers)?,
        hosts: boot_all(&hosts)?,
    })
}

fn live(site: &mut Site, image: &guest::Image, is_upgraded: bool) -> Result<()> {
    let first = if is_upgraded {
        upgrade::OLDER
    } else {
        upgrade::NEWER
    };
    step("the packages are installed; nothing runs yet", || {
        steps::install(site, first)
    })?;
    let ca = step("a cluster after the guide", || steps::cluster(site))?;
    step("hosts join, a guest boots", || {
        steps::guest(site, image, &ca)
    })?;
    if is_upgraded {
        step(
            "every machine is upgraded in turn, one put back in between",
            || upgrade::rolling(site),
        )?;
    }
    step("nothing runs as root that need not", || steps::users(site))?;
    step("units are closed", || steps::security(site))?;
    step("a backup by the timer's unit", || steps::backup(site))?;
    step("everything is restarted in turn", || steps::restarts(site))?;
    step("a controller and a host reboot", || steps::reboots(site))?;
    step("every machine loses its power", || steps::plugs(site))?;
    step(
        "the packages go, and what they leave goes with a purge",
        || steps::removal(site),
    )?;
    step("an RPM is installed, replaced and removed", || {
        steps::rpm(site)
    })
}

/// The path of the file in the machine that a file of this machine was copied to.
fn copy(machine: &Machine, from: &Path, to: &str) -> Result<()> {
    let target = machine.file(to);
    if let Some(folder) = target.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::copy(from, target)?;
    Ok(())
}
