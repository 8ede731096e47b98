//! Instances follow what realises them: the state of one is that of its VM or of its host, changed in the same
//! changeset.

use std::sync::Arc;

use virtflow_model::kinds::baremetal::Liveness;
use virtflow_model::kinds::virtual_machine::VmPhase;
use virtflow_model::kinds::{Baremetal, Instance, VirtualMachine};
use virtflow_model::{Kind, Resource};
use virtflow_state::Object;
use virtflow_types::ObjectId;

use crate::draft::Draft;
use crate::typed::decoded;

/// The state of an instance whose host is heard like that. Nothing is installed on it, so all that is known is whether
/// it is there.
pub(crate) const fn state_of(host: Liveness) -> VmPhase {
    match host {
        Liveness::Online => VmPhase::Running,
        Liveness::Never | Liveness::Offline | Liveness::Quarantined => VmPhase::Unknown,
    }
}

/// Gives the instances of the VMs and hosts that a draft changes the state of these.
pub(crate) fn follow(draft: &mut Draft<'_>) {
    for before in draft.touched() {
        // What cannot be read could not have been changed either.
        if before.kind == VirtualMachine::KIND.name() {
            let _ = follow_vm(draft, &before);
        } else if before.kind == Baremetal::KIND.name() {
            let _ = follow_host(draft, &before);
        }
    }
}

fn follow_vm(draft: &mut Draft<'_>, before: &Arc<Object>) -> Result<(), virtflow_types::Error> {
    let Some(after) = draft.get(before.id) else {
        return Ok(());
    };
    let phase = decoded::<VirtualMachine>(&after)?.status.phase;
    if decoded::<VirtualMachine>(before)?.status.phase == phase {
        return Ok(());
    }
    let state = draft.state;
    let mut hanging = state.linking_to(before.id).filter_map(|id| state.get(id));
    match hanging.find(|it| it.kind == Kind::Instance.name()) {
        Some(instance) => be(draft, instance.id, phase),
        None => Ok(()),
    }
}

fn follow_host(draft: &mut Draft<'_>, before: &Arc<Object>) -> Result<(), virtflow_types::Error> {
    let Some(after) = draft.get(before.id) else {
        return Ok(());
    };
    let host = decoded::<Baremetal>(&after)?;
    match host.status.instance_id {
        Some(instance) => be(draft, instance, state_of(host.status.liveness)),
        None => Ok(()),
    }
}

fn be(
    draft: &mut Draft<'_>,
    instance: ObjectId,
    phase: VmPhase,
) -> Result<(), virtflow_types::Error> {
    if draft.get(instance).is_some() {
        draft.update::<Instance>(instance, |_, status| status.state = phase)?;
    }
    Ok(())
}
