use virtflow_model::Kind;
use virtflow_model::kinds::Tenant;
use virtflow_state::{Changeset, State};
use virtflow_types::Timestamp;

use super::packed;
use crate::limits::Limits;
use crate::typed::decoded;

/// Clears references that do not block a deletion and whose object is gone: a tenant's administrator.
pub fn dangling(state: &State, now: Timestamp, limits: &Limits) -> Vec<Changeset> {
    let orphaned = state.of_kind(Kind::Tenant.name(), None).filter(|tenant| {
        decoded::<Tenant>(tenant)
            .ok()
            .and_then(|tenant| tenant.spec.admin_user_id)
            .is_some_and(|user| state.get(user).is_none())
    });
    packed(state, now, limits, orphaned, |draft, tenant| {
        draft
            .update::<Tenant>(tenant.id, |spec, _| spec.admin_user_id = None)
            .map(drop)
    })
}
