//! What is common to the verbs, observations and loops that move a VM through its life.
//!
//! ```text
//!  create ─▶ pending ─(placer)─▶ creating ─▶ running ◀─▶ stopping / starting / restarting ◀─▶ stopped
//!                                   │            any of them ─▶ error, unknown (host silent) ─▶ back
//!                                   └─ any ─(delete)─▶ deleting ─(host confirms)─▶ gone
//!                                                          └─(host silent, or too late)─▶ gone + residue
//! ```
//! Every phase that must end has a deadline; `deadlines` ends those that do not end by themselves.

use std::time::Duration;

use virtflow_model::kinds::baremetal::Liveness;
use virtflow_model::kinds::residue::{ResidueSpec, ResidueStatus};
use virtflow_model::kinds::virtual_machine::{PowerAct, VirtualMachineStatus, VmPhase};
use virtflow_model::kinds::{Baremetal, Residue, RoleBinding, VirtualMachine};
use virtflow_model::{Amounts, Kind};
use virtflow_state::{Object, State};
use virtflow_types::{Error, ErrorCode, ObjectId, Timestamp};

use crate::draft::{Draft, Place, internal};
use crate::limits::{CASCADE_MAX, CREATING_MAX, DELETING_MAX, STARTING_MAX, STOPPING_MAX};
use crate::typed::decoded;

/// Enters a phase.
pub(crate) fn enter(
    status: &mut VirtualMachineStatus,
    phase: VmPhase,
    now: Timestamp,
    allowed: Option<Duration>,
    reason: &str,
    message: &str,
) {
    if status.phase != phase {
        status.phase = phase;
        status.phase_since = now;
    }
    status.deadline = allowed.map(|span| now.plus(span));
    reason.clone_into(&mut status.reason);
    message.clone_into(&mut status.message);
    if phase != VmPhase::Running {
        status.pid = 0;
    }
}

/// The longest a VM may stay in a phase; `None` for phases it may stay in for ever.
pub(crate) fn allowed(phase: VmPhase, grace_s: u32) -> Option<Duration> {
    let grace = Duration::from_secs(u64::from(grace_s));
    match phase {
        VmPhase::Creating => Some(CREATING_MAX),
        VmPhase::Starting => Some(STARTING_MAX),
        VmPhase::Stopping => Some(grace + STOPPING_MAX),
        VmPhase::Restarting => Some(grace + STOPPING_MAX + STARTING_MAX),
        VmPhase::Deleting => Some(DELETING_MAX),
        VmPhase::Pending
        | VmPhase::Running
        | VmPhase::Stopped
        | VmPhase::Error
        | VmPhase::Unknown => None,
    }
}

/// The phase in which a host carries out an act.
pub(crate) fn phase_of(act: PowerAct) -> VmPhase {
    match act {
        PowerAct::Start => VmPhase::Starting,
        PowerAct::Stop | PowerAct::ForceStop => VmPhase::Stopping,
        PowerAct::Reboot | PowerAct::ForceReboot => VmPhase::Restarting,
    }
}

/// True if the host's agent speaks and is believed.
pub(crate) fn is_online(state: &State, host: ObjectId) -> bool {
    state
        .get(host)
        .and_then(|host| decoded::<Baremetal>(host).ok())
        .is_some_and(|host| host.status.liveness == Liveness::Online)
}

/// Refuses to put something on a VM that goes; `called` is how it is called.
pub(crate) fn refuse_leaving(vm: &Object, called: &str) -> Result<(), Error> {
    if decoded::<VirtualMachine>(vm)?.status.phase != VmPhase::Deleting {
        return Ok(());
    }
    let message = format!("{called} is being deleted");
    Err(Error::new(ErrorCode::Conflict, message).advise("name a VM that stays"))
}

/// What attaches disks to a VM.
pub(crate) fn attachments_of(state: &State, vm: ObjectId) -> Vec<ObjectId> {
    let linked = state.linking_to(vm);
    linked
        .filter(|id| {
            state
                .get(*id)
                .is_some_and(|object| object.kind == Kind::DiskAttachment.name())
        })
        .collect()
}

impl Draft<'_> {
    /// The VM is gone: its row, and whatever hangs on it; its addresses go back. What should have kept it from being
    /// deleted was asked when its deletion began; by now the guest is gone, and nothing may hold up the record of that.
    pub(crate) fn remove_vm(&mut self, vm: &Object) -> Result<(), Error> {
        self.release_addresses_of(vm.id)?;
        for attachment in attachments_of(self.state, vm.id) {
            self.delete_bindings_over(attachment)?;
            self.delete(attachment);
        }
        self.delete_bindings_over(vm.id)?;
        let goes_along = [
            Kind::Instance,
            Kind::InstanceSetMember,
            Kind::Snapshot,
            Kind::BastionClusterAssociation,
        ];
        self.delete_hanging_on(vm.id, &goes_along, || {
            internal(format!(
                "more than {CASCADE_MAX} objects hang on VM {}; delete some of them first",
                vm.id
            ))
        })?;
        let placement = decoded::<VirtualMachine>(vm)?.status.placement.clone();
        self.delete(vm.id);
        // If its host never took its domain over, that is somebody else's again.
        match placement.filter(|at| at.adopted_domain.is_some()) {
            Some(placement) => self.recount_foreign(placement.host_id, None),
            None => Ok(()),
        }
    }

    /// Deletes what links to an object and is of these kinds, and the bindings over it; none of it where there is more than
    /// one step takes.
    pub(crate) fn delete_hanging_on(
        &mut self,
        on: ObjectId,
        kinds: &[Kind],
        too_many: impl FnOnce() -> Error,
    ) -> Result<(), Error> {
        let state = self.state;
        let goes_along = |id: &ObjectId| {
            let object = state.get(*id);
            object.is_some_and(|object| kinds.iter().any(|kind| object.kind == kind.name()))
        };
        let hanging = state.linking_to(on).filter(goes_along);
        let hanging: Vec<ObjectId> = hanging.take(CASCADE_MAX + 1).collect();
        if hanging.len() > CASCADE_MAX {
            return Err(too_many());
        }
        for object in hanging {
            self.delete_bindings_over(object)?;
            self.delete(object);
        }
        Ok(())
    }

    /// The VM is gone from the books while its host has not confirmed it: the host's capacity and the
    /// order to remove it pass to a residue. Without a placement nothing remains.
    pub(crate) fn remove_vm_leaving_residue(&mut self, vm: &Object) -> Result<(), Error> {
        let typed = decoded::<VirtualMachine>(vm)?;
        if let Some(placement) = &typed.status.placement {
            let spec = ResidueSpec {
                host_id: placement.host_id,
                vm_id: vm.id,
                vm_name: vm.name.to_string(),
                placement_epoch: typed.status.placement_epoch,
                amounts: Amounts {
                    cpu_cores: u64::from(typed.spec.cpu_cores),
                    memory_mib: typed.spec.memory_mib,
                    storage_gib: typed.spec.storage_gib,
                    gpus: u64::from(typed.spec.gpu_count),
                },
            };
            self.create::<Residue>(Place::default(), spec, ResidueStatus::default())?;
        }
        self.remove_vm(vm)
    }

    /// Role bindings whose scope or group of subjects goes, go with it. Those of a role stay, and the role with them.
    pub(crate) fn delete_bindings_over(&mut self, scope: ObjectId) -> Result<(), Error> {
        let bindings: Vec<ObjectId> = self
            .state
            .linking_to(scope)
            .filter(|id| {
                let binding = self.state.get(*id);
                let binding = binding.filter(|object| object.kind == Kind::RoleBinding.name());
                binding
                    .and_then(|binding| decoded::<RoleBinding>(binding).ok())
                    .is_some_and(|binding| binding.spec.role_id != scope)
            })
            .take(CASCADE_MAX + 1)
            .collect();
        if bindings.len() > CASCADE_MAX {
            return Err(internal(format!(
                "more than {CASCADE_MAX} role bindings are scoped to {scope}; delete them first"
            )));
        }
        for binding in bindings {
            self.delete(binding);
        }
        Ok(())
    }
}
