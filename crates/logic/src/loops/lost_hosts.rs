use std::sync::Arc;

use virtflow_model::kinds::baremetal::Liveness;
use virtflow_model::kinds::virtual_machine::VmPhase;
use virtflow_model::kinds::{Baremetal, VirtualMachine};
use virtflow_model::{Kind, key};
use virtflow_state::{Change, Changeset, Object, State};
use virtflow_types::{Error, ObjectId, Timestamp};

use super::{Watching, changed_of, ids_of, packed};
use crate::draft::Draft;
use crate::limits::Limits;
use crate::operations::End;
use crate::typed::decoded;
use crate::vm::enter;

/// What is bound to a host that is not heard: nothing is known of it, and what was being deleted goes at
/// once, leaving a residue. The edge itself does the same; this finds what a crash left undone.
pub(super) const LOST_HOSTS: Watching = Watching {
    name: "lost_hosts",
    scan: |state| {
        let hosts = ids_of(state, Kind::Baremetal).into_iter();
        hosts
            .filter(|host| state.get(*host).is_some_and(is_silent))
            .flat_map(|host| unsettled(state, host))
            .collect()
    },
    touched,
    due: |state, vm| {
        bound_to(state, vm)
            .and_then(|host| state.get(host))
            .is_some_and(is_silent)
    },
    work: |state, now, limits, lost| packed(state, now, limits, lost.iter().copied(), lose_vm),
};

/// One pass over all hosts.
pub fn lost_hosts(state: &State, now: Timestamp, limits: &Limits) -> Vec<Changeset> {
    LOST_HOSTS.pass(state, now, limits)
}

fn is_silent(host: &Arc<Object>) -> bool {
    decoded::<Baremetal>(host).is_ok_and(|host| host.status.liveness != Liveness::Online)
}

/// The host of a VM whose loss is not settled.
fn bound_to(state: &State, vm: ObjectId) -> Option<ObjectId> {
    let vm = decoded::<VirtualMachine>(state.get(vm)?).ok()?;
    let placement = vm.status.placement.as_ref()?;
    (vm.status.phase != VmPhase::Unknown).then_some(placement.host_id)
}

/// The VM itself, or what is bound to a host that has fallen silent.
fn touched(state: &State, change: &Change) -> Vec<ObjectId> {
    let mut vms = changed_of(change, Kind::VirtualMachine);
    let fell_silent = change.after.as_ref().is_some_and(is_silent)
        && !change.before.as_ref().is_some_and(is_silent);
    if fell_silent {
        for host in changed_of(change, Kind::Baremetal) {
            vms.extend(unsettled(state, host));
        }
    }
    vms
}

/// VMs of a host that its silence has not reached yet.
pub(crate) fn unsettled(state: &State, host: ObjectId) -> impl Iterator<Item = ObjectId> + use<'_> {
    let vms = state.by_key(key::VM_HOST, &host.to_string(), None);
    // By the index key: a host may be silent for days, and every pass comes by here.
    vms.filter(|vm| {
        let mut keys = vm.footprint.keys.iter();
        !keys.any(|entry| entry.name == key::VM_PHASE && entry.value == VmPhase::Unknown.name())
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
