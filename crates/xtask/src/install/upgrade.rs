//! A rolling upgrade with apt, and a way back, while guests run and a client works.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use virtflow_testkit::machine::Machine;
use virtflow_testkit::poll;

use super::steps::{all_guests_run, guests, operator};
use super::{AGENT, CONTROLLER, Site};

/// Where machines see the packages they are upgraded to, and those they come from.
pub(super) const NEWER: &str = "/packages";
pub(super) const OLDER: &str = "/packages/older";

const PATIENCE: Duration = Duration::from_secs(120);
/// What the client must have done before the first controller goes down, and after the last came back.
const MARGIN: usize = 5;

/// A client that makes a rack and reads all of them, again and again, and keeps what it was told.
const CLIENT: &str = r#"
: > /root/client.made; : > /root/client.failed; n=0
while [ ! -e /root/client.stop ]; do
    n=$((n + 1))
    if virtflow rack create "load-$n" --data-center dc1 > /dev/null 2> /root/client.error; then
        echo "load-$n" >> /root/client.made
    else
        { echo "create load-$n:"; cat /root/client.error; } >> /root/client.failed
    fi
    virtflow rack list > /dev/null 2> /root/client.error || { echo "list:"; cat /root/client.error; } >> /root/client.failed
done
"#;

/// What the client did so far.
fn made(desk: &Machine) -> Result<BTreeSet<String>> {
    let lines = desk.shell("cat /root/client.made 2>/dev/null || true")?;
    Ok(lines.lines().map(str::to_owned).collect())
}

fn work_on(desk: &Machine) -> Result<()> {
    let before = made(desk)?.len();
    poll::until("the client to work", PATIENCE, || {
        Ok((made(desk)?.len() >= before + MARGIN).then_some(()))
    })
}

/// Every machine gets the newer packages, one after another and the leader first; one controller is put back to the
/// older ones in between. Guests run on, and the client sees nothing fail.
pub(super) fn rolling(site: &Site) -> Result<()> {
    let desk = site.desk();
    let before = site.hosts.iter().map(guests).collect::<Result<Vec<_>>>()?;
    std::fs::write(desk.file("root/client.sh"), CLIENT)?;
    desk.shell("systemd-run --unit=client --setenv=HOME=/root sh /root/client.sh")?;
    work_on(desk)?;

    let leader = leader(site)?;
    let (first, others): (Vec<&Machine>, Vec<&Machine>) = site
        .controllers
        .iter()
        .partition(|machine| machine.name() == leader);
    for machine in first.iter().chain(&others) {
        controller(machine, NEWER)?;
    }
    if let Some(back) = others.first() {
        controller(back, OLDER)?;
        controller(back, NEWER)?;
    }
    for host in &site.hosts {
        put(host, AGENT, NEWER)?;
        host.wait_unit(AGENT, "active")?;
    }
    let newest = installed(&site.controllers[0], CONTROLLER)?;
    for (machine, package) in site.daemons() {
        let version = installed(machine, package)?;
        ensure!(
            version == newest,
            "{} has {package} {version}, others {newest}",
            machine.name()
        );
    }

    work_on(desk)?;
    desk.shell("touch /root/client.stop")?;
    desk.wait_unit("client", "inactive")?;
    let failed = desk.shell("cat /root/client.failed")?;
    ensure!(failed.is_empty(), "the client was refused:\n{failed}");
    let made = made(desk)?;
    let racks = operator(site, "rack list --limit 1000")?.to_string();
    let lost: Vec<&String> = made
        .iter()
        .filter(|rack| !racks.contains(&format!("\"{rack}\"")))
        .collect();
    ensure!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    println!("   {} racks made meanwhile, nothing refused", made.len());

    all_guests_run(site)?;
    let after = site.hosts.iter().map(guests).collect::<Result<Vec<_>>>()?;
    ensure!(before == after, "guests were {before:?}, are {after:?}");
    Ok(())
}

/// Who leads.
fn leader(site: &Site) -> Result<String> {
    let status = operator(site, "upgrade status")?;
    let controllers = status["controllers"].as_array().context("no controllers")?;
    let leader = controllers
        .iter()
        .find(|controller| controller["is_leader"] == true)
        .with_context(|| format!("nobody leads: {status}"))?;
    Ok(leader["name"].as_str().context("no name")?.to_owned())
}

/// Installs the packages of `folder` on a controller, and waits as the guide says.
fn controller(machine: &Machine, folder: &str) -> Result<()> {
    put(machine, CONTROLLER, folder)?;
    let name = machine.name();
    poll::until(format_args!("{name} to be ready"), PATIENCE, || {
        let asked = machine.try_shell("curl -fsS http://127.0.0.1:9440/readyz")?;
        Ok(asked.status.success().then_some(()))
    })
}

fn put(machine: &Machine, package: &str, folder: &str) -> Result<()> {
    let before = installed(machine, package)?;
    // As the guide says: what the operator wrote stays, and nobody is asked.
    machine.shell(&format!(
        "DEBIAN_FRONTEND=noninteractive apt-get --quiet --yes --allow-downgrades \
         --option Dpkg::Options::=--force-confold install {folder}/{package}_*.deb 2>&1"
    ))?;
    let after = installed(machine, package)?;
    ensure!(
        before != after,
        "{} had {package} {before} before and after",
        machine.name()
    );
    Ok(())
}

fn installed(machine: &Machine, package: &str) -> Result<String> {
    machine.shell(&format!(
        "dpkg-query --show --showformat='${{Version}}' {package}"
    ))
}
