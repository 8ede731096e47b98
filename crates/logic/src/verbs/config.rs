//! Layers of configuration: what is secret of one is sealed before it is written, and a mask is left in its place.
//! So no copy of a spec, in the log, the history or the audit, holds it.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use virtflow_model::config::{Layer, LayerStatus, Schema, check_secrets, mask, rule_of};
use virtflow_model::kinds::{SystemConfig, TenantConfig, UserConfig};
use virtflow_model::{Action, Kind, Permission, space};
use virtflow_state::{Object, State};
use virtflow_types::{Error, ObjectId};

use super::create::make;
use super::update::change;
use super::{Done, Outcome};
use crate::door::Door;
use crate::request::{Create, Reveal, Update};
use crate::seal::SecretAt;
use crate::typed::{Typed, decoded};

pub(crate) fn create_system<'a>(door: &Door<'a>, create: &Create) -> Done<'a> {
    create_layer::<SystemConfig>(door, create, |spec| Ok(spec.schema.clone()))
}

/// A tenant's or a user's.
pub(crate) fn create_lower<'a, R: Layer>(door: &Door<'a>, create: &Create) -> Done<'a> {
    create_layer::<R>(door, create, |spec| schema_over::<R>(door.state, spec))
}

fn create_layer<'a, R: Layer>(
    door: &Door<'a>,
    create: &Create,
    schema: impl FnOnce(&R::Spec) -> Result<Schema, Error>,
) -> Done<'a> {
    make::<R>(door, create, |_, place, spec| {
        let id = *place.id.get_or_insert_with(ObjectId::generate);
        let schema = schema(spec)?;
        Sealing::<R> {
            door,
            id,
            generation: 1,
            schema: &schema,
            old: None,
        }
        .of(spec)
    })
}

pub(crate) fn update_system<'a>(door: &Door<'a>, update: &Update) -> Done<'a> {
    update_layer::<SystemConfig>(door, update, |spec| Ok(spec.schema.clone()))
}

/// A tenant's or a user's.
pub(crate) fn update_lower<'a, R: Layer>(door: &Door<'a>, update: &Update) -> Done<'a> {
    update_layer::<R>(door, update, |spec| schema_over::<R>(door.state, spec))
}

fn update_layer<'a, R: Layer>(
    door: &Door<'a>,
    update: &Update,
    schema: impl FnOnce(&R::Spec) -> Result<Schema, Error>,
) -> Done<'a> {
    change::<R>(door, update, |before, old, spec| {
        let schema = schema(spec)?;
        Sealing::<R> {
            door,
            id: before.id,
            generation: before.generation + 1,
            schema: &schema,
            old: Some(old),
        }
        .of(spec)
        .map(Some)
    })
}

/// The schema of the scope of a layer below the cloud's; without one nothing is written, so nothing is secret.
fn schema_over<R: Layer>(state: &State, spec: &R::Spec) -> Result<Schema, Error> {
    let system = active_layer(state, &format!("system/{}", R::key(spec)));
    let system = system.map(decoded::<SystemConfig>).transpose()?;
    Ok(system.map_or_else(Schema::new, |system| system.spec.schema.clone()))
}

/// The active layer that is filed there: `system/genai.policy`.
pub(crate) fn active_layer<'a>(state: &'a State, at: &str) -> Option<&'a Object> {
    state
        .holder(space::CONFIG, at.as_bytes())
        .map(|object| &**object)
}

/// What the secrets of one layer are sealed with.
struct Sealing<'s, 'a, R: Layer> {
    door: &'s Door<'a>,
    id: ObjectId,
    /// The generation that is being made.
    generation: u64,
    schema: &'s Schema,
    old: Option<&'s Typed<R>>,
}

impl<R: Layer> Sealing<'_, '_, R> {
    /// Seals what is new, keeps what its mask stands for, and drops what is gone.
    fn of(&self, spec: &mut R::Spec) -> Result<LayerStatus, Error> {
        let values = R::values_mut(spec);
        check_secrets(self.schema, values)?;
        let mut sealed_values = BTreeMap::new();
        let secrets = values
            .iter_mut()
            .filter(|(field, _)| rule_of(self.schema, field).secret);
        for (field, value) in secrets {
            let sealed = match value.as_str() {
                Some(secret) => {
                    let at = SecretAt {
                        kind: R::KIND.name(),
                        id: self.id,
                        field,
                    };
                    let sealed = self.door.cx.sealed(at, secret)?;
                    *value = mask(self.generation);
                    sealed
                }
                None => self.kept(field, value)?,
            };
            sealed_values.insert(field.clone(), sealed);
        }
        Ok(LayerStatus { sealed_values })
    }

    /// The box that a mask stands for.
    fn kept(&self, field: &str, mask: &Value) -> Result<String, Error> {
        let old = self
            .old
            .filter(|old| R::values(&old.spec).get(field) == Some(mask));
        let kept = old.and_then(|old| old.status.sealed_values.get(field));
        kept.cloned().ok_or_else(|| {
            Error::invalid(
                format!("spec.values.{field}"),
                "is not the mask of the secret that is kept there",
            )
            .advise("send the mask as it is read now to keep the secret, or the secret itself as a text")
        })
    }
}

/// What secret fields hold is asked for: allowed and recorded here, opened by the caller once this is committed.
pub(crate) fn reveal<'a>(door: &Door<'a>, reveal: &Reveal) -> Done<'a> {
    let tenant = door.tenant(reveal.tenant.as_deref())?;
    let object = door.find(reveal.kind, &reveal.target, tenant)?;
    let mut draft = door.draft_for(Permission::new(reveal.kind, Action::Manage), &object)?;
    let boxes = match reveal.kind {
        Kind::SystemConfig => json!(decoded::<SystemConfig>(&object)?.status.sealed_values),
        Kind::TenantConfig => json!(decoded::<TenantConfig>(&object)?.status.sealed_values),
        Kind::UserConfig => json!(decoded::<UserConfig>(&object)?.status.sealed_values),
        other => return Err(super::create::no_verb(other, "reveal")),
    };
    draft.record_even_alone();
    let action = format!("{}.reveal", reveal.kind.name());
    let outcome = Outcome::new(action, 200, object);
    Ok((draft, outcome.extra(SEALED, boxes)))
}

/// Where an answer to the verb that reveals secrets has the boxes.
pub const SEALED: &str = "sealed_values";
