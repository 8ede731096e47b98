//! Layers of configuration: a tenant narrows what the cloud allows, a user what the tenant allows.

use serde_json::Value;
use virtflow_model::config::{Layer, LayerOf, check_narrowing, rule_of, scope_key};
use virtflow_model::kinds::system_config::SystemConfigSpec;
use virtflow_model::kinds::{SystemConfig, TenantConfig};
use virtflow_model::{Kind, key};
use virtflow_state::{Object, State};
use virtflow_types::{Error, ErrorCode};

use super::Writing;
use crate::explain::call;
use crate::typed::decoded;
use crate::verbs::{active_layer, parse_spec};

pub(super) fn on_write(writing: &Writing<'_, '_>) -> Result<(), Error> {
    match writing.kind {
        Kind::SystemConfig => on_system(writing),
        _ => on_layer(writing),
    }
}

/// What others rest on stays active, and what is secret of it stays so while they have values.
fn on_system(writing: &Writing<'_, '_>) -> Result<(), Error> {
    let Some(old) = writing.old else {
        return Ok(());
    };
    let state = writing.door.state;
    let (old, new): (SystemConfigSpec, SystemConfigSpec) =
        (parse_spec(old)?, parse_spec(writing.new)?);
    let at = SystemConfig::key(&new);
    if old.active && !new.active {
        refuse_while_rested_on(state, &at)?;
    }
    let own = writing.id.and_then(|id| state.get(id)).map(|own| &**own);
    let lower = layers(state, &at).filter(|_| old.active);
    refuse_turned_secret(&old, &new, own.into_iter().chain(lower))
}

/// A field becomes secret, or ceases to be, only while no layer has a value of it: what was readable once stays so in
/// the history, and what is sealed cannot be compared.
fn refuse_turned_secret<'o>(
    old: &SystemConfigSpec,
    new: &SystemConfigSpec,
    mut layers: impl Iterator<Item = &'o Object>,
) -> Result<(), Error> {
    let turns =
        |field: &str| rule_of(&old.schema, field).secret != rule_of(&new.schema, field).secret;
    let turned = layers.find_map(|layer| {
        let stored: Value = serde_json::from_str(&layer.spec).unwrap_or_default();
        let mut fields = stored["values"].as_object()?.keys();
        Some((layer, fields.find(|field| turns(field))?.clone()))
    });
    let Some((layer, field)) = turned else {
        return Ok(());
    };
    let word = match rule_of(&new.schema, &field).secret {
        true => "become secret",
        false => "cease to be secret",
    };
    Err(Error::new(
        ErrorCode::Conflict,
        format!(
            "{} has a value of the field `{field}`, which would {word}",
            call(layer)
        ),
    )
    .advise("remove that value first, and set it anew afterwards"))
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
    let Some(system) = active_layer(state, &format!("system/{at}")) else {
        return Err(Error::invalid(
            "spec.scope",
            format!("the cloud has no active configuration of the scope `{at}`"),
        )
        .advise("name a scope that `system_config` lists as active"));
    };
    let system = decoded::<SystemConfig>(system)?;
    let tenant = writing.tenant.filter(|_| writing.kind == Kind::UserConfig);
    let tenant = tenant.and_then(|tenant| active_layer(state, &format!("tenant/{tenant}/{at}")));
    let tenant = tenant.map(decoded::<TenantConfig>).transpose()?;
    let mut above = vec![(LayerOf::System, &system.spec.values)];
    above.extend(
        tenant
            .iter()
            .map(|tenant| (LayerOf::Tenant, &tenant.spec.values)),
    );
    match writing.new["values"].as_object() {
        Some(values) => Ok(check_narrowing(&system.spec.schema, &above, values)?),
        None => Ok(()),
    }
}
