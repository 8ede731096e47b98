//! Cloud boxes: who binds a VM to one may use that VM, and the binding ends in time.

use virtflow_model::kinds::CloudBox;
use virtflow_model::{Action, Kind, Permission, Resource};
use virtflow_types::Error;

use super::Writing;
use crate::limits::CLOUD_BOX_BINDING_MAX;
use crate::verbs::parse_spec;

pub(super) fn on_write(writing: &Writing<'_, '_>) -> Result<(), Error> {
    let (door, now) = (writing.door, writing.door.cx.now);
    let new = parse_spec::<<CloudBox as Resource>::Spec>(writing.new)?;
    let is_same = |field: &str| {
        writing
            .old
            .is_some_and(|old| old[field] == writing.new[field])
    };
    let (Some(vm), Some(until)) = (new.bound_vm_id, new.bound_until) else {
        return Ok(());
    };
    let vm = writing.draft.get(vm);
    let vm = vm.ok_or_else(|| Error::not_found(Kind::VirtualMachine.name(), "bound_vm_id"))?;
    if !is_same("bound_vm_id") {
        let execute = Permission::new(Kind::VirtualMachine, Action::Execute);
        door.admit(execute, &door.target_of(&vm), || {
            Error::not_found(Kind::VirtualMachine.name(), &vm.id.to_string())
        })?;
    }
    if !is_same("bound_until") {
        if until <= now {
            return Err(Error::invalid("spec.bound_until", "lies in the past"));
        }
        if until.since(now) > CLOUD_BOX_BINDING_MAX {
            let days = CLOUD_BOX_BINDING_MAX.as_secs() / 86_400;
            return Err(Error::invalid(
                "spec.bound_until",
                format!("at most {days} days from now"),
            ));
        }
    }
    let user = new
        .assigned_user_id
        .and_then(|user| writing.draft.get(user));
    let elsewhere = user.is_some_and(|user| user.tenant.is_some() && user.tenant != vm.tenant);
    if elsewhere {
        return Err(Error::invalid(
            "spec.bound_vm_id",
            "is another tenant's than the assigned user's",
        ));
    }
    Ok(())
}
