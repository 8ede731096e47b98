//! Built-in roles keep up with the version of the program.

use virtflow_model::kinds::Role;
use virtflow_model::kinds::role::{RoleSpec, RoleStatus};
use virtflow_model::{Kind, Resource, key};
use virtflow_policy::{BUILT_IN_ROLES, BuiltInRole, PermissionSet};
use virtflow_state::{Change, Changeset, State};
use virtflow_types::{Error, Name, ObjectId, Timestamp};

use super::{Watching, changed_of, each, ids_of};
use crate::audit::Entry;
use crate::draft::{Draft, Place};
use crate::limits::Limits;
use crate::typed::decoded;

/// Gives built-in roles, in a cluster that an older version began, what this version's table says: a new kind is of
/// no use to a tenant whose administrators have no right to it.
///
/// It only adds. While controllers are replaced one by one, the one that leads may be older than the one that led
/// before; it cannot tell what the newer one gave from what is too much, and would take it back. So what a version
/// takes out of its table stays in clusters that had it.
pub(super) const BUILT_IN: Watching = Watching {
    name: "built_in_roles",
    scan: |state| ids_of(state, Kind::Role),
    touched,
    due: |state, role| !lacking(state, role).is_empty() || !missing(state, role).is_empty(),
    work,
};

/// One pass over all roles.
pub fn built_in_roles(state: &State, now: Timestamp, limits: &Limits) -> Vec<Changeset> {
    BUILT_IN.pass(state, now, limits)
}

fn of_name(state: &State, name: &str) -> Option<ObjectId> {
    let value = format!("{}/{name}", Kind::Role.name());
    let mut found = state.by_key(key::NAME, &value, None);
    found.next().map(|role| role.id)
}

/// The role that every cluster has: those that are not there are seen to with it.
fn first(state: &State) -> Option<ObjectId> {
    of_name(state, BUILT_IN_ROLES.first()?.name)
}

/// The role itself; and the first, as another may have gone.
fn touched(state: &State, change: &Change) -> Vec<ObjectId> {
    let mut roles = changed_of(change, Kind::Role);
    if !roles.is_empty() {
        roles.extend(first(state));
    }
    roles
}

/// What this version's table gives a built-in role beyond what it has. A role that people made is their own,
/// whatever it is called.
fn lacking(state: &State, role: ObjectId) -> Vec<&'static str> {
    let Some(object) = state.get(role) else {
        return Vec::new();
    };
    let mut table = BUILT_IN_ROLES.iter();
    let Some(told) = table.find(|told| object.name.as_str() == told.name) else {
        return Vec::new();
    };
    let Ok(role) = decoded::<Role>(object) else {
        return Vec::new();
    };
    if !role.spec.built_in {
        return Vec::new();
    }
    let has = PermissionSet::of(&role.spec.permissions);
    let entries = told.permissions.iter().copied();
    entries
        .filter(|entry| !has.covers(&PermissionSet::of([entry])))
        .collect()
}

/// Built-in roles of which there is none and no other role of that name.
fn missing(state: &State, role: ObjectId) -> Vec<&'static BuiltInRole> {
    if first(state) != Some(role) {
        return Vec::new();
    }
    let table = BUILT_IN_ROLES.iter();
    table
        .filter(|told| of_name(state, told.name).is_none())
        .collect()
}

fn work(state: &State, now: Timestamp, limits: &Limits, due: &[ObjectId]) -> Vec<Changeset> {
    each(state, now, limits, due, |draft, role| {
        extend(draft, *role)?;
        for told in missing(state, *role) {
            make(draft, told)?;
        }
        Ok(())
    })
}

fn extend(draft: &mut Draft<'_>, role: ObjectId) -> Result<(), Error> {
    let entries = lacking(draft.state, role);
    if entries.is_empty() {
        return Ok(());
    }
    let before = draft.get(role);
    let after = draft.update::<Role>(role, |spec, _| {
        spec.permissions
            .extend(entries.iter().map(|entry| (*entry).to_owned()));
    })?;
    draft.audit(&Entry {
        action: "role.update",
        object: &after,
        before: before.as_deref(),
        note: "this version's table gives the built-in role more",
    });
    Ok(())
}

fn make(draft: &mut Draft<'_>, told: &BuiltInRole) -> Result<(), Error> {
    let name = Name::new(told.name).map_err(|error| Error::invalid("role", error.to_string()))?;
    let spec = spec_of(told);
    Role::validate(&spec)?;
    let place = Place {
        name: name.as_str().into(),
        ..Place::default()
    };
    let role = draft.create::<Role>(place, spec, RoleStatus {})?;
    draft.audit(&Entry {
        action: "role.create",
        object: &role,
        before: None,
        note: "built in since this version",
    });
    Ok(())
}

/// A built-in role as a cluster is born with it.
pub(crate) fn spec_of(told: &BuiltInRole) -> RoleSpec {
    RoleSpec {
        description: told.description.into(),
        permissions: told.permissions.iter().map(|p| (*p).to_owned()).collect(),
        active: true,
        built_in: true,
    }
}
