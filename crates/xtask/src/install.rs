//! `cargo xtask install-test`: the packages on machines with systemd, as an operator would install them.

mod drills;
mod guide;
mod steps;
mod upgrade;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Args;
use virtflow_testkit::guest;
use virtflow_testkit::machine::{self, Machine, Yard};

use crate::package::Trial;
use crate::stages::workspace;
use crate::{ci, package, setup};

const BRIDGE: &str = "vfinstall0";
const CONTROLLER: &str = "virtflow-controller";
const AGENT: &str = "virtflow-agent";

/// The network of the machines.
const NETWORK: [u8; 3] = [10, 97, 0];
/// The machines that there may be: controllers at .11 and on, hosts at .21 and on.
const CONTROLLERS_MAX: u8 = 9;
const HOSTS_MAX: u8 = 9;

/// The controllers and hosts that drills need at least.
const DRILLED: (usize, usize) = (3, 2);

/// The Debian that packages are built on, and that machines have unless another is asked for.
const SUITE: &str = "bookworm";
/// Where trees and machines are.
const FOLDER: &str = "/var/tmp/virtflow-install";

/// Installs the packages on machines with systemd and lives through their first days.
///
/// Makes a Debian tree by mmdebstrap (once, then it is kept), boots controllers and hosts from it with systemd-nspawn
/// on a bridge that nothing outside can reach, installs the packages there with apt, makes a cluster after the guide,
/// boots a guest, restarts every service and reboots machines while it runs, and removes the packages again. Needs
/// root; installs mmdebstrap and systemd-container when they are missing. All machines end with it.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The part of it that `ci` runs: one controller, one host, Debian packages only.
    #[arg(long, conflicts_with_all = ["controllers", "hosts", "upgrade_from"])]
    short: bool,
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
    /// The Debian of the machines: bookworm (12) or trixie (13). Packages are those of the Debian that they are built on.
    #[arg(long, default_value = SUITE)]
    suite: String,
    /// Where trees and machines are.
    #[arg(long, default_value = FOLDER)]
    dir: PathBuf,
}

/// The machines of a run, and the ground they stand on.
struct Site {
    yard: Yard,
    /// Every name that there is or may be, as each machine's /etc/hosts knows it.
    names: Vec<(String, Ipv4Addr)>,
    controllers: Vec<Machine>,
    hosts: Vec<Machine>,
    /// Where an operator keeps what must outlive all machines.
    kept: PathBuf,
    /// The fingerprint of the cluster's CA, once there is one.
    ca_fingerprint: String,
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

    fn boot(&self, name: &str) -> Result<Machine> {
        let (_, address) = self
            .names
            .iter()
            .find(|(known, _)| known == name)
            .with_context(|| format!("no machine may be called {name}"))?;
        self.yard.boot(name, *address, &self.names)
    }
}

/// The steps that were passed.
#[derive(Default)]
struct Steps(usize);

impl Steps {
    fn take<T>(&mut self, what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        println!("{what} …");
        let start = Instant::now();
        let result = work().with_context(|| format!("step `{what}`"))?;
        println!("   {:.1} s", start.elapsed().as_secs_f32());
        self.0 += 1;
        Ok(result)
    }
}

pub(crate) fn run(options: &Options) -> Result<()> {
    prepare()?;
    setup::packages()?;
    if options.short {
        return short(&options.dir, &options.suite).map(drop);
    }
    let packages = match &options.packages {
        Some(folder) => std::path::absolute(folder)?,
        None => {
            let folder = workspace().join("target/packages-dev");
            package::for_trial(&folder, Trial::All)?;
            if let Some(revision) = &options.upgrade_from {
                package::of_revision(revision, &folder.join("older"))?;
            }
            folder
        }
    };
    package::check(&packages)?;
    let is_upgraded = packages.join("older").exists();
    let (controllers, hosts) = (options.controllers, options.hosts);
    on_machines(
        &options.dir,
        &options.suite,
        &packages,
        controllers,
        hosts,
        |site, image, steps| live(site, image, is_upgraded, steps),
    )?;
    Ok(())
}

/// What `ci` runs of it: a controller and a host live through a day, with packages of the programs that are built
/// already; how many steps were passed.
fn short(folder: &Path, suite: &str) -> Result<usize> {
    prepare()?;
    let packages = workspace().join("target/packages-ci");
    package::for_trial(&packages, Trial::Debian)?;
    on_machines(folder, suite, &packages, 1, 1, live_shortly)
}

/// The same where `ci` has it: in the folder and with the Debian of a run that was not told others.
pub(crate) fn in_ci() -> Result<usize> {
    short(Path::new(FOLDER), SUITE)
}

fn prepare() -> Result<()> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "booting machines needs root: run with sudo"
    );
    setup::install(&machine::missing()?)
}

/// Boots the machines, has `life` lived on them, and ends them; how many steps were passed.
fn on_machines(
    folder: &Path,
    suite: &str,
    packages: &Path,
    controllers: u8,
    hosts: u8,
    life: impl FnOnce(&mut Site, &guest::Image, &mut Steps) -> Result<()>,
) -> Result<usize> {
    let start = Instant::now();
    let mut steps = Steps::default();
    let base = steps.take("a Debian tree", || machine::base(folder, suite))?;
    let image = guest::build(Path::new(ci::IMAGE_FOLDER))?;
    let yard = Yard::new(&folder.join("machines"), base, BRIDGE, packages)?;
    let mut site = Site {
        yard,
        names: names(),
        kept: folder.join("kept"),
        controllers: Vec::new(),
        hosts: Vec::new(),
        ca_fingerprint: String::new(),
    };
    let result = steps
        .take("machines boot", || boot(&mut site, controllers, hosts))
        .and_then(|()| life(&mut site, &image, &mut steps));
    if result.is_err() {
        for (machine, unit) in site.daemons() {
            if let Ok(journal) = machine.journal(unit) {
                eprintln!("--- {} {unit}\n{journal}", machine.name());
            }
        }
    }
    let Site {
        yard,
        controllers,
        hosts,
        ..
    } = site;
    drop((controllers, hosts));
    yard.end()?;
    result?;
    println!(
        "install-test: {} steps passed in {} s",
        steps.0,
        start.elapsed().as_secs()
    );
    Ok(steps.0)
}

fn names() -> Vec<(String, Ipv4Addr)> {
    let [a, b, c] = NETWORK;
    let named = |letter: char, first: u8, count: u8| {
        (1..=count).map(move |number| {
            (
                format!("{letter}{number}"),
                Ipv4Addr::new(a, b, c, first + number),
            )
        })
    };
    named('c', 10, CONTROLLERS_MAX)
        .chain(named('h', 20, HOSTS_MAX))
        .collect()
}

fn boot(site: &mut Site, controllers: u8, hosts: u8) -> Result<()> {
    for number in 1..=controllers {
        let machine = site.boot(&format!("c{number}"))?;
        site.controllers.push(machine);
    }
    for number in 1..=hosts {
        let machine = site.boot(&format!("h{number}"))?;
        site.hosts.push(machine);
    }
    Ok(())
}

/// One day of a controller and a host.
fn live_shortly(site: &mut Site, image: &guest::Image, steps: &mut Steps) -> Result<()> {
    begin(site, image, upgrade::NEWER, steps)?;
    run_in(site, steps)?;
    plugs(site, steps)?;
    removal(site, steps)
}

/// From bare machines to a guest, with the packages of a folder.
fn begin(site: &mut Site, image: &guest::Image, packages: &str, steps: &mut Steps) -> Result<()> {
    steps.take("the packages are installed; nothing runs yet", || {
        steps::install(site, packages)
    })?;
    steps.take("a cluster after the guide", || steps::cluster(site))?;
    steps.take("hosts join, a guest boots", || steps::guest(site, image))
}

/// What daemons may, and what they bear, while all machines run.
fn run_in(site: &Site, steps: &mut Steps) -> Result<()> {
    steps.take("nothing runs as root that need not", || steps::users(site))?;
    steps.take("units are closed", || steps::security(site))?;
    steps.take("a backup by the timer's unit", || steps::backup(site))?;
    steps.take("everything is restarted in turn", || steps::restarts(site))
}

fn plugs(site: &mut Site, steps: &mut Steps) -> Result<()> {
    steps.take("every machine loses its power", || steps::plugs(site))
}

fn removal(site: &Site, steps: &mut Steps) -> Result<()> {
    steps.take(
        "the packages go, and what they leave goes with a purge",
        || steps::removal(site),
    )
}

fn live(site: &mut Site, image: &guest::Image, is_upgraded: bool, steps: &mut Steps) -> Result<()> {
    let first = if is_upgraded {
        upgrade::OLDER
    } else {
        upgrade::NEWER
    };
    begin(site, image, first, steps)?;
    if is_upgraded {
        steps.take(
            "every machine is upgraded in turn, one put back in between",
            || upgrade::rolling(site),
        )?;
    }
    run_in(site, steps)?;
    steps.take("a controller and a host reboot", || steps::reboots(site))?;
    plugs(site, steps)?;
    if site.controllers.len() >= DRILLED.0 && site.hosts.len() >= DRILLED.1 {
        drill(site, image, steps)?;
    } else {
        println!("the drills are left out: they need three controllers and two hosts");
    }
    removal(site, steps)?;
    steps.take("an RPM is installed, replaced and removed", || {
        steps::rpm(site)
    })
}

/// The guide's drills, while a guest counts.
fn drill(site: &mut Site, image: &guest::Image, steps: &mut Steps) -> Result<()> {
    drills::full_quota(site)?;
    let mut counter = drills::Counter::of(site, "web-1")?;
    let mut watched =
        |site: &mut Site, what: &str, drill: &mut dyn FnMut(&mut Site) -> Result<()>| {
            steps.take(what, || {
                drill(site)?;
                counter.goes_on(site)
            })
        };
    watched(site, "a controller is lost and replaced", &mut |site| {
        drills::lifetimes(site, true)?;
        drills::replacement(site)
    })?;
    watched(
        site,
        "a host is added by the line that was printed",
        &mut |site| drills::capacity(site, image),
    )?;
    watched(
        site,
        "certificates are renewed, also after they expired",
        &mut |site| {
            drills::renewal(site)?;
            drills::lifetimes(site, false)
        },
    )?;
    watched(site, "a controller's disk is full", &mut |site| {
        drills::full_controller(site)
    })?;
    watched(site, "a host's disk is full", &mut |site| {
        drills::full_host(site)
    })?;
    watched(site, "a host is taken out", &mut drills::departure)?;
    watched(
        site,
        "the majority is lost for good",
        &mut drills::sole_survivor,
    )?;
    watched(
        site,
        "a backup is restored on fresh machines",
        &mut drills::restore,
    )
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
