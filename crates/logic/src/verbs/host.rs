//! Cordon, uncordon, release from quarantine, remove.

use virtflow_model::kinds::baremetal::{HostState, Liveness};
use virtflow_model::kinds::virtual_machine::VmPhase;
use virtflow_model::kinds::{Baremetal, VirtualMachine};
use virtflow_model::{Action, Kind, Permission, key};
use virtflow_types::{Error, ErrorCode};

use super::delete::find;
use super::{Done, Outcome};
use crate::door::Door;
use crate::explain::call;
use crate::limits::CASCADE_MAX;
use crate::operations::End;
use crate::rental::refuse_while_rented;
use crate::request::{Delete, HostAct, HostVerb};
use crate::typed::decoded;
use crate::vm::enter;

pub(crate) fn run<'a>(door: &Door<'a>, act: &HostAct) -> Done<'a> {
    let host = door.find(Kind::Baremetal, &act.target, None)?;
    let permission = Permission::new(Kind::Baremetal, Action::Manage);
    let mut draft = door.draft_for(permission, &host)?;
    door.check_generation(&host)?;
    let typed = decoded::<Baremetal>(&host)?;
    let now = door.cx.now;
    let refuse = |advice: &str| {
        Err(Error::new(
            ErrorCode::Conflict,
            format!("{} is in state {:?}", call(&host), typed.spec.state).to_lowercase(),
        )
        .advise(advice))
    };
    let (action, after) = match (act.act, typed.spec.state) {
        (HostVerb::Cordon, HostState::Active | HostState::Cordoned) => (
            "baremetal.cordon",
            draft.update::<Baremetal>(host.id, |spec, _| spec.state = HostState::Cordoned)?,
        ),
        (HostVerb::Uncordon, HostState::Active | HostState::Cordoned) => (
            "baremetal.uncordon",
            draft.update::<Baremetal>(host.id, |spec, _| spec.state = HostState::Active)?,
        ),
        (HostVerb::Cordon | HostVerb::Uncordon, _) => {
            return refuse("set its state by `virtflow host update` first");
        }
        (HostVerb::ReleaseQuarantine, _) => {
            if typed.status.liveness != Liveness::Quarantined {
                return refuse("it is not quarantined, so there is nothing to release");
            }
            let release =
                |_: &mut _, status: &mut virtflow_model::kinds::baremetal::BaremetalStatus| {
                    status.liveness = Liveness::Offline;
                    status.liveness_since = now;
                };
            (
                "baremetal.release_quarantine",
                draft.update::<Baremetal>(host.id, release)?,
            )
        }
    };
    Ok((draft, Outcome::new(action, 200, after).before(host)))
}

/// A host goes when nothing of anybody's is on it. By force, when it is silent: then an operator's word
/// stands for the proof that it is dead, and its VMs are without a host.
pub(crate) fn delete<'a>(door: &Door<'a>, delete: &Delete) -> Done<'a> {
    let (host, mut draft) = find(door, delete, Action::Delete)?;
    let typed = decoded::<Baremetal>(&host)?;
    refuse_while_rented(door.state, &host, "go")?;
    let value = host.id.to_string();
    let vms: Vec<_> = door
        .state
        .by_key(key::VM_HOST, &value, None)
        .cloned()
        .collect();
    if let Some(vm) = vms.first() {
        if !delete.force {
            return Err(Error::new(
                ErrorCode::InUse,
                format!(
                    "{} still has {} VMs, {} among them",
                    call(&host),
                    vms.len(),
                    call(vm)
                ),
            )
            .advise("delete or move them first; if the machine is lost for good, use force"));
        }
        if typed.status.liveness == Liveness::Online {
            return Err(Error::new(
                ErrorCode::Conflict,
                format!("{} is online: its VMs are not lost", call(&host)),
            )
            .advise("stop its agent and wait until it is offline, or delete its VMs"));
        }
    }
    let residues: Vec<_> = door
        .state
        .by_key(key::RESIDUE_HOST, &value, None)
        .cloned()
        .collect();
    if vms.len() + residues.len() > CASCADE_MAX {
        return Err(Error::new(
            ErrorCode::InUse,
            format!(
                "{} has {} VMs and residues, more than {CASCADE_MAX} that go along at once",
                call(&host),
                vms.len() + residues.len()
            ),
        )
        .advise("delete some of its VMs first"));
    }
    let now = door.cx.now;
    for vm in &vms {
        if decoded::<VirtualMachine>(vm)?.status.phase == VmPhase::Deleting {
            draft.remove_vm(vm)?;
            let done = End::Completed("deleted; its host was removed".into());
            draft.end_all(vm.id, None, &done)?;
            continue;
        }
        let message = format!("its host `{}` was removed, and its disk with it", host.name);
        draft.update::<VirtualMachine>(vm.id, |_, status| {
            status.placement = None;
            enter(status, VmPhase::Error, now, None, "host_removed", &message);
        })?;
        let lost = Error::new(ErrorCode::Unavailable, message)
            .advise("start it to have it made anew on another host, or delete it");
        draft.end_all(vm.id, None, &End::Failed(lost))?;
    }
    for residue in residues {
        draft.delete(residue.id);
    }
    draft.delete_bindings_over(host.id)?;
    draft.delete(host.id);
    let note = match vms.len() {
        0 => String::new(),
        n => format!("by force, with {n} VMs given up"),
    };
    Ok((
        draft,
        Outcome::new("baremetal.delete", 200, host)
            .gone()
            .note(note),
    ))
}
