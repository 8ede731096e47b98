//! Deleting a tenant: refused while anything of it runs, then an operation that removes what is left.

use virtflow_model::kinds::operation::OperationState;
use virtflow_model::kinds::virtual_machine::VmPhase;
use virtflow_model::kinds::{Operation, Tenant, VirtualMachine};
use virtflow_model::{Action, Kind, key};
use virtflow_types::{Error, ErrorCode};

use super::delete::find;
use super::{Done, Outcome};
use crate::door::Door;
use crate::explain::call;
use crate::limits::TENANT_DELETION_MAX;
use crate::operations::unfinished;
use crate::request::Delete;
use crate::typed::decoded;

pub(crate) fn delete<'a>(door: &Door<'a>, delete: &Delete) -> Done<'a> {
    let (tenant, mut draft) = find(door, delete, Action::Admin)?;
    let action = "tenant.delete";
    if decoded::<Tenant>(&tenant)?.status.deleting {
        let mut outcome = Outcome::new(action, 202, tenant.clone());
        outcome.operation = unfinished(door.state, tenant.id).into_iter().next();
        return Ok((draft, outcome));
    }
    let of = |kind: Kind| {
        let value = format!("{}/{}", kind.name(), tenant.id);
        door.state.by_key(key::TENANT, &value, None)
    };
    for vm in of(Kind::VirtualMachine) {
        let typed = decoded::<VirtualMachine>(vm)?;
        let rests = match typed.status.phase {
            VmPhase::Stopped | VmPhase::Deleting => true,
            VmPhase::Pending | VmPhase::Error => typed.status.placement.is_none(),
            _ => false,
        };
        if !rests {
            return Err(Error::new(
                ErrorCode::InUse,
                format!(
                    "tenant `{}` still has {}, which is {}",
                    tenant.name,
                    call(vm),
                    typed.status.phase.name()
                ),
            )
            .advise("stop or delete every VM of the tenant first"));
        }
    }
    for operation in of(Kind::Operation) {
        let typed = decoded::<Operation>(operation)?;
        if !typed.status.state.is_final() {
            return Err(Error::new(
                ErrorCode::InUse,
                format!(
                    "tenant `{}` has an unfinished operation: {} of `{}` ({})",
                    tenant.name, typed.spec.verb, typed.spec.target_name, operation.id
                ),
            )
            .advise("wait for it or cancel it"));
        }
    }
    let operation = draft.begin(
        action,
        &tenant,
        0,
        "what is left of the tenant is removed",
        TENANT_DELETION_MAX,
    )?;
    draft.advance(
        operation.id,
        OperationState::Running,
        10,
        "what is left of the tenant is removed",
        None,
    )?;
    let after = draft.update::<Tenant>(tenant.id, |_, status| status.deleting = true)?;
    let operation = draft.get(operation.id).unwrap_or(operation);
    Ok((draft, Outcome::new(action, 202, after).operation(operation)))
}
