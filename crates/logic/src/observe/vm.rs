//! What a host says of its VMs.
//!
//! A report counts only if the host owns the VM under the epoch it names. In a phase that somebody asked
//! for, only its end counts: the host says it carried the act out, or failed. In any other phase what is
//! seen is what is.

use virtflow_model::kinds::baremetal::Liveness;
use virtflow_model::kinds::virtual_machine::{VirtualMachineStatus, VmPhase};
use virtflow_model::kinds::{Baremetal, Residue, VirtualMachine};
use virtflow_model::space;
use virtflow_state::{Changeset, State};
use virtflow_types::{Error, ErrorCode, ObjectId, RequestId, Timestamp};

use crate::audit::Entry;
use crate::draft::Draft;
use crate::limits::{Limits, MESSAGE_BYTES_MAX, REASON_BYTES_MAX};
use crate::loops::{DEADLINE_EXCEEDED, packed};
use crate::operations::{End, unfinished};
use crate::typed::decoded;
use crate::vm::{allowed, enter, phase_of};

/// A host's report.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ObservedReport {
    /// It names every VM of the host.
    pub complete: bool,
    /// What it sees.
    pub vms: Vec<ObservedVm>,
    /// VMs and placement epochs of which nothing is left.
    pub confirmed: Vec<(ObjectId, u64)>,
}

/// One VM as its host sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedVm {
    /// The VM.
    pub vm_id: ObjectId,
    /// The binding under which the host has it.
    pub placement_epoch: u64,
    /// What it does.
    pub phase: ObservedPhase,
    /// One snake_case word.
    pub reason: String,
    /// One sentence.
    pub message: String,
    /// Process id of QEMU, 0 if it does not run.
    pub pid: u32,
    /// Generation last acted on.
    pub generation: u64,
    /// Restarts by the agent itself.
    pub restarts: u64,
    /// The act on its power last carried out; with an error, the one that failed.
    pub power_serial: u64,
    /// What was asked for is so.
    pub carried_out: bool,
}

/// What a VM does, as its host sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObservedPhase {
    /// Is being made.
    Creating,
    /// Is being started.
    Starting,
    /// Runs.
    Running,
    /// Is being stopped.
    Stopping,
    /// Does not run.
    Stopped,
    /// Is being restarted.
    Restarting,
    /// Is being removed.
    Deleting,
    /// Failed.
    Error,
    /// The host cannot tell.
    Unknown,
    /// The host has it though nobody asked for it.
    Orphan,
    /// Is held.
    Paused,
}

/// Brings a report into the state. Empty if it says nothing new, comes under an old epoch, or from a host
/// that is not online. One report may need several changesets; they do not depend on one another.
pub fn observed(
    state: &State,
    request_id: RequestId,
    now: Timestamp,
    host: ObjectId,
    host_epoch: u64,
    report: &ObservedReport,
) -> Vec<Changeset> {
    let speaks = state
        .get(host)
        .and_then(|host| decoded::<Baremetal>(host).ok())
        .is_some_and(|host| {
            host.status.liveness == Liveness::Online && host.status.host_epoch == host_epoch
        });
    if !speaks {
        return Vec::new();
    }
    let limits = Limits::default();
    let mut changesets = packed(state, now, &limits, &report.vms, |draft, seen| {
        see(draft, host, seen)
    });
    changesets.extend(packed(
        state,
        now,
        &limits,
        &report.confirmed,
        |draft, gone| confirm(draft, host, *gone),
    ));
    if let Some(first) = changesets.first_mut() {
        first.request_id = request_id;
    }
    changesets
}

fn see(draft: &mut Draft<'_>, host: ObjectId, seen: &ObservedVm) -> Result<(), Error> {
    let Some(before) = draft.get(seen.vm_id) else {
        return Ok(());
    };
    let typed = decoded::<VirtualMachine>(&before)?;
    let status = &typed.status;
    let owns = status
        .placement
        .as_ref()
        .is_some_and(|at| at.host_id == host)
        && status.placement_epoch == seen.placement_epoch;
    if !owns || status.phase == VmPhase::Deleting {
        return Ok(());
    }
    let Some(next) = judge(status, seen) else {
        return Ok(());
    };
    let now = draft.cx.now;
    let after = draft.update::<VirtualMachine>(seen.vm_id, |spec, status| {
        let deadline = if next.phase == status.phase && next.phase.is_transitional() {
            status.deadline
        } else {
            allowed(next.phase, spec.grace_s).map(|span| now.plus(span))
        };
        enter(status, next.phase, now, None, &next.reason, &next.message);
        status.deadline = deadline;
        status.restarts = seen.restarts;
        status.observed_generation = seen.generation;
        if next.phase == VmPhase::Running {
            status.pid = seen.pid;
        }
    })?;
    if next.phase != status.phase {
        draft.audit(&Entry {
            action: "virtual_machine.observed",
            object: &after,
            before: None,
            note: &format!(
                "{} after {}: {}",
                next.phase.name(),
                status.phase.name(),
                next.reason
            ),
        });
    }
    let end = match next.ends {
        Ends::Nothing => return Ok(()),
        Ends::Well => End::Completed(match next.phase {
            VmPhase::Running => "it runs".into(),
            _ => "it is stopped".into(),
        }),
        Ends::Badly => End::Failed(failure(&before.name, &next)),
    };
    for operation in unfinished(draft.state, seen.vm_id) {
        draft.end(operation.id, &end)?;
    }
    Ok(())
}

/// What becomes of the VM, and of who waits for it.
struct Next {
    phase: VmPhase,
    reason: String,
    message: String,
    ends: Ends,
}

enum Ends {
    Nothing,
    Well,
    Badly,
}

fn judge(status: &VirtualMachineStatus, seen: &ObservedVm) -> Option<Next> {
    let says = match seen.phase {
        ObservedPhase::Creating => VmPhase::Creating,
        ObservedPhase::Starting => VmPhase::Starting,
        ObservedPhase::Running => VmPhase::Running,
        ObservedPhase::Stopping => VmPhase::Stopping,
        ObservedPhase::Stopped => VmPhase::Stopped,
        ObservedPhase::Restarting => VmPhase::Restarting,
        ObservedPhase::Error | ObservedPhase::Paused => VmPhase::Error,
        ObservedPhase::Deleting | ObservedPhase::Unknown | ObservedPhase::Orphan => return None,
    };
    let reason = match (seen.phase, seen.reason.is_empty()) {
        (ObservedPhase::Paused, true) => "paused".to_owned(),
        _ => clean(&seen.reason, REASON_BYTES_MAX),
    };
    let next = |phase, ends| {
        Some(Next {
            phase,
            reason: reason.clone(),
            message: clean(&seen.message, MESSAGE_BYTES_MAX),
            ends,
        })
    };
    if seen.power_serial < status.power_serial {
        // It has not heard of the last act. If it was given up as lost, it hears of it now.
        return match (status.phase, status.power_act) {
            (VmPhase::Unknown, Some(act)) => Some(Next {
                phase: phase_of(act),
                reason: String::new(),
                message: "its host is back and is told what was asked for meanwhile".into(),
                ends: Ends::Nothing,
            }),
            _ => None,
        };
    }
    let settled = seen.carried_out && matches!(says, VmPhase::Running | VmPhase::Stopped);
    if status.phase.is_transitional() {
        return match says {
            _ if settled => next(says, Ends::Well),
            VmPhase::Error => next(says, Ends::Badly),
            // It ran, and was gone before anybody could see it run.
            VmPhase::Stopped if status.phase != VmPhase::Stopping && !seen.reason.is_empty() => {
                next(says, Ends::Well)
            }
            _ => None,
        };
    }
    if status.reason == DEADLINE_EXCEEDED && says.is_transitional() {
        return None;
    }
    match says {
        VmPhase::Error => next(says, Ends::Badly),
        _ if settled => next(says, Ends::Well),
        _ => next(says, Ends::Nothing),
    }
}

fn failure(name: &str, next: &Next) -> Error {
    let why = match (next.message.is_empty(), next.reason.is_empty()) {
        (false, _) => next.message.clone(),
        (true, false) => next.reason.replace('_', " "),
        (true, true) => "its host does not say why".into(),
    };
    Error::new(
        ErrorCode::Internal,
        format!("VM `{name}` failed on its host: {why}"),
    )
    .advise("look at its console and its host's agent log, then start or delete it")
}

/// The host has nothing left of a VM under that epoch.
fn confirm(
    draft: &mut Draft<'_>,
    host: ObjectId,
    (vm, epoch): (ObjectId, u64),
) -> Result<(), Error> {
    let pair = format!("residue/{vm}/{epoch}");
    if let Some(residue) = draft.state.holder(space::PAIR, pair.as_bytes()) {
        if decoded::<Residue>(residue)?.spec.host_id == host {
            draft.delete(residue.id);
            draft.audit(&Entry {
                action: "residue.confirmed",
                object: residue,
                before: None,
                note: "its host has nothing left of it",
            });
        }
        return Ok(());
    }
    let Some(object) = draft.get(vm) else {
        return Ok(());
    };
    let typed = decoded::<VirtualMachine>(&object)?;
    let owns = typed
        .status
        .placement
        .as_ref()
        .is_some_and(|at| at.host_id == host);
    if !owns || typed.status.placement_epoch != epoch || typed.status.phase != VmPhase::Deleting {
        return Ok(());
    }
    draft.remove_vm(&object)?;
    draft.audit(&Entry {
        action: "virtual_machine.deleted",
        object: &object,
        before: None,
        note: "its host has nothing left of it",
    });
    draft.end_all(vm, None, &End::Completed("deleted".into()))
}

/// An agent's words: short, and without control characters.
pub(crate) fn clean(text: &str, most: usize) -> String {
    let mut clean = String::new();
    for c in text.chars().filter(|c| !c.is_control()) {
        if clean.len() + c.len_utf8() > most {
            break;
        }
        clean.push(c);
    }
    clean
}
