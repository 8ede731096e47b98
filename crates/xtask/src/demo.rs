//! `cargo xtask demo`: from a bare machine to guests running under three controllers, and what
//! happens when things are killed. Every claim it prints was checked just before; what is not as
//! claimed ends it with an error.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use virtflow_testkit::cloud::{Person, Place, Plan};
use virtflow_testkit::{packages, rig};

use crate::setup;
use crate::stages::{cargo, show};
use report::Report;
use steps::Demo;

mod report;
mod steps;

/// Shows VirtFlow at work on this machine: three controllers, two hosts, real virtual machines.
///
/// What it does to this machine:
///
/// * installs the Debian packages that are missing (libvirt, QEMU, build headers ...) with
///   `apt-get install --no-install-recommends`; none of them starts a service, and they stay;
/// * builds this workspace in `target` (development profile);
/// * downloads Debian's cloud kernel for the guests and unpacks it in the demo's folder, without
///   installing it;
/// * as root (it calls sudo itself if need be) starts machines made of Linux namespaces: three
///   with a controller, two with an agent and a libvirtd. Their network exists only among them:
///   no bridge, address, route or firewall rule of this machine is made or changed, nothing
///   listens on its addresses, and nothing outside can be reached from them;
/// * runs virtual machines in them, by QEMU's emulation: about 1 GiB of memory, 3 GiB of disk.
///
/// All it starts ends with it, also on Ctrl-C or when it is killed. What stays is the demo's folder
/// with the unpacked kernel (and, after a failure, logs); `--down` removes that as well.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Options {
    /// Folder for everything the demo writes, outside /run and /var/{cache,lib,log}.
    #[arg(long, default_value = "/var/tmp/virtflow-demo")]
    dir: PathBuf,
    /// Leave all of it running at the end, with its virtual machines, and say how to talk to it.
    #[arg(long, conflicts_with = "down")]
    keep: bool,
    /// End what an earlier `--keep` left running, and remove the folder.
    #[arg(long)]
    down: bool,
    /// Packages are installed and programs are built, which took so many milliseconds.
    #[arg(long, hide = true)]
    prepared_ms: Option<u64>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let mut report = Report::new();
    let prepared = match options.prepared_ms {
        Some(ms) => Duration::from_millis(ms),
        None if options.down => Duration::ZERO,
        None => prepare(&mut report)?,
    };
    if !rustix::process::geteuid().is_root() {
        return again_as_root(options, prepared);
    }
    if options.down {
        return take_down(&options.dir);
    }
    if options.prepared_ms.is_some() {
        report.done_before(PREPARE, prepared);
    }
    let demo = act(&mut report, options).with_context(|| {
        let nodes = options.dir.join("nodes");
        format!(
            "all of it was ended; each machine's logs are in {}",
            nodes.display()
        )
    })?;
    report.summary();
    if options.keep {
        let directory = demo.directory().to_owned();
        say_how_to_talk_to_it(&demo)?;
        demo.place.rig.keep()?;
        println!(
            "\nIt goes on until `cargo xtask demo --down --dir {}`.",
            directory.display()
        );
    } else {
        demo.place.rig.end()?;
        println!("\nAll of it is ended; nothing was left running.");
    }
    Ok(())
}

const PREPARE: &str = "packages and programs";

fn prepare(report: &mut Report) -> Result<Duration> {
    let start = Instant::now();
    report.step(PREPARE, |_| {
        setup::packages()?;
        show(&mut cargo(&["build", "--locked", "--workspace", "--bins"]))
    })?;
    Ok(start.elapsed())
}

fn act(report: &mut Report, options: &Options) -> Result<Demo> {
    let demo = report.step("three controllers, two hosts", |report| {
        if rig::end_remains(&options.dir)? > 0 {
            report.line("ended what an earlier demo had left running");
        }
        let images = options.dir.join("image");
        let mut place = Place::new(&options.dir, &images, Plan::default())?;
        report.line("the guests' kernel is there, the network is up");
        let people = place.people();
        let at = place.rig.lan().init_pid();
        let operator = Person::new("operator", &people, at)?;
        let user = Person::new(steps::people::USER, &people, at)?;
        let cluster = steps::start::first_controller(&mut place, report, &operator)?;
        let ca_pem = steps::start::other_controllers(&mut place, report, &operator, &cluster)?;
        steps::start::hosts(&mut place, report, &operator, &cluster)?;
        Ok(Demo {
            place,
            cluster,
            ca_pem,
            operator,
            user,
        })
    })?;
    report.step("a tenant, its quota, its user", |report| {
        steps::people::prepare(&demo, report)
    })?;
    report.step("virtual machines", |report| {
        steps::guests::create(&demo, report)
    })?;
    report.step("the leading controller is killed", |report| {
        steps::kills::leader(&demo, report)
    })?;
    report.step("an agent is killed, a QEMU is killed", |report| {
        steps::kills::agent(&demo, report)?;
        steps::kills::qemu(&demo, report)
    })?;
    report.step("too much is asked for", |report| {
        steps::limits::quota(&demo, report)?;
        steps::limits::capacity(&demo, report)
    })?;
    let last = if options.keep {
        "the books (everything is kept)"
    } else {
        "the books, and the end of everything"
    };
    report.step(last, |report| {
        steps::end::verify_with_mistake(&demo, report)?;
        if options.keep {
            return Ok(());
        }
        steps::end::delete(&demo, report)?;
        steps::end::verify_empty(&demo, report)?;
        steps::end::delete_hosts(&demo, report)
    })?;
    Ok(demo)
}

/// Writes a small program that puts a person where the operator sits.
fn say_how_to_talk_to_it(demo: &Demo) -> Result<()> {
    let enter = demo.directory().join("enter");
    let bin = packages::own_binary("virtflow")?;
    let bin = bin.parent().context("the tool lies in no folder")?;
    let script = format!(
        r#"#!/bin/sh
# A shell, or the command given, on the demo's network, as its operator.
export VIRTFLOW_CONFIG="${{VIRTFLOW_CONFIG:-{config}}}"
export PATH="{bin}:$PATH"
[ $# -gt 0 ] || set -- "${{SHELL:-sh}}"
exec nsenter --target {place} --net -- "$@"
"#,
        config = demo.operator.configuration().display(),
        bin = bin.display(),
        place = demo.place.rig.lan().init_pid(),
    );
    std::fs::write(&enter, script)?;
    std::fs::set_permissions(&enter, std::fs::Permissions::from_mode(0o755))?;
    let enter = enter.display();
    println!("\nIt is all running. Talk to it as root:");
    println!("   {enter}                             a shell on its network, as the operator");
    println!("   {enter} virtflow status");
    println!(
        "   VIRTFLOW_CONFIG={} {enter} virtflow vm list",
        demo.user.configuration().display()
    );
    for node in demo.place.rig.nodes() {
        println!(
            "   {} {:<11} files {}, inside: nsenter -t {} -m -n -p -u -i",
            node.name(),
            node.address(),
            node.directory().display(),
            node.init_pid()
        );
    }
    for name in demo.place.hosts() {
        let node = demo.place.node(&name)?;
        println!(
            "   virsh -c '{}' list      (host {name})",
            node.libvirt_uri()
        );
    }
    println!("   A daemon that is killed is started again after 2 s, as systemd would.");
    Ok(())
}

/// Replaces this process by the same command under sudo; returns only if that fails.
fn again_as_root(options: &Options, prepared: Duration) -> Result<()> {
    println!("\nNamespaces and virtual machines need root; sudo may ask for your password.");
    let mut command = Command::new("sudo");
    command
        // The build may have replaced the file that this process was started from.
        .arg(packages::own_binary("xtask")?)
        .args(["demo", "--prepared-ms", &prepared.as_millis().to_string()])
        .arg("--dir")
        .arg(std::path::absolute(&options.dir)?);
    if options.keep {
        command.arg("--keep");
    }
    if options.down {
        command.arg("--down");
    }
    Err(command.exec()).context("starting `sudo`")
}

fn take_down(directory: &Path) -> Result<()> {
    if !directory.exists() {
        println!("There is no {}: nothing to do.", directory.display());
        return Ok(());
    }
    if !rig::is_rig_folder(directory) {
        bail!(
            "{} was not made by a demo: it is left alone",
            directory.display()
        );
    }
    let ended = rig::end_remains(directory)?;
    std::fs::remove_dir_all(directory)
        .with_context(|| format!("removing {}", directory.display()))?;
    println!(
        "Ended {ended} processes of machines and removed {}.",
        directory.display()
    );
    Ok(())
}
