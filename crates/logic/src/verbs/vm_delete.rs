//! Deleting a VM: legal in every phase, once no disk is attached to it.

use std::sync::Arc;
use std::time::Duration;

use virtflow_model::kinds::VirtualMachine;
use virtflow_model::kinds::operation::OperationState;
use virtflow_model::kinds::virtual_machine::VmPhase;
use virtflow_model::{Action, Kind, Permission};
use virtflow_state::Object;
use virtflow_types::{Error, ErrorCode, ObjectId};

use super::{Done, Outcome};
use crate::door::Door;
use crate::draft::Draft;
use crate::explain::call;
use crate::limits::DELETING_MAX;
use crate::operations::{End, unfinished, verb};
use crate::request::Delete;
use crate::typed::decoded;
use crate::vm::{allowed, attachments_of, enter, is_online};

/// How long the operation waits beyond the VM's own deadline, after which the VM goes in any case.
const BEYOND_DEADLINE: Duration = Duration::from_secs(60);

pub(crate) fn run<'a>(door: &Door<'a>, delete: &Delete) -> Done<'a> {
    let tenant = door.tenant(delete.tenant.as_deref())?;
    let vm = door.find(Kind::VirtualMachine, &delete.target, tenant)?;
    let permission = Permission::new(Kind::VirtualMachine, Action::Delete);
    let draft = door.draft_for(permission, &vm)?;
    door.refuse_if_read_only(vm.tenant)?;
    door.check_generation(&vm)?;
    refuse_while_needed(&draft, &vm, None)?;
    begin(door, draft, vm)
}

/// What somebody made of a VM keeps it, until they let it go; but for what lets it go now.
pub(crate) fn refuse_while_needed(
    draft: &Draft<'_>,
    vm: &Object,
    but: Option<ObjectId>,
) -> Result<(), Error> {
    let state = draft.state;
    let linking = state.linking_to(vm.id).filter(|id| Some(*id) != but);
    let linking = linking.filter_map(|id| state.get(id));
    for object in linking {
        let advice = match Kind::of_name(&object.kind) {
            Some(Kind::Instance) => "delete the instance; its VM goes with it",
            // These are about the VM and nothing without it, or go back when it goes; disks are asked for
            // when its end begins.
            Some(
                Kind::RoleBinding
                | Kind::InstanceSetMember
                | Kind::IpAddress
                | Kind::DiskAttachment,
            ) => continue,
            _ => "delete it first",
        };
        return Err(Error::new(
            ErrorCode::InUse,
            format!("{} is needed by {}", call(vm), call(object)),
        )
        .advise(advice));
    }
    Ok(())
}

/// Begins the end of a VM, with an operation. Whoever asks was admitted.
pub(crate) fn begin<'a>(door: &Door<'a>, mut draft: Draft<'a>, vm: Arc<Object>) -> Done<'a> {
    let action = verb::<VirtualMachine>("delete");
    if decoded::<VirtualMachine>(&vm)?.status.phase == VmPhase::Deleting {
        let running = unfinished(door.state, vm.id).into_iter().next();
        let mut outcome = Outcome::new(action, 202, vm);
        outcome.operation = running;
        return Ok((draft, outcome));
    }
    if let Some(attachment) = attachments_of(door.state, vm.id).first() {
        return Err(Error::new(
            ErrorCode::InUse,
            format!("{} still has a disk attached", call(&vm)),
        )
        .advise(format!("delete the disk_attachment {attachment} first")));
    }
    let operation = draft.begin(
        &action,
        &vm,
        0,
        "waits for its host to remove it",
        DELETING_MAX + BEYOND_DEADLINE,
    )?;
    let ended = delete_vm(&mut draft, &vm, Some(operation.id))?;
    let gone = draft.get(vm.id).is_none();
    if let Some(message) = ended {
        draft.end(operation.id, &End::Completed(message.into()))?;
    } else {
        let message = "its host removes it";
        draft.advance(operation.id, OperationState::Running, 10, message, None)?;
    }
    let operation = draft.get(operation.id).unwrap_or(operation);
    let object = draft.get(vm.id).unwrap_or(vm);
    let mut outcome = Outcome::new(action, 202, object).operation(operation);
    outcome.gone = gone;
    Ok((draft, outcome))
}

/// Begins the end of a VM. Says how it ended if it is gone at once: because no host has it, or because its
/// host is silent and a residue stays behind. All operations about it but one are overtaken.
pub(crate) fn delete_vm(
    draft: &mut Draft<'_>,
    vm: &Arc<Object>,
    operation: Option<ObjectId>,
) -> Result<Option<&'static str>, Error> {
    let overtaken = End::Cancelled("overtaken by the VM's deletion".into());
    draft.end_all(vm.id, operation, &overtaken)?;
    let typed = decoded::<VirtualMachine>(vm)?;
    let Some(placement) = &typed.status.placement else {
        draft.remove_vm(vm)?;
        return Ok(Some("deleted; no host had it"));
    };
    if !is_online(draft.state, placement.host_id) {
        draft.remove_vm_leaving_residue(vm)?;
        return Ok(Some(
            "deleted; its host is silent and keeps a residue until it confirms",
        ));
    }
    let now = draft.cx.now;
    draft.update::<VirtualMachine>(vm.id, |spec, status| {
        let deadline = allowed(VmPhase::Deleting, spec.grace_s);
        enter(status, VmPhase::Deleting, now, deadline, "", "");
    })?;
    Ok(None)
}
