//! Configuration: one TOML file, overridden by environment variables, refused as a whole if any of
//! it is unknown or contradicts itself.
//!
//! The variable of a key is `VIRTFLOW_AGENT_` with the section and the key in capitals:
//! `reserve.memory_mib` is `VIRTFLOW_AGENT_RESERVE_MEMORY_MIB`; lists are separated by commas.
//! `systemd/agent.example.toml` documents every key.

#[cfg(test)]
mod fuzz;
mod read;

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::inventory::{Amounts, ListedGpus};
use crate::reconcile::plan::{AccelerationChoice, GuestSettings, KernelBoot};
use crate::xml::{BridgeName, HostPath, KernelArguments, Machine, PciAddress};

pub use virtflow_settings::{ConfigError, Place};
use virtflow_types::is_host_port;

/// What the names of environment variables begin with.
pub const ENV_PREFIX: &str = "VIRTFLOW_AGENT_";
/// Where the file is unless said otherwise.
pub const FILE_DEFAULT: &str = "/etc/virtflow/agent.toml";
/// The most controllers that may be listed.
pub const CONTROLLERS_MAX: usize = 16;
/// The most GPUs that may be listed.
pub const GPUS_MAX: usize = 64;

/// How guests are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HypervisorChoice {
    /// libvirt, with KVM where the host has it, else emulation.
    #[default]
    Auto,
    /// libvirt with KVM only.
    Kvm,
    /// libvirt with emulation only.
    Qemu,
    /// Guests in memory, for tests of everything else.
    Simulated,
}

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// What is logged and how.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// `info`, or directives such as `info,virtflow_agent::reconcile=debug`.
    pub level: String,
    /// The format.
    pub format: LogFormat,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            level: "info".to_owned(),
            format: LogFormat::default(),
        }
    }
}

/// Where the agent tells how it is: in plain HTTP to this machine, or with TLS to who has the token.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StatusConfig {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Where monitoring reaches that, `host:port`, if it is not the address itself.
    pub advertise: Option<String>,
    /// The file with the token that monitoring shows; needed beyond the loopback, not looked at on it.
    pub token_file: Option<PathBuf>,
}

impl Default for StatusConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9441)),
            advertise: None,
            token_file: None,
        }
    }
}

impl StatusConfig {
    /// Where others reach the listener that is bound to `bound`, `host:port`; `None` on the loopback.
    #[must_use]
    pub fn reached_at(&self, bound: SocketAddr) -> Option<String> {
        let is_open = !bound.ip().is_loopback();
        is_open.then(|| self.advertise.clone().unwrap_or_else(|| bound.to_string()))
    }

    fn check(&self) -> Result<(), Problem> {
        let listen = self.listen;
        if let Some(address) = self.advertise.as_deref().filter(|text| !is_host_port(text)) {
            let problem = format!("`{address}` is not `host:port`, such as `10.0.0.21:9441`");
            return Err(("status.advertise", problem));
        }
        if listen.ip().is_loopback() {
            return Ok(());
        }
        if self.token_file.is_none() {
            let problem = "is needed where `status.listen` is not on the loopback: a file with the token that monitoring sends";
            return Err(("status.token_file", problem.into()));
        }
        if self.advertise.is_none() && listen.ip().is_unspecified() {
            let problem =
                format!("is needed, for others cannot dial {listen}; write \"host:port\"");
            return Err(("status.advertise", problem));
        }
        Ok(())
    }
}

/// What guests boot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct BootConfig {
    kernel: Option<PathBuf>,
    initrd: Option<PathBuf>,
    cmdline: Option<String>,
}

/// The file as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Written {
    controllers: Vec<String>,
    data_dir: PathBuf,
    guests_dir: PathBuf,
    libvirt_uri: String,
    libvirt_pid_dir: PathBuf,
    hypervisor: HypervisorChoice,
    machine: Machine,
    emulator: Option<PathBuf>,
    bridge: Option<String>,
    gpus: Vec<String>,
    serial: Option<String>,
    name: Option<String>,
    management_address: String,
    reserve: Amounts,
    capacity: Amounts,
    boot: BootConfig,
    status: StatusConfig,
    log: LogConfig,
}

impl Default for Written {
    fn default() -> Self {
        Self {
            controllers: Vec::new(),
            data_dir: PathBuf::from("/var/lib/virtflow/agent"),
            guests_dir: PathBuf::from("/var/lib/virtflow/guests"),
            libvirt_uri: "qemu:///system".to_owned(),
            libvirt_pid_dir: PathBuf::from("/run/libvirt/qemu"),
            hypervisor: HypervisorChoice::default(),
            machine: Machine::default(),
            emulator: None,
            bridge: None,
            gpus: Vec::new(),
            serial: None,
            name: None,
            management_address: String::new(),
            reserve: Amounts::default(),
            capacity: Amounts::default(),
            boot: BootConfig::default(),
            status: StatusConfig::default(),
            log: LogConfig::default(),
        }
    }
}

/// The agent's configuration, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Agent listeners of controllers, `host:port`, besides those learned at joining.
    pub controllers: Vec<String>,
    /// Folder of the agent's identity and state.
    pub data_dir: PathBuf,
    /// How guests are made.
    pub guests: GuestSettings,
    /// libvirt's address.
    pub libvirt_uri: String,
    /// Where libvirt keeps the pid files of guests.
    pub libvirt_pid_dir: PathBuf,
    /// How guests are run.
    pub hypervisor: HypervisorChoice,
    /// The host's serial number, if not the machine's own.
    pub serial: Option<String>,
    /// The host's name, if not the machine's own.
    pub name: Option<String>,
    /// Address people reach the host at; told to controllers, not used by the agent.
    pub management_address: String,
    /// What is kept for the host itself.
    pub reserve: Amounts,
    /// What the host is taken to have at most.
    pub capacity: Amounts,
    /// The status listener.
    pub status: StatusConfig,
    /// The log.
    pub log: LogConfig,
}

impl Config {
    /// Reads the file, then the environment.
    ///
    /// # Errors
    /// If the file can't be read, or any of it is unknown, malformed or contradictory; the message
    /// names file, line and key, or the variable.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = virtflow_settings::text(path)?;
        read::read(path, &text, std::env::vars())
    }

    /// The folder of the agent's key and certificates.
    #[must_use]
    pub fn identity_dir(&self) -> PathBuf {
        self.data_dir.join("identity")
    }
}

/// A key at fault and what to do about it.
type Problem = (&'static str, String);

impl Written {
    /// What no single key can say: contradictions, and values that only we know to be wrong.
    fn checked(self) -> Result<Config, Problem> {
        if self.controllers.len() > CONTROLLERS_MAX {
            let most = format!("at most {CONTROLLERS_MAX} controllers are taken");
            return Err(("controllers", most));
        }
        if let Some(bad) = self.controllers.iter().find(|text| !is_host_port(text)) {
            let problem = format!("`{bad}` is not `host:port`, such as `10.0.0.11:8444`");
            return Err(("controllers", problem));
        }
        for (key, path) in [
            ("data_dir", &self.data_dir),
            ("guests_dir", &self.guests_dir),
            ("libvirt_pid_dir", &self.libvirt_pid_dir),
        ] {
            host_path(key, path)?;
        }
        if self.guests_dir.starts_with(&self.data_dir) {
            return Err((
                "guests_dir",
                "lies in `data_dir`, which holds the agent's key; guests belong elsewhere".into(),
            ));
        }
        for (key, text) in [("serial", &self.serial), ("name", &self.name)] {
            let plain = |text: &str| {
                let length = (1..=64).contains(&text.len());
                length && text.bytes().all(|b| b.is_ascii_graphic() || b == b' ')
            };
            if text.as_deref().is_some_and(|text| !plain(text)) {
                return Err((key, "must be 1 to 64 printable ASCII characters".into()));
            }
        }
        self.check_amounts()?;
        self.status.check()?;
        if let Err(error) = self.log.level.parse::<tracing_subscriber::EnvFilter>() {
            return Err(("log.level", error.to_string()));
        }
        let acceleration = match self.hypervisor {
            HypervisorChoice::Auto | HypervisorChoice::Simulated => AccelerationChoice::Auto,
            HypervisorChoice::Kvm => AccelerationChoice::Kvm,
            HypervisorChoice::Qemu => AccelerationChoice::Qemu,
        };
        let emulator = self.emulator.as_deref();
        let emulator = emulator
            .map(|path| host_path("emulator", path))
            .transpose()?;
        let bridge = self.bridge.as_deref().map(BridgeName::new).transpose();
        Ok(Config {
            guests: GuestSettings {
                guests_dir: self.guests_dir.clone(),
                acceleration,
                machine: self.machine,
                emulator,
                kernel: self.kernel_boot()?,
                bridge: bridge.map_err(|error| ("bridge", error.to_string()))?,
                gpus: self.listed_gpus()?,
            },
            controllers: self.controllers,
            data_dir: self.data_dir,
            libvirt_uri: self.libvirt_uri,
            libvirt_pid_dir: self.libvirt_pid_dir,
            hypervisor: self.hypervisor,
            serial: self.serial,
            name: self.name,
            management_address: self.management_address,
            reserve: self.reserve,
            capacity: self.capacity,
            status: self.status,
            log: self.log,
        })
    }

    fn check_amounts(&self) -> Result<(), Problem> {
        let (reserve, capacity) = (self.reserve, self.capacity);
        if capacity.gpus.is_some_and(|gpus| gpus > 0)
            && self.hypervisor != HypervisorChoice::Simulated
        {
            let problem = "is of simulated guests; list the GPUs that real ones may have in `gpus`";
            return Err(("capacity.gpus", problem.into()));
        }
        for (key, reserve, capacity) in [
            ("reserve.cpu_milli", reserve.cpu_milli, capacity.cpu_milli),
            (
                "reserve.memory_mib",
                reserve.memory_mib,
                capacity.memory_mib,
            ),
            (
                "reserve.storage_gib",
                reserve.storage_gib,
                capacity.storage_gib,
            ),
            ("reserve.gpus", reserve.gpus, capacity.gpus),
        ] {
            if let (Some(reserve), Some(capacity)) = (reserve, capacity)
                && reserve > capacity
            {
                let problem = format!("{reserve} is more than the capacity, {capacity}");
                return Err((key, problem));
            }
        }
        Ok(())
    }

    fn listed_gpus(&self) -> Result<ListedGpus, Problem> {
        if self.hypervisor == HypervisorChoice::Simulated && !self.gpus.is_empty() {
            let problem = "simulated guests are passed none; say how many in `capacity.gpus`";
            return Err(("gpus", problem.into()));
        }
        if self.gpus.len() > GPUS_MAX {
            return Err(("gpus", format!("at most {GPUS_MAX} are taken")));
        }
        let mut listed = Vec::new();
        for text in &self.gpus {
            let at = PciAddress::new(text).map_err(|error| ("gpus", error.to_string()))?;
            if listed.contains(&at) {
                return Err(("gpus", format!("{at} is listed twice")));
            }
            listed.push(at);
        }
        Ok(ListedGpus::new(listed))
    }

    fn kernel_boot(&self) -> Result<Option<KernelBoot>, Problem> {
        let boot = &self.boot;
        let Some(kernel) = &boot.kernel else {
            return match (&boot.initrd, &boot.cmdline) {
                (Some(_), _) => Err(("boot.initrd", "is given without `boot.kernel`".into())),
                (_, Some(_)) => Err(("boot.cmdline", "is given without `boot.kernel`".into())),
                (None, None) => Ok(None),
            };
        };
        let initrd = boot.initrd.as_deref();
        let arguments = boot
            .cmdline
            .as_deref()
            .map(KernelArguments::new)
            .transpose();
        Ok(Some(KernelBoot {
            kernel: host_path("boot.kernel", kernel)?,
            initrd: initrd
                .map(|path| host_path("boot.initrd", path))
                .transpose()?,
            arguments: arguments.map_err(|error| ("boot.cmdline", error.to_string()))?,
        }))
    }
}

fn host_path(key: &'static str, path: &Path) -> Result<HostPath, Problem> {
    HostPath::new(path).map_err(|error| (key, error.to_string()))
}

#[cfg(test)]
mod tests;
