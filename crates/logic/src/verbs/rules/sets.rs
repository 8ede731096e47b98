//! What is put on a VM or into a set: neither while the VM goes, nor into an archived set.

use virtflow_model::kinds::instance_set::SetState;
use virtflow_model::kinds::virtual_machine::VmPhase;
use virtflow_model::kinds::{InstanceSet, VirtualMachine};
use virtflow_types::{Error, ErrorCode};

use super::Writing;
use crate::typed::decoded;
use crate::verbs::create::id_in;

pub(super) fn on_write(writing: &Writing<'_, '_>) -> Result<(), Error> {
    if writing.old.is_some() {
        return Ok(());
    }
    let state = writing.door.state;
    let find = |field: &str| id_in(writing.new, field).and_then(|id| state.get(id));
    if let Some(vm) = find("vm_id")
        && decoded::<VirtualMachine>(vm)?.status.phase == VmPhase::Deleting
    {
        return Err(Error::new(
            ErrorCode::Conflict,
            format!("VM `{}` is being deleted", vm.name),
        )
        .advise("name a VM that stays"));
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
