//! A rolling upgrade with apt, from older packages to newer ones, while a client writes and a guest counts its seconds.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use virtflow_testkit::machine::Machine;
use virtflow_testkit::poll;

use super::Site;
use super::steps::{AGENT, CONTROLLER, PATIENCE, all_guests_run, guests, operator};

/// Where machines see the older packages.
pub(super) const OLDER: &str = "/packages/older";
/// Where machines see the newer packages.
const NEWER: &str = "/packages/newer";

/// The client: makes tenants one after another, each again under its key as long as no controller or no leader is
/// there, and notes what it was told. Any other refusal is a failure.
const WRITER: &str = r#"
n=0
while [ ! -e /root/writer.stop ]; do
    n=$((n + 1))
    while :; do
        code=0
        virtflow tenant create "w-$n" --idempotency-key "w-$n" >/dev/null 2>>/root/writer.log || code=$?
        case $code in
            0) echo "w-$n" >>/root/writer.done; break ;;
            8 | 9) echo "w-$n" >>/root/writer.again; sleep 0.2 ;;
            *) echo "w-$n: $code" >>/root/writer.failed; break ;;
        esac
    done
done
"#;

/// A folder with the packages of both, each in its own.
pub(super) fn shelf(folder: &Path, older: &Path, newer: &Path) -> Result<PathBuf> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("emptying {}", folder.display()))?;
    }
    for (name, from) in [("older", older), ("newer", newer)] {
        let to = folder.join(name);
        fs::create_dir_all(&to)?;
        for entry in fs::read_dir(from).with_context(|| format!("reading {}", from.display()))? {
            let entry = entry?;
            fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(std::path::absolute(folder)?)
}

pub(super) fn roll(site: &Site) -> Result<()> {
    let before = site.hosts.iter().map(guests).collect::<Result<Vec<_>>>()?;
    ensure!(
        before.iter().any(|qemus| !qemus.is_empty()),
        "no guest runs"
    );
    let counted = guest_seconds(site)?;
    let desk = site.desk();
    fs::write(desk.file("root/writer.sh"), WRITER)?;
    desk.shell(
        "systemd-run --quiet --unit virtflow-writer --setenv HOME=/root sh /root/writer.sh",
    )?;
    let replaced = replace_all(site);
    desk.shell("touch /root/writer.stop")?;
    desk.wait_unit("virtflow-writer", "inactive")?;
    replaced?;
    nothing_failed(site)?;
    all_guests_run(site)?;
    let after = site.hosts.iter().map(guests).collect::<Result<Vec<_>>>()?;
    ensure!(before == after, "guests were {before:?}, are {after:?}");
    poll::until("the guest to have counted on", PATIENCE, || {
        Ok((guest_seconds(site)? > counted).then_some(()))
    })?;
    ended(site)
}

/// Controllers first, the leader last; then hosts.
fn replace_all(site: &Site) -> Result<()> {
    let status = operator(site, "status")?;
    let leader = status["leader"].as_str().context("nobody leads")?;
    let mut controllers: Vec<&Machine> = site.controllers.iter().collect();
    controllers.sort_by_key(|machine| machine.name() == leader);
    for machine in controllers {
        replace(machine, CONTROLLER, "virtflow-controller virtflow-cli")?;
        poll::until(
            format_args!("{} to be up to date", machine.name()),
            PATIENCE,
            || {
                let Ok(status) = operator(site, "status") else {
                    return Ok(None);
                };
                Ok(is_up_to_date(&status, machine.name()).then_some(()))
            },
        )?;
    }
    for machine in &site.hosts {
        replace(machine, AGENT, AGENT)?;
        poll::until(
            format_args!("{} to be online", machine.name()),
            PATIENCE,
            || {
                let host = operator(site, &format!("host get {}", machine.name()))?;
                Ok((host["status"]["liveness"] == "online").then_some(()))
            },
        )?;
    }
    Ok(())
}

/// True if the leader hears the controller, or it leads, and it lacks nothing.
fn is_up_to_date(status: &Value, name: &str) -> bool {
    let controllers = status["controllers"].as_array().into_iter().flatten();
    controllers
        .filter(|controller| controller["name"] == name)
        .any(|controller| {
            let ago = controller["last_ack_ms_ago"].as_u64();
            let is_heard = controller["is_leader"] == true || ago.is_some_and(|ago| ago < 1000);
            is_heard && controller["lag"] == 0
        })
}

/// Upgrades a machine's packages; the package itself restarts what ran.
fn replace(machine: &Machine, unit: &str, packages: &str) -> Result<()> {
    let version = || {
        machine.shell(&format!(
            "dpkg-query --show --showformat '${{Version}}' {unit}"
        ))
    };
    let process = || machine.shell(&format!("systemctl show --property MainPID {unit}"));
    let (old, old_process) = (version()?, process()?);
    let files: Vec<String> = packages
        .split(' ')
        .map(|package| format!("{NEWER}/{package}_*.deb"))
        .collect();
    machine.shell(&format!(
        "DEBIAN_FRONTEND=noninteractive apt-get --quiet --yes install {} 2>&1",
        files.join(" ")
    ))?;
    let new = version()?;
    machine
        .shell(&format!("dpkg --compare-versions '{old}' lt '{new}'"))
        .with_context(|| format!("{unit} was {old} and is {new}, which is not newer"))?;
    machine.wait_unit(unit, "active")?;
    let new_process = process()?;
    ensure!(
        old_process != new_process,
        "{unit} on {} is still the process that it was: {new_process}",
        machine.name()
    );
    println!("   {}: {unit} {old} → {new}", machine.name());
    Ok(())
}

/// All that the client was told is there, and it was refused nothing.
fn nothing_failed(site: &Site) -> Result<()> {
    let notes = |name: &str| {
        let file = site.desk().file(&format!("root/writer.{name}"));
        fs::read_to_string(file).unwrap_or_default()
    };
    let failed = notes("failed");
    ensure!(failed.is_empty(), "{failed}{}", notes("log"));
    let done = notes("done");
    ensure!(
        !done.is_empty(),
        "the client made nothing: {}",
        notes("log")
    );
    let listed = operator(site, "tenant list --limit 100000")?;
    let names: Vec<&str> = listed
        .as_array()
        .context("no list of tenants")?
        .iter()
        .filter_map(|tenant| tenant["name"].as_str())
        .collect();
    for name in done.lines() {
        ensure!(names.contains(&name), "{name} was acknowledged and is gone");
    }
    println!(
        "   {} tenants were made meanwhile; {} requests were sent again",
        done.lines().count(),
        notes("again").lines().count()
    );
    Ok(())
}

/// The last second that the first guest has counted, if it has booted once and no more.
fn guest_seconds(site: &Site) -> Result<f64> {
    let console = "virtflow vm console web-1 --tenant acme --log";
    let console = site.desk().shell(console)?;
    ensure!(
        console.matches(": up, Linux").count() == 1,
        "the guest did not boot once: {console}"
    );
    let seconds = console.lines().rev().find_map(|line| {
        let (_, seconds) = line.trim_end().strip_suffix(" s")?.rsplit_once(": up ")?;
        seconds.parse().ok()
    });
    Ok(seconds.unwrap_or_default())
}

/// All controllers run what was installed, and the upgrade can be ended.
fn ended(site: &Site) -> Result<()> {
    let status = operator(site, "upgrade status")?;
    let controllers = status["controllers"].as_array();
    let seen = controllers
        .into_iter()
        .flatten()
        .filter(|controller| controller["seen"] == true)
        .count();
    ensure!(seen == site.controllers.len(), "{status}");
    let ended = operator(site, "upgrade finish --yes")?;
    let supported = status["controllers"][0]["supports"].clone();
    ensure!(
        ended["cluster_version"] == supported,
        "{ended} after {status}"
    );
    Ok(())
}
