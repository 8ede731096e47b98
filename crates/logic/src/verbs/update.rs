//! Changing the spec of an object of any kind whose spec people write.

use serde_json::Value;
use virtflow_model::kinds::{TenantConfig, UserConfig};
use virtflow_model::{Action, ByPeople, Kind, PerKind, Permission, Resource};
use virtflow_state::Object;
use virtflow_types::{Error, ErrorCode};

use super::create::to_value;
use super::rules::{self, Writing};
use super::{Done, Outcome, config, parse_spec, references};
use crate::door::Door;
use crate::request::Update;
use crate::typed::{Typed, decoded};

pub(crate) fn run<'a>(door: &Door<'a>, update: &Update) -> Done<'a> {
    match update.kind.rules().update {
        ByPeople::Plainly => update.kind.dispatch(Change { door, update }),
        ByPeople::ByVerb => match update.kind {
            Kind::SystemConfig => config::update_system(door, update),
            Kind::TenantConfig => config::update_lower::<TenantConfig>(door, update),
            Kind::UserConfig => config::update_lower::<UserConfig>(door, update),
            other => Err(super::create::no_verb(other, "change")),
        },
        ByPeople::Never(advice) => Err(Error::new(
            ErrorCode::Invalid,
            format!("{} does not change", update.kind.with_article()),
        )
        .advise(advice)),
    }
}

struct Change<'d, 'a> {
    door: &'d Door<'a>,
    update: &'d Update,
}

impl<'a> PerKind for Change<'_, 'a> {
    type Out = Done<'a>;

    fn run<R: Resource>(self) -> Done<'a> {
        change::<R>(self.door, self.update, |_, _, _| Ok(None))
    }
}

/// Changes an object as every kind is changed; `settle` may give another status, and set what of the spec is not kept
/// as it was sent.
pub(super) fn change<'a, R: Resource>(
    door: &Door<'a>,
    update: &Update,
    settle: impl FnOnce(&Object, &Typed<R>, &mut R::Spec) -> Result<Option<R::Status>, Error>,
) -> Done<'a> {
    let tenant = door.tenant(update.tenant.as_deref())?;
    let before = door.find(R::KIND, &update.target, tenant)?;
    let permission = Permission::new(R::KIND, Action::Update);
    let mut draft = door.draft_for(permission, &before)?;
    if !R::RULES.while_suspended {
        door.refuse_if_read_only(before.tenant)?;
    }
    door.check_generation(&before)?;
    let old = decoded::<R>(&before)?;
    let old_value = to_value(&old.spec);
    let mut value = update.spec.clone();
    references::resolve(door, R::KIND, &mut value, Some(&old_value), before.tenant)?;
    if update.merge {
        let mut merged = old_value.clone();
        merge(&mut merged, &value);
        value = merged;
    }
    let mut spec: R::Spec = parse_spec(&value)?;
    R::validate_update(&old.spec, &spec)?;
    let status = settle(&before, &old, &mut spec)?;
    let new_value = to_value(&spec);
    refuse_move(R::KIND, &old_value, &new_value)?;
    rules::on_write(Writing {
        door,
        draft: &mut draft,
        kind: R::KIND,
        id: Some(before.id),
        tenant: before.tenant,
        parent: before.parent,
        old: Some(&old_value),
        new: &new_value,
    })?;
    let after = draft.update::<R>(before.id, |current, now| {
        *current = spec;
        if let Some(status) = status {
            *now = status;
        }
    })?;
    let action = format!("{}.update", R::KIND.name());
    Ok((draft, Outcome::new(action, 200, after).before(before)))
}

/// What lives under another object stays there.
fn refuse_move(kind: Kind, old: &Value, new: &Value) -> Result<(), Error> {
    let Some(parent) = kind.rules().parent() else {
        return Ok(());
    };
    let field = format!("{}_id", parent.field);
    if old[&field] == new[&field] {
        return Ok(());
    }
    Err(Error::invalid(
        format!("spec.{}", parent.field),
        format!("does not change: make another {} there", kind.name()),
    ))
}

/// RFC 7386: objects are merged, null removes, anything else replaces.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    if let Value::Object(fields) = target {
        for (name, value) in patch {
            if value.is_null() {
                fields.remove(name);
            } else {
                merge(fields.entry(name.clone()).or_insert(Value::Null), value);
            }
        }
    }
}
