//! What holds of a scope of configuration for a tenant or a user: the layers merged, field by field.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Map, Value, json};
use virtflow_model::config::{
    Layer, LayerOf, Values, effective_field, is_mask, mask, rule_of, scope_key,
};
use virtflow_model::kinds::{SystemConfig, TenantConfig, UserConfig};
use virtflow_model::{Action, Kind, Permission};
use virtflow_policy::Target;
use virtflow_state::Object;
use virtflow_types::{Error, ObjectId};

use crate::cx::Cx;
use crate::door::{Door, forbidden};
use crate::typed::{Typed, decoded};
use crate::verbs::active_layer;

/// What is asked for; without tenant and user it is the asker's own.
#[derive(Debug, Clone, Default)]
pub struct EffectiveQuery {
    /// The scope: `genai.policy`.
    pub scope: String,
    /// A part of it.
    pub sub_scope: Option<String>,
    /// For this tenant, by id or name; with a user: where the user is looked for.
    pub tenant: Option<String>,
    /// For this user, by id or name.
    pub user: Option<String>,
}

/// For whom it holds, after it was made sure that the asker may read that.
#[derive(Debug, Clone, Copy)]
pub struct Whom {
    tenant: Option<ObjectId>,
    user: Option<ObjectId>,
}

/// The effective configuration of a scope: `values`, and under `fields` how each came about.
///
/// Fails with `not_found` for a tenant or user that the asker does not see and for a scope without an active
/// configuration of the cloud's, with `forbidden` for who may not read the layers of that tenant or user. One's own
/// everybody reads.
pub fn effective(
    state: &virtflow_state::State,
    cx: &Cx,
    query: &EffectiveQuery,
) -> Result<Value, Error> {
    let whom = effective_for(state, cx, query)?;
    let at = scope_key(&query.scope, query.sub_scope.as_deref());
    let of = |key: String| active_layer(state, &key);
    let layers = Layers {
        system: of(format!("system/{at}")),
        tenant: whom
            .tenant
            .and_then(|tenant| of(format!("tenant/{tenant}/{at}"))),
        user: whom.user.and_then(|user| of(format!("user/{user}/{at}"))),
    };
    effective_of(query, whom, layers)
}

/// For whom an effective configuration is asked.
pub fn effective_for(
    state: &virtflow_state::State,
    cx: &Cx,
    query: &EffectiveQuery,
) -> Result<Whom, Error> {
    let door = Door::open(state, cx)?;
    Whom::of(&door, query)
}

/// The active layers of a scope, each as the object that it is or was.
#[derive(Debug, Clone, Copy, Default)]
pub struct Layers<'a> {
    /// The cloud's.
    pub system: Option<&'a Object>,
    /// The tenant's.
    pub tenant: Option<&'a Object>,
    /// The user's.
    pub user: Option<&'a Object>,
}

/// What layers are together.
pub fn effective_of(query: &EffectiveQuery, whom: Whom, of: Layers<'_>) -> Result<Value, Error> {
    let at = scope_key(&query.scope, query.sub_scope.as_deref());
    let system = layer::<SystemConfig>(of.system)?;
    let Some((system_object, system)) = &system else {
        return Err(
            Error::not_found("active configuration of the cloud's", &at).advise(
                "name a scope that `system_config` lists as active, and its sub-scope if it has one",
            ),
        );
    };
    let tenant = layer::<TenantConfig>(of.tenant)?;
    let user = layer::<UserConfig>(of.user)?;
    let mut layers: Vec<(LayerOf, &Values)> = vec![(LayerOf::System, &system.spec.values)];
    let mut told = vec![told_layer(LayerOf::System, system_object)];
    if let Some((object, tenant)) = &tenant {
        layers.push((LayerOf::Tenant, &tenant.spec.values));
        told.push(told_layer(LayerOf::Tenant, object));
    }
    if let Some((object, user)) = &user {
        layers.push((LayerOf::User, &user.spec.values));
        told.push(told_layer(LayerOf::User, object));
    }
    let (mut values, mut fields) = (Map::new(), Map::new());
    let named: BTreeSet<&String> = layers
        .iter()
        .flat_map(|(_, values)| values.keys())
        .collect();
    for field in named {
        let rule = rule_of(&system.spec.schema, field);
        let found = effective_field(rule.merge, &layers, field);
        fields.insert(
            field.clone(),
            json!({
                "merge": rule.merge,
                "secret": rule.secret,
                "from": found.from,
                "ignored": found.ignored,
            }),
        );
        if let Some(value) = found.value {
            // Only a mask of a secret is ever stored; should one not be, it is not shown either.
            let is_safe = !rule.secret || is_mask(&value);
            values.insert(field.clone(), if is_safe { value } else { mask(0) });
        }
    }
    Ok(json!({
        "scope": query.scope,
        "sub_scope": query.sub_scope,
        "tenant_id": whom.tenant,
        "user_id": whom.user,
        "values": values,
        "fields": fields,
        "layers": told,
    }))
}

impl Whom {
    /// The tenant that layers of tenants are looked for in.
    pub fn tenant(&self) -> Option<ObjectId> {
        self.tenant
    }

    /// True if an object is, or was, the active layer of its kind that counts for them.
    pub fn is_layer(&self, query: &EffectiveQuery, kind: Kind, object: &Object) -> bool {
        let spec: Value = serde_json::from_str(&object.spec).unwrap_or_default();
        let is_whose = match kind {
            Kind::TenantConfig => self.tenant.is_some() && object.tenant == self.tenant,
            Kind::UserConfig => {
                let user = self.user.map(|user| user.to_string());
                user.is_some() && spec["user_id"].as_str() == user.as_deref()
            }
            _ => kind == Kind::SystemConfig,
        };
        is_whose
            && spec["active"] == true
            && spec["scope"] == *query.scope
            && spec["sub_scope"].as_str() == query.sub_scope.as_deref()
    }

    /// Looks up for whom it is asked, and refuses who may not read that.
    fn of(door: &Door<'_>, query: &EffectiveQuery) -> Result<Self, Error> {
        let tenant = door.tenant(query.tenant.as_deref())?;
        let own = door.cx.user_id();
        let user = match (&query.user, tenant) {
            (Some(text), _) => Some(door.find(Kind::User, text, tenant)?),
            (None, Some(_)) => None,
            (None, None) => own.and_then(|own| door.state.get(own)).cloned(),
        };
        let Some(user) = user else {
            if tenant.is_some() {
                let target = Target::new(Kind::TenantConfig, tenant.into_iter().collect());
                admit(door, Kind::TenantConfig, &target)?;
            }
            return Ok(Self { tenant, user: None });
        };
        if own != Some(user.id) {
            let target = Target::new(Kind::UserConfig, door.chain(user.id));
            admit(door, Kind::UserConfig, &target)?;
        }
        Ok(Self {
            tenant: user.tenant,
            user: Some(user.id),
        })
    }
}

/// Tenant and user are seen already, so what may not be read is forbidden rather than missing.
fn admit(door: &Door<'_>, kind: Kind, target: &Target) -> Result<(), Error> {
    let read = Permission::new(kind, Action::Read);
    door.admit(read, target, || forbidden(read))
}

type Found<'a, R> = Option<(&'a Object, Arc<Typed<R>>)>;

fn layer<R: Layer>(object: Option<&Object>) -> Result<Found<'_, R>, Error> {
    object
        .map(|object| Ok((object, decoded::<R>(object)?)))
        .transpose()
}

fn told_layer(of: LayerOf, object: &Object) -> Value {
    json!({"layer": of, "kind": object.kind.as_str(), "id": object.id, "generation": object.generation})
}
