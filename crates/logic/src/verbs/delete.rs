//! Removing an object: refused, by name, while something needs it.

use std::sync::Arc;

use virtflow_model::kinds::Role;
use virtflow_model::{Action, Kind, Permission};
use virtflow_state::Object;
use virtflow_types::{Error, ErrorCode};

use super::{Done, Outcome, controller, host, tenant, user, vm_delete};
use crate::door::Door;
use crate::request::Delete;
use crate::typed::decoded;

pub(crate) fn run<'a>(door: &Door<'a>, delete: &Delete) -> Done<'a> {
    match delete.kind {
        Kind::VirtualMachine => vm_delete::run(door, delete),
        Kind::Tenant => tenant::delete(door, delete),
        Kind::User => user::delete(door, delete),
        Kind::Baremetal => host::delete(door, delete),
        Kind::Controller => controller::delete(door, delete),
        Kind::Role
        | Kind::RoleBinding
        | Kind::ApiToken
        | Kind::Session
        | Kind::DataCenter
        | Kind::Rack
        | Kind::BaremetalGroup
        | Kind::BaremetalGroupTenantQuota
        | Kind::VirtualMachineSpecification
        | Kind::JoinToken
        | Kind::Residue => plain(door, delete),
        Kind::Operation => Err(not_so(
            "an operation goes by itself some time after it ended; `cancel` gives one up",
        )),
        Kind::IdempotencyKey => Err(not_so("an idempotency key goes by itself")),
    }
}

/// What goes at once, with the role bindings that are scoped to it.
fn plain<'a>(door: &Door<'a>, delete: &Delete) -> Done<'a> {
    let (object, mut draft) = find(door, delete, Action::Delete)?;
    if delete.kind == Kind::Role && decoded::<Role>(&object)?.spec.built_in {
        return Err(Error::new(ErrorCode::Conflict, "built-in roles stay")
            .advise("make it inactive where it is bound: delete its bindings"));
    }
    draft.delete_bindings_over(object.id)?;
    draft.delete(object.id);
    let action = format!("{}.delete", delete.kind.name());
    Ok((draft, Outcome::new(action, 200, object).gone()))
}

/// The object, and admission to do this to it.
pub(crate) fn find<'a>(
    door: &Door<'a>,
    delete: &Delete,
    action: Action,
) -> Result<(Arc<Object>, crate::draft::Draft<'a>), Error> {
    let tenant = door.tenant(delete.tenant.as_deref())?;
    let object = door.find(delete.kind, &delete.target, tenant)?;
    let draft = door.draft_for(Permission::new(delete.kind, action), &object)?;
    door.check_generation(&object)?;
    Ok((object, draft))
}

fn not_so(advice: &str) -> Error {
    Error::new(ErrorCode::Invalid, "this kind is not deleted by people").advise(advice)
}
