//! Which user group's quota a VM, a disk or a cluster takes.

use serde_json::{Value, json};
use virtflow_model::{Action, Kind, Permission};
use virtflow_types::{Error, ObjectId};

use super::create::id_in;
use crate::door::{Door, groups_of};

/// What is made takes the quota of one user group: the one that is named, if the asker is in it or operates it, or
/// else the first that the asker is in.
pub(super) fn fill(door: &Door<'_>, spec: &mut Value, tenant: ObjectId) -> Result<(), Error> {
    let own = || {
        let user = door.cx.user_id();
        user.into_iter()
            .flat_map(|user| groups_of(door.state, user))
    };
    let Some(named) = id_in(spec, "user_group_id") else {
        let of_tenant = |group: &ObjectId| {
            let group = door.state.get(*group);
            group.is_some_and(|group| group.tenant == Some(tenant))
        };
        if let Some(first) = own().find(of_tenant) {
            spec["user_group_id"] = json!(first);
        }
        return Ok(());
    };
    if own().any(|group| group == named) {
        return Ok(());
    }
    let group = door
        .state
        .get(named)
        .ok_or_else(|| Error::not_found(Kind::UserGroup.name(), &named.to_string()))?;
    let manage = Permission::new(Kind::UserGroup, Action::Manage);
    door.admit(manage, &door.target_of(group), || {
        Error::not_found(Kind::UserGroup.name(), &named.to_string())
    })
    .map_err(|error| error.advise("name a group that you are in, or none"))
}
