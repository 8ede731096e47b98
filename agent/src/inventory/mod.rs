//! What this machine really has, and how busy it is.
//!
//! Facts come from where the kernel tells them: topology, NUMA, huge pages, network cards and DMI
//! from `/sys`, mounts and network names from `/proc`, memory and load through `sysinfo`. What VMs
//! may use of it follows from configuration: `capacity` caps what the machine has, or, where guests are simulated,
//! says it; `reserve` is taken off for the host itself.

mod foreign;
mod gpus;
mod identity;
mod load;
mod machine;
mod source;
mod storage;

use serde::Deserialize;
use virtflow_proto::agent::v1;

use crate::hypervisor::Capabilities;
use crate::reconcile::plan::GuestSettings;
use crate::xml::Acceleration;

pub use foreign::ForeignReporter;
pub use gpus::{GpuObstacle, ListedGpus};
pub use identity::{SerialNumber, SerialSource, boot_id, hostname, serial_number};
pub use load::LoadMeter;
pub use source::{Machine, Meter, ThisMachine, ToldMachine};

/// Amounts of what VMs use; an absent one means "no limit" as capacity and "none" as reserve.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Amounts {
    /// Thousandths of a logical processor.
    pub cpu_milli: Option<u64>,
    /// Memory.
    pub memory_mib: Option<u64>,
    /// Storage of the filesystem that holds the guests' folder.
    pub storage_gib: Option<u64>,
    /// Whole GPUs, of hosts whose guests are simulated.
    pub gpus: Option<u64>,
}

/// Memory kept for the host unless configured.
pub const RESERVE_MEMORY_MIB_DEFAULT: u64 = 512;
/// Storage kept for the host unless configured.
pub const RESERVE_STORAGE_GIB_DEFAULT: u64 = 1;

/// The inventory as it is now.
///
/// # Errors
/// If the kernel doesn't tell what every machine has: processors, memory, the guests' filesystem.
pub fn collect(
    guests: &GuestSettings,
    capacity: Amounts,
    reserve: Amounts,
    capabilities: Option<&Capabilities>,
) -> Result<v1::Inventory, InventoryError> {
    let mut topology = machine::topology()?;
    let mut memory_mib = machine::memory_mib()?;
    let filesystems = storage::filesystems(&guests.guests_dir)?;
    let mut storage_gib = filesystems
        .iter()
        .find(|filesystem| filesystem.holds_guests)
        .map_or(0, |filesystem| filesystem.total_mib / 1024);
    let mut gpus = guests.gpus.usable().len().try_into().unwrap_or(u64::MAX);
    if capabilities.is_some_and(|can| can.driver == "simulated") {
        // Simulated guests take nothing of the machine: it counts as large as it is told to be.
        let threads = capacity.cpu_milli.map(|milli| milli.div_ceil(1000));
        let threads = threads.and_then(|threads| u32::try_from(threads).ok());
        topology.threads = threads.unwrap_or(topology.threads);
        memory_mib = capacity.memory_mib.unwrap_or(memory_mib);
        storage_gib = capacity.storage_gib.unwrap_or(storage_gib);
        gpus = capacity.gpus.unwrap_or(0);
    }
    let reserved = [
        reserve.cpu_milli.unwrap_or(0),
        reserve.memory_mib.unwrap_or(RESERVE_MEMORY_MIB_DEFAULT),
        reserve.storage_gib.unwrap_or(RESERVE_STORAGE_GIB_DEFAULT),
    ];
    let usable = |has: u64, cap: Option<u64>, reserved: u64| {
        has.min(cap.unwrap_or(u64::MAX)).saturating_sub(reserved)
    };
    let cpu_milli = u64::from(topology.threads) * 1000;
    let hypervisor = match capabilities.map(|can| (can, guests.resolve(can))) {
        Some((can, _)) if can.driver == "simulated" => "simulated",
        Some((_, Ok(Acceleration::Kvm))) => "kvm",
        Some((_, Ok(Acceleration::Qemu))) => "qemu",
        Some((_, Err(_))) | None => "",
    };
    Ok(v1::Inventory {
        sockets: topology.sockets,
        cores: topology.cores,
        threads: topology.threads,
        memory_mib,
        numa: machine::numa_nodes(),
        hugepages: machine::huge_pages(),
        nics: machine::nics(),
        cpu_model: topology.model,
        kernel: sysinfo::System::kernel_version().unwrap_or_default(),
        os: sysinfo::System::long_os_version().unwrap_or_default(),
        hypervisor: hypervisor.to_owned(),
        hypervisor_version: capabilities
            .map(|can| can.emulator_version.clone())
            .unwrap_or_default(),
        libvirt_version: capabilities
            .filter(|can| can.driver == "libvirt")
            .map(|can| can.driver_version.clone())
            .unwrap_or_default(),
        schedulable_cpu_milli: usable(cpu_milli, capacity.cpu_milli, reserved[0]),
        schedulable_memory_mib: usable(memory_mib, capacity.memory_mib, reserved[1]),
        schedulable_storage_gib: usable(storage_gib, capacity.storage_gib, reserved[2]),
        reserved_cpu_milli: reserved[0],
        reserved_memory_mib: reserved[1],
        reserved_storage_gib: reserved[2],
        gpus: machine::gpus(),
        schedulable_gpus: u32::try_from(usable(gpus, None, reserve.gpus.unwrap_or(0)))
            .unwrap_or(u32::MAX),
        guests_dir: guests.guests_dir.to_string_lossy().into_owned(),
        // Known once the listener is bound.
        status_address: String::new(),
        filesystems,
        // The hypervisor's surveys tell of it.
        foreign: None,
    })
}

/// Something that every machine tells was not told.
#[derive(Debug, thiserror::Error)]
#[error("cannot find out {what} from {from}: {problem}")]
pub struct InventoryError {
    what: &'static str,
    from: String,
    problem: String,
}

fn unknown(
    what: &'static str,
    from: impl Into<String>,
    problem: impl std::fmt::Display,
) -> InventoryError {
    InventoryError {
        what,
        from: from.into(),
        problem: problem.to_string(),
    }
}

#[cfg(test)]
pub(crate) use gpus::tests::Devices;
#[cfg(test)]
mod tests;
