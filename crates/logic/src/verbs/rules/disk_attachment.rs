//! Attachments: none to a VM that is going. That a disk is not attached to too many is kept by its account.

use virtflow_model::Kind;
use virtflow_types::{Error, ObjectId};

use super::Writing;
use crate::verbs::create::id_in;
use crate::vm::refuse_leaving;

pub(super) fn on_write(writing: &Writing<'_, '_>) -> Result<(), Error> {
    if writing.old.is_some() {
        return Ok(());
    }
    let vm = id_in(writing.new, "vm_id").unwrap_or(ObjectId::NIL);
    match writing.draft.get(vm) {
        Some(vm) => refuse_leaving(&vm, "the VM"),
        None => Err(Error::not_found(
            Kind::VirtualMachine.name(),
            &vm.to_string(),
        )),
    }
}
