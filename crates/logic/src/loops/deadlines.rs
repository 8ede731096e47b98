//! What should have ended by now is ended: stuck phases and operations, and VMs whose deletion waits.

use serde::Deserialize;
use virtflow_model::key;
use virtflow_model::kinds::operation::OperationState;
use virtflow_model::kinds::virtual_machine::VmPhase;
use virtflow_model::kinds::{Operation, VirtualMachine};
use virtflow_state::{Changeset, Object, State};
use virtflow_types::{Error, ErrorCode, ObjectId, Timestamp};

use super::packed;
use crate::audit::Entry;
use crate::draft::Draft;
use crate::limits::Limits;
use crate::operations::{End, too_late};
use crate::vm::enter;

/// Phases that must end.
const TRANSITIONAL: &[VmPhase] = &[
    VmPhase::Creating,
    VmPhase::Starting,
    VmPhase::Stopping,
    VmPhase::Restarting,
    VmPhase::Deleting,
];
/// States in which an operation has not ended.
const UNFINISHED: &[OperationState] = &[OperationState::Pending, OperationState::Running];
/// Objects past their deadline that are told.
const OVERDUE_MAX: usize = 1000;
/// The reason of a VM that was given up on; its host may still prove that wrong.
pub(crate) const DEADLINE_EXCEEDED: &str = "deadline_exceeded";

/// Ends what did not end by itself: a VM in a phase that lasts too long is in error, one whose host does
/// not confirm its removal goes and leaves a residue, an operation that waits too long fails.
pub fn deadlines(state: &State, now: Timestamp, limits: &Limits) -> Vec<Changeset> {
    packed(state, now, limits, late_vms(state, now), give_up_vm)
        .into_iter()
        .chain(packed(
            state,
            now,
            limits,
            late_operations(state, now),
            give_up_operation,
        ))
        .collect()
}

/// Objects past their deadline, at most a thousand: what a healthy cluster has none of for long.
pub fn overdue(state: &State, now: Timestamp) -> Vec<ObjectId> {
    late_vms(state, now)
        .chain(late_operations(state, now))
        .take(OVERDUE_MAX)
        .collect()
}

fn late_vms(state: &State, now: Timestamp) -> impl Iterator<Item = ObjectId> {
    TRANSITIONAL.iter().flat_map(move |phase| {
        state
            .by_key(key::VM_PHASE, phase.name(), None)
            .filter(move |vm| is_late(vm, now))
            .map(|vm| vm.id)
    })
}

fn late_operations(state: &State, now: Timestamp) -> impl Iterator<Item = ObjectId> {
    UNFINISHED.iter().flat_map(move |far| {
        state
            .by_key(key::OPERATION_STATE, far.name(), None)
            .filter(move |operation| is_late(operation, now))
            .map(|operation| operation.id)
    })
}

/// Whether an object's deadline is over. Nothing else of it is read: all that is under way is looked at every second, and
/// after a mass of creations for which there is no room that is hundreds of thousands.
fn is_late(object: &Object, now: Timestamp) -> bool {
    #[derive(Deserialize)]
    struct Stored {
        status: Status,
    }
    #[derive(Deserialize)]
    struct Status {
        #[serde(default)]
        deadline: Option<Timestamp>,
    }
    let stored = serde_json::from_str::<Stored>(&object.status);
    let deadline = stored.ok().and_then(|stored| stored.status.deadline);
    deadline.is_some_and(|deadline| deadline <= now)
}

fn give_up_vm(draft: &mut Draft<'_>, id: ObjectId) -> Result<(), Error> {
    let now = draft.cx.now;
    let typed = draft.typed::<VirtualMachine>(id)?;
    let Some(deadline) = typed.status.deadline else {
        return Ok(());
    };
    let Some(vm) = draft.get(id) else {
        return Ok(());
    };
    if typed.status.phase == VmPhase::Deleting {
        draft.remove_vm_leaving_residue(&vm)?;
        let message = "deleted; its host has not confirmed it and keeps a residue until it does";
        draft.audit(&Entry {
            action: "virtual_machine.deleted",
            object: &vm,
            before: None,
            note: message,
        });
        return draft.end_all(id, None, &End::Completed(message.into()));
    }
    let error = too_late(
        &format!("{} of VM `{}`", typed.status.phase.name(), vm.name),
        deadline,
    );
    let after = draft.update::<VirtualMachine>(id, |_, status| {
        enter(
            status,
            VmPhase::Error,
            now,
            None,
            DEADLINE_EXCEEDED,
            &error.message,
        );
    })?;
    draft.audit(&Entry {
        action: "virtual_machine.deadline",
        object: &after,
        before: None,
        note: &error.message,
    });
    draft.end_all(id, None, &End::Failed(error))
}

fn give_up_operation(draft: &mut Draft<'_>, id: ObjectId) -> Result<(), Error> {
    let typed = draft.typed::<Operation>(id)?;
    let Some(deadline) = typed.status.deadline else {
        return Ok(());
    };
    let error = typed.status.error.clone().unwrap_or_else(|| {
        let mut error = too_late(
            &format!("{} `{}`", typed.spec.verb, typed.spec.target_name),
            deadline,
        );
        error.code = ErrorCode::Unavailable;
        error
    });
    draft.end(id, &End::Failed(error))
}
