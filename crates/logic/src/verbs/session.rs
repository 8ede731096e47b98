//! Sessions: opened by a password, kept alive by a secret that changes at each use, ended at once.

use virtflow_model::kinds::session::{SessionSpec, SessionStatus};
use virtflow_model::kinds::{Session, User};
use virtflow_model::{Kind, Resource};
use virtflow_types::{Error, ErrorCode};

use super::{Done, Outcome};
use crate::cx::{Principal, Via, check_principal, same_secret, unauthenticated};
use crate::door::Door;
use crate::draft::{Draft, Place};
use crate::limits::SESSIONS_PER_USER_MAX;
use crate::read::of_user;
use crate::request::{Login, Refresh};
use crate::typed::decoded;

/// The password was right, just now; the door has checked that the user may log in at all.
pub(crate) fn login<'a>(door: &Door<'a>, login: &Login) -> Done<'a> {
    let shown = Principal::User {
        user_id: login.user_id,
        via: Via::Password,
    };
    if door.cx.principal != shown {
        return Err(unauthenticated("a session is opened by a password"));
    }
    let mut draft = Draft::new(door.state, door.cx);
    let user = draft.typed::<User>(login.user_id)?;
    let now = door.cx.now;
    if user.status.locked_until.is_some_and(|until| until > now) {
        return Err(unauthenticated("too many failed logins"));
    }
    let spec = SessionSpec {
        device: login.device.clone(),
        address: login.address.clone(),
        expires_at: login.expires_at,
    };
    Session::validate(&spec)?;
    let mut sessions: Vec<_> = of_user(door.state, login.user_id)
        .filter(|object| object.kind == Kind::Session.name())
        .map(|object| object.id)
        .collect();
    // Ids grow with time, so the first is the oldest.
    sessions.sort_unstable();
    let beyond = (sessions.len() + 1).saturating_sub(SESSIONS_PER_USER_MAX);
    for oldest in sessions.into_iter().take(beyond) {
        draft.delete(oldest);
    }
    draft.update::<User>(login.user_id, |_, status| {
        status.last_login_at = Some(now);
        status.locked_until = None;
    })?;
    let place = Place {
        id: Some(login.session.id),
        parent: Some(login.user_id),
        ..Place::default()
    };
    let status = SessionStatus {
        refresh_hash: login.session.hash.clone(),
        rotations: 0,
        last_active_at: Some(now),
    };
    let session = draft.create::<Session>(place, spec, status)?;
    Ok((draft, Outcome::new("session.login", 201, session)))
}

/// The secret in force is exchanged for the next. One that was exchanged before shows that two hold it,
/// of whom one stole it: the session ends.
pub(crate) fn refresh<'a>(door: &Door<'a>, refresh: &Refresh) -> Done<'a> {
    let ended =
        || unauthenticated("the session has ended").advise("log in again: `virtflow login`");
    let session = door
        .state
        .get(refresh.session_id)
        .ok_or_else(ended)?
        .clone();
    let typed = decoded::<Session>(&session).map_err(|_| ended())?;
    let user_id = session.parent.ok_or_else(ended)?;
    let owner = Principal::User {
        user_id,
        via: Via::Session(session.id),
    };
    check_principal(door.state, door.cx.now, &owner)?;
    let mut draft = Draft::new(door.state, door.cx);
    if !same_secret(&typed.status.refresh_hash, &refresh.presented_hash) {
        draft.delete(session.id);
        let outcome = Outcome::new("session.revoke", 401, session)
            .gone()
            .note("a refresh secret was used twice or made up; the session was ended")
            .extra("outcome", "reused");
        return Ok((draft, outcome));
    }
    let after = draft.update::<Session>(session.id, |_, status| {
        status.last_active_at = Some(door.cx.now);
        status.refresh_hash.clone_from(&refresh.new_hash);
        status.rotations += 1;
    })?;
    let outcome = Outcome::new("session.refresh", 200, after)
        .extra("outcome", "rotated")
        .extra("user_id", user_id.to_string());
    Ok((draft, outcome))
}

/// Ends the session that the request came with.
pub(crate) fn logout<'a>(door: &Door<'a>) -> Done<'a> {
    let Principal::User {
        via: Via::Session(id),
        ..
    } = &door.cx.principal
    else {
        return Err(Error::new(
            ErrorCode::Conflict,
            "this request did not come with a session",
        )
        .advise("an API token is revoked by deleting it"));
    };
    let session = door
        .state
        .get(*id)
        .ok_or_else(|| unauthenticated("the session has ended"))?
        .clone();
    let mut draft = Draft::new(door.state, door.cx);
    draft.delete(session.id);
    Ok((draft, Outcome::new("session.logout", 200, session).gone()))
}
