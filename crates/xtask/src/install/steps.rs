//! What happens to the machines, one step after the other.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use virtflow_testkit::guest::{self, Image};
use virtflow_testkit::machine::Machine;
use virtflow_testkit::poll;

use super::guide::{commands, configuration, fill, follow, follow_in};
use super::{AGENT, CONTROLLER, Site, copy};

pub(super) const FIRST_HOUR: &str = "first-hour.md";
/// What stands for the CA's fingerprint and for a token in the guide.
pub(super) const FINGERPRINT: &str = "FINGERPRINT";
const TOKEN: &str = "…";

pub(super) const PATIENCE: Duration = Duration::from_secs(120);
/// Exposure levels that `systemd-analyze security` may find at most; less is better.
const CONTROLLER_EXPOSURE_MAX: f32 = 2.5;
const AGENT_EXPOSURE_MAX: f32 = 4.0;

/// The tool in the hands of the operator at the desk.
pub(super) fn operator(site: &Site, arguments: &str) -> Result<Value> {
    let printed = site
        .desk()
        .shell(&format!("virtflow --output json {arguments}"))?;
    if printed.trim().is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_str(&printed).with_context(|| format!("virtflow {arguments}: {printed}"))
}

/// Installs the packages that are in `folder` of every machine.
pub(super) fn install(site: &Site, folder: &str) -> Result<()> {
    for (machine, unit) in site.daemons() {
        install_on(machine, unit, folder)?;
    }
    Ok(())
}

/// Installs the packages of a controller or host by the guide's command, in `folder`.
pub(super) fn install_on(machine: &Machine, unit: &str, folder: &str) -> Result<()> {
    let apt = match unit {
        CONTROLLER => {
            let [apt, ..] = commands::<6>(FIRST_HOUR, "1. The first controller")?;
            apt
        }
        _ => {
            let [apt, ..] = commands::<6>(FIRST_HOUR, "4. Hosts")?;
            apt
        }
    };
    // Nothing to download: what the packages need is there.
    let printed = follow_in(machine, folder, &apt)?;
    ensure!(printed.contains("nothing runs yet"), "{printed}");
    let state = machine.unit(unit)?;
    ensure!(
        state == "inactive",
        "{unit} is {state} on {}",
        machine.name()
    );
    let enabled = machine.shell(&format!("systemctl is-enabled {unit}"))?;
    ensure!(enabled.trim() == "enabled", "{enabled}");
    // Asked to start all the same it says calmly that there is nothing to do.
    machine.shell(&format!("systemctl start {unit}"))?;
    ensure!(machine.unit(unit)? == "inactive");
    let failed = machine.shell("systemctl list-units --failed --plain --no-legend")?;
    ensure!(!failed.contains("virtflow"), "{failed}");
    machine.shell(&format!(
        "man -w {unit} >/dev/null 2>&1 || test -e /usr/share/man/man1/{unit}.1.gz"
    ))?;
    Ok(())
}

/// Gives a controller its name and addresses, as the guide writes them for the first one.
pub(super) fn configure(machine: &Machine) -> Result<()> {
    let guide = configuration(FIRST_HOUR, "1. The first controller")?;
    let mut text = fs::read_to_string(machine.file("etc/virtflow/controller.toml"))?;
    text.push_str(&fill(&guide, &[("c1", machine.name())])?);
    fs::write(machine.file("etc/virtflow/controller.toml"), text)?;
    machine.shell("virtflow-controller check-config")?;
    Ok(())
}

/// The first controller makes the cluster, the others join.
pub(super) fn cluster(site: &mut Site) -> Result<()> {
    let [_, check, init, start, login, status] = commands(FIRST_HOUR, "1. The first controller")?;
    let desk = site.desk();
    let unready = desk.try_shell(&init)?;
    ensure!(
        !unready.status.success(),
        "a cluster was made without a name"
    );
    configure(desk)?;
    follow(desk, &check)?;
    let made = follow(desk, &init)?;
    let fingerprint = made
        .lines()
        .find_map(|line| line.strip_prefix("CA fingerprint: "))
        .with_context(|| format!("no fingerprint in {made}"))?
        .to_owned();
    follow(desk, &start)?;
    desk.wait_unit(CONTROLLER, "active")?;
    follow(desk, &fill(&login, &[(FINGERPRINT, &fingerprint)])?)?;
    follow(desk, &status)?;
    site.ca_fingerprint = fingerprint;

    for machine in &site.controllers[1..] {
        configure(machine)?;
        another_controller(site, machine)?;
    }
    Ok(())
}

/// Lets a machine that has packages and configuration join as a controller, after the guide, until it votes.
pub(super) fn another_controller(site: &Site, machine: &Machine) -> Result<()> {
    let [invite, join, start, list] = commands(FIRST_HOUR, "2. The second and the third")?;
    joins(site, machine, CONTROLLER, [&invite, &join, &start])?;
    votes(site, machine.name(), &list)
}

/// Lets a machine join by the guide's commands for the invitation, the joining and the start of its daemon.
fn joins(site: &Site, machine: &Machine, unit: &str, guide: [&str; 3]) -> Result<()> {
    let [invite, join, start] = guide;
    let invitation = Invitation::of(&follow(site.desk(), invite)?)?;
    let join = fill(
        join,
        &[
            (TOKEN, &invitation.token),
            (FINGERPRINT, &site.ca_fingerprint),
        ],
    )?;
    follow(machine, &join)?;
    follow(machine, start)?;
    machine.wait_unit(unit, "active")
}

/// Waits until the guide's list of controllers shows one as a voter.
fn votes(site: &Site, name: &str, list: &str) -> Result<()> {
    poll::until(format_args!("{name} to vote"), PATIENCE, || {
        let listed = follow(site.desk(), list)?;
        let voter = listed
            .lines()
            .any(|line| line.starts_with(&format!("{name} ")) && line.contains("voter"));
        Ok(voter.then_some(()))
    })
}

/// What `virtflow invite create` prints.
pub(super) struct Invitation {
    token: String,
    /// The command to paste on the new machine.
    pub(super) line: String,
}

impl Invitation {
    pub(super) fn of(printed: &str) -> Result<Self> {
        let token = printed
            .lines()
            .find_map(|line| line.strip_prefix("token: "))
            .with_context(|| format!("no token in {printed}"))?;
        let line = printed
            .lines()
            .find(|line| line.contains(" join --controller "))
            .with_context(|| format!("no command to paste in {printed}"))?;
        Ok(Self {
            token: token.to_owned(),
            line: line.trim().to_owned(),
        })
    }
}

/// What a host is told of itself, and what its guests boot.
pub(super) fn configure_host(machine: &Machine, image: &Image) -> Result<()> {
    copy(machine, &image.kernel, "var/lib/virtflow-boot/vmlinuz")?;
    copy(
        machine,
        &image.initramfs,
        "var/lib/virtflow-boot/initrd.img",
    )?;
    fs::write(
        machine.file("etc/virtflow/agent.toml"),
        format!(
            "hypervisor = \"qemu\"\nserial = \"install-{}\"\n\
             [capacity]\ncpu_milli = 4000\nmemory_mib = 1024\nstorage_gib = 10\n[reserve]\nmemory_mib = 0\nstorage_gib = 0\n\
             [boot]\nkernel = \"/var/lib/virtflow-boot/vmlinuz\"\ninitrd = \"/var/lib/virtflow-boot/initrd.img\"\n\
             cmdline = \"{}\"\n",
            machine.name(),
            guest::COMMAND_LINE
        ),
    )?;
    Ok(())
}

/// Hosts join after the guide, and a guest boots.
pub(super) fn guest(site: &Site, image: &Image) -> Result<()> {
    for command in commands::<6>(FIRST_HOUR, "3. What the cloud is made of")? {
        follow(site.desk(), &command)?;
    }
    let [_, check, invite, join, start, list] = commands(FIRST_HOUR, "4. Hosts")?;
    for machine in &site.hosts {
        configure_host(machine, image)?;
        // All that is missing is the cluster.
        let found = machine.try_shell(&check)?;
        let found = String::from_utf8_lossy(&found.stdout).into_owned();
        let failing: Vec<&str> = found
            .lines()
            .filter(|line| line.starts_with("FAIL"))
            .collect();
        ensure!(
            failing.len() == 1 && failing[0].contains("not joined"),
            "{found}"
        );
        joins(site, machine, AGENT, [&invite, &join, &start])?;
        follow(machine, &check)?;
    }
    for machine in &site.hosts {
        online(site, machine.name(), &list)?;
    }
    let [create, console] = commands(FIRST_HOUR, "5. A guest")?;
    for number in 1..=site.hosts.len() {
        let vm = format!("web-{number}");
        follow(site.desk(), &fill(&create, &[("web-1", &vm)])?)?;
    }
    poll::until("the guest to have booted", PATIENCE, || {
        let console = follow(site.desk(), &console)?;
        Ok(console.contains("web-1").then_some(()))
    })
}

/// Waits until the guide's list of hosts shows one as online.
pub(super) fn online(site: &Site, name: &str, list: &str) -> Result<()> {
    poll::until(format_args!("{name} to be online"), PATIENCE, || {
        let listed = follow(site.desk(), list)?;
        let online = listed
            .lines()
            .any(|line| line.starts_with(&format!("{name} ")) && line.contains("online"));
        Ok(online.then_some(()))
    })
}

/// Processes of the machine's own daemons, and whose they are.
pub(super) fn users(site: &Site) -> Result<()> {
    for machine in &site.controllers {
        let owners = machine.shell("ps -o user= -C virtflow-controller")?;
        let owners: Vec<&str> = owners.split_whitespace().collect();
        ensure!(owners == ["virtflow"], "on {}: {owners:?}", machine.name());
        let root_owned = machine.shell("find /var/lib/virtflow/controller -not -user virtflow")?;
        ensure!(root_owned.is_empty(), "not the service's own: {root_owned}");
    }
    for machine in &site.hosts {
        // The agent needs root for libvirt's socket and the guests' folder; the guests do not.
        let qemus = machine.shell("ps -o user= -C qemu-system-x86 || true")?;
        ensure!(
            !qemus.contains("root"),
            "QEMU runs as root on {}: {qemus}",
            machine.name()
        );
    }
    Ok(())
}

/// How exposed systemd finds a unit, 0 to 10.
fn exposure(machine: &Machine, unit: &str) -> Result<f32> {
    let printed = machine.shell(&format!(
        "systemd-analyze security --no-pager {unit}.service"
    ))?;
    let line = printed
        .lines()
        .find(|line| line.contains("Overall exposure level"))
        .with_context(|| printed.clone())?;
    let level = line
        .split(':')
        .nth(1)
        .and_then(|rest| rest.split_whitespace().next());
    Ok(level.context("no level")?.parse()?)
}

pub(super) fn security(site: &Site) -> Result<()> {
    for (machine, unit, most) in [
        (site.desk(), CONTROLLER, CONTROLLER_EXPOSURE_MAX),
        (&site.hosts[0], AGENT, AGENT_EXPOSURE_MAX),
    ] {
        let level = exposure(machine, unit)?;
        println!("   {unit}: exposure {level}");
        ensure!(
            level <= most,
            "{unit} is exposed at {level}, more than {most}"
        );
    }
    Ok(())
}

pub(super) fn backup(site: &Site) -> Result<()> {
    let [timer, now] = commands(FIRST_HOUR, "6. Before you go home")?;
    let desk = site.desk();
    follow(desk, &now)?;
    let made = desk.shell("ls /var/backups/virtflow")?;
    ensure!(
        made.lines().count() == 1 && made.starts_with("backup-"),
        "{made}"
    );
    desk.shell(&format!(
        "virtflow-controller verify --db /var/backups/virtflow/{}/state.db",
        made.trim()
    ))?;
    follow(desk, &timer)?;
    let timers = desk.shell("systemctl list-timers --no-pager")?;
    ensure!(timers.contains("virtflow-backup.timer"), "{timers}");
    Ok(())
}

/// The ids of the QEMU processes on a host.
pub(super) fn guests(machine: &Machine) -> Result<Vec<String>> {
    let printed = machine.shell("pgrep -x qemu-system-x86 || true")?;
    Ok(printed.split_whitespace().map(str::to_owned).collect())
}

pub(super) fn all_guests_run(site: &Site) -> Result<()> {
    for number in 1..=site.hosts.len() {
        poll::until(format_args!("web-{number} to run"), PATIENCE, || {
            let Ok(vm) = operator(site, &format!("vm get web-{number} --tenant acme")) else {
                return Ok(None);
            };
            Ok((vm["status"]["phase"] == "running").then_some(()))
        })?;
    }
    Ok(())
}

pub(super) fn restarts(site: &Site) -> Result<()> {
    let before = site.hosts.iter().map(guests).collect::<Result<Vec<_>>>()?;
    ensure!(
        before.iter().any(|qemus| !qemus.is_empty()),
        "no guest runs"
    );
    for machine in &site.controllers {
        machine.shell("systemctl restart virtflow-controller")?;
        machine.wait_unit(CONTROLLER, "active")?;
    }
    for machine in &site.hosts {
        for unit in ["libvirtd", AGENT] {
            machine.shell(&format!("systemctl restart {unit}"))?;
            machine.wait_unit(unit, "active")?;
        }
    }
    all_guests_run(site)?;
    let after = site.hosts.iter().map(guests).collect::<Result<Vec<_>>>()?;
    ensure!(before == after, "guests were {before:?}, are {after:?}");
    for (machine, unit) in site.daemons() {
        // It was told to stop, and did not have to be killed.
        let journal = machine.journal(unit)?;
        ensure!(
            !journal.contains("timed out") && !journal.contains("code=killed"),
            "{journal}"
        );
    }
    Ok(())
}

pub(super) fn reboots(site: &mut Site) -> Result<()> {
    if let Some(last) = site.controllers.last_mut() {
        last.reboot()?;
        last.wait_unit(CONTROLLER, "active")?;
    }
    site.hosts[0].reboot()?;
    is_back(site, &site.hosts[0])?;
    all_guests_run(site)
}

/// A host's agent is with the cluster again.
pub(super) fn is_back(site: &Site, host: &Machine) -> Result<()> {
    host.wait_unit(AGENT, "active")?;
    let what = format!("{} to be online again", host.name());
    poll::until(&what, PATIENCE, || {
        let Ok(seen) = operator(site, &format!("host get {}", host.name())) else {
            return Ok(None);
        };
        Ok((seen["status"]["liveness"] == "online").then_some(()))
    })
}

/// The plug of every machine is pulled, one after another: what was acknowledged is there, and guests that are always to
/// run do so again.
pub(super) fn plugs(site: &mut Site) -> Result<()> {
    for number in 0..site.controllers.len() {
        operator(
            site,
            &format!("rack create plug-{number} --data-center dc1"),
        )?;
        site.controllers[number].lose_power()?;
        site.controllers[number].wait_unit(CONTROLLER, "active")?;
        let what = format!(
            "the cluster after {} came back",
            site.controllers[number].name()
        );
        poll::until(&what, PATIENCE, || {
            Ok(operator(site, &format!("rack get plug-{number}"))
                .ok()
                .map(drop))
        })?;
    }
    for number in 0..site.hosts.len() {
        let before = guests(&site.hosts[number])?.len();
        site.hosts[number].lose_power()?;
        let host = &site.hosts[number];
        is_back(site, host)?;
        poll::until("its guests to be started again", PATIENCE, || {
            Ok((guests(host)?.len() == before).then_some(()))
        })?;
    }
    all_guests_run(site)?;
    operator(site, "verify")?;
    Ok(())
}

pub(super) fn removal(site: &Site) -> Result<()> {
    let host = &site.hosts[site.hosts.len() - 1];
    let before = guests(host)?;
    host.shell("DEBIAN_FRONTEND=noninteractive apt-get --quiet --yes remove virtflow-agent")?;
    ensure!(
        guests(host)? == before,
        "removing the package touched a guest"
    );
    ensure!(
        host.file("etc/virtflow/agent.toml").exists(),
        "remove took the configuration"
    );
    host.shell("DEBIAN_FRONTEND=noninteractive apt-get --quiet --yes purge virtflow-agent")?;
    ensure!(
        guests(host)? == before,
        "purging the package touched a guest"
    );
    let left = host.shell(
        "find /etc/virtflow /var/lib/virtflow -mindepth 1 -maxdepth 1 2>/dev/null || true",
    )?;
    for path in left.split_whitespace() {
        ensure!(
            path == "/var/lib/virtflow/guests",
            "{path} is left on {}",
            host.name()
        );
    }
    if let Some(controller) = site.controllers.last() {
        controller.shell(
            "DEBIAN_FRONTEND=noninteractive apt-get --quiet --yes purge virtflow-controller",
        )?;
        let left = controller
            .shell("find /etc/virtflow /var/lib/virtflow -mindepth 1 2>/dev/null || true")?;
        ensure!(left.is_empty(), "left on {}: {left}", controller.name());
    }
    Ok(())
}

/// An RPM does what the Debian package does, by its own scripts, where the last host's package was.
pub(super) fn rpm(site: &Site) -> Result<()> {
    let host = &site.hosts[site.hosts.len() - 1];
    // Its names of what it needs are those of other distributions.
    let printed = host.shell("rpm --install --nodeps /packages/virtflow-agent-*.rpm 2>&1")?;
    ensure!(printed.contains("nothing runs yet"), "{printed}");
    let enabled = host.shell(&format!("systemctl is-enabled {AGENT}"))?;
    ensure!(enabled.trim() == "enabled", "{enabled}");
    ensure!(host.unit(AGENT)? == "inactive");
    host.shell("virtflow-agent check-config && rpm --verify --nodeps virtflow-agent")?;
    // What an operator wrote stays when a newer one comes.
    host.shell("echo '# mine' >> /etc/virtflow/agent.toml")?;
    host.shell("rpm --upgrade --nodeps --replacepkgs /packages/virtflow-agent-*.rpm")?;
    host.shell("grep -q '# mine' /etc/virtflow/agent.toml")?;
    ensure!(host.file("usr/bin/virtflow-agent").exists(), "it is gone");
    host.shell("rpm --erase virtflow-agent")?;
    for path in [
        "usr/bin/virtflow-agent",
        "usr/lib/systemd/system/virtflow-agent.service",
        "etc/systemd/system/multi-user.target.wants/virtflow-agent.service",
    ] {
        // A link whose target is gone does not exist for `exists`.
        let found = host.file(path).symlink_metadata();
        ensure!(found.is_err(), "{path} is left on {}", host.name());
    }
    Ok(())
}
