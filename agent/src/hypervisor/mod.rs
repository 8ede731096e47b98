//! What the agent asks of a hypervisor, and nothing more.
//!
//! [`Hypervisor`] is the line below which the agent knows nothing of how guests are run. Two
//! implementations exist: [`libvirt`] drives real QEMU guests, [`simulated`] keeps them in memory
//! so that the very same agent above can be tested with faults and run in thousands.
//!
//! Invariants every implementation keeps:
//! - A domain belongs to us only if it carries our metadata *and* its UUID is written there: as the
//!   VM's id, or, of one that was adopted, beside it. Anything else is foreign: counted, told of,
//!   never touched but by [`Hypervisor::adopt`].
//! - Calls may hang. They must not block the caller's executor thread; deadlines are the caller's.
//! - Events are a hint that makes things fast. They may be lost (reconnect, overflow); a survey
//!   tells the truth.

pub mod libvirt;
pub mod simulated;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use async_trait::async_trait;
use tokio::sync::broadcast;
use virtflow_types::{Name, ObjectId};

use crate::xml::{DomainSpec, DomainStamp, PciAddress};

/// Events kept for a slow subscriber; one that falls further behind is told it lagged and surveys.
pub const EVENT_QUEUE_LEN: usize = 1024;

/// What a domain is doing, as the hypervisor tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PowerState {
    /// The guest executes, or could.
    Running,
    /// The guest is loaded but doesn't execute (paused by hand, by an I/O error, suspended).
    Paused,
    /// The guest was asked to stop and is about it.
    ShuttingDown,
    /// There is no guest process.
    Off(OffReason),
}

impl PowerState {
    /// Whether a guest process exists.
    #[must_use]
    pub fn is_active(self) -> bool {
        !matches!(self, Self::Off(_))
    }
}

/// Why a domain has no guest process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffReason {
    /// Defined and never started since, or the hypervisor lost the reason (host reboot).
    Unknown,
    /// The guest shut itself down.
    Shutdown,
    /// Somebody pulled the plug through the hypervisor.
    Destroyed,
    /// The guest process died, or the guest kernel panicked.
    Crashed,
    /// The hypervisor could not start the guest or bring it on.
    Failed,
}

impl OffReason {
    /// Whether the guest ended against its own will.
    #[must_use]
    pub fn is_failure(self) -> bool {
        !matches!(self, Self::Shutdown)
    }
}

impl fmt::Display for OffReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "no guest process (the hypervisor gives no reason)",
            Self::Shutdown => "the guest shut itself down",
            Self::Destroyed => "the guest was destroyed through the hypervisor",
            Self::Crashed => "the guest process died or the guest kernel panicked",
            Self::Failed => "the hypervisor could not start or continue the guest",
        })
    }
}

/// One domain of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Domain {
    /// The VM, which is also the domain's UUID unless it was adopted.
    pub vm_id: ObjectId,
    /// UUID of a domain that was there before the VM: its definition is nobody's to write but its
    /// maker's.
    pub adopted: Option<ObjectId>,
    /// The VM's name when the domain was defined.
    pub vm_name: Name,
    /// What ordered it into being.
    pub stamp: DomainStamp,
    /// What it is doing.
    pub power: PowerState,
    /// The hypervisor's number of this run; another one means that the guest was started anew.
    /// `None` while there is no guest process.
    pub run_id: Option<u32>,
    /// The guest's process on this host, where it is known. Surveys leave it out.
    pub process_id: Option<u32>,
    /// Processors of the definition.
    pub vcpus: u32,
    /// Memory of the definition.
    pub memory_mib: u64,
}

/// Usage of one domain.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time since this run began, in nanoseconds.
    pub cpu_time_ns: u64,
    /// Memory the guest process occupies, in KiB.
    pub memory_rss_kib: u64,
}

/// All domains of a host, from one bulk call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Survey {
    /// Ours.
    pub domains: Vec<(Domain, Usage)>,
    /// Those that are not ours.
    pub foreign: Vec<(ForeignDomain, Usage)>,
}

/// A domain that is not ours, as far as its hypervisor tells without looking at any disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignDomain {
    /// Its UUID.
    pub domain_id: ObjectId,
    /// Its name.
    pub name: String,
    /// What it is doing.
    pub power: PowerState,
    /// Whether it starts with the host.
    pub autostart: bool,
    /// Processors of the definition.
    pub vcpus: u32,
    /// Memory of the definition.
    pub memory_mib: u64,
    /// Its disks, without drives for media that are put in and taken out.
    pub disks: Vec<ForeignDisk>,
    /// Devices of the host that it has for itself.
    pub passed: Vec<PciAddress>,
    /// What keeps it from being adopted.
    pub obstacles: Vec<Obstacle>,
}

/// A disk of a foreign domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignDisk {
    /// What it is in the definition, `vda`.
    pub target: String,
    /// Where it lies.
    pub source: DiskSource,
}

/// Where a disk lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiskSource {
    /// In this file.
    File(PathBuf),
    /// On a block device or over a network: on no filesystem of this host.
    Device,
    /// Where only the hypervisor knows.
    Unknown,
}

/// What keeps a foreign domain from being adopted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Obstacle {
    /// It has no definition: once off, it is gone.
    Transient,
    /// It has a device of the host for itself.
    Passthrough,
    /// It is no guest of QEMU's.
    OtherHypervisor,
    /// Its definition can't be read.
    Unreadable,
    /// The hypervisor doesn't tell how large a disk is.
    UnknownDiskSize,
}

impl Obstacle {
    /// The word for programs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::Passthrough => "passthrough",
            Self::OtherHypervisor => "other_hypervisor",
            Self::Unreadable => "unreadable_definition",
            Self::UnknownDiskSize => "unknown_disk_size",
        }
    }
}

/// What is written on a domain that is adopted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adoption {
    /// UUID of the domain.
    pub domain_id: ObjectId,
    /// The VM that it is from now on.
    pub vm_id: ObjectId,
    /// The VM's name.
    pub vm_name: Name,
    /// What orders it.
    pub stamp: DomainStamp,
}

/// What the hypervisor is and can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    /// `libvirt` or `simulated`.
    pub driver: String,
    /// Version of the management layer, `11.3.0`.
    pub driver_version: String,
    /// Version of the emulator, `10.0.2`; empty where there is none.
    pub emulator_version: String,
    /// Whether guests of the host's architecture can run under KVM.
    pub kvm: bool,
    /// Whether guests of the host's architecture can be emulated.
    pub emulation: bool,
    /// Whether guests are confined by a security driver that wants labels (`apparmor`, `selinux`).
    pub security_labels: bool,
}

/// A change of one domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DomainEvent {
    /// The domain's UUID; not necessarily a VM of ours.
    pub domain_id: ObjectId,
    /// What happened.
    pub change: DomainChange,
}

/// What may happen to a domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DomainChange {
    /// Its definition was made, changed or removed.
    Definition,
    /// A guest process started.
    Started,
    /// It is on its way to another state (suspended, resumed, shutting down).
    Changing,
    /// The guest process is gone.
    Stopped,
    /// The connection was made anew; events may have been lost. `domain_id` is nil.
    Resynchronise,
}

/// Why the hypervisor didn't do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum HypervisorError {
    /// The hypervisor can't be reached; trying again later may help.
    #[error("cannot reach the hypervisor at {endpoint}: {message}")]
    Unavailable {
        /// What was dialled.
        endpoint: String,
        /// What it answered.
        message: String,
    },
    /// There is no such domain.
    #[error("domain {0} does not exist")]
    NotFound(ObjectId),
    /// The hypervisor tried and failed, or refused.
    #[error("cannot {action} domain {vm_id}: {message}")]
    Failed {
        /// `define`, `start`, …
        action: &'static str,
        /// The domain.
        vm_id: ObjectId,
        /// The hypervisor's words.
        message: String,
    },
    /// Fewer GPUs of those that the host hands out are free than the VM asks for.
    #[error(
        "VM {vm_id} asks for {asked} GPUs, and {free} of those that this host hands out are there and free; see \
         `gpus` in the agent's settings, and `virtflow-agent check`"
    )]
    TooFewGpus {
        /// The VM.
        vm_id: ObjectId,
        /// How many it asks for.
        asked: u32,
        /// How many there are for it.
        free: usize,
    },
    /// A query about the whole host failed.
    #[error("cannot {action}: {message}")]
    Query {
        /// What was asked.
        action: &'static str,
        /// The hypervisor's words.
        message: String,
    },
}

/// A hypervisor on this host. Object safe; share it as `Arc<dyn Hypervisor>`.
#[async_trait]
pub trait Hypervisor: fmt::Debug + Send + Sync + 'static {
    /// What it is and can do. Also wakes what the hypervisor probes lazily at first use.
    async fn capabilities(&self) -> Result<Capabilities, HypervisorError>;

    /// All domains with their usage, by one bulk call.
    async fn survey(&self) -> Result<Survey, HypervisorError>;

    /// One domain of ours; `None` if it doesn't exist. A foreign domain with this UUID is an error.
    async fn inspect(&self, vm_id: ObjectId) -> Result<Option<Domain>, HypervisorError>;

    /// One domain that is not ours; `None` if it doesn't exist, or is ours.
    async fn inspect_foreign(
        &self,
        domain_id: ObjectId,
    ) -> Result<Option<ForeignDomain>, HypervisorError>;

    /// Sizes of a domain's disks in bytes as the guest sees them, by their targets; a disk whose size
    /// isn't told is left out. May wait for disks, and so never holds up another call.
    async fn disk_sizes(
        &self,
        domain_id: ObjectId,
    ) -> Result<BTreeMap<String, u64>, HypervisorError>;

    /// Marks a domain as that VM's, running or off, and changes nothing else of it. Adopting again
    /// renews the mark. A domain of another VM is refused.
    async fn adopt(&self, adoption: &Adoption) -> Result<(), HypervisorError>;

    /// Makes the domain's definition, or replaces that of a domain of ours. Which GPUs it has is chosen with it
    /// ([`Gpus::choose`](crate::xml::Gpus::choose)), one definition after the other.
    async fn define(&self, spec: &DomainSpec) -> Result<(), HypervisorError>;

    /// Starts a defined domain; returns when the guest runs. Starting a running one succeeds.
    async fn start(&self, vm_id: ObjectId) -> Result<(), HypervisorError>;

    /// Asks the guest to shut down (ACPI); returns at once.
    async fn shutdown(&self, vm_id: ObjectId) -> Result<(), HypervisorError>;

    /// Ends the guest process; returns when it is gone. Destroying one that is off succeeds.
    async fn destroy(&self, vm_id: ObjectId) -> Result<(), HypervisorError>;

    /// Removes the definition of a domain that is off; of an adopted one nothing else. Removing what
    /// is absent succeeds.
    async fn undefine(&self, vm_id: ObjectId) -> Result<(), HypervisorError>;

    /// Events from now on.
    fn events(&self) -> broadcast::Receiver<DomainEvent>;
}
