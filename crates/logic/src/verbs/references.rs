//! References by name: `"group": "g1"` becomes `"group_id": "…"`, seen with the asker's eyes.

use serde_json::{Map, Value};
use virtflow_model::{Kind, Scope};
use virtflow_types::{Error, ObjectId};

use super::{images, rules};
use crate::door::Door;

/// References in a list: groups that something is shown to.
const GROUPS: &str = "user_group_ids";
/// References in a list: what an ontology inherits from.
const INHERITED: &str = "inherits_from";

/// Resolves names to ids and checks that every id names something that the asker may see. What `old`
/// already refers to is left alone: it was checked when it was written.
pub(crate) fn resolve(
    door: &Door<'_>,
    kind: Kind,
    spec: &mut Value,
    old: Option<&Value>,
    tenant: Option<ObjectId>,
) -> Result<(), Error> {
    let Value::Object(fields) = spec else {
        return Err(Error::invalid("spec", "must be an object"));
    };
    for reference in kind.rules().references {
        let (name, target) = (reference.field, reference.kind);
        let id_field = format!("{name}_id");
        if let Some(value) = fields.remove(name) {
            if fields.contains_key(&id_field) && !value.is_null() {
                return Err(Error::invalid(
                    format!("spec.{name}"),
                    format!("is given twice, as `{name}` and as `{id_field}`"),
                ));
            }
            let id = match &value {
                Value::Null => Value::Null,
                Value::String(text) if target == Kind::ImageVersion => {
                    let image = id_in_fields(fields, "image_id");
                    let image = image.filter(|_| name != "parent_version");
                    let found = images::version_named(door, text, image, tenant)?;
                    found.id.to_string().into()
                }
                Value::String(text) => {
                    // The tenant's own come first, then the cloud's.
                    let within = tenant.filter(|_| target.scope() != Scope::System);
                    let found = door
                        .find(target, text, within)
                        .or_else(|_| door.find(target, text, None))?;
                    found.id.to_string().into()
                }
                _ => {
                    return Err(Error::invalid(
                        format!("spec.{name}"),
                        "must be a name or an id",
                    ));
                }
            };
            fields.insert(id_field.clone(), id);
        }
        check_id(door, fields, &id_field, target, old, tenant)?;
    }
    resolve_list(fields, GROUPS, |text| {
        Ok(door.find(Kind::UserGroup, text, tenant)?.id)
    })?;
    if kind == Kind::Ontology {
        resolve_list(fields, INHERITED, |text| {
            rules::ontology_named(door, text, tenant)
        })?;
    }
    match kind.rules().anything {
        Some(named) => resolve_any(door, fields, named.field, named.or_system),
        None => Ok(()),
    }
}

/// Puts ids in the place of what a list calls otherwise.
fn resolve_list(
    fields: &mut Map<String, Value>,
    field: &str,
    id_of: impl Fn(&str) -> Result<ObjectId, Error>,
) -> Result<(), Error> {
    let Some(Value::Array(all)) = fields.get_mut(field) else {
        return Ok(());
    };
    for one in all {
        // One that is no text is refused with the field's own words.
        if let Value::String(text) = one
            && text.parse::<ObjectId>().is_err()
        {
            *one = id_of(text)?.to_string().into();
        }
    }
    Ok(())
}

fn id_in_fields(fields: &Map<String, Value>, field: &str) -> Option<ObjectId> {
    fields.get(field)?.as_str()?.parse().ok()
}

fn check_id(
    door: &Door<'_>,
    fields: &Map<String, Value>,
    id_field: &str,
    target: Kind,
    old: Option<&Value>,
    tenant: Option<ObjectId>,
) -> Result<(), Error> {
    let Some(Value::String(text)) = fields.get(id_field) else {
        return Ok(());
    };
    if old.is_some_and(|old| old[id_field] == **text) {
        return Ok(());
    }
    if text.parse::<ObjectId>().is_err() {
        return Err(Error::invalid(
            format!("spec.{id_field}"),
            format!("`{text}` is not an id"),
        ));
    }
    let found = door.find(target, text, None)?;
    // A tenant's object refers to its own tenant's, to the cloud's, and to what is there for all, whatever its
    // maker may see.
    let foreign = tenant.is_some() && found.tenant.is_some() && found.tenant != tenant;
    if foreign && !door.target_of(&found).shared {
        return Err(Error::not_found(target.name(), text));
    }
    Ok(())
}

/// An object of any kind: `"scope": "tenant/acme"` or its id; `system` for none, where that is meant.
fn resolve_any(
    door: &Door<'_>,
    fields: &mut Map<String, Value>,
    name: &str,
    or_system: bool,
) -> Result<(), Error> {
    let (field, id_field) = (format!("spec.{name}"), format!("{name}_id"));
    let invalid = || {
        let system = if or_system { "`system`, " } else { "" };
        Error::invalid(
            &field,
            format!("must be {system}`kind/name` such as `tenant/acme`, or an id"),
        )
    };
    if let Some(named) = fields.remove(name) {
        if fields.contains_key(&id_field) {
            return Err(Error::invalid(
                &field,
                format!("is given twice, as `{name}` and as `{id_field}`"),
            ));
        }
        let text = named.as_str().ok_or_else(invalid)?;
        if or_system && text == "system" {
            return Ok(());
        }
        let id = match text.split_once('/') {
            Some((kind, name)) => {
                let kind = Kind::parse(kind).ok_or_else(invalid)?;
                door.find(kind, name, None)?.id.to_string()
            }
            None => text.parse::<ObjectId>().map_err(|_| invalid())?.to_string(),
        };
        fields.insert(id_field.clone(), id.into());
    }
    if let Some(Value::String(text)) = fields.get(&id_field) {
        let id: ObjectId = text.parse().map_err(|_| {
            Error::invalid(format!("spec.{id_field}"), format!("`{text}` is not an id"))
        })?;
        let seen = door.state.get(id).is_some_and(|object| door.sees(object));
        if !seen {
            return Err(Error::not_found(name, text));
        }
    }
    Ok(())
}
