//! `virtflow-agent check`: what a host lacks, in plain words, and how to mend it.

use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;
use virtflow_pki::BearerFile;

use crate::config::{Config, HypervisorChoice};
use crate::hypervisor::libvirt::Libvirt;
use crate::hypervisor::{Capabilities, Hypervisor, HypervisorError};
use crate::identity::{HostIdentity, now_ms};
use crate::inventory::{self, SerialSource};

/// How long the hypervisor may take; the first question after it started takes seconds.
const HYPERVISOR_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a controller may take.
const CONTROLLER_TIMEOUT: Duration = Duration::from_secs(5);
/// Less room for guests than this is worth a warning.
const ROOM_MIB_MIN: u64 = 10 * 1024;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// As it should be.
    Fine,
    /// The agent runs, but something is not as one would want it.
    Warning,
    /// The agent can't do its work.
    Fatal,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What was found.
    pub found: String,
    /// What to do about it; empty where nothing need be done.
    pub advice: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.severity {
            Severity::Fine => "ok   ",
            Severity::Warning => "warn ",
            Severity::Fatal => "FAIL ",
        };
        write!(f, "{word} {}", self.found)?;
        if !self.advice.is_empty() {
            write!(f, "\n      -> {}", self.advice)?;
        }
        Ok(())
    }
}

fn fine(found: impl Into<String>) -> Finding {
    Finding {
        severity: Severity::Fine,
        found: found.into(),
        advice: String::new(),
    }
}

fn warning(found: impl Into<String>, advice: impl Into<String>) -> Finding {
    Finding {
        severity: Severity::Warning,
        found: found.into(),
        advice: advice.into(),
    }
}

fn fatal(found: impl Into<String>, advice: impl Into<String>) -> Finding {
    Finding {
        severity: Severity::Fatal,
        ..warning(found, advice)
    }
}

/// Looks at everything the agent needs.
pub async fn check(config: &Config) -> Vec<Finding> {
    let mut findings = vec![user()];
    let capabilities = match config.hypervisor {
        HypervisorChoice::Simulated => {
            findings.push(warning(
                "guests are simulated: no VM will really run",
                "set `hypervisor = \"auto\"` for real guests",
            ));
            None
        }
        HypervisorChoice::Auto | HypervisorChoice::Kvm | HypervisorChoice::Qemu => {
            findings.push(kvm(config.hypervisor));
            hypervisor(config, &mut findings).await
        }
    };
    findings.push(folder("data_dir", &config.data_dir));
    findings.push(folder("guests_dir", &config.guests.guests_dir));
    room(config, capabilities.as_ref(), &mut findings);
    boot_files(config, &mut findings);
    if let Some(bridge) = &config.guests.bridge {
        findings.push(bridge_exists(bridge.as_str()));
    }
    findings.extend(gpus(config));
    findings.push(serial(config));
    findings.extend(monitoring(config));
    findings.push(clock());
    membership(config, &mut findings).await;
    findings
}

/// The token, where others than this machine may ask for the status.
fn monitoring(config: &Config) -> Option<Finding> {
    let file = config.status.token_file.as_ref()?;
    if config.status.listen.ip().is_loopback() {
        return None;
    }
    Some(match BearerFile::new(file).read() {
        Ok(_) => fine("there is a token for monitoring"),
        Err(error) => warning(
            format!("{error}; the status is told to nobody"),
            "write what monitoring sends into that file, readable for root only: \
             `(umask 077; openssl rand -hex 32 > FILE)`",
        ),
    })
}

fn user() -> Finding {
    if rustix::process::geteuid().is_root() {
        fine("runs as root")
    } else {
        warning(
            "does not run as root",
            "the agent needs libvirt's read-write socket, its folders and the DMI serial number: \
             run it by its systemd unit, or with sudo",
        )
    }
}

fn kvm(choice: HypervisorChoice) -> Finding {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flagged = cpu
        .split_whitespace()
        .any(|word| matches!(word, "vmx" | "svm"));
    let problem = match OpenOptions::new().read(true).write(true).open("/dev/kvm") {
        Ok(_) => return fine("/dev/kvm is there and can be opened"),
        Err(error) => error,
    };
    let advice = match (problem.kind(), flagged) {
        (io::ErrorKind::PermissionDenied, _) => "let the agent's user read and write /dev/kvm",
        (_, true) => "load the module: `modprobe kvm_intel` or `modprobe kvm_amd`",
        (_, false) => {
            "switch on virtualisation (VT-x, AMD-V) in the firmware, or nested virtualisation if \
             this is a virtual machine"
        }
    };
    let found = format!("/dev/kvm can't be opened: {problem}");
    match choice {
        HypervisorChoice::Kvm => fatal(found, advice),
        HypervisorChoice::Qemu | HypervisorChoice::Simulated => {
            fine("/dev/kvm is not needed: guests are emulated, as configured")
        }
        HypervisorChoice::Auto => warning(
            found,
            ["guests will be emulated, which is slow; ", advice].concat(),
        ),
    }
}

async fn hypervisor(config: &Config, findings: &mut Vec<Finding>) -> Option<Capabilities> {
    let libvirt = Libvirt::new(&config.libvirt_uri, &config.libvirt_pid_dir);
    let asked = timeout(HYPERVISOR_TIMEOUT, libvirt.capabilities()).await;
    let capabilities = match asked {
        Ok(Ok(capabilities)) => capabilities,
        Ok(Err(error @ HypervisorError::Unavailable { .. })) => {
            findings.push(fatal(
                error.to_string(),
                "install libvirt (`apt install libvirt-daemon-system`), start it \
                 (`systemctl start libvirtd`), and see that `libvirt_uri` names its socket",
            ));
            return None;
        }
        Ok(Err(error)) => {
            findings.push(fatal(
                error.to_string(),
                "see that QEMU is installed (`apt install qemu-system-x86`); then libvirt's log \
                 (`journalctl -u libvirtd`)",
            ));
            return None;
        }
        Err(_) => {
            findings.push(fatal(
                format!("libvirt gave no answer within {HYPERVISOR_TIMEOUT:?}"),
                "restart it: `systemctl restart libvirtd`; running guests go on",
            ));
            return None;
        }
    };
    findings.push(fine(format!(
        "libvirt {} answers, QEMU {}",
        capabilities.driver_version, capabilities.emulator_version
    )));
    findings.push(match config.guests.resolve(&capabilities) {
        Ok(acceleration) => fine(format!(
            "guests will run under {}",
            acceleration.domain_type()
        )),
        Err(_) => fatal(
            "libvirt can't run guests of this machine's architecture as configured",
            "install the emulator (`apt install qemu-system-x86`), or set `hypervisor = \"auto\"`",
        ),
    });
    if !config.libvirt_pid_dir.is_dir() {
        findings.push(warning(
            format!("{} is not there", config.libvirt_pid_dir.display()),
            "process ids of guests won't be told; set `libvirt_pid_dir`",
        ));
    }
    Some(capabilities)
}

/// Whether files can be made in a folder, or the folder itself be made.
fn folder(key: &str, path: &Path) -> Finding {
    let existing = path.ancestors().find(|ancestor| ancestor.is_dir());
    let existing = existing.unwrap_or(Path::new("/"));
    let probe = existing.join(".virtflow-agent-check");
    let written = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(&probe)
        .and_then(|mut file| {
            file.write_all(b"check")?;
            file.sync_all()
        });
    // Gone or not: there is nothing more to do about it.
    let _ = std::fs::remove_file(&probe);
    let shown = path.display();
    match written {
        Ok(()) if existing == path => fine(format!("{shown} can be written to")),
        Ok(()) => fine(format!("{shown} will be made when it is needed")),
        Err(error) => fatal(
            format!("{shown} can't be written to: {error}"),
            format!("free some room, mend its permissions, or set `{key}` to another folder"),
        ),
    }
}

fn room(config: &Config, capabilities: Option<&Capabilities>, findings: &mut Vec<Finding>) {
    let inventory = inventory::collect(
        &config.guests,
        config.capacity,
        config.reserve,
        capabilities,
    );
    let inventory = match inventory {
        Ok(inventory) => inventory,
        Err(error) => {
            let advice = "see that /proc and /sys are mounted";
            return findings.push(fatal(error.to_string(), advice));
        }
    };
    findings.push(fine(format!(
        "{} sockets, {} cores, {} threads, {} MiB memory: {}",
        inventory.sockets,
        inventory.cores,
        inventory.threads,
        inventory.memory_mib,
        inventory.cpu_model
    )));
    let schedulable = [
        ("cpu_milli", inventory.schedulable_cpu_milli),
        ("memory_mib", inventory.schedulable_memory_mib),
        ("storage_gib", inventory.schedulable_storage_gib),
    ];
    for (dimension, amount) in schedulable {
        if amount == 0 {
            findings.push(fatal(
                format!("nothing is left for guests of {dimension}"),
                format!("lower `reserve.{dimension}` or raise `capacity.{dimension}`"),
            ));
        }
    }
    if let Some(filesystem) = inventory.filesystems.iter().find(|f| f.holds_guests) {
        let found = format!(
            "{} MiB of {} MiB are free on {} for guests",
            filesystem.available_mib, filesystem.total_mib, filesystem.mount
        );
        findings.push(if filesystem.available_mib < ROOM_MIB_MIN {
            warning(
                found,
                "free some room, or set `guests_dir` to a larger filesystem",
            )
        } else {
            fine(found)
        });
    }
}

fn boot_files(config: &Config, findings: &mut Vec<Finding>) {
    let Some(boot) = &config.guests.kernel else {
        findings.push(warning(
            "no kernel is configured: guests boot from their disks, which begin empty",
            "set `boot.kernel` and `boot.initrd` for guests that boot a kernel of this host",
        ));
        return;
    };
    let initrd = boot.initrd.iter().map(|path| ("boot.initrd", path));
    for (key, path) in std::iter::once(("boot.kernel", &boot.kernel)).chain(initrd) {
        findings.push(match std::fs::File::open(path.as_path()) {
            Ok(_) => fine(format!("{} can be read", path.as_str())),
            Err(error) => fatal(
                format!("{} can't be read: {error}", path.as_str()),
                format!("put the file there, or set `{key}` to where it is"),
            ),
        });
    }
}

fn bridge_exists(bridge: &str) -> Finding {
    if Path::new("/sys/class/net")
        .join(bridge)
        .join("bridge")
        .is_dir()
    {
        fine(format!("the bridge {bridge} is there"))
    } else {
        fatal(
            format!("there is no bridge {bridge}"),
            format!("make it (`ip link add {bridge} type bridge`), or set `bridge` to one that is"),
        )
    }
}

fn gpus(config: &Config) -> Vec<Finding> {
    let looked_at = config.guests.gpus.look().into_iter();
    let told = looked_at.map(|(at, found)| match found {
        Ok(model) => fine(format!("the GPU at {at} ({model}) can be passed to guests")),
        Err(obstacle) => fatal(
            format!("the GPU at {at} is not handed out: {obstacle}"),
            obstacle.advice(),
        ),
    });
    told.collect()
}

fn serial(config: &Config) -> Finding {
    match inventory::serial_number(config.serial.as_deref()) {
        Ok(serial) => match serial.source {
            SerialSource::Configured => fine(format!("serial number {} (configured)", serial.text)),
            SerialSource::Dmi => fine(format!("serial number {} (firmware)", serial.text)),
            SerialSource::MachineId => warning(
                format!(
                    "serial number {} (derived: the firmware gives none)",
                    serial.text
                ),
                "it changes when the system is installed anew; set `serial` to keep it",
            ),
        },
        Err(error) => fatal(error.to_string(), "set `serial`"),
    }
}

/// Certificates, and people who read logs, need a clock that is about right.
fn clock() -> Finding {
    let synchronised = Path::new("/run/systemd/timesync/synchronized").exists();
    let daemons = [
        "/run/chrony",
        "/run/chronyd.pid",
        "/run/ntpd.pid",
        "/run/openntpd.sock",
    ];
    if synchronised || daemons.iter().any(|path| Path::new(path).exists()) {
        fine("the clock is kept by a time service")
    } else {
        warning(
            "no time service keeps the clock",
            "install one: `apt install chrony` or `systemctl enable --now systemd-timesyncd`",
        )
    }
}

async fn membership(config: &Config, findings: &mut Vec<Finding>) {
    let identity = match HostIdentity::load(config) {
        Ok(Some(identity)) => identity,
        Ok(None) => {
            findings.push(fatal(
                "this host has not joined a cluster",
                "get a token (`virtflow invite create`) and run `virtflow-agent join`",
            ));
            for endpoint in &config.controllers {
                findings.push(reachable(endpoint).await);
            }
            return;
        }
        Err(error) => {
            let advice = "restore the folder, or remove it and join again with a new token";
            return findings.push(fatal(format!("{error:#}"), advice));
        }
    };
    let membership = identity.membership();
    findings.push(fine(format!(
        "joined cluster {} as host {}",
        membership.cluster_id, membership.host_id
    )));
    findings.push(certificate(&identity));
    let mut endpoints = membership.agent_endpoints;
    endpoints.extend(config.controllers.iter().cloned());
    endpoints.sort();
    endpoints.dedup();
    let mut answering = 0;
    let mut silent = Vec::new();
    for endpoint in &endpoints {
        match timeout(CONTROLLER_TIMEOUT, identity.connect(endpoint)).await {
            Ok(Ok(_)) => {
                answering += 1;
                findings.push(fine(format!("the controller at {endpoint} answers")));
            }
            Ok(Err(error)) => silent.push(format!("no controller at {endpoint}: {error:#}")),
            Err(_) => silent.push(format!(
                "no answer from {endpoint} in {CONTROLLER_TIMEOUT:?}"
            )),
        }
    }
    let advice = "see that a controller runs there and that no firewall is between (port 8444)";
    findings.extend(silent.into_iter().map(|found| match answering {
        0 => fatal(found, advice),
        _ => warning(found, advice),
    }));
    if endpoints.is_empty() {
        findings.push(fatal(
            "no controller is known",
            "name some in `controllers`",
        ));
    }
}

fn certificate(identity: &HostIdentity) -> Finding {
    let validity = identity.certificates().certificate().validity();
    let now = now_ms();
    if now < validity.not_before_ms {
        return fatal(
            "the host's certificate is not valid yet: this clock is behind",
            "set the clock",
        );
    }
    if validity.is_expired(now) {
        return warning(
            "the host's certificate has expired",
            "nothing, if a controller is reachable: the agent gets another with its key",
        );
    }
    let days = (validity.not_after_ms - now) / 86_400_000;
    fine(format!(
        "the host's certificate is valid for {days} more days"
    ))
}

async fn reachable(endpoint: &str) -> Finding {
    match timeout(CONTROLLER_TIMEOUT, TcpStream::connect(endpoint)).await {
        Ok(Ok(_)) => fine(format!("something answers at {endpoint}")),
        Ok(Err(error)) => fatal(
            format!("nobody answers at {endpoint}: {error}"),
            "see that a controller runs there and that no firewall is between",
        ),
        Err(_) => fatal(
            format!("no answer from {endpoint} in {CONTROLLER_TIMEOUT:?}"),
            "see that a controller runs there and that no firewall is between",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> (tempfile::TempDir, Config) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.toml");
        let root = folder.path().display();
        let common = format!("data_dir = \"{root}/agent\"\nguests_dir = \"{root}/guests\"\n");
        std::fs::write(&path, common + text).unwrap();
        let config = Config::load(&path).unwrap();
        (folder, config)
    }

    fn worst(findings: &[Finding], about: &str) -> (Severity, String) {
        let found = findings
            .iter()
            .find(|finding| finding.found.contains(about));
        let found = found.unwrap_or_else(|| panic!("nothing about {about}: {findings:#?}"));
        (found.severity, found.advice.clone())
    }

    #[tokio::test]
    async fn a_host_that_lacks_everything_is_told_how_to_mend_it() {
        let (_folder, config) = config(
            "libvirt_uri = \"qemu+unix:///system?socket=/nonexistent\"\n\
             bridge = \"br-none\"\ngpus = [\"ffff:00:00.0\"]\ncontrollers = [\"127.0.0.1:1\"]\n\
             [boot]\nkernel = \"/nonexistent/vmlinuz\"\n\
             [reserve]\nmemory_mib = 999999999\n",
        );
        let findings = check(&config).await;
        for (about, advice) in [
            ("cannot reach the hypervisor", "systemctl start libvirtd"),
            (
                "there is no bridge br-none",
                "ip link add br-none type bridge",
            ),
            ("/nonexistent/vmlinuz can't be read", "boot.kernel"),
            (
                "GPU at ffff:00:00.0 is not handed out: there is no such device",
                "lspci -D",
            ),
            (
                "nothing is left for guests of memory_mib",
                "reserve.memory_mib",
            ),
            ("has not joined", "virtflow-agent join"),
            ("nobody answers at 127.0.0.1:1", "firewall"),
        ] {
            let (severity, told) = worst(&findings, about);
            assert_eq!(severity, Severity::Fatal, "{about}");
            assert!(told.contains(advice), "{about}: {told}");
        }
        for finding in &findings {
            let advised = !finding.advice.is_empty();
            assert_eq!(advised, finding.severity > Severity::Fine, "{finding}");
        }
    }

    #[tokio::test]
    async fn a_folder_that_cannot_be_written_to_is_fatal() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, b"").unwrap();
        assert_eq!(
            super::folder("data_dir", folder.path()).severity,
            Severity::Fine
        );
        let proc = super::folder("data_dir", Path::new("/proc/virtflow"));
        assert_eq!(proc.severity, Severity::Fatal);
        assert!(proc.advice.contains("data_dir"));
    }
}
