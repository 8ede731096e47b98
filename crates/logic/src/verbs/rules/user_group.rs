//! User groups: a tree without cycles and of bounded depth. The state itself refuses a cycle, as the groups'
//! accounts lie above one another; here it is told in words.

use virtflow_model::kinds::UserGroup;
use virtflow_model::kinds::user_group::USER_GROUP_LEVELS_MAX;
use virtflow_model::{Action, Kind, Permission, key};
use virtflow_policy::Target;
use virtflow_state::State;
use virtflow_types::{Error, ObjectId};

use super::Writing;
use crate::door::forbidden;
use crate::limits::USER_GROUPS_PER_TENANT_MAX;
use crate::typed::decoded;
use crate::verbs::create::id_in;
use crate::verbs::credentials::refuse_beyond;

const FIELD: &str = "spec.parent_group_id";

pub(super) fn on_write(writing: &Writing<'_, '_>) -> Result<(), Error> {
    let state = writing.door.state;
    if writing.old.is_none()
        && let Some(tenant) = writing.tenant
    {
        let of_tenant = format!("{}/{tenant}", Kind::UserGroup.name());
        let groups = state.by_key(key::TENANT, &of_tenant, None).count();
        refuse_beyond(
            groups,
            USER_GROUPS_PER_TENANT_MAX,
            "user groups of one tenant",
        )?;
    }
    let above = id_in(writing.new, "parent_group_id");
    let was_above = writing.old.and_then(|old| id_in(old, "parent_group_id"));
    if writing.old.is_some() && above == was_above {
        return Ok(());
    }
    if writing.old.is_some() {
        may_move_to(writing, above)?;
    }
    let Some(above) = above else {
        return Ok(());
    };
    let chain = chain_of(state, above)?;
    if writing.id.is_some_and(|id| chain.contains(&id)) {
        return Err(Error::invalid(
            FIELD,
            "would make a cycle: that is the group itself or one that lies under it",
        ));
    }
    let below = writing.id.map_or(1, |id| levels_of(state, id));
    if chain.len() + below > USER_GROUP_LEVELS_MAX {
        return Err(Error::invalid(
            FIELD,
            format!(
                "would make the tree {} levels deep, at most {USER_GROUP_LEVELS_MAX} are allowed",
                chain.len() + below
            ),
        ));
    }
    Ok(())
}

/// A group does not leave the quota above it but to where its mover may change groups, too.
fn may_move_to(writing: &Writing<'_, '_>, above: Option<ObjectId>) -> Result<(), Error> {
    let permission = Permission::new(Kind::UserGroup, Action::Update);
    let scopes = match above.or(writing.tenant) {
        Some(above) => writing.door.chain(above),
        None => Vec::new(),
    };
    let target = Target::new(Kind::UserGroup, scopes);
    let refused = || forbidden(permission);
    writing.door.admit(permission, &target, refused)
}

/// The group and all groups above it, nearest first.
pub(crate) fn chain_of(state: &State, group: ObjectId) -> Result<Vec<ObjectId>, Error> {
    let mut chain = Vec::new();
    let mut next = Some(group);
    while let Some(group) = next.filter(|_| chain.len() <= USER_GROUP_LEVELS_MAX) {
        chain.push(group);
        next = match state.get(group) {
            Some(object) => decoded::<UserGroup>(object)?.spec.parent_group_id,
            None => None,
        };
    }
    Ok(chain)
}

/// How many levels the tree has from this group downwards, itself included; no more are counted than are allowed.
fn levels_of(state: &State, group: ObjectId) -> usize {
    let mut level = vec![group];
    for levels in 0..=USER_GROUP_LEVELS_MAX {
        if level.is_empty() {
            return levels;
        }
        level = level
            .iter()
            .flat_map(|group| state.linking_to(*group))
            .filter(|id| {
                state
                    .get(*id)
                    .is_some_and(|object| object.kind == Kind::UserGroup.name())
            })
            .collect();
    }
    USER_GROUP_LEVELS_MAX + 1
}
