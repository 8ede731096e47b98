//! Start, stop, reboot: what is desired changes at once, the host follows.

use std::time::Duration;

use virtflow_model::kinds::VirtualMachine;
use virtflow_model::kinds::operation::OperationState;
use virtflow_model::kinds::virtual_machine::{Power as Wanted, PowerAct, VmPhase};
use virtflow_model::{Action, Kind, Permission};
use virtflow_types::{Error, ErrorCode};

use super::{Done, Outcome};
use crate::door::Door;
use crate::limits::OPERATION_MAX;
use crate::operations::{End, verb};
use crate::request::Power;
use crate::typed::decoded;
use crate::vm::{allowed, enter, is_online, phase_of};

pub(crate) fn run<'a>(door: &Door<'a>, power: &Power) -> Done<'a> {
    let tenant = door.tenant(power.tenant.as_deref())?;
    let vm = door.find(Kind::VirtualMachine, &power.target, tenant)?;
    let permission = Permission::new(Kind::VirtualMachine, Action::Execute);
    let mut draft = door.draft_for(permission, &vm)?;
    door.refuse_if_read_only(vm.tenant)?;
    door.check_generation(&vm)?;
    let typed = decoded::<VirtualMachine>(&vm)?;
    let status = &typed.status;
    let act = power.act;
    let word = word(act);
    let action = verb::<VirtualMachine>(word);
    if status.phase == VmPhase::Deleting {
        return Err(conflict(
            &format!("VM `{}` is being deleted", vm.name),
            "make another one",
        ));
    }
    let is_reboot = matches!(act, PowerAct::Reboot | PowerAct::ForceReboot);
    if is_reboot && !matches!(status.phase, VmPhase::Running | VmPhase::Unknown) {
        return Err(conflict(
            &format!(
                "VM `{}` is {}: only a running one is rebooted",
                vm.name,
                status.phase.name()
            ),
            "start it instead",
        ));
    }
    let wanted = match act {
        PowerAct::Stop | PowerAct::ForceStop => Wanted::Stopped,
        PowerAct::Start | PowerAct::Reboot | PowerAct::ForceReboot => Wanted::Running,
    };
    let now = door.cx.now;
    let serial = status.power_serial + 1;
    let online = status
        .placement
        .as_ref()
        .is_some_and(|at| is_online(door.state, at.host_id));
    let is_so = typed.spec.power == wanted
        && match act {
            PowerAct::Start => status.phase == VmPhase::Running,
            PowerAct::Stop | PowerAct::ForceStop => status.phase == VmPhase::Stopped,
            PowerAct::Reboot | PowerAct::ForceReboot => false,
        };
    let grace = Duration::from_secs(u64::from(typed.spec.grace_s));
    let operation = draft.begin(
        &action,
        &vm,
        if is_so { status.power_serial } else { serial },
        "waits for its host",
        OPERATION_MAX + grace,
    )?;
    if is_so {
        let done = format!("VM `{}` is {} already", vm.name, status.phase.name());
        draft.end(operation.id, &End::Completed(done))?;
        let operation = draft.get(operation.id).unwrap_or(operation);
        return Ok((draft, Outcome::new(action, 202, vm).operation(operation)));
    }
    let superseded = End::Cancelled(format!("overtaken by a later request to {word} the VM"));
    draft.end_all(vm.id, Some(operation.id), &superseded)?;
    let placed = status.placement.is_some();
    let after = draft.update::<VirtualMachine>(vm.id, |spec, status| {
        spec.power = wanted;
        if !placed {
            // No host has it: there is nothing to carry out, only something to look for.
            let phase = match wanted {
                Wanted::Running => VmPhase::Pending,
                Wanted::Stopped => VmPhase::Stopped,
            };
            enter(status, phase, now, None, "", "");
            return;
        }
        status.power_serial = serial;
        status.power_act = Some(act);
        if online {
            let phase = phase_of(act);
            enter(status, phase, now, allowed(phase, spec.grace_s), "", "");
        }
    })?;
    if !placed && wanted == Wanted::Stopped {
        let done = "it is on no host, so there was nothing to stop";
        draft.end(operation.id, &End::Completed(done.into()))?;
    } else if placed {
        let message = match online {
            true => "its host is told",
            false => "its host is silent; it is told when it is heard again",
        };
        draft.advance(operation.id, OperationState::Running, 10, message, None)?;
    }
    let operation = draft.get(operation.id).unwrap_or(operation);
    let outcome = Outcome::new(action, 202, after)
        .operation(operation)
        .before(vm);
    Ok((draft, outcome))
}

fn word(act: PowerAct) -> &'static str {
    match act {
        PowerAct::Start => "start",
        PowerAct::Stop | PowerAct::ForceStop => "stop",
        PowerAct::Reboot | PowerAct::ForceReboot => "reboot",
    }
}

fn conflict(message: &str, advice: &str) -> Error {
    Error::new(ErrorCode::Conflict, message).advise(advice)
}
