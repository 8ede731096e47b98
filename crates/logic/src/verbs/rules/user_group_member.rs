//! Memberships: a user of the group's own tenant, in few groups. Whoever puts a user into a group gives them what
//! the group has, so they must have it themselves.

use virtflow_model::key;
use virtflow_model::kinds::{Role, RoleBinding};
use virtflow_policy::PermissionSet;
use virtflow_types::{Error, ObjectId};

use super::Writing;
use crate::limits::GROUPS_PER_USER_MAX;
use crate::typed::decoded;
use crate::verbs::create::id_in;
use crate::verbs::credentials::refuse_beyond;

pub(super) fn on_write(writing: &Writing<'_, '_>) -> Result<(), Error> {
    let (door, state) = (writing.door, writing.door.state);
    let user = id_in(writing.new, "user_id").unwrap_or(ObjectId::NIL);
    let tenant = writing.draft.get(user).and_then(|user| user.tenant);
    if tenant != writing.tenant {
        return Err(Error::invalid(
            "spec.user_id",
            "belongs to no tenant: a group has users of its own tenant",
        ));
    }
    let held = state.by_key(key::MEMBER_USER, &user.to_string(), None);
    refuse_beyond(held.count(), GROUPS_PER_USER_MAX, "user groups of one user")?;
    let group = writing.parent.unwrap_or(ObjectId::NIL);
    for binding in state.by_key(key::BINDING_SUBJECT, &group.to_string(), None) {
        let binding = decoded::<RoleBinding>(binding)?;
        if let Some(role) = state.get(binding.spec.role_id) {
            let role = decoded::<Role>(role)?;
            door.may_give(
                &PermissionSet::of(&role.spec.permissions),
                binding.spec.scope_id,
            )?;
        }
    }
    Ok(())
}
