//! Between the agents' protocol and the words of the logic.

use std::collections::BTreeMap;

use virtflow_logic::{
    Desired as LogicDesired, DesiredVm as LogicVm, HostInventory, ObservedPhase, ObservedReport,
    ObservedVm,
};
use virtflow_model::Amounts;
use virtflow_model::kinds::baremetal::{Foreign, ForeignDisk, ForeignDomain, ForeignState};
use virtflow_model::kinds::virtual_machine::{Power, RestartPolicy};
use virtflow_proto::agent::v1 as wire;
use virtflow_types::{Incarnation, ObjectId, RequestId, is_host_port};

/// A point in the order of what controllers know.
pub(super) fn stamp(incarnation: Option<Incarnation>, index: u64) -> wire::Stamp {
    wire::Stamp {
        incarnation: incarnation.map_or_else(Vec::new, |i| i.as_bytes().to_vec()),
        index,
    }
}

/// What a host should run, whole, and the requests behind it.
pub(super) fn desired(
    desired: &LogicDesired,
    causes: &BTreeMap<ObjectId, RequestId>,
    stamp: wire::Stamp,
) -> wire::Desired {
    wire::Desired {
        stamp: Some(stamp),
        host_epoch: desired.host_epoch,
        complete: true,
        vms: desired.vms.iter().map(desired_vm).collect(),
        tombstones: desired
            .tombstones
            .iter()
            .map(|(vm, epoch)| wire::Tombstone {
                vm_id: vm.as_bytes().to_vec(),
                placement_epoch: *epoch,
                keep_files: false,
            })
            .collect(),
        causes: causes
            .iter()
            .map(|(vm, request_id)| wire::Cause {
                vm_id: vm.as_bytes().to_vec(),
                request_id: request_id.to_string(),
            })
            .collect(),
    }
}

fn desired_vm(vm: &LogicVm) -> wire::DesiredVm {
    wire::DesiredVm {
        vm_id: vm.vm_id.as_bytes().to_vec(),
        placement_epoch: vm.placement_epoch,
        generation: vm.generation,
        name: vm.name.to_string(),
        tenant_id: vm.tenant_id.as_bytes().to_vec(),
        cpu_cores: vm.cpu_cores,
        memory_mib: vm.memory_mib,
        storage_gib: vm.storage_gib,
        power: match vm.power {
            Power::Running => wire::Power::Running,
            Power::Stopped => wire::Power::Stopped,
        }
        .into(),
        power_serial: vm.power_serial,
        reboot: vm.reboot,
        force: vm.force,
        grace_s: vm.grace_s,
        restart: match vm.restart {
            RestartPolicy::Never => wire::RestartPolicy::Never,
            RestartPolicy::OnFailure => wire::RestartPolicy::OnFailure,
            RestartPolicy::Always => wire::RestartPolicy::Always,
        }
        .into(),
        nics: Vec::new(),
        gpu_count: vm.gpu_count,
        adopted_domain: vm
            .adopted_domain
            .map_or_else(Vec::new, |domain| domain.as_bytes().to_vec()),
    }
}

/// The most entries of a list of facts. Each takes some hundred times of what it took in the message, and
/// more than these are beyond what is kept of a host, which is refused by its size.
const LIST_MAX: usize = 4096;

/// What a host has: what is counted, and the rest as facts.
pub fn inventory_of(inventory: &wire::Inventory) -> HostInventory {
    let mut facts = serde_json::json!({
        "sockets": inventory.sockets,
        "cores": inventory.cores,
        "threads": inventory.threads,
        "memory_mib": inventory.memory_mib,
        "numa": inventory.numa.iter().take(LIST_MAX).map(|node| serde_json::json!({
            "id": node.id, "memory_mib": node.memory_mib, "cpus": &node.cpus[..node.cpus.len().min(LIST_MAX)],
        })).collect::<Vec<_>>(),
        // Free pages change by the minute and are load, not inventory.
        "hugepages": inventory.hugepages.iter().take(LIST_MAX).map(|pages| serde_json::json!({
            "size_kib": pages.size_kib, "total": pages.total,
        })).collect::<Vec<_>>(),
        "filesystems": inventory.filesystems.iter().take(LIST_MAX).map(|fs| serde_json::json!({
            "mount": fs.mount, "fstype": fs.fstype, "device": fs.device,
            "total_mib": fs.total_mib, "holds_guests": fs.holds_guests,
        })).collect::<Vec<_>>(),
        "nics": inventory.nics.iter().take(LIST_MAX).map(|nic| serde_json::json!({
            "name": nic.name, "mac": nic.mac, "speed_mbps": nic.speed_mbps, "up": nic.up,
        })).collect::<Vec<_>>(),
        "cpu_model": inventory.cpu_model,
        "kernel": inventory.kernel,
        "os": inventory.os,
        "hypervisor": inventory.hypervisor,
        "hypervisor_version": inventory.hypervisor_version,
        "libvirt_version": inventory.libvirt_version,
        "reserved_cpu_milli": inventory.reserved_cpu_milli,
        "reserved_memory_mib": inventory.reserved_memory_mib,
        "reserved_storage_gib": inventory.reserved_storage_gib,
        "gpus": &inventory.gpus[..inventory.gpus.len().min(LIST_MAX)],
        "guests_dir": inventory.guests_dir,
    });
    // What is no address is nowhere to be asked.
    let address = &inventory.status_address;
    if is_host_port(address) {
        facts["status_address"] = address.as_str().into();
    }
    HostInventory {
        cpu_milli: inventory.schedulable_cpu_milli,
        memory_mib: inventory.schedulable_memory_mib,
        storage_gib: inventory.schedulable_storage_gib,
        gpus: u64::from(inventory.schedulable_gpus),
        foreign: inventory.foreign.as_ref().map(foreign),
        facts,
    }
}

/// Domains that are not ours, as many as there may be in a message. What is beyond what is kept of them is the
/// logic's to cut.
fn foreign(foreign: &wire::ForeignDomains) -> Foreign {
    let domains = foreign.domains.iter().take(LIST_MAX);
    Foreign {
        domains: domains.filter_map(foreign_domain).collect(),
        unlisted: foreign.unlisted,
        unlisted_take: Amounts {
            cpu_cores: foreign.unlisted_cpu_cores,
            memory_mib: foreign.unlisted_memory_mib,
            storage_gib: foreign.unlisted_storage_gib,
            gpus: foreign.unlisted_gpus,
        },
        take: Amounts::default(),
    }
}

fn foreign_domain(domain: &wire::ForeignDomain) -> Option<ForeignDomain> {
    let disks = domain.disks.iter().take(LIST_MAX);
    let obstacles = domain.obstacles.iter().take(LIST_MAX);
    Some(ForeignDomain {
        domain_id: ObjectId::from_slice(&domain.domain_id)?,
        name: domain.name.clone(),
        state: match domain.phase() {
            wire::Phase::Stopped => ForeignState::Off,
            wire::Phase::Stopping => ForeignState::Stopping,
            wire::Phase::Paused => ForeignState::Paused,
            // What nobody knows takes as much as what runs.
            _ => ForeignState::Running,
        },
        autostart: domain.autostart,
        cpu_cores: domain.cpu_cores,
        memory_mib: domain.memory_mib,
        storage_gib: domain.storage_gib,
        gpus: u64::from(domain.gpus),
        disks: disks
            .map(|disk| ForeignDisk {
                target: disk.target.clone(),
                capacity_mib: Some(disk.capacity_mib).filter(|size| *size > 0),
                elsewhere: disk.elsewhere,
            })
            .collect(),
        obstacles: obstacles.cloned().collect(),
    })
}

/// A report; what is malformed in it is left out.
pub fn report_of(observed: &wire::ObservedState) -> ObservedReport {
    ObservedReport {
        complete: observed.complete,
        vms: observed.vms.iter().filter_map(observed_vm).collect(),
        confirmed: observed
            .confirmed
            .iter()
            .filter_map(|stone| Some((ObjectId::from_slice(&stone.vm_id)?, stone.placement_epoch)))
            .collect(),
    }
}

fn observed_vm(vm: &wire::ObservedVm) -> Option<ObservedVm> {
    Some(ObservedVm {
        vm_id: ObjectId::from_slice(&vm.vm_id)?,
        placement_epoch: vm.placement_epoch,
        phase: match vm.phase() {
            wire::Phase::Unspecified => return None,
            wire::Phase::Creating => ObservedPhase::Creating,
            wire::Phase::Starting => ObservedPhase::Starting,
            wire::Phase::Running => ObservedPhase::Running,
            wire::Phase::Stopping => ObservedPhase::Stopping,
            wire::Phase::Stopped => ObservedPhase::Stopped,
            wire::Phase::Restarting => ObservedPhase::Restarting,
            wire::Phase::Deleting => ObservedPhase::Deleting,
            wire::Phase::Error => ObservedPhase::Error,
            wire::Phase::Unknown => ObservedPhase::Unknown,
            wire::Phase::Orphan => ObservedPhase::Orphan,
            wire::Phase::Paused => ObservedPhase::Paused,
        },
        reason: vm.reason.clone(),
        message: vm.message.clone(),
        pid: vm.pid,
        generation: vm.generation,
        restarts: vm.restarts,
        power_serial: vm.power_serial,
        carried_out: vm.carried_out,
    })
}
