use virtflow_model::Kind;
use virtflow_model::kinds::Tenant;
use virtflow_state::{Change, Changeset, State};
use virtflow_types::{ObjectId, Timestamp};

use super::{Watching, changed_of, ids_of, packed};
use crate::limits::Limits;
use crate::typed::decoded;

/// Clears references that do not block a deletion and whose object is gone: a tenant's administrator.
pub(super) const DANGLING: Watching = Watching {
    name: "dangling",
    scan: |state| ids_of(state, Kind::Tenant),
    touched,
    due: |state, tenant| admin_of(state, tenant).is_some_and(|user| state.get(user).is_none()),
    work,
};

/// One pass over all tenants.
pub fn dangling(state: &State, now: Timestamp, limits: &Limits) -> Vec<Changeset> {
    DANGLING.pass(state, now, limits)
}

fn admin_of(state: &State, tenant: ObjectId) -> Option<ObjectId> {
    let tenant = decoded::<Tenant>(state.get(tenant)?).ok()?;
    tenant.spec.admin_user_id
}

/// The tenant itself, or those that name a user who is gone: that takes a look at all of them, as no key
/// leads from a user there, but users go seldom.
fn touched(state: &State, change: &Change) -> Vec<ObjectId> {
    let mut tenants = changed_of(change, Kind::Tenant);
    if change.after.is_none() {
        for user in changed_of(change, Kind::User) {
            let all = ids_of(state, Kind::Tenant).into_iter();
            tenants.extend(all.filter(|tenant| admin_of(state, *tenant) == Some(user)));
        }
    }
    tenants
}

fn work(state: &State, now: Timestamp, limits: &Limits, orphaned: &[ObjectId]) -> Vec<Changeset> {
    packed(state, now, limits, orphaned, |draft, tenant| {
        draft
            .update::<Tenant>(*tenant, |spec, _| spec.admin_user_id = None)
            .map(drop)
    })
}
