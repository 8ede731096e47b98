use serde_json::{Map, Value, json};
use virtflow_model::Kind;
use virtflow_state::{Object, State};
use virtflow_types::ObjectId;

/// Fields of a status that never leave: what is kept of secrets.
pub(crate) const SECRETS: &[&str] = &[
    "password_hash",
    "secret_hash",
    "refresh_hash",
    "sealed_values",
];

/// An object as people and programs see it: without secrets, with the names of what it refers to under
/// `names`, so that a table needs no second look.
pub fn public(state: &State, object: &Object) -> Value {
    let parse = |text: &str| serde_json::from_str::<Value>(text).unwrap_or(Value::Null);
    let spec = parse(&object.spec);
    let mut stored = parse(&object.status);
    let stamps = stored["stamps"].take();
    let mut status = stored["status"].take();
    if let Value::Object(fields) = &mut status {
        if object.kind == Kind::User.name() {
            let has_password = fields
                .get("password_hash")
                .and_then(Value::as_str)
                .is_some_and(|hash| !hash.is_empty());
            fields.insert("has_password".into(), has_password.into());
        }
        for secret in SECRETS {
            fields.remove(*secret);
        }
    }
    let mut names = Map::new();
    if let Some(tenant) = object.tenant {
        name_of(state, "tenant", &json!(tenant), &mut names);
    }
    if let Some(parent) = object.parent {
        name_of(state, "parent", &json!(parent), &mut names);
    }
    collect_names(state, &spec, &mut names);
    collect_names(state, &status, &mut names);
    if let Some(placement) = status.get("placement") {
        collect_names(state, placement, &mut names);
    }
    name_of(state, "created_by", &stamps["created_by"], &mut names);
    name_of(state, "updated_by", &stamps["updated_by"], &mut names);
    let mut shown = json!({
        "id": object.id,
        "kind": object.kind.as_str(),
        "name": object.name.as_str(),
        "tenant_id": object.tenant,
        "parent_id": object.parent,
        "generation": object.generation,
        "version": object.version,
        "created_at": stamps["created_at"],
        "created_by": stamps["created_by"],
        "updated_at": stamps["updated_at"],
        "updated_by": stamps["updated_by"],
    });
    // Put in as they are: `json!` would copy them.
    shown["names"] = names.into();
    shown["spec"] = spec;
    shown["status"] = status;
    shown
}

/// `group_id` gives `group`.
fn collect_names(state: &State, fields: &Value, names: &mut Map<String, Value>) {
    let Value::Object(fields) = fields else {
        return;
    };
    for (field, value) in fields {
        if let Some(what) = field.strip_suffix("_id") {
            name_of(state, what, value, names);
        }
    }
}

fn name_of(state: &State, what: &str, id: &Value, names: &mut Map<String, Value>) {
    let object = id
        .as_str()
        .and_then(|text| text.parse::<ObjectId>().ok())
        .and_then(|id| state.get(id));
    if let Some(object) = object.filter(|object| !object.name.is_empty()) {
        names.insert(what.to_owned(), object.name.as_str().into());
    }
}
