//! What a host should have: every VM bound to it, and every VM of which it should have nothing left.

use virtflow_model::key;
use virtflow_model::kinds::virtual_machine::{Power, PowerAct, RestartPolicy, VmPhase};
use virtflow_model::kinds::{Baremetal, Operation, Residue, VirtualMachine};
use virtflow_model::{Kind, Resource};
use virtflow_state::{Change, Object, State};
use virtflow_types::{ObjectId, RequestId, Text};

use crate::operations::unfinished;
use crate::typed::decoded;

/// The whole of it for one host. A VM that is not named is no order to remove anything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Desired {
    /// The host's epoch, as it was granted.
    pub host_epoch: u64,
    /// VMs it should have, in the order of their ids.
    pub vms: Vec<DesiredVm>,
    /// VMs and placement epochs of which nothing should be left.
    pub tombstones: Vec<(ObjectId, u64)>,
}

/// One VM as its host should have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredVm {
    /// The VM.
    pub vm_id: ObjectId,
    /// The binding.
    pub placement_epoch: u64,
    /// Grows with the spec.
    pub generation: u64,
    /// Its name.
    pub name: Text,
    /// Whose it is.
    pub tenant_id: ObjectId,
    /// Whole vCPUs.
    pub cpu_cores: u32,
    /// MiB.
    pub memory_mib: u64,
    /// GiB.
    pub storage_gib: u64,
    /// Whole GPUs.
    pub gpu_count: u32,
    /// Whether it should run.
    pub power: Power,
    /// The last act on its power that was asked for; it is carried out once.
    pub power_serial: u64,
    /// That act is a reboot.
    pub reboot: bool,
    /// That act skips the grace time.
    pub force: bool,
    /// Seconds a guest is given to shut down.
    pub grace_s: u32,
    /// What happens when the guest ends by itself.
    pub restart: RestartPolicy,
    /// UUID of the domain that was there before the VM and is taken over.
    pub adopted_domain: Option<ObjectId>,
}

/// What a host should have; empty for a host that is not known.
pub fn desired_of(state: &State, host: ObjectId) -> Desired {
    let mut desired = Desired::default();
    if let Some(typed) = state.get(host).and_then(|o| decoded::<Baremetal>(o).ok()) {
        desired.host_epoch = typed.status.host_epoch;
    }
    let value = host.to_string();
    for object in state.by_key(key::VM_HOST, &value, None) {
        let Ok(vm) = decoded::<VirtualMachine>(object) else {
            continue;
        };
        if vm.status.phase == VmPhase::Deleting {
            desired
                .tombstones
                .push((object.id, vm.status.placement_epoch));
            continue;
        }
        let act = vm.status.power_act;
        desired.vms.push(DesiredVm {
            vm_id: object.id,
            placement_epoch: vm.status.placement_epoch,
            generation: object.generation,
            name: object.name.clone(),
            tenant_id: object.tenant.unwrap_or(ObjectId::NIL),
            cpu_cores: vm.spec.cpu_cores,
            memory_mib: vm.spec.memory_mib,
            storage_gib: vm.spec.storage_gib,
            gpu_count: vm.spec.gpu_count,
            power: vm.spec.power,
            power_serial: vm.status.power_serial,
            reboot: matches!(act, Some(PowerAct::Reboot | PowerAct::ForceReboot)),
            force: matches!(act, Some(PowerAct::ForceStop | PowerAct::ForceReboot)),
            grace_s: vm.spec.grace_s,
            restart: vm.spec.restart_policy,
            adopted_domain: vm
                .status
                .placement
                .as_ref()
                .and_then(|at| at.adopted_domain),
        });
    }
    for object in state.by_key(key::RESIDUE_HOST, &value, None) {
        if let Ok(residue) = decoded::<Residue>(object) {
            let tombstone = (residue.spec.vm_id, residue.spec.placement_epoch);
            desired.tombstones.push(tombstone);
        }
    }
    desired
}

/// The requests behind what a host should have: that of the newest unfinished operation about each VM. They are for logs
/// and no part of what is wanted.
pub fn causes_of(state: &State, desired: &Desired) -> Vec<(ObjectId, RequestId)> {
    let vms = desired.vms.iter().map(|vm| vm.vm_id);
    let vms = vms.chain(desired.tombstones.iter().map(|(vm, _)| *vm));
    let cause = |vm| {
        let operation = unfinished(state, vm).pop()?;
        let typed = decoded::<Operation>(&operation).ok()?;
        Some((vm, typed.status.request_id?))
    };
    vms.filter_map(cause).collect()
}

/// The hosts, at most two, whose desired state a change may have moved.
pub fn hosts_touched(change: &Change) -> Vec<ObjectId> {
    let side = |object: Option<&std::sync::Arc<Object>>| object.and_then(|object| host_of(object));
    let mut hosts: Vec<ObjectId> = side(change.before.as_ref()).into_iter().collect();
    hosts.extend(side(change.after.as_ref()));
    hosts.dedup();
    hosts
}

/// The host that a VM is bound to or that a residue lies on.
pub(crate) fn host_of(object: &Object) -> Option<ObjectId> {
    match Kind::of_name(&object.kind)? {
        VirtualMachine::KIND => Some(
            decoded::<VirtualMachine>(object)
                .ok()?
                .status
                .placement
                .as_ref()?
                .host_id,
        ),
        Residue::KIND => Some(decoded::<Residue>(object).ok()?.spec.host_id),
        _ => None,
    }
}
