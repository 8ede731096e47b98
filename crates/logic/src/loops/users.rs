use virtflow_model::Kind;
use virtflow_model::kinds::User;
use virtflow_state::{Changeset, State};
use virtflow_types::{Error, ErrorCode, ObjectId, Timestamp};

use super::packed;
use crate::draft::Draft;
use crate::explain::call;
use crate::limits::Limits;
use crate::typed::decoded;

/// Users that are emptied in one pass.
const USERS_PER_PASS: usize = 16;

/// Finishes the deletion of users who held more than one changeset takes.
pub fn user_deletions(state: &State, now: Timestamp, limits: &Limits) -> Vec<Changeset> {
    let leaving = state
        .of_kind(Kind::User.name(), None)
        .filter(|user| user.closed && decoded::<User>(user).is_ok_and(|u| u.status.deleting))
        .take(USERS_PER_PASS);
    packed(state, now, limits, leaving, |draft, user| {
        empty_user(draft, user.id, limits.objects_per_changeset).map(drop)
    })
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
        let goes_along = matches!(
            Kind::parse(&object.kind),
            Some(Kind::Session | Kind::ApiToken | Kind::IdempotencyKey | Kind::RoleBinding)
        );
        if !goes_along {
            return Err(Error::new(
                ErrorCode::InUse,
                format!("the user is still needed by {}", call(object)),
            )
            .advise(format!("remove {} first", call(object))));
        }
    }
    for id in held.iter().take(most) {
        draft.delete(*id);
    }
    let all = held.len() <= most;
    if all {
        draft.delete(user);
    }
    Ok(all)
}
