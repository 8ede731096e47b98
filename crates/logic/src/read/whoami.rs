use serde_json::{Value, json};
use virtflow_model::kinds::{Role, RoleBinding};
use virtflow_model::{Kind, Permission};
use virtflow_policy::{Decision, Target, authorize};
use virtflow_state::State;
use virtflow_types::Error;

use super::public;
use crate::cx::{Cx, Principal, Via};
use crate::door::{Door, bindings_of};
use crate::typed::decoded;

/// Who asks, and what they may do where.
pub fn whoami(state: &State, cx: &Cx) -> Result<Value, Error> {
    let door = Door::open(state, cx)?;
    let (user_id, via) = match &cx.principal {
        Principal::System => return Ok(json!({"user": null, "via": "system", "roles": []})),
        Principal::User { user_id, via } => (*user_id, via),
    };
    let user = state
        .get(user_id)
        .ok_or_else(|| Error::not_found(Kind::User.name(), &user_id.to_string()))?;
    let mut roles = Vec::new();
    for binding in bindings_of(state, user_id) {
        let typed = decoded::<RoleBinding>(binding)?;
        let name = |id| state.get(id).map_or("", |object| object.name.as_str());
        let permissions = match state.get(typed.spec.role_id) {
            Some(role) => decoded::<Role>(role)?.spec.permissions.clone(),
            None => Vec::new(),
        };
        let scope = typed.spec.scope_id;
        roles.push(json!({
            "role": name(typed.spec.role_id),
            "scope_id": scope,
            "scope_kind": scope.and_then(|id| state.get(id)).map_or("system", |o| o.kind.as_str()),
            "scope": scope.map_or("system", name),
            "permissions": permissions,
            "group": typed.spec.subject_group_id.map(name),
        }));
    }
    let (via, credential) = match via {
        Via::Session(id) => ("session", Some(*id)),
        Via::Token(id) => ("token", Some(*id)),
        Via::Certificate => ("certificate", None),
        Via::Password => ("password", None),
    };
    let narrowed = door
        .rights
        .narrowed
        .map(|set| set.iter().map(|p| p.to_string()).collect::<Vec<_>>());
    Ok(json!({
        "user": public(state, user),
        "via": via,
        "credential_id": credential,
        "narrowed_to": narrowed,
        "roles": roles,
    }))
}

/// Whether the asker may do something, to one object or, without a target, to everything of the kind.
pub fn can_i(
    state: &State,
    cx: &Cx,
    permission: &str,
    target: Option<&str>,
    tenant: Option<&str>,
) -> Result<bool, Error> {
    let permission = Permission::parse(permission).ok_or_else(|| {
        Error::invalid(
            "permission",
            "must be `kind.action`, as in `virtual_machine.execute`",
        )
    })?;
    let door = Door::open(state, cx)?;
    let within = door.tenant(tenant)?;
    let target = match target {
        Some(text) => match door.find(permission.kind, text, within) {
            Ok(object) => door.target_of(&object),
            Err(_) => return Ok(false),
        },
        None => Target::new(permission.kind, within.into_iter().collect()),
    };
    Ok(authorize(&door.rights, permission, &target) == Decision::Allowed)
}
