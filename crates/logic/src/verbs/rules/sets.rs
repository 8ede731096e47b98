//! What is put on a VM or into a set: neither while the VM goes, nor into an archived set; and a snapshot is of a disk that
//! the VM has. Whoever is in a set is it as an instance and as the VM that realises it, once.

use serde_json::{Value, json};
use virtflow_model::kinds::instance_set::SetState;
use virtflow_model::kinds::{Instance, InstanceSet};
use virtflow_model::{Kind, space};
use virtflow_state::State;
use virtflow_types::{Error, ErrorCode};

use super::Writing;
use crate::explain::call;
use crate::typed::decoded;
use crate::verbs::create::id_in;
use crate::vm::refuse_leaving;

/// An instance that a VM realises is in the set as both, and so is such a VM.
pub(super) fn complete(state: &State, spec: &mut Value) -> Result<(), Error> {
    let (instance, vm) = (id_in(spec, "instance_id"), id_in(spec, "vm_id"));
    if let Some(instance) = instance.and_then(|id| state.get(id)) {
        let realised_by = decoded::<Instance>(instance)?.status.vm_id;
        if vm.is_some_and(|vm| Some(vm) != realised_by) {
            let problem = format!("is not what realises {}", call(instance));
            return Err(Error::invalid("spec.vm_id", problem).advise("name one of both"));
        }
        if let Some(vm) = realised_by {
            spec["vm_id"] = json!(vm);
        }
    } else if let Some(vm) = vm {
        let pair = format!("instance/{vm}");
        if let Some(instance) = state.holder(space::PAIR, pair.as_bytes()) {
            spec["instance_id"] = json!(instance.id);
        }
    }
    Ok(())
}

pub(super) fn on_write(writing: &Writing<'_, '_>) -> Result<(), Error> {
    if writing.old.is_some() {
        return Ok(());
    }
    let state = writing.door.state;
    let find = |field: &str| id_in(writing.new, field).and_then(|id| state.get(id));
    if let Some(vm) = find("vm_id") {
        refuse_leaving(vm, &format!("VM `{}`", vm.name))?;
    }
    if writing.kind == Kind::Snapshot
        && let (Some(vm), Some(disk)) = (find("vm_id"), find("disk_id"))
    {
        let pair = format!("attachment/{}/{}", vm.id, disk.id);
        if state.holder(space::PAIR, pair.as_bytes()).is_none() {
            let problem = format!("VM `{}` does not have the disk `{}`", vm.name, disk.name);
            return Err(Error::invalid("spec.disk_id", problem).advise("attach it first"));
        }
    }
    if let Some(set) = find("set_id")
        && decoded::<InstanceSet>(set)?.spec.state == SetState::Archived
    {
        return Err(Error::new(
            ErrorCode::Conflict,
            format!("set `{}` is archived: it takes no new members", set.name),
        )
        .advise("make it active first"));
    }
    Ok(())
}
