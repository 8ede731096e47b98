//! What the controllers themselves change about users.

use virtflow_model::kinds::{ApiToken, Session, User};
use virtflow_model::{Kind, Resource};
use virtflow_state::{Changeset, State};
use virtflow_types::{ObjectId, RequestId, Timestamp};

use crate::audit::Entry;
use crate::cx::Cx;
use crate::draft::Draft;
use crate::limits::CREDENTIAL_USE_EVERY;
use crate::typed::decoded;

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

/// Tokens and sessions that one changeset notes the use of.
pub const CREDENTIAL_USES_MAX: usize = 500;

/// True if the use of a token or a session at this moment is worth noting: what is noted is older than some minutes.
pub fn is_use_news(state: &State, credential: ObjectId, now: Timestamp) -> bool {
    let Some(object) = state.get(credential) else {
        return false;
    };
    let noted = match Kind::of_name(&object.kind) {
        Some(ApiToken::KIND) => decoded::<ApiToken>(object).map(|it| it.status.last_used_at),
        Some(Session::KIND) => decoded::<Session>(object).map(|it| it.status.last_active_at),
        _ => return false,
    };
    noted.is_ok_and(|noted| noted.is_none_or(|noted| now.since(noted) >= CREDENTIAL_USE_EVERY))
}

/// Notes when tokens and sessions were last used. No ops where nothing is news; what is beyond [`CREDENTIAL_USES_MAX`] is
/// left out, as what is gone is. Nobody's act, so that no record tells of it.
pub fn credentials_used(
    state: &State,
    request_id: RequestId,
    now: Timestamp,
    uses: &[(ObjectId, Timestamp)],
) -> Changeset {
    let cx = Cx::system(request_id, now);
    let mut draft = Draft::new(state, &cx);
    for (id, at) in uses.iter().take(CREDENTIAL_USES_MAX) {
        // What another controller's clock says of tomorrow is not kept.
        let at = (*at).min(now);
        if !is_use_news(state, *id, at) {
            continue;
        }
        let kind = state
            .get(*id)
            .and_then(|object| Kind::of_name(&object.kind));
        // What cannot be read is told by `verify`.
        let _ = match kind {
            Some(ApiToken::KIND) => draft.update::<ApiToken>(*id, |_, status| {
                status.last_used_at = status.last_used_at.max(Some(at));
            }),
            _ => draft.update::<Session>(*id, |_, status| {
                status.last_active_at = status.last_active_at.max(Some(at));
            }),
        };
    }
    draft.finish()
}
