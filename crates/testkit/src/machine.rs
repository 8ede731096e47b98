//! Machines with a whole Debian and systemd as their first process, for what packages and units do to a machine.
//!
//! A base tree is made once by mmdebstrap; each machine is a layer over it, booted by systemd-nspawn, with one
//! network card on a bridge that nothing outside can reach.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::command::{call, output_of, run, system};
use crate::poll;
use crate::rig::kill;

/// The Debian packages that making and booting such machines needs.
pub const REQUIRED: &[&str] = &["mmdebstrap", "systemd-container"];

const MIRROR: &str = "http://deb.debian.org/debian";
/// What the packages need, so that machines without a way out can install them, and what operators have.
const INCLUDED: &[&str] = &[
    "ca-certificates",
    "curl",
    "dbus",
    "iproute2",
    "libpam-systemd",
    "libvirt-clients",
    "libvirt-daemon-driver-qemu",
    "libvirt-daemon-system",
    "procps",
    "qemu-system-x86",
    // For trying RPMs where there is no other system with systemd.
    "rpm",
    "systemd",
    "systemd-sysv",
];
/// A container may not make the control groups that libvirt makes on a host.
const QEMU_CONF: &str = "cgroup_controllers = [ ]";
const BOOT_TIMEOUT: Duration = Duration::from_secs(120);
const STOP_TIMEOUT: Duration = Duration::from_secs(60);

/// A bridge, and the machines on it.
#[derive(Debug)]
pub struct Yard {
    folder: PathBuf,
    base: PathBuf,
    bridge: String,
    /// Shown read-only to all machines as `/packages`.
    packages: PathBuf,
}

/// One machine. It is gone, with all it wrote, when this is dropped.
#[derive(Debug)]
pub struct Machine {
    name: String,
    address: Ipv4Addr,
    place: Place,
    nspawn: Child,
}

/// What a machine needs to be powered on.
#[derive(Debug)]
struct Place {
    layer: PathBuf,
    bridge: String,
    packages: PathBuf,
}

impl Place {
    fn root(&self) -> PathBuf {
        self.layer.join("root")
    }

    fn power_on(&self, name: &str) -> Result<Child> {
        // The kernel takes away the cable of a machine that is gone some time after it; until then its name is taken.
        let cable = Path::new("/sys/class/net").join(format!("vb-{name}"));
        let gone = format!("the cable of the former {name} to be gone");
        poll::until(&gone, STOP_TIMEOUT, || Ok((!cable.exists()).then_some(())))?;
        let log = |file: &str| {
            let path = self.layer.join(file);
            let opened = fs::OpenOptions::new().create(true).append(true).open(&path);
            opened.with_context(|| path.display().to_string())
        };
        system("systemd-nspawn")
            .args(["--quiet", "--boot", "--register=no", "--keep-unit"])
            .arg(format!("--directory={}", self.root().display()))
            .arg(format!("--machine={name}"))
            .arg(format!("--network-bridge={}", self.bridge))
            .arg(format!("--bind-ro={}:/packages", self.packages.display()))
            // For QEMU's own threads and libvirt's bridges; what a real host's root may do.
            .args(["--capability=all", "--private-users=no"])
            .stdin(Stdio::null())
            .stdout(log("console.log")?)
            .stderr(log("nspawn.log")?)
            .spawn()
            .context("starting systemd-nspawn")
    }
}

/// Makes the tree of Debian's `suite` in `folder`, unless it is there with the same packages.
///
/// # Errors
/// When mmdebstrap fails; what it had made is removed at the next attempt.
pub fn base(folder: &Path, suite: &str) -> Result<PathBuf> {
    let done = folder.join(format!("{suite}.done"));
    let base = folder.join(suite);
    let packages = INCLUDED.join(",");
    if fs::read_to_string(&done).is_ok_and(|made_with| made_with == packages) {
        return Ok(base);
    }
    if base.exists() {
        fs::remove_dir_all(&base)?;
    }
    fs::create_dir_all(folder)?;
    output_of(
        system("mmdebstrap")
            .args(["--quiet", "--mode=root", "--variant=minbase"])
            // What is made anew when it was torn need not be flushed file by file.
            .arg("--dpkgopt=force-unsafe-io")
            .arg(format!("--include={packages}"))
            .arg("--customize-hook=chroot \"$1\" systemctl enable systemd-networkd")
            .arg(suite)
            .arg(&base)
            .arg(MIRROR),
    )?;
    let conf = base.join("etc/libvirt/qemu.conf");
    let mut text = fs::read_to_string(&conf)?;
    text.push_str(&format!("\n{QEMU_CONF}\n"));
    fs::write(&conf, text)?;
    fs::write(&done, packages)?;
    Ok(base)
}

impl Yard {
    /// A yard with its layers in `folder` and the bridge `bridge`. What an earlier run left is removed.
    ///
    /// # Errors
    /// When the bridge cannot be made.
    pub fn new(folder: &Path, base: PathBuf, bridge: &str, packages: &Path) -> Result<Self> {
        let yard = Self {
            folder: folder.to_owned(),
            base,
            bridge: bridge.to_owned(),
            packages: packages.to_owned(),
        };
        yard.clear()?;
        call("ip", ["link", "add", bridge, "type", "bridge"])?;
        call("ip", ["link", "set", bridge, "up"])?;
        Ok(yard)
    }

    fn clear(&self) -> Result<()> {
        // Also what a killed run could not end: its machines hold their cards.
        end_within(&self.folder)?;
        // There may be none.
        let _ = run(system("ip").args(["link", "delete", &self.bridge]))?;
        if !self.folder.exists() {
            return Ok(());
        }
        for entry in fs::read_dir(&self.folder)? {
            remove(&entry?.path())?;
        }
        Ok(())
    }

    /// Ends a machine for good: its power, and its disk with all that was on it.
    ///
    /// # Errors
    /// When its disk cannot be removed.
    pub fn scrap(&self, machine: Machine) -> Result<()> {
        let layer = machine.place.layer.clone();
        drop(machine);
        remove(&layer)
    }

    /// Boots a machine and waits until its services are up.
    ///
    /// # Errors
    /// When it does not boot.
    pub fn boot(
        &self,
        name: &str,
        address: Ipv4Addr,
        names: &[(String, Ipv4Addr)],
    ) -> Result<Machine> {
        let layer = self.folder.join(name);
        let [root, upper, work] = ["root", "upper", "work"].map(|part| layer.join(part));
        for folder in [&root, &upper, &work] {
            fs::create_dir_all(folder)?;
        }
        output_of(
            system("mount")
                .args(["-t", "overlay", "overlay", "-o"])
                .arg(format!(
                    "lowerdir={},upperdir={},workdir={}",
                    self.base.display(),
                    upper.display(),
                    work.display()
                ))
                .arg(&root),
        )?;
        fs::write(root.join("etc/hostname"), format!("{name}\n"))?;
        let hosts: String = names
            .iter()
            .map(|(name, address)| format!("{address} {name}\n"))
            .collect();
        fs::write(
            root.join("etc/hosts"),
            format!("127.0.0.1 localhost\n{hosts}"),
        )?;
        fs::write(
            root.join("etc/systemd/network/10-host0.network"),
            format!(
                "[Match]\nName=host0\n[Network]\nAddress={address}/24\nLinkLocalAddressing=no\n"
            ),
        )?;
        // Each is a machine of its own.
        fs::write(root.join("etc/machine-id"), "")?;
        let place = Place {
            layer,
            bridge: self.bridge.clone(),
            packages: self.packages.clone(),
        };
        let mut machine = Machine {
            name: name.to_owned(),
            address,
            nspawn: place.power_on(name)?,
            place,
        };
        machine.wait_up()?;
        Ok(machine)
    }

    /// Removes the bridge and what is left of the layers.
    ///
    /// # Errors
    /// When something cannot be removed.
    pub fn end(self) -> Result<()> {
        self.clear()
    }
}

impl Machine {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address on the bridge.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// A file of the machine, seen from outside.
    pub fn file(&self, path: &str) -> PathBuf {
        self.place.root().join(path.trim_start_matches('/'))
    }

    /// Its first process, seen from outside; another one after each boot.
    ///
    /// # Errors
    /// While it is down.
    pub fn init(&self) -> Result<i32> {
        let children = format!("/proc/{0}/task/{0}/children", self.nspawn.id());
        let children = fs::read_to_string(children)?;
        let first = children.split_whitespace().next();
        Ok(first
            .with_context(|| format!("{} is down", self.name))?
            .parse()?)
    }

    /// A command in the machine, as root.
    ///
    /// # Errors
    /// While it is down.
    pub fn command(&self, program: &str) -> Result<Command> {
        let mut command = system("nsenter");
        command
            .arg(format!("--target={}", self.init()?))
            .args(["--mount", "--uts", "--ipc", "--net", "--pid", "--root"])
            .args(["--", "env", "-i", "--chdir=/", "HOME=/root", "LANG=C.UTF-8"])
            .arg("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .arg(program);
        Ok(command)
    }

    /// Runs a shell script in the machine; what it printed.
    ///
    /// # Errors
    /// When it ends with anything but success.
    pub fn shell(&self, script: &str) -> Result<String> {
        output_of(self.command("sh")?.args(["-ec", script]))
            .with_context(|| format!("on {}", self.name))
    }

    /// Runs a shell script in the machine, whatever becomes of it.
    ///
    /// # Errors
    /// While it is down.
    pub fn try_shell(&self, script: &str) -> Result<Output> {
        run(self.command("sh")?.args(["-ec", script]))
    }

    /// Waits until a unit is what `state` says (`active`, `inactive`, `failed`).
    ///
    /// # Errors
    /// When it is not, with the end of its journal.
    pub fn wait_unit(&self, unit: &str, state: &str) -> Result<()> {
        let what = format!("{unit} on {} to be {state}", self.name);
        poll::until(&what, BOOT_TIMEOUT, || {
            Ok((self.unit(unit)? == state).then_some(()))
        })
        .with_context(|| self.journal(unit).unwrap_or_default())
    }

    /// What systemd says a unit is.
    ///
    /// # Errors
    /// While the machine is down.
    pub fn unit(&self, unit: &str) -> Result<String> {
        let output = self.try_shell(&format!("systemctl is-active {unit}"))?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// The end of a unit's journal.
    ///
    /// # Errors
    /// While the machine is down.
    pub fn journal(&self, unit: &str) -> Result<String> {
        self.shell(&format!("journalctl --no-pager --lines 40 --unit {unit}"))
    }

    /// Reboots it in an orderly way.
    ///
    /// # Errors
    /// When it does not come back.
    pub fn reboot(&mut self) -> Result<()> {
        // The shell it is asked in ends with the machine.
        let _ = self.try_shell("systemctl reboot")?;
        // Without a unit of its own it is not started again by itself.
        let down = format!("{} to go down", self.name);
        poll::until(&down, STOP_TIMEOUT, || Ok(self.nspawn.try_wait()?))?;
        self.nspawn = self.place.power_on(&self.name)?;
        self.wait_up()
    }

    /// Pulls its plug, and puts it in again: nothing in it gets to end anything.
    ///
    /// # Errors
    /// When it does not come back.
    pub fn lose_power(&mut self) -> Result<()> {
        kill(self.init()?)?;
        let down = format!("{} to be without power", self.name);
        poll::until(&down, STOP_TIMEOUT, || Ok(self.nspawn.try_wait()?))?;
        self.nspawn = self.place.power_on(&self.name)?;
        self.wait_up()
    }

    fn wait_up(&mut self) -> Result<()> {
        let what = format!("{} to be up", self.name);
        poll::until(&what, BOOT_TIMEOUT, || {
            if let Some(status) = self.nspawn.try_wait()? {
                let said = fs::read_to_string(self.place.layer.join("nspawn.log"));
                let said = said.unwrap_or_default();
                bail!(
                    "systemd-nspawn of {} ended with {status}: {said}",
                    self.name
                );
            }
            let Ok(output) = self.try_shell("systemctl is-system-running") else {
                return Ok(None);
            };
            let state = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            // Degraded: something of Debian's own that no container can start.
            Ok(["running", "degraded"]
                .contains(&state.as_str())
                .then_some(()))
        })
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // As pulling its plug: with its first process all others end. The layer goes with the yard.
        if let Ok(init) = self.init() {
            let _ = kill(init);
        }
        let _ = self.nspawn.kill();
        let _ = self.nspawn.wait();
    }
}

fn remove(layer: &Path) -> Result<()> {
    // Mounted, or not any more.
    let _ = run(system("umount").arg("--lazy").arg(layer.join("root")))?;
    fs::remove_dir_all(layer).with_context(|| format!("removing {}", layer.display()))
}

/// Kills everything that has a layer of `folder` as its root.
fn end_within(folder: &Path) -> Result<()> {
    let layer = format!("upperdir={}/", folder.display());
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let pid: Option<i32> = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        // It may have ended meanwhile.
        let mounts = fs::read_to_string(entry.path().join("mountinfo"));
        if let (Some(pid), Ok(mounts)) = (pid, mounts)
            && mounts
                .lines()
                .any(|line| line.split(' ').nth(4) == Some("/") && line.contains(&layer))
        {
            kill(pid)?;
        }
    }
    Ok(())
}

/// Those of [`REQUIRED`] that are not installed.
///
/// # Errors
/// When this is no Debian system.
pub fn missing() -> Result<Vec<&'static str>> {
    ensure!(rustix::process::geteuid().is_root(), "machines need root");
    crate::packages::missing_of(REQUIRED)
}
