//! Bad days: what the guide's drills promise, done by their words on machines with systemd, while a guest counts.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use virtflow_testkit::command::{call, printed};
use virtflow_testkit::guest::Image;
use virtflow_testkit::machine::Machine;
use virtflow_testkit::poll;

use super::guide::{commands, confirm, fill, follow, follow_in};
use super::steps::{
    FINGERPRINT, FIRST_HOUR, Invitation, PATIENCE, all_guests_run, another_controller, configure,
    configure_host, guests, install_on, is_back, online, operator,
};
use super::upgrade::NEWER;
use super::{AGENT, CONTROLLER, Site};

const OPERATING: &str = "operating.md";

/// Lives of certificates while they are watched.
const LIFETIME: Duration = Duration::from_secs(45);

/// Sizes of small disks in MiB: roomy for a young store, and for what a host must have to be one.
const CONTROLLER_DISK_MIB: u32 = 128;
const HOST_DISK_MIB: u32 = 4096;

/// Leaves not a page of a small disk.
const FILL: &str = "for size in 1M 4k; do \
    dd if=/dev/zero of=/var/lib/virtflow/filler bs=$size oflag=append conv=notrunc 2>/dev/null || true; done";
const MAKE_ROOM: &str = "rm /var/lib/virtflow/filler";

/// A guest that counts the seconds on its console, and what it had counted when it was last looked at.
pub(super) struct Counter {
    vm: String,
    host: String,
    boots: usize,
    seconds: f64,
    seen: Instant,
}

impl Counter {
    /// Of a guest that counts now: what it counted stays in its log when its host goes down, and it is booted again
    /// some time after.
    pub(super) fn of(site: &Site, vm: &str) -> Result<Self> {
        let mut seen = None;
        poll::until(format_args!("{vm} to count"), PATIENCE, || {
            for host in &site.hosts {
                if let Some((boots, seconds)) = counted(host, vm)? {
                    let (boots_before, seconds_before) = *seen.get_or_insert((boots, seconds));
                    seen = Some((boots, seconds));
                    if boots != boots_before || seconds <= seconds_before {
                        return Ok(None);
                    }
                    return Ok(Some(Self {
                        vm: vm.to_owned(),
                        host: host.name().to_owned(),
                        boots,
                        seconds,
                        seen: Instant::now(),
                    }));
                }
            }
            Ok(None)
        })
    }

    /// It still counts, was not booted again, and did not stand still either.
    pub(super) fn goes_on(&mut self, site: &Site) -> Result<()> {
        let host = site
            .hosts
            .iter()
            .find(|host| host.name() == self.host)
            .with_context(|| format!("{} is gone", self.host))?;
        let what = format!("{} to count on", self.vm);
        let (boots, seconds) = poll::until(&what, PATIENCE, || {
            let now = counted(host, &self.vm)?;
            Ok(now.filter(|(_, seconds)| *seconds > self.seconds + 1.0))
        })?;
        let elapsed = self.seen.elapsed().as_secs_f64();
        let counted = seconds - self.seconds;
        ensure!(
            boots == self.boots,
            "{} was booted {boots} times, not {}",
            self.vm,
            self.boots
        );
        // It says so once a second, on a machine with more to do.
        ensure!(
            counted >= elapsed * 0.8 - 5.0,
            "{} counted {counted:.1} s in {elapsed:.1} s",
            self.vm
        );
        (self.seconds, self.seen) = (seconds, Instant::now());
        Ok(())
    }
}

/// How often a VM booted, and the seconds that it counted since.
fn counted(host: &Machine, vm: &str) -> Result<Option<(usize, f64)>> {
    let log = host.shell(&format!(
        "cat /var/lib/virtflow/guests/*/console.log 2>/dev/null | grep -a 'virtflow guest {vm}: up' || true"
    ))?;
    let boots = log.matches(": up, Linux").count();
    let seconds = log.lines().rev().find_map(|line| {
        let (_, rest) = line.split_once(": up ")?;
        rest.split_whitespace().next()?.parse().ok()
    });
    Ok(seconds.map(|seconds| (boots, seconds)))
}

/// A disk of its own, a small one, for all that VirtFlow keeps there.
fn small_disk(machine: &Machine, mib: u32) -> Result<()> {
    let disk = machine.file("small-disk");
    fs::File::create(&disk)?.set_len(u64::from(mib) << 20)?;
    call(
        "mkfs.ext4",
        ["-q".as_ref(), "-m0".as_ref(), disk.as_os_str()],
    )?;
    let device = call(
        "losetup",
        ["--find".as_ref(), "--show".as_ref(), disk.as_os_str()],
    )?;
    let device = device.trim();
    let number = device.trim_start_matches("/dev/loop");
    machine.shell(&format!(
        "test -e {device} || mknod {device} b 7 {number}; mkdir -p /var/lib/virtflow; \
         mount {device} /var/lib/virtflow; rmdir /var/lib/virtflow/lost+found"
    ))?;
    // It goes with the mount, and that with the machine.
    call("losetup", ["--detach", device])?;
    Ok(())
}

/// The tenant may have all that hosts have.
pub(super) fn full_quota(site: &Site) -> Result<()> {
    site.desk().shell(
        "virtflow quota update $(virtflow quota list -o custom-columns=ID:.id | tail -n 1) --cpu-percent 100",
    )?;
    Ok(())
}

/// All that a unit said.
fn said(machine: &Machine, unit: &str) -> Result<String> {
    machine.shell(&format!("journalctl --no-pager --unit {unit}"))
}

/// How often systemd had to start a unit again.
fn restarts(machine: &Machine, unit: &str) -> Result<usize> {
    let told = machine.shell(&format!(
        "systemctl show --value --property NRestarts {unit}"
    ))?;
    Ok(told.trim().parse()?)
}

/// What a daemon says of itself.
fn status(machine: &Machine, port: u16) -> Result<Value> {
    let told = machine.shell(&format!("curl -fsS http://127.0.0.1:{port}/status"))?;
    Ok(serde_json::from_str(&told)?)
}

fn ready(machine: &Machine) -> Result<()> {
    poll::until(
        format_args!("{} to be ready", machine.name()),
        PATIENCE,
        || {
            let asked = machine.try_shell("curl -fsS http://127.0.0.1:9440/readyz")?;
            Ok(asked.status.success().then_some(()))
        },
    )
}

/// Something is written, and there.
fn works(site: &Site, rack: &str) -> Result<()> {
    operator(site, &format!("rack create {rack} --data-center dc1"))?;
    operator(site, &format!("rack get {rack}"))?;
    Ok(())
}

/// A machine that was never there before becomes a controller, after the guide.
fn fresh_controller(site: &mut Site, name: &str) -> Result<()> {
    let machine = site.boot(name)?;
    install_on(&machine, CONTROLLER, NEWER)?;
    configure(&machine)?;
    another_controller(site, &machine)?;
    site.controllers.push(machine);
    Ok(())
}

fn shorten(machine: &Machine) -> Result<()> {
    let path = machine.file("etc/virtflow/controller.toml");
    let text = fs::read_to_string(&path)?;
    fs::write(&path, text + &certificates())?;
    Ok(())
}

/// Short lives for the certificates that are signed from now on, or what is usual.
pub(super) fn lifetimes(site: &Site, are_short: bool) -> Result<()> {
    for machine in &site.controllers {
        if are_short {
            shorten(machine)?;
        } else {
            let path = machine.file("etc/virtflow/controller.toml");
            let text = fs::read_to_string(&path)?;
            ensure!(text.contains(&certificates()), "{text}");
            fs::write(&path, text.replace(&certificates(), ""))?;
        }
        machine.shell("systemctl restart virtflow-controller")?;
        ready(machine)?;
    }
    Ok(())
}

fn certificates() -> String {
    let seconds = LIFETIME.as_secs();
    format!("[certificates]\nagent_lifetime_s = {seconds}\ncontroller_lifetime_s = {seconds}\n")
}

/// The last controller dies for good, and a new machine takes its place.
pub(super) fn replacement(site: &mut Site) -> Result<()> {
    let [list, remove] = commands(OPERATING, "Drill: a controller is lost")?;
    let lost = site.controllers.pop().context("no controller")?;
    let name = lost.name().to_owned();
    let fresh = format!("c{}", site.controllers.len() + 2);
    site.yard.scrap(lost)?;
    works(site, "one-is-lost")?;
    follow(site.desk(), &list)?;
    follow(site.desk(), &fill(&remove, &[("c2", &name)])?)?;

    let machine = site.boot(&fresh)?;
    small_disk(&machine, CONTROLLER_DISK_MIB)?;
    install_on(&machine, CONTROLLER, NEWER)?;
    configure(&machine)?;
    shorten(&machine)?;
    another_controller(site, &machine)?;
    site.controllers.push(machine);
    let listed = follow(site.desk(), &list)?;
    let line = listed
        .lines()
        .find(|line| line.starts_with(&format!("{name} ")));
    ensure!(line.is_some_and(|line| line.contains("yes")), "{listed}");
    works(site, "one-is-replaced")
}

/// A host more, by the line that an invitation prints, with a guest on it.
pub(super) fn capacity(site: &mut Site, image: &Image) -> Result<()> {
    let [_, check, invite, _, start, list] = commands(FIRST_HOUR, "4. Hosts")?;
    let [create, _] = commands(FIRST_HOUR, "5. A guest")?;
    let name = format!("h{}", site.hosts.len() + 1);
    let machine = site.boot(&name)?;
    small_disk(&machine, HOST_DISK_MIB)?;
    install_on(&machine, AGENT, NEWER)?;
    configure_host(&machine, image)?;
    let invitation = Invitation::of(&follow(site.desk(), &invite)?)?;
    follow(&machine, &invitation.line)?;
    follow(&machine, &start)?;
    machine.wait_unit(AGENT, "active")?;
    follow(&machine, &check)?;
    site.hosts.push(machine);
    online(site, &name, &list)?;

    cordon_others(site)?;
    let vm = extra_guest(site);
    follow(site.desk(), &fill(&create, &[("web-1", &vm)])?)?;
    poll::until("the guest to count", PATIENCE, || {
        Ok(counted(extra_host(site), &vm)?.map(drop))
    })
}

/// The host that came last, and the guest that was made on it.
fn extra_host(site: &Site) -> &Machine {
    &site.hosts[site.hosts.len() - 1]
}

fn extra_guest(site: &Site) -> String {
    format!("web-{}", site.hosts.len())
}

/// Only the last host takes new VMs.
fn cordon_others(site: &Site) -> Result<()> {
    let [_, cordon, ..] = commands::<5>(OPERATING, "Hosts")?;
    for host in &site.hosts[..site.hosts.len() - 1] {
        follow(site.desk(), &fill(&cordon, &[("h1", host.name())])?)?;
    }
    Ok(())
}

/// Certificates that live for seconds are renewed under way; a controller and a host that were dark until theirs had
/// expired come back by themselves.
pub(super) fn renewal(site: &Site) -> Result<()> {
    let controller = &site.controllers[site.controllers.len() - 1];
    let host = extra_host(site);
    let daemons = [(controller, CONTROLLER), (host, AGENT)];
    for (machine, unit) in daemons {
        let (port, field) = match unit {
            CONTROLLER => (9440, "certificate_expires_at"),
            _ => (9441, "certificate_expires"),
        };
        let before = restarts(machine, unit)?;
        let mut seen = Vec::new();
        let what = format!("{unit} to have had four certificates");
        poll::until(&what, LIFETIME * 3, || {
            let told = status(machine, port)?;
            let expiry = told[field]
                .as_str()
                .with_context(|| format!("no expiry in {told}"))?
                .to_owned();
            if seen.last() != Some(&expiry) {
                seen.push(expiry);
            }
            Ok((seen.len() == 4).then_some(()))
        })?;
        ensure!(
            restarts(machine, unit)? == before,
            "{unit} was started again"
        );
    }
    for (machine, unit) in daemons {
        machine.shell(&format!("systemctl stop {unit}"))?;
    }
    std::thread::sleep(LIFETIME + Duration::from_secs(3));
    for (machine, unit) in daemons {
        machine.shell(&format!("systemctl start {unit}"))?;
    }
    ready(controller)?;
    is_back(site, host)?;
    works(site, "renewed")
}

/// The disk of one controller is full: it says so and steps aside, the others serve, and it comes back by itself once
/// there is room.
pub(super) fn full_controller(site: &Site) -> Result<()> {
    let full = &site.controllers[site.controllers.len() - 1];
    let before = restarts(site.desk(), CONTROLLER)?;
    let mut made = 0;
    poll::until("the full controller to say why it stops", PATIENCE, || {
        full.shell(FILL)?;
        for _ in 0..10 {
            works(site, &format!("full-{made}"))?;
            made += 1;
        }
        let journal = said(full, CONTROLLER)?;
        let stops = journal.lines().any(|line| {
            line.contains("this controller must not go on; it stops")
                && (line.contains("No space left on device") || line.contains("full"))
        });
        Ok(stops.then_some(()))
    })?;
    // Long enough for systemd to lose patience with a unit that does not start.
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(20) {
        full.shell(FILL)?;
        works(site, &format!("full-{made}"))?;
        made += 1;
    }
    poll::until("the full controller to ask for room", PATIENCE, || {
        full.shell(FILL)?;
        let journal = said(full, CONTROLLER)?;
        let asks = journal.lines().any(|line| {
            line.contains("opening the store")
                && line.contains("is full")
                && line.contains("make room")
        });
        Ok(asks.then_some(()))
    })?;
    ensure!(
        restarts(site.desk(), CONTROLLER)? == before,
        "another went down"
    );
    full.shell(MAKE_ROOM)?;
    full.wait_unit(CONTROLLER, "active")?;
    ready(full)?;
    let last = status(site.desk(), 9440)?["applied_index"]
        .as_u64()
        .context("no applied_index")?;
    poll::until("it to have caught up", PATIENCE, || {
        let own = status(full, 9440)?["applied_index"].as_u64();
        Ok((own >= Some(last)).then_some(()))
    })
}

/// The disk of one host is full: its agent goes on, its guests run, a new guest waits, and all is well once there is room.
pub(super) fn full_host(site: &Site) -> Result<()> {
    let mut counter = Counter::of(site, &extra_guest(site))?;
    let host = extra_host(site);
    let before = guests(host)?;
    let started = restarts(host, AGENT)?;
    host.shell(FILL)?;
    let create = "vm create waits --tenant acme --spec small";
    operator(site, create)?;
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(20) {
        host.shell(FILL)?;
        std::thread::sleep(Duration::from_secs(1));
    }
    let vm = operator(site, "vm get waits --tenant acme")?;
    println!("   on a full disk: {}", vm["status"]);
    ensure!(vm["status"]["phase"] != "running", "{vm}");
    ensure!(
        said(host, AGENT)?.contains("No space left on device"),
        "the agent does not say what is wrong"
    );
    // It can be started again all the same.
    host.shell("systemctl restart virtflow-agent")?;
    host.wait_unit(AGENT, "active")?;
    is_back(site, host)?;
    ensure!(
        before
            .iter()
            .all(|qemu| guests(host).is_ok_and(|now| now.contains(qemu))),
        "a guest ended on a full disk"
    );
    ensure!(restarts(host, AGENT)? == started, "the agent went down");
    host.shell(MAKE_ROOM)?;
    poll::until("the new guest to run", PATIENCE, || {
        let vm = operator(site, "vm get waits --tenant acme")?;
        Ok((vm["status"]["phase"] == "running").then_some(()))
    })?;
    counter.goes_on(site)
}

/// The last host is taken out again.
pub(super) fn departure(site: &mut Site) -> Result<()> {
    let [_, cordon, delete, ..] = commands::<5>(OPERATING, "Hosts")?;
    let name = extra_host(site).name().to_owned();
    let desk = site.desk();
    let delete = fill(&delete, &[("h1", &name)])?;
    follow(desk, &fill(&cordon, &[("h1", &name)])?)?;
    let refused = desk.try_shell(&delete)?;
    let vm = extra_guest(site);
    ensure!(
        !refused.status.success() && printed(&refused).contains(&vm),
        "removing a host with VMs: {}",
        printed(&refused)
    );
    follow(
        desk,
        &format!("virtflow vm delete {vm} waits --tenant acme --wait"),
    )?;
    follow(desk, &delete)?;
    poll::until("the host to be gone", PATIENCE, || {
        let listed = follow(site.desk(), "virtflow host list")?;
        Ok((!listed.contains(&name)).then_some(()))
    })?;
    let host = site.hosts.pop().context("no host")?;
    ensure!(guests(&host)?.is_empty(), "guests are left");
    host.shell("DEBIAN_FRONTEND=noninteractive apt-get --quiet --yes purge virtflow-agent")?;
    let left =
        host.shell("find /var/lib/virtflow /etc/virtflow -mindepth 1 2>/dev/null || true")?;
    ensure!(left.is_empty(), "left: {left}");
    site.yard.scrap(host)?;
    for host in &site.hosts {
        operator(site, &format!("host uncordon {}", host.name()))?;
    }
    Ok(())
}

/// All controllers but the first are lost for good.
pub(super) fn sole_survivor(site: &mut Site) -> Result<()> {
    let [status, stop, recover, start] =
        commands(OPERATING, "Drill: the majority is lost for good")?;
    works(site, "before-the-loss")?;
    let lost = site.controllers.split_off(1);
    let names: Vec<String> = lost
        .iter()
        .map(|machine| machine.name().to_owned())
        .collect();
    for machine in lost {
        site.yard.scrap(machine)?;
    }
    let desk = site.desk();
    poll::until(
        "the last controller to say that it is alone",
        PATIENCE,
        || {
            let asked = desk
                .try_shell("curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:9440/readyz")?;
            Ok((asked.stdout == b"503").then_some(()))
        },
    )?;
    let told = follow(desk, &status)?;
    ensure!(told.contains("last_log_index"), "{told}");
    follow(desk, &stop)?;
    confirm(desk, &recover)?;
    follow(desk, &start)?;
    desk.wait_unit(CONTROLLER, "active")?;
    ready(desk)?;
    operator(site, "rack get before-the-loss")?;
    works(site, "alone")?;
    // Under the names of the lost ones, but from nothing.
    for name in &names {
        fresh_controller(site, name)?;
    }
    for host in &site.hosts {
        is_back(site, host)?;
    }
    works(site, "three-again")?;
    all_guests_run(site)
}

/// Nothing is left of any controller but a backup and the copy of the seal key.
pub(super) fn restore(site: &mut Site) -> Result<()> {
    let [backup, verify, key, restore, start] = commands(OPERATING, "Drill: backup and restore")?;
    let desk = site.desk();
    works(site, "before-the-backup")?;
    desk.shell("rm -rf /var/backups/virtflow/*")?;
    follow(desk, &backup)?;
    let made = desk.shell("ls /var/backups/virtflow")?.trim().to_owned();
    let example = "backup-2026-11-23T06:00:00Z";
    follow(desk, &fill(&verify, &[(example, &made)])?)?;
    works(site, "after-the-backup")?;
    operator(site, "vm create late --tenant acme --spec small --wait")?;
    let before = site.hosts.iter().map(guests).collect::<Result<Vec<_>>>()?;

    let safe = site.kept.clone();
    let _ = fs::remove_dir_all(&safe);
    fs::create_dir_all(&safe)?;
    for path in [
        format!("var/backups/virtflow/{made}"),
        "etc/virtflow/seal.key".to_owned(),
        "root/admin-password".to_owned(),
    ] {
        let from = desk.file(&path);
        call("cp", ["-a".as_ref(), from.as_os_str(), safe.as_os_str()])?;
    }
    let names: Vec<String> = site
        .controllers
        .iter()
        .map(|machine| machine.name().to_owned())
        .collect();
    for machine in site.controllers.drain(..) {
        site.yard.scrap(machine)?;
    }

    let first = site.boot(&names[0])?;
    install_on(&first, CONTROLLER, NEWER)?;
    configure(&first)?;
    for (name, to) in [
        (made.as_str(), "var/backups/virtflow"),
        ("seal.key", "root"),
    ] {
        let (from, to) = (safe.join(name), first.file(to));
        fs::create_dir_all(&to)?;
        call("cp", ["-r".as_ref(), from.as_os_str(), to.as_os_str()])?;
    }
    follow_in(&first, "/root", &key)?;
    follow(&first, &fill(&restore, &[(example, &made)])?)?;
    follow(&first, &start)?;
    first.wait_unit(CONTROLLER, "active")?;
    ready(&first)?;
    site.controllers.push(first);
    // Users, passwords and the CA are those of the backup. The password's file is not in it.
    let [_, _, _, _, login, _] = commands(FIRST_HOUR, "1. The first controller")?;
    fs::copy(
        safe.join("admin-password"),
        site.desk().file("root/admin-password"),
    )?;
    follow(
        site.desk(),
        &fill(&login, &[(FINGERPRINT, &site.ca_fingerprint)])?,
    )?;
    for name in &names[1..] {
        fresh_controller(site, name)?;
    }
    operator(site, "rack get before-the-backup")?;
    let gone = site
        .desk()
        .try_shell("virtflow rack get after-the-backup")?;
    ensure!(
        !gone.status.success(),
        "what was made after the backup is there"
    );
    for host in &site.hosts {
        is_back(site, host)?;
    }
    all_guests_run(site)?;
    let after = site.hosts.iter().map(guests).collect::<Result<Vec<_>>>()?;
    ensure!(before == after, "guests were {before:?}, are {after:?}");
    works(site, "restored")
}
