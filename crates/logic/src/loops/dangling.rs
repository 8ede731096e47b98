use virtflow_model::kinds::{CloudBox, ResourceMaintainer, Tenant};
use virtflow_model::{Kind, key};
use virtflow_state::{Change, Changeset, Object, State};
use virtflow_types::{Error, ObjectId, Timestamp};

use super::{Watching, changed_of, ids_of, packed};
use crate::draft::Draft;
use crate::limits::Limits;
use crate::typed::{decoded, kind_of};

/// Kinds that refer to what may go before them.
const REFERRING: &[Kind] = &[Kind::Tenant, Kind::ResourceMaintainer, Kind::CloudBox];

/// Clears references that do not block a deletion and whose object is gone: a tenant's administrator, the user and
/// the VM of a cloud box. What means nothing without it goes: the assignment of a maintainer.
pub(super) const DANGLING: Watching = Watching {
    name: "dangling",
    scan: |state| {
        let kinds = REFERRING.iter();
        kinds.flat_map(|kind| ids_of(state, *kind)).collect()
    },
    touched,
    due: |state, id| {
        let object = state.get(id);
        object.is_some_and(|object| is_dangling(state, object))
    },
    work,
};

/// One pass over all that might refer to nothing.
pub fn dangling(state: &State, now: Timestamp, limits: &Limits) -> Vec<Changeset> {
    DANGLING.pass(state, now, limits)
}

fn is_dangling(state: &State, object: &Object) -> bool {
    let gone = |id: ObjectId| state.get(id).is_none();
    match kind_of(object) {
        Some(Kind::Tenant) => admin_of(state, object.id).is_some_and(gone),
        Some(Kind::ResourceMaintainer) => decoded::<ResourceMaintainer>(object)
            .is_ok_and(|assignment| assignment.spec.ends().any(gone)),
        Some(Kind::CloudBox) => decoded::<CloudBox>(object).is_ok_and(|it| {
            it.spec.assigned_user_id.is_some_and(gone) || it.spec.bound_vm_id.is_some_and(gone)
        }),
        _ => false,
    }
}

fn admin_of(state: &State, tenant: ObjectId) -> Option<ObjectId> {
    let tenant = decoded::<Tenant>(state.get(tenant)?).ok()?;
    tenant.spec.admin_user_id
}

/// The object itself, and those that refer to it if it is gone. No key leads from a user to the tenants that
/// name them: that takes a look at all tenants, but users go seldom.
fn touched(state: &State, change: &Change) -> Vec<ObjectId> {
    let mut ids: Vec<ObjectId> = REFERRING
        .iter()
        .flat_map(|kind| changed_of(change, *kind))
        .collect();
    let Some(gone) = change.before.as_ref().filter(|_| change.after.is_none()) else {
        return ids;
    };
    if gone.kind == Kind::User.name() {
        let all = ids_of(state, Kind::Tenant).into_iter();
        ids.extend(all.filter(|tenant| admin_of(state, *tenant) == Some(gone.id)));
    }
    for index in [key::MAINTAINER_END, key::CLOUD_BOX_REFERS] {
        let referring = state.by_key(index, &gone.id.to_string(), None);
        ids.extend(referring.map(|object| object.id));
    }
    ids
}

fn work(state: &State, now: Timestamp, limits: &Limits, dangling: &[ObjectId]) -> Vec<Changeset> {
    packed(state, now, limits, dangling, |draft, id| mend(draft, *id))
}

fn mend(draft: &mut Draft<'_>, id: ObjectId) -> Result<(), Error> {
    let Some(object) = draft.get(id) else {
        return Ok(());
    };
    match kind_of(&object) {
        Some(Kind::Tenant) => draft
            .update::<Tenant>(id, |spec, _| spec.admin_user_id = None)
            .map(drop),
        Some(Kind::ResourceMaintainer) => {
            draft.delete(id);
            Ok(())
        }
        Some(Kind::CloudBox) => {
            let state = draft.state;
            let there = |id: &ObjectId| state.get(*id).is_some();
            draft
                .update::<CloudBox>(id, |spec, _| {
                    spec.assigned_user_id = spec.assigned_user_id.filter(there);
                    spec.bound_vm_id = spec.bound_vm_id.filter(there);
                    spec.bound_until = spec.bound_until.filter(|_| spec.bound_vm_id.is_some());
                })
                .map(drop)
        }
        _ => Ok(()),
    }
}
