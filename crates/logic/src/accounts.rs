//! What the controllers themselves change about users.

use virtflow_model::kinds::User;
use virtflow_state::{Changeset, State};
use virtflow_types::{ObjectId, RequestId, Timestamp};

use crate::audit::Entry;
use crate::cx::Cx;
use crate::draft::Draft;

/// Refuses logins of a user until a moment, after repeated failures. No ops if it is locked that long
/// already, or gone.
pub fn lock_user(
    state: &State,
    request_id: RequestId,
    now: Timestamp,
    user: ObjectId,
    until: Timestamp,
    failures: u64,
) -> Changeset {
    let cx = Cx::system(request_id, now);
    let mut draft = Draft::new(state, &cx);
    let locked = draft.update::<User>(user, |_, status| {
        status.locked_until = status.locked_until.max(Some(until));
    });
    if let Ok(object) = locked {
        draft.audit(&Entry {
            action: "user.lock",
            object: &object,
            before: None,
            note: &format!("{failures} failed logins; locked until {until}"),
        });
    }
    draft.finish()
}
