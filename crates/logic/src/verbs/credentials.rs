//! What gives somebody rights: roles, bindings, API tokens, join tokens. Nobody gives more than they have.

use std::time::Duration;

use serde_json::{Value, json};
use virtflow_model::kinds::join_token::JoinRole;
use virtflow_model::kinds::role::RoleSpec;
use virtflow_model::kinds::{ApiToken, JoinToken, Role, RoleBinding};
use virtflow_model::{Action, Kind, Permission, Resource, key};
use virtflow_policy::{PermissionSet, Target};
use virtflow_types::{Error, ErrorCode, Timestamp};

use super::create::{id_in, parse_status, place};
use super::{Done, Outcome, parse_spec, references};
use crate::door::{Door, forbidden};
use crate::draft::Place;
use crate::limits::{
    API_TOKENS_PER_USER_MAX, BINDINGS_PER_GROUP_MAX, BINDINGS_PER_USER_MAX,
    JOIN_TOKEN_LIFE_DEFAULT, JOIN_TOKEN_LIFE_MAX,
};
use crate::read::of_user;
use crate::request::{Create, NewSecret};
use crate::typed::decoded;

/// A role may hold what its maker holds over the whole system, and is not built in.
pub(crate) fn check_role(door: &Door<'_>, spec: &Value) -> Result<(), Error> {
    let spec: RoleSpec = parse_spec(spec)?;
    if spec.built_in {
        return Err(Error::invalid(
            "spec.built_in",
            "built-in roles come with the cluster; leave this out",
        ));
    }
    door.may_give(&PermissionSet::of(&spec.permissions), None)
}

pub(crate) fn create_binding<'a>(door: &Door<'a>, create: &Create) -> Done<'a> {
    if create.name.is_some() {
        return Err(Error::invalid("name", "a role_binding has no name"));
    }
    let mut spec = create.spec.clone();
    let within = door.tenant(create.tenant.as_deref())?;
    references::resolve(door, Kind::RoleBinding, &mut spec, None, within)?;
    let scope = id_in(&spec, "scope_id");
    let scopes = scope.map_or_else(Vec::new, |scope| door.chain(scope));
    let permission = Permission::new(Kind::RoleBinding, Action::Create);
    let target = Target::new(Kind::RoleBinding, scopes);
    let mut draft = door.draft(permission, &target, || forbidden(permission))?;
    let spec = parse_spec::<<RoleBinding as Resource>::Spec>(&spec)?;
    RoleBinding::validate(&spec)?;
    let role = door
        .state
        .get(spec.role_id)
        .ok_or_else(|| Error::not_found("role", &spec.role_id.to_string()))?;
    let role = decoded::<Role>(role)?;
    door.may_give(&PermissionSet::of(&role.spec.permissions), spec.scope_id)?;
    let subjects = [
        (
            spec.subject_id,
            BINDINGS_PER_USER_MAX,
            "role bindings of one user",
        ),
        (
            spec.subject_group_id,
            BINDINGS_PER_GROUP_MAX,
            "role bindings of one user group",
        ),
    ];
    for (subject, most, what) in subjects {
        if let Some(subject) = subject {
            let held = door
                .state
                .by_key(key::BINDING_SUBJECT, &subject.to_string(), None);
            refuse_beyond(held.count(), most, what)?;
        }
    }
    // A binding belongs to the tenant it reaches into, so that it goes with it.
    let tenant = match scope.and_then(|scope| door.state.get(scope)) {
        Some(scope) if scope.kind == Kind::Tenant.name() => Some(scope.id),
        Some(scope) => scope.tenant,
        None => None,
    };
    door.refuse_if_read_only(tenant)?;
    let place = Place {
        tenant,
        ..Place::default()
    };
    let status = parse_status::<RoleBinding>(json!({}))?;
    let object = draft.create::<RoleBinding>(place, spec, status)?;
    Ok((draft, Outcome::new("role_binding.create", 201, object)))
}

pub(crate) fn create_api_token<'a>(door: &Door<'a>, create: &Create) -> Done<'a> {
    let secret = secret_of(create)?;
    let user = match (&create.parent, door.cx.user_id()) {
        (Some(text), _) => door.find(Kind::User, text, None)?.id,
        (None, Some(own)) => own,
        (None, None) => return Err(Error::invalid("parent", "is missing: whose token is it?")),
    };
    let permission = Permission::new(Kind::ApiToken, Action::Create);
    let mut target = Target::new(Kind::ApiToken, door.chain(user));
    target.owner = Some(user);
    let mut draft = door.draft(permission, &target, || forbidden(permission))?;
    let tenant = door.state.get(user).and_then(|user| user.tenant);
    door.refuse_if_read_only(tenant)?;
    door.may_act_as(user)?;
    let mut spec = create.spec.clone();
    resolve_life(&mut spec, door.cx.now)?;
    let spec = parse_spec::<<ApiToken as Resource>::Spec>(&spec)?;
    ApiToken::validate(&spec)?;
    refuse_past(spec.expires_at, door.cx.now)?;
    // A narrowed token makes no wider one: what it gives is checked against what it is narrowed to.
    if let Some(narrowed) = &door.rights.narrowed {
        let asked = match spec.permissions.is_empty() {
            true => PermissionSet::all(),
            false => PermissionSet::of(&spec.permissions),
        };
        if let Some(missing) = narrowed.first_beyond(&asked) {
            return Err(forbidden(missing));
        }
    }
    let tokens = of_user(door.state, user).filter(|o| o.kind == Kind::ApiToken.name());
    refuse_beyond(
        tokens.count(),
        API_TOKENS_PER_USER_MAX,
        "API tokens of one user",
    )?;
    let named = place::<ApiToken>(door, create)?;
    let place = Place {
        id: Some(secret.id),
        name: named.name,
        tenant: None,
        parent: Some(user),
    };
    let status = parse_status::<ApiToken>(json!({"secret_hash": secret.hash}))?;
    let object = draft.create::<ApiToken>(place, spec, status)?;
    Ok((draft, Outcome::new("api_token.create", 201, object)))
}

pub(crate) fn create_join_token<'a>(door: &Door<'a>, create: &Create) -> Done<'a> {
    let secret = secret_of(create)?;
    let mut spec = create.spec.clone();
    references::resolve(door, Kind::JoinToken, &mut spec, None, None)?;
    resolve_life(&mut spec, door.cx.now)?;
    let scopes = id_in(&spec, "group_id").into_iter().collect();
    let permission = Permission::new(Kind::JoinToken, Action::Create);
    let mut draft = door.draft(permission, &Target::new(Kind::JoinToken, scopes), || {
        forbidden(permission)
    })?;
    let mut spec = parse_spec::<<JoinToken as Resource>::Spec>(&spec)?;
    if spec.expires_at == Timestamp::EPOCH {
        spec.expires_at = door.cx.now.plus(JOIN_TOKEN_LIFE_DEFAULT);
    }
    JoinToken::validate(&spec)?;
    refuse_past(Some(spec.expires_at), door.cx.now)?;
    if spec.expires_at.since(door.cx.now) > JOIN_TOKEN_LIFE_MAX {
        return Err(Error::invalid(
            "spec.expires_at",
            format!("at most {} s from now", JOIN_TOKEN_LIFE_MAX.as_secs()),
        ));
    }
    // A controller sees every secret there is: whoever invites one must be allowed to make one.
    if spec.role == JoinRole::Controller {
        let needed = Permission::new(Kind::Controller, Action::Create);
        let target = Target::new(Kind::Controller, Vec::new());
        door.admit(needed, &target, || forbidden(needed))?;
    }
    let place = Place {
        id: Some(secret.id),
        ..place::<JoinToken>(door, create)?
    };
    let status = parse_status::<JoinToken>(json!({"secret_hash": secret.hash}))?;
    let object = draft.create::<JoinToken>(place, spec, status)?;
    Ok((draft, Outcome::new("join_token.create", 201, object)))
}

/// `"ttl_s": 900` instead of a moment: the server's clock counts.
fn resolve_life(spec: &mut Value, now: Timestamp) -> Result<(), Error> {
    let Value::Object(fields) = spec else {
        return Err(Error::invalid("spec", "must be an object"));
    };
    let Some(life) = fields.remove("ttl_s") else {
        return Ok(());
    };
    if fields.contains_key("expires_at") {
        return Err(Error::invalid(
            "spec.ttl_s",
            "give `ttl_s` or `expires_at`, not both",
        ));
    }
    let seconds = life
        .as_u64()
        .filter(|seconds| *seconds > 0)
        .ok_or_else(|| Error::invalid("spec.ttl_s", "must be a number of seconds above 0"))?;
    let at = now.plus(Duration::from_secs(seconds));
    fields.insert("expires_at".into(), at.to_string().into());
    Ok(())
}

fn refuse_past(at: Option<Timestamp>, now: Timestamp) -> Result<(), Error> {
    match at {
        Some(at) if at <= now => Err(Error::invalid("spec.expires_at", "lies in the past")),
        _ => Ok(()),
    }
}

pub(crate) fn refuse_beyond(has: usize, most: usize, what: &str) -> Result<(), Error> {
    if has < most {
        return Ok(());
    }
    Err(Error::new(
        ErrorCode::LimitExceeded,
        format!("at most {most} {what} are allowed"),
    )
    .advise("delete some that are not needed"))
}

fn secret_of(create: &Create) -> Result<&NewSecret, Error> {
    create.secret.as_ref().ok_or_else(|| {
        Error::new(
            ErrorCode::Internal,
            format!(
                "{} was asked for without a secret",
                create.kind.with_article()
            ),
        )
    })
}
