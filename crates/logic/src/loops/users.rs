use virtflow_model::Kind;
use virtflow_model::kinds::{K8sCluster, PrivateDataDisk, User};
use virtflow_state::{Changeset, Object, State};
use virtflow_types::{Error, ErrorCode, ObjectId, Timestamp};

use super::{Watching, changed_of, ids_of, packed};
use crate::draft::Draft;
use crate::explain::call;
use crate::limits::Limits;
use crate::typed::decoded;

/// Users that are emptied in one pass.
const USERS_PER_PASS: usize = 16;

/// Finishes the deletion of users who held more than one changeset takes.
pub(super) const USER_DELETIONS: Watching = Watching {
    name: "user_deletions",
    scan: |state| ids_of(state, Kind::User),
    touched: |_, change| changed_of(change, Kind::User),
    due: is_leaving,
    work,
};

/// One pass over all users.
pub fn user_deletions(state: &State, now: Timestamp, limits: &Limits) -> Vec<Changeset> {
    USER_DELETIONS.pass(state, now, limits)
}

fn is_leaving(state: &State, user: ObjectId) -> bool {
    state.get(user).is_some_and(|user| {
        user.closed && decoded::<User>(user).is_ok_and(|user| user.status.deleting)
    })
}

fn work(state: &State, now: Timestamp, limits: &Limits, leaving: &[ObjectId]) -> Vec<Changeset> {
    let leaving = leaving.iter().take(USERS_PER_PASS);
    packed(state, now, limits, leaving, |draft, user| {
        empty_user(draft, *user, limits.objects_per_changeset).map(drop)
    })
}

/// Disks and clusters outlive their makers; what they take of the tenant stays counted.
fn outlives(object: &Object) -> bool {
    matches!(
        Kind::of_name(&object.kind),
        Some(Kind::PrivateDataDisk | Kind::K8sCluster)
    )
}

/// Removes what a user holds, at most `most` of it, and the user if that was all. True if it was.
pub(crate) fn empty_user(
    draft: &mut Draft<'_>,
    user: ObjectId,
    most: usize,
) -> Result<bool, Error> {
    let held: Vec<ObjectId> = draft.state.linking_to(user).take(most + 1).collect();
    for id in &held {
        let Some(object) = draft.state.get(*id) else {
            continue;
        };
        if outlives(object) {
            continue;
        }
        let goes_along = match Kind::of_name(&object.kind) {
            Some(
                Kind::Session
                | Kind::ApiToken
                | Kind::IdempotencyKey
                | Kind::RoleBinding
                | Kind::UserGroupMember,
            ) => true,
            Some(kind) => kind.rules().cascades && object.parent == Some(user),
            None => false,
        };
        if !goes_along {
            return Err(Error::new(
                ErrorCode::InUse,
                format!("the user is still needed by {}", call(object)),
            )
            .advise(format!("remove {} first", call(object))));
        }
    }
    for id in held.iter().take(most) {
        let Some(object) = draft.state.get(*id) else {
            continue;
        };
        match Kind::of_name(&object.kind) {
            Some(Kind::PrivateDataDisk) => {
                draft.update::<PrivateDataDisk>(*id, |_, status| status.charged_user_id = None)?;
            }
            Some(Kind::K8sCluster) => {
                draft.update::<K8sCluster>(*id, |_, status| status.charged_user_id = None)?;
            }
            _ => draft.delete(*id),
        }
    }
    let all = held.len() <= most;
    if all {
        draft.delete(user);
    }
    Ok(all)
}
