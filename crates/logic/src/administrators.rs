//! The last administrator stays: no request leaves a cluster that had somebody who may do everything with nobody.
//!
//! An administrator is an active user with the built-in role that permits everything over the whole system, bound to
//! the user or to a group that the user is a direct member of. Requests are decided one after the other, so two that
//! each take away one of the last two are not both done.

use std::sync::Arc;

use virtflow_model::Kind;
use virtflow_model::kinds::user::UserState;
use virtflow_model::kinds::{RoleBinding, User, UserGroupMember};
use virtflow_policy::BUILT_IN_ROLES;
use virtflow_state::{Object, State};
use virtflow_types::{Error, ErrorCode, ObjectId};

use crate::draft::Draft;
use crate::read::named;
use crate::typed::{decoded, kind_of};

/// Refuses what a draft does to users, their groups and their bindings if nobody would be left.
pub(crate) fn keep(draft: &Draft<'_>) -> Result<(), Error> {
    let matters = |object: &Arc<Object>| {
        matches!(
            kind_of(object),
            Some(Kind::User | Kind::UserGroup | Kind::UserGroupMember | Kind::RoleBinding)
        )
    };
    if !draft.touched().iter().any(matters) {
        return Ok(());
    }
    let Some(name) = BUILT_IN_ROLES.first().map(|role| role.name) else {
        return Ok(());
    };
    let state = draft.state;
    let Some(role) = named(state, Kind::Role, None, name) else {
        return Ok(());
    };
    if !is_held(state, role.id, |id| state.get(id).cloned())
        || is_held(state, role.id, |id| draft.get(id))
    {
        return Ok(());
    }
    Err(Error::new(
        ErrorCode::Conflict,
        "nobody would be left who may do everything",
    )
    .advise(format!(
        "first bind the role `{name}` over the whole system to another active user"
    )))
}

/// True if somebody has the role over the whole system; `get` tells objects as they are or will be.
fn is_held(state: &State, role: ObjectId, get: impl Fn(ObjectId) -> Option<Arc<Object>>) -> bool {
    let is_active = |user: ObjectId| {
        let user = get(user).and_then(|user| decoded::<User>(&user).ok());
        user.is_some_and(|user| user.spec.state == UserState::Active && !user.status.deleting)
    };
    let has_active = |group: ObjectId| {
        let members = state.linking_to(group).filter_map(&get);
        let mut members = members.filter(|it| it.kind == Kind::UserGroupMember.name());
        get(group).is_some()
            && members.any(|member| {
                let member = decoded::<UserGroupMember>(&member);
                member.is_ok_and(|member| {
                    member.spec.user_group_id == group && is_active(member.spec.user_id)
                })
            })
    };
    let bindings = state.linking_to(role).filter_map(&get);
    let mut bindings = bindings.filter(|it| it.kind == Kind::RoleBinding.name());
    bindings.any(|binding| {
        decoded::<RoleBinding>(&binding).is_ok_and(|binding| {
            let spec = &binding.spec;
            spec.role_id == role
                && spec.scope_id.is_none()
                && (spec.subject_id.is_some_and(is_active)
                    || spec.subject_group_id.is_some_and(has_active))
        })
    })
}
