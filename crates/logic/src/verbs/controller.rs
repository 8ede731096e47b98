//! Controllers, as far as the state knows them. Membership itself is the replication's.

use virtflow_model::kinds::Controller;
use virtflow_model::{Action, Kind, Permission};
use virtflow_types::{Error, ErrorCode};

use super::delete::find;
use super::{Done, Outcome};
use crate::door::Door;
use crate::request::{ControllerVerb, Delete};
use crate::typed::decoded;

/// Allows and records something that the caller does once this is committed.
pub(crate) fn act<'a>(door: &Door<'a>, verb: ControllerVerb, target: &str) -> Done<'a> {
    let controller = door.find(Kind::Controller, target, None)?;
    let permission = Permission::new(Kind::Controller, Action::Manage);
    let mut draft = door.draft_for(permission, &controller)?;
    let typed = decoded::<Controller>(&controller)?;
    refuse_removed(&controller.name, typed.status.removed)?;
    draft.record_even_alone();
    let action = format!("controller.{}", verb.name());
    Ok((draft, Outcome::new(action, 200, controller)))
}

/// Its certificate is worth nothing from here on, and its number is never given again. Taking it out of
/// the membership is the caller's next step; the row stays so that the number stays taken.
pub(crate) fn delete<'a>(door: &Door<'a>, delete: &Delete) -> Done<'a> {
    let (controller, mut draft) = find(door, delete, Action::Delete)?;
    refuse_removed(
        &controller.name,
        decoded::<Controller>(&controller)?.status.removed,
    )?;
    let after = draft.update::<Controller>(controller.id, |_, status| status.removed = true)?;
    Ok((draft, Outcome::new("controller.delete", 200, after)))
}

fn refuse_removed(name: &str, removed: bool) -> Result<(), Error> {
    match removed {
        false => Ok(()),
        true => Err(Error::new(
            ErrorCode::Conflict,
            format!("controller `{name}` was removed already"),
        )),
    }
}
