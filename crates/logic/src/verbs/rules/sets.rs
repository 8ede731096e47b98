//! What is put on a VM or into a set: neither while the VM goes, nor into an archived set.

use virtflow_model::kinds::InstanceSet;
use virtflow_model::kinds::instance_set::SetState;
use virtflow_types::{Error, ErrorCode};

use super::Writing;
use crate::typed::decoded;
use crate::verbs::create::id_in;
use crate::vm::refuse_leaving;

pub(super) fn on_write(writing: &Writing<'_, '_>) -> Result<(), Error> {
    if writing.old.is_some() {
        return Ok(());
    }
    let state = writing.door.state;
    let find = |field: &str| id_in(writing.new, field).and_then(|id| state.get(id));
    if let Some(vm) = find("vm_id") {
        refuse_leaving(vm, &format!("VM `{}`", vm.name))?;
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
