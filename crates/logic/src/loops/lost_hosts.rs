use virtflow_model::kinds::baremetal::Liveness;
use virtflow_model::kinds::virtual_machine::VmPhase;
use virtflow_model::kinds::{Baremetal, VirtualMachine};
use virtflow_model::{Kind, key};
use virtflow_state::{Changeset, State};
use virtflow_types::{Error, ObjectId, Timestamp};

use super::packed;
use crate::draft::Draft;
use crate::limits::Limits;
use crate::operations::End;
use crate::typed::decoded;
use crate::vm::enter;

/// What is bound to a host that is not heard: nothing is known of it, and what was being deleted goes at
/// once, leaving a residue. The edge itself does the same; this finds what a crash left undone.
pub fn lost_hosts(state: &State, now: Timestamp, limits: &Limits) -> Vec<Changeset> {
    let silent = state
        .of_kind(Kind::Baremetal.name(), None)
        .filter(|host| {
            decoded::<Baremetal>(host).is_ok_and(|host| host.status.liveness != Liveness::Online)
        })
        .flat_map(|host| unsettled(state, host.id));
    packed(state, now, limits, silent, lose_vm)
}

/// VMs of a host that its silence has not reached yet.
pub(crate) fn unsettled(state: &State, host: ObjectId) -> impl Iterator<Item = ObjectId> + use<'_> {
    let vms = state.by_key(key::VM_HOST, &host.to_string(), None);
    vms.filter(|vm| {
        decoded::<VirtualMachine>(vm).is_ok_and(|vm| vm.status.phase != VmPhase::Unknown)
    })
    .map(|vm| vm.id)
}

/// Nothing is known of this VM any more.
pub(crate) fn lose_vm(draft: &mut Draft<'_>, id: ObjectId) -> Result<(), Error> {
    let typed = draft.typed::<VirtualMachine>(id)?;
    let (Some(vm), Some(placement)) = (draft.get(id), &typed.status.placement) else {
        return Ok(());
    };
    if typed.status.phase == VmPhase::Deleting {
        draft.remove_vm_leaving_residue(&vm)?;
        let message = "deleted; its host is silent and keeps a residue until it confirms";
        return draft.end_all(id, None, &End::Completed(message.into()));
    }
    let now = draft.cx.now;
    let host = draft.state.get(placement.host_id);
    let host = host.map_or("?", |host| host.name.as_str());
    let message = format!("its host `{host}` is silent; the guest may still run there");
    draft
        .update::<VirtualMachine>(id, |_, status| {
            enter(status, VmPhase::Unknown, now, None, "host_lost", &message);
        })
        .map(drop)
}
