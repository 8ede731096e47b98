//! Layers of configuration: a tenant narrows what the cloud allows, a user what the tenant allows.

use serde_json::Value;
use virtflow_model::config::{check_narrowing, check_secrets, scope_key};
use virtflow_model::kinds::system_config::SystemConfigSpec;
use virtflow_model::kinds::{SystemConfig, TenantConfig};
use virtflow_model::{Kind, key, space};
use virtflow_state::{Object, State};
use virtflow_types::{Error, ErrorCode, ObjectId};

use super::Writing;
use crate::explain::call;
use crate::typed::decoded;
use crate::verbs::parse_spec;

pub(super) fn on_write(writing: &Writing<'_, '_>) -> Result<(), Error> {
    match writing.kind {
        Kind::SystemConfig => on_system(writing),
        _ => on_layer(writing),
    }
}

/// A field becomes secret only while no layer has a value of it, and what others rest on stays active.
fn on_system(writing: &Writing<'_, '_>) -> Result<(), Error> {
    let state = writing.door.state;
    let spec: SystemConfigSpec = parse_spec(writing.new)?;
    let at = scope_key(&spec.scope, spec.sub_scope.as_deref());
    let was_active = writing.old.is_some_and(|old| old["active"] == true);
    if was_active && !spec.active {
        refuse_while_rested_on(state, &at)?;
    }
    for layer in layers(state, &at) {
        let stored: Value = serde_json::from_str(&layer.spec).unwrap_or_default();
        let values = stored["values"].as_object();
        if values.is_some_and(|values| check_secrets(&spec.schema, values).is_err()) {
            return Err(Error::new(
                ErrorCode::Conflict,
                format!(
                    "{} has a value of a field that would become secret",
                    call(layer)
                ),
            )
            .advise("remove that value first"));
        }
    }
    Ok(())
}

pub(super) fn on_delete(state: &State, object: &Object) -> Result<(), Error> {
    let spec = &decoded::<SystemConfig>(object)?.spec;
    match spec.active {
        true => refuse_while_rested_on(state, &scope_key(&spec.scope, spec.sub_scope.as_deref())),
        false => Ok(()),
    }
}

fn refuse_while_rested_on(state: &State, at: &str) -> Result<(), Error> {
    match layers(state, at).next() {
        None => Ok(()),
        Some(layer) => Err(Error::new(
            ErrorCode::InUse,
            format!(
                "{} narrows this configuration and would rest on nothing",
                call(layer)
            ),
        )
        .advise("delete the configurations of tenants and users in that scope first")),
    }
}

/// What tenants and users configure in a scope, active or not.
fn layers<'a>(state: &'a State, at: &str) -> impl Iterator<Item = &'a Object> + use<'a> {
    let of = |kind: Kind| state.by_key(key::CONFIG_SCOPE, &format!("{}/{at}", kind.name()), None);
    let tenants = of(Kind::TenantConfig);
    tenants.chain(of(Kind::UserConfig)).map(|layer| &**layer)
}

/// Within what the layers above give together.
fn on_layer(writing: &Writing<'_, '_>) -> Result<(), Error> {
    let state = writing.door.state;
    let scope = writing.new["scope"].as_str().unwrap_or_default();
    let at = scope_key(scope, writing.new["sub_scope"].as_str());
    let Some(system) = active(state, &format!("system/{at}")) else {
        return Err(Error::invalid(
            "spec.scope",
            format!("the cloud has no active configuration of the scope `{at}`"),
        )
        .advise("name a scope that `system_config` lists as active"));
    };
    let system = decoded::<SystemConfig>(system)?;
    let tenant = writing.tenant.filter(|_| writing.kind == Kind::UserConfig);
    let tenant =
        tenant.and_then(|tenant: ObjectId| active(state, &format!("tenant/{tenant}/{at}")));
    let tenant = tenant.map(decoded::<TenantConfig>).transpose()?;
    let mut above = vec![&system.spec.values];
    above.extend(tenant.as_ref().map(|tenant| &tenant.spec.values));
    match writing.new["values"].as_object() {
        Some(values) => Ok(check_narrowing(&system.spec.schema, &above, values)?),
        None => Ok(()),
    }
}

fn active<'a>(state: &'a State, at: &str) -> Option<&'a Object> {
    state
        .holder(space::CONFIG, at.as_bytes())
        .map(|object| &**object)
}
