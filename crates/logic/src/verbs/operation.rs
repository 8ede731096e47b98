//! Giving up an operation, where that is possible.

use virtflow_model::kinds::virtual_machine::VmPhase;
use virtflow_model::kinds::{Operation, VirtualMachine};
use virtflow_model::{Action, Kind, Permission};
use virtflow_types::{Error, ErrorCode};

use super::{Done, Outcome};
use crate::door::Door;
use crate::operations::{End, verb};
use crate::typed::decoded;

/// A VM that has no host yet is not made after all. What a host was told to do is undone by the opposite
/// request, not by forgetting that it was asked for.
pub(crate) fn cancel<'a>(door: &Door<'a>, target: &str) -> Done<'a> {
    let object = door.find(Kind::Operation, target, None)?;
    let permission = Permission::new(Kind::Operation, Action::Manage);
    let mut draft = door.draft_for(permission, &object)?;
    let typed = decoded::<Operation>(&object)?;
    if typed.status.state.is_final() {
        return Err(Error::new(
            ErrorCode::Conflict,
            format!("the operation is {} already", typed.status.state.name()),
        ));
    }
    let vm = draft.get(typed.spec.target_id);
    let waits = typed.spec.verb == verb::<VirtualMachine>("create")
        && vm.as_ref().is_some_and(|vm| {
            decoded::<VirtualMachine>(vm).is_ok_and(|vm| vm.status.phase == VmPhase::Pending)
        });
    let Some(vm) = vm.filter(|_| waits) else {
        return Err(Error::new(
            ErrorCode::Conflict,
            format!(
                "{} of `{}` is under way",
                typed.spec.verb, typed.spec.target_name
            ),
        )
        .advise("ask for the opposite: stop what was started, delete what was created"));
    };
    draft.remove_vm(&vm)?;
    draft.end(
        object.id,
        &End::Cancelled("given up before a host was found".into()),
    )?;
    let after = draft.get(object.id).unwrap_or(object);
    let outcome = Outcome::new("operation.cancel", 200, after.clone()).operation(after);
    Ok((draft, outcome))
}
