//! Removing an object: refused, by name, while something needs it.

use std::sync::Arc;

use virtflow_model::kinds::Role;
use virtflow_model::{Action, ByPeople, Kind, Permission};
use virtflow_state::Object;
use virtflow_types::{Error, ErrorCode, ObjectId};

use super::{Done, Outcome, controller, host, rules, tenant, user, vm_delete};
use crate::door::Door;
use crate::draft::Draft;
use crate::limits::CASCADE_MAX;
use crate::request::Delete;
use crate::typed::{decoded, kind_of};

pub(crate) fn run<'a>(door: &Door<'a>, delete: &Delete) -> Done<'a> {
    match delete.kind.rules().delete {
        ByPeople::Plainly => plain(door, delete),
        ByPeople::Never(advice) => Err(Error::new(
            ErrorCode::Invalid,
            format!("{} is not deleted by people", delete.kind.with_article()),
        )
        .advise(advice)),
        ByPeople::ByVerb => match delete.kind {
            Kind::VirtualMachine => vm_delete::run(door, delete),
            Kind::Instance => super::instance::delete(door, delete),
            Kind::Tenant => tenant::delete(door, delete),
            Kind::User => user::delete(door, delete),
            Kind::Baremetal => host::delete(door, delete),
            Kind::Controller => controller::delete(door, delete),
            other => Err(super::create::no_verb(other, "delete")),
        },
    }
}

/// What goes at once, with the role bindings that are scoped to it.
fn plain<'a>(door: &Door<'a>, delete: &Delete) -> Done<'a> {
    let (object, mut draft) = find(door, delete, Action::Delete)?;
    if delete.kind == Kind::Role && decoded::<Role>(&object)?.spec.built_in {
        return Err(Error::new(ErrorCode::Conflict, "built-in roles stay")
            .advise("make it inactive where it is bound: delete its bindings"));
    }
    if !delete.kind.rules().while_suspended {
        door.refuse_if_read_only(object.tenant)?;
    }
    rules::on_delete(&mut draft, delete.kind, &object)?;
    draft.delete_bindings_over(object.id)?;
    delete_children(&mut draft, object.id)?;
    draft.delete(object.id);
    let action = format!("{}.delete", delete.kind.name());
    Ok((draft, Outcome::new(action, 200, object).gone()))
}

/// What goes with its parent, and what goes with that, bounded.
fn delete_children(draft: &mut Draft<'_>, parent: ObjectId) -> Result<(), Error> {
    let mut parents = vec![parent];
    while let Some(parent) = parents.pop() {
        let state = draft.state;
        let children = state.linking_to(parent).filter_map(|id| state.get(id));
        let children: Vec<_> = children
            .filter(|child| {
                child.parent == Some(parent)
                    && kind_of(child).is_some_and(|kind| kind.rules().cascades)
            })
            .take(CASCADE_MAX + 1)
            .map(|child| child.id)
            .collect();
        if draft.len() + children.len() > CASCADE_MAX {
            return Err(Error::new(
                ErrorCode::Conflict,
                format!(
                    "more than {CASCADE_MAX} objects would go with it, more than one step takes"
                ),
            )
            .advise("delete some of what lies within it first"));
        }
        for child in children {
            draft.delete_bindings_over(child)?;
            draft.delete(child);
            parents.push(child);
        }
    }
    Ok(())
}

/// The object, and admission to do this to it.
pub(crate) fn find<'a>(
    door: &Door<'a>,
    delete: &Delete,
    action: Action,
) -> Result<(Arc<Object>, Draft<'a>), Error> {
    let tenant = door.tenant(delete.tenant.as_deref())?;
    let object = door.find(delete.kind, &delete.target, tenant)?;
    let draft = door.draft_for(Permission::new(delete.kind, action), &object)?;
    door.check_generation(&object)?;
    Ok((object, draft))
}
