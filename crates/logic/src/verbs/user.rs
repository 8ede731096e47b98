//! Users: made with the hash of a password or without one, their password set, removed with what they
//! hold.

use serde_json::json;
use virtflow_model::kinds::User;
use virtflow_model::kinds::user::{UserSpec, UserState};
use virtflow_model::{Action, Kind, Permission, Resource};
use virtflow_policy::Target;
use virtflow_types::{Error, ErrorCode};

use super::create::{parse_status, place};
use super::delete::find;
use super::{Done, Outcome, parse_spec};
use crate::cx::{Principal, Via};
use crate::door::{Door, forbidden};
use crate::limits::CASCADE_MAX;
use crate::loops::empty_user;
use crate::read::of_user;
use crate::request::{Create, Delete, SetPassword};

pub(crate) fn create<'a>(door: &Door<'a>, create: &Create) -> Done<'a> {
    let place = place::<User>(door, create)?;
    let permission = Permission::new(Kind::User, Action::Create);
    let target = Target::new(Kind::User, place.tenant.into_iter().collect());
    let mut draft = door.draft(permission, &target, || forbidden(permission))?;
    door.refuse_if_read_only(place.tenant)?;
    let mut spec = parse_spec::<UserSpec>(&create.spec)?;
    User::validate(&spec)?;
    let hash = create.password_hash.clone().unwrap_or_default();
    if hash.is_empty() && spec.state == UserState::Active {
        spec.state = UserState::Pending;
    }
    let status = parse_status::<User>(json!({"password_hash": hash}))?;
    let object = draft.create::<User>(place, spec, status)?;
    Ok((draft, Outcome::new("user.create", 201, object)))
}

/// One's own with the old one, somebody else's by right; every other session of the user ends.
pub(crate) fn set_password<'a>(door: &Door<'a>, set: &SetPassword) -> Done<'a> {
    let user = door.find(Kind::User, &set.target, None)?;
    let own = door.cx.user_id() == Some(user.id);
    let permission = Permission::new(Kind::User, Action::Update);
    let mut draft = if own && set.old_verified {
        // Whoever knows the old password may set a new one, whatever their roles.
        let read = Permission::new(Kind::User, Action::Read);
        door.draft_for(read, &user)?
    } else {
        let draft = door.draft_for(permission, &user)?;
        if own {
            return Err(Error::new(
                ErrorCode::Forbidden,
                "your own password is changed with the old one",
            )
            .advise("give `old_password` too"));
        }
        door.may_act_as(user.id)?;
        draft
    };
    let after = draft.update::<User>(user.id, |spec, status| {
        status.password_hash.clone_from(&set.hash);
        status.locked_until = None;
        if spec.state == UserState::Pending {
            spec.state = UserState::Active;
        }
    })?;
    let current = match &door.cx.principal {
        Principal::User {
            via: Via::Session(id),
            ..
        } => Some(*id),
        Principal::User { .. } | Principal::System => None,
    };
    let sessions: Vec<_> = of_user(door.state, user.id)
        .filter(|object| object.kind == Kind::Session.name() && Some(object.id) != current)
        .take(CASCADE_MAX)
        .map(|object| object.id)
        .collect();
    for session in sessions {
        draft.delete(session);
    }
    Ok((draft, Outcome::new("user.set_password", 200, after)))
}

pub(crate) fn delete<'a>(door: &Door<'a>, delete: &Delete) -> Done<'a> {
    let (user, mut draft) = find(door, delete, Action::Delete)?;
    if door.cx.user_id() == Some(user.id) {
        return Err(Error::new(ErrorCode::Conflict, "nobody deletes themselves")
            .advise("ask another administrator"));
    }
    door.may_act_as(user.id)?;
    let held = door.state.linking_to(user.id).take(CASCADE_MAX + 1).count();
    if held > CASCADE_MAX {
        // More than one changeset takes: it is shut now and emptied by a loop.
        let after = draft.update::<User>(user.id, |_, status| status.deleting = true)?;
        let outcome = Outcome::new("user.delete", 202, after)
            .note("what the user holds is removed in batches, then the user");
        return Ok((draft, outcome));
    }
    empty_user(&mut draft, user.id, CASCADE_MAX)?;
    Ok((draft, Outcome::new("user.delete", 200, user).gone()))
}
