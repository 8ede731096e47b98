//! What a change of roles, bindings or memberships does to people's rights: looked at in the state before and in the
//! one after, with the rights that the door would give them in each.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use virtflow_model::kinds::{RoleBinding, UserGroupMember};
use virtflow_model::{Action, Kind};
use virtflow_policy::{PermissionSet, Rights};
use virtflow_state::{Changeset, Object, Op, State};
use virtflow_types::{Error, ObjectId};

use super::access::named;
use crate::cx::Cx;
use crate::door::{Door, rights_of};
use crate::limits::{
    EFFECT_PERMISSIONS_TOLD_MAX, EFFECT_USERS_LOOKED_AT_MAX, EFFECT_USERS_TOLD_MAX,
};
use crate::typed::decoded;

/// Who would gain and who would lose what by a changeset; `None` if it touches nothing that gives rights.
///
/// At most [`EFFECT_USERS_TOLD_MAX`] users are told, of at most [`EFFECT_USERS_LOOKED_AT_MAX`] that are looked at, and
/// only those whom the asker sees; `is_whole` is false where there may be more.
pub fn access_effect(
    state: &State,
    cx: &Cx,
    changeset: &Changeset,
) -> Result<Option<Value>, Error> {
    let changed: Vec<&Object> = changeset
        .ops
        .iter()
        .flat_map(|op| match op {
            Op::Put(object) => [state.get(object.id).map(|old| &**old), Some(&**object)],
            Op::Delete(id, _) => [state.get(*id).map(|old| &**old), None],
            _ => [None, None],
        })
        .flatten()
        .filter(|object| Kind::of_name(&object.kind).is_some_and(gives_rights))
        .collect();
    // Most changes give nobody rights: for those no second state is made.
    if changed.is_empty() {
        return Ok(None);
    }
    let mut after = state.clone();
    if after.apply(changeset).is_err() {
        return Ok(None);
    }
    let mut touched = BTreeSet::new();
    let mut is_whole = true;
    for object in changed {
        is_whole &= add_touched(&[state, &after], object, &mut touched);
    }
    let door = Door::open(state, cx)?;
    is_whole &= touched.len() <= EFFECT_USERS_LOOKED_AT_MAX;
    let (mut gains, mut losses) = (Vec::new(), Vec::new());
    for user in touched.into_iter().take(EFFECT_USERS_LOOKED_AT_MAX) {
        let seen = |state: &State| state.get(user).is_some_and(|user| door.sees(user));
        if !seen(state) {
            is_whole = false;
            continue;
        }
        let (before, later) = (rights_of(state, user), rights_of(&after, user));
        for (list, less, more) in [
            (&mut gains, &before, &later),
            (&mut losses, &later, &before),
        ] {
            for (scope, permissions) in beyond(&door, less, more) {
                if list.len() == EFFECT_USERS_TOLD_MAX {
                    is_whole = false;
                    break;
                }
                list.push(told(state, user, scope, &permissions));
            }
        }
    }
    Ok(Some(
        json!({"gains": gains, "losses": losses, "is_whole": is_whole}),
    ))
}

/// Whether rights follow from objects of a kind.
fn gives_rights(kind: Kind) -> bool {
    matches!(kind, Kind::RoleBinding | Kind::UserGroupMember | Kind::Role)
}

/// Adds the users whose rights may hang on an object of such a kind; false if there may be more of them.
fn add_touched(states: &[&State], object: &Object, touched: &mut BTreeSet<ObjectId>) -> bool {
    let mut is_all = true;
    match Kind::of_name(&object.kind) {
        Some(Kind::RoleBinding) => {
            if let Ok(binding) = decoded::<RoleBinding>(object) {
                add_subjects(states, &binding.spec, touched);
            }
        }
        Some(Kind::UserGroupMember) => {
            if let Ok(member) = decoded::<UserGroupMember>(object) {
                touched.insert(member.spec.user_id);
            }
        }
        Some(Kind::Role) => {
            for state in states {
                let mut bindings = state.linking_to(object.id).filter_map(|id| state.get(id));
                for binding in bindings.by_ref().take(EFFECT_USERS_LOOKED_AT_MAX) {
                    if let Ok(binding) = decoded::<RoleBinding>(binding) {
                        add_subjects(states, &binding.spec, touched);
                    }
                }
                is_all &= bindings.next().is_none();
            }
        }
        _ => {}
    }
    is_all
}

fn add_subjects(
    states: &[&State],
    binding: &virtflow_model::kinds::role_binding::RoleBindingSpec,
    touched: &mut BTreeSet<ObjectId>,
) {
    touched.extend(binding.subject_id);
    let Some(group) = binding.subject_group_id else {
        return;
    };
    for state in states {
        let members = state.linking_to(group).filter_map(|id| state.get(id));
        let users = members.filter_map(|member| {
            let member = decoded::<UserGroupMember>(member).ok()?;
            (member.spec.user_group_id == group).then_some(member.spec.user_id)
        });
        touched.extend(users.take(EFFECT_USERS_LOOKED_AT_MAX + 1));
    }
}

/// What `more` holds beyond `less`, by scope.
fn beyond(door: &Door<'_>, less: &Rights, more: &Rights) -> Vec<(Option<ObjectId>, PermissionSet)> {
    let scopes: BTreeSet<Option<ObjectId>> = more.grants.iter().map(|grant| grant.scope).collect();
    let over = |rights: &Rights, scope: Option<ObjectId>| {
        rights.over(&scope.map_or_else(Vec::new, |scope| door.chain(scope)))
    };
    let all: Vec<(Option<ObjectId>, PermissionSet)> = scopes
        .into_iter()
        .map(|scope| (scope, over(more, scope).difference(&over(less, scope))))
        .collect();
    // What goes or comes with a wider scope is told there, and not again of what lies within it.
    let told_wider = |scope: Option<ObjectId>| {
        let chain = scope.map_or_else(Vec::new, |scope| door.chain(scope));
        let wider = all.iter().filter(|(other, _)| {
            *other != scope && other.is_none_or(|other| chain.contains(&other))
        });
        wider.fold(PermissionSet::EMPTY, |told, (_, permissions)| {
            told.union(permissions)
        })
    };
    let narrowest = all
        .iter()
        .map(|(scope, permissions)| (*scope, permissions.difference(&told_wider(*scope))));
    narrowest
        .filter(|(_, permissions)| *permissions != PermissionSet::EMPTY)
        .collect()
}

fn told(
    state: &State,
    user: ObjectId,
    scope: Option<ObjectId>,
    permissions: &PermissionSet,
) -> Value {
    let words = words(permissions);
    let left = words.len().saturating_sub(EFFECT_PERMISSIONS_TOLD_MAX);
    json!({
        "user": named(state, user),
        "scope": scope.map_or_else(|| json!({"kind": "system"}), |scope| named(state, scope)),
        "permissions": words.into_iter().take(EFFECT_PERMISSIONS_TOLD_MAX).collect::<Vec<_>>(),
        "permissions_not_told": left,
    })
}

/// Its permissions as a role would name them: all actions of a kind are `kind.*`, everything is `*.*`.
fn words(permissions: &PermissionSet) -> Vec<String> {
    if *permissions == PermissionSet::all() {
        return vec!["*.*".into()];
    }
    let mut words = Vec::new();
    for kind in Kind::ALL {
        let held: Vec<&Action> = Action::ALL
            .iter()
            .filter(|action| permissions.contains(virtflow_model::Permission::new(*kind, **action)))
            .collect();
        if held.len() == Action::ALL.len() {
            words.push(format!("{}.*", kind.name()));
        } else {
            words.extend(
                held.iter()
                    .map(|action| format!("{}.{}", kind.name(), action.name())),
            );
        }
    }
    words
}
