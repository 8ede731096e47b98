//! Attachments: none to a VM that is going. That a disk is not attached to too many is kept by its account.

use virtflow_model::kinds::VirtualMachine;
use virtflow_model::kinds::disk_attachment::DiskAttachmentSpec;
use virtflow_model::kinds::virtual_machine::VmPhase;
use virtflow_types::{Error, ErrorCode};

use super::Writing;
use crate::verbs::parse_spec;

pub(super) fn on_write(writing: &Writing<'_, '_>) -> Result<(), Error> {
    if writing.old.is_some() {
        return Ok(());
    }
    let DiskAttachmentSpec { vm_id, .. } = parse_spec(writing.new)?;
    let vm = writing.draft.typed::<VirtualMachine>(vm_id)?;
    if vm.status.phase == VmPhase::Deleting {
        return Err(
            Error::new(ErrorCode::Conflict, "the VM is being deleted").advise("name another VM")
        );
    }
    Ok(())
}
