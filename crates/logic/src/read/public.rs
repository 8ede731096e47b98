//! An object as people and programs see it: as a value, or written from its stored JSON without being read.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use virtflow_model::Kind;
use virtflow_state::{Object, State};
use virtflow_types::ObjectId;

use crate::door::Door;

/// Instead of who did something, for those who may not know.
const HIDDEN: &str = "hidden";
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

/// What [`public`] gives, for the asker: one who sees it only because it is shown to everybody is not told who made it,
/// nor what things are called that they do not see.
pub(crate) fn public_to(door: &Door<'_>, object: &Object) -> Value {
    let mut shown = public(door.state, object);
    if !door.is_guest(object) {
        return shown;
    }
    for field in ["created_by", "updated_by"] {
        shown[field] = HIDDEN.into();
    }
    let mut names = shown["names"].take();
    let id_of = |what: &str| {
        let field = format!("{what}_id");
        let places = [
            &shown["spec"][&field],
            &shown["status"][&field],
            &shown[&field],
        ];
        let id = places.into_iter().find_map(Value::as_str)?;
        id.parse::<ObjectId>().ok()
    };
    let is_seen = |what: &str| {
        let named = id_of(what).and_then(|id| door.state.get(id));
        named.is_some_and(|named| door.sees(named))
    };
    if let Value::Object(names) = &mut names {
        names.retain(|what, _| is_seen(what));
    }
    shown["names"] = names;
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

/// What [`public`] gives, as JSON.
pub fn public_text(state: &State, object: &Object) -> String {
    let mut text = String::new();
    write_public(state, object, &mut text);
    text
}

/// Adds what [`public`] gives to `text`, as JSON. What is stored as JSON is put in as it stands and not read into
/// values, which costs a tenth; only the names of what it refers to are looked for in it.
pub(crate) fn write_public(state: &State, object: &Object, text: &mut String) {
    let parts = (object.kind != Kind::User.name())
        .then(|| Parts::of(object))
        .flatten();
    match parts {
        Some(parts) => parts.write(state, object, text),
        // Something of it is not to be shown, or is not as we write it.
        None => text.push_str(&public(state, object).to_string()),
    }
}

/// An object's stored JSON, taken apart as far as is needed.
struct Parts<'a> {
    stamps: Stamped<'a>,
    status: &'a RawValue,
    named: [Named<'a>; 3],
}

#[derive(Deserialize)]
struct Stored<'a> {
    #[serde(borrow)]
    stamps: Stamped<'a>,
    #[serde(borrow)]
    status: &'a RawValue,
}

#[derive(Deserialize)]
struct Stamped<'a> {
    #[serde(borrow)]
    created_at: &'a RawValue,
    #[serde(borrow)]
    created_by: &'a RawValue,
    #[serde(borrow)]
    updated_at: &'a RawValue,
    #[serde(borrow)]
    updated_by: &'a RawValue,
}

impl<'a> Parts<'a> {
    /// `None` if a field must not be shown, or something is not where it is expected.
    fn of(object: &'a Object) -> Option<Self> {
        let stored: Stored<'a> = serde_json::from_str(&object.status).ok()?;
        let spec: Named<'a> = serde_json::from_str(&object.spec).ok()?;
        let status: Named<'a> = serde_json::from_str(stored.status.get()).ok()?;
        let placement = status.placement.map(RawValue::get);
        let placement = placement.and_then(|text| serde_json::from_str(text).ok());
        (!status.is_secret).then_some(Self {
            stamps: stored.stamps,
            status: stored.status,
            named: [spec, status, placement.unwrap_or_default()],
        })
    }

    fn write(&self, state: &State, object: &Object, text: &mut String) {
        let mut names = BTreeMap::new();
        let mut name = |what, id: Option<ObjectId>| {
            let named = id.and_then(|id| state.get(id));
            if let Some(named) = named.filter(|named| !named.name.is_empty()) {
                names.insert(what, named.name.as_str());
            }
        };
        name("tenant", object.tenant);
        name("parent", object.parent);
        for (what, id) in self.named.iter().flat_map(|named| &named.links) {
            name(what, id_in(id));
        }
        name("created_by", id_in(self.stamps.created_by));
        name("updated_by", id_in(self.stamps.updated_by));

        let mut field = |before: &str, json: &str| {
            text.push_str(before);
            text.push_str(json);
        };
        field("{\"created_at\":", self.stamps.created_at.get());
        field(",\"created_by\":", self.stamps.created_by.get());
        field(",\"generation\":", &object.generation.to_string());
        field(",\"id\":", &quoted(&object.id));
        field(",\"kind\":", &string(&object.kind));
        field(",\"name\":", &string(&object.name));
        field(",\"names\":", "{");
        for (at, (what, name)) in names.iter().enumerate() {
            field(if at == 0 { "" } else { "," }, &string(what));
            field(":", &string(name));
        }
        field("},\"parent_id\":", &id_or_null(object.parent));
        field(",\"spec\":", &object.spec);
        field(",\"status\":", self.status.get());
        field(",\"tenant_id\":", &id_or_null(object.tenant));
        field(",\"updated_at\":", self.stamps.updated_at.get());
        field(",\"updated_by\":", self.stamps.updated_by.get());
        field(",\"version\":", &object.version.to_string());
        text.push('}');
    }
}

/// What is in an object of JSON, as far as it matters here.
#[derive(Default)]
struct Named<'a> {
    /// `group` of `group_id`, and its value.
    links: Vec<(&'a str, &'a RawValue)>,
    placement: Option<&'a RawValue>,
    /// Whether a field is one of [`SECRETS`].
    is_secret: bool,
}

impl<'de: 'a, 'a> Deserialize<'de> for Named<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Named<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Named<'de>, A::Error> {
                let mut named = Named::default();
                while let Some(key) = map.next_key::<&'de str>()? {
                    if let Some(what) = key.strip_suffix("_id") {
                        named.links.push((what, map.next_value()?));
                    } else if key == "placement" {
                        named.placement = Some(map.next_value()?);
                    } else {
                        map.next_value::<IgnoredAny>()?;
                    }
                    named.is_secret |= SECRETS.contains(&key);
                }
                Ok(named)
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

/// The id that a string of JSON is, if it is one.
fn id_in(json: &RawValue) -> Option<ObjectId> {
    let text = json.get().strip_prefix('"')?.strip_suffix('"')?;
    text.parse().ok()
}

fn id_or_null(id: Option<ObjectId>) -> String {
    id.map_or_else(|| "null".to_owned(), |id| quoted(&id))
}

/// What needs no escapes.
fn quoted(id: &ObjectId) -> String {
    format!("\"{id}\"")
}

fn string(text: &str) -> String {
    Value::from(text).to_string()
}
