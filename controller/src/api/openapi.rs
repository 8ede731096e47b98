//! The API's own description, OpenAPI 3.1, made from the list of routes and the schemas of the kinds.

mod responses;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use axum::Extension;
use serde_json::{Map, Value, json};
use virtflow_logic::TargetRole;
use virtflow_model::{By, ByPeople, Kind, PerKind, Resource};
use virtflow_types::{CONSOLE_BYTES_MAX, ErrorCode, PAGE_OBJECTS_MAX};

use super::aliases;
use super::audit;
use super::bulk;
use super::envelope::Answer;
use super::kinds::{Answered, TheCall};
use super::routes::{self, Body, Gives, Route};

/// `GET /api/v1/openapi.json`
pub(crate) async fn document(Extension(call): TheCall) -> Answered {
    call.query.only(&[])?;
    // Two megabytes that never change while the program runs.
    static TEXT: LazyLock<String> = LazyLock::new(|| whole().to_string());
    Ok(Answer::document(TEXT.as_str()))
}

/// The whole document.
pub(crate) fn whole() -> Value {
    let mut paths: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    let of_kinds = Kind::ALL
        .iter()
        .flat_map(|kind| routes::of_kind(*kind, kind.plural()));
    let own = routes::fixed().into_iter().chain(of_kinds);
    let own = own.map(|route| (route, false));
    let aliases = aliases::routes().into_iter().map(|route| (route, true));
    for (route, is_alias) in own.chain(aliases) {
        // With a slash at the end it is the same.
        if !route.is_told || (is_alias && route.path.ends_with('/')) {
            continue;
        }
        let mut told = operation(&route);
        if is_alias {
            told["deprecated"] = true.into();
        }
        paths
            .entry(format!("/api/v1{}", route.path))
            .or_default()
            .insert(route.method.as_str().to_lowercase(), told);
    }
    let mut document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "VirtFlow",
            "version": crate::app::VERSION,
            "description": "A private cloud on one's own machines. Every answer has one form: `meta`, `status`, and `data` or `error`.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "responses": responses::refusals(),
            "schemas": schemas(),
        },
    });
    words_as_lists(&mut document);
    document
}

/// A choice between words, each with its description, as a list of words: generators of clients make no sense of
/// constants beside one another. What each word means is told of the whole.
fn words_as_lists(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.values_mut().for_each(words_as_lists);
            let forms = fields.get("oneOf").and_then(Value::as_array);
            let Some((words, meanings)) = forms.and_then(|forms| words_of(forms)) else {
                return;
            };
            fields.remove("oneOf");
            fields.insert("type".into(), "string".into());
            fields.insert("enum".into(), words.into());
            let about = fields.get("description").and_then(Value::as_str);
            let lines = about.map(str::to_owned).into_iter().chain(meanings);
            let told: Vec<String> = lines.collect();
            fields.insert("description".into(), told.join("\n").into());
        }
        Value::Array(items) => items.iter_mut().for_each(words_as_lists),
        _ => {}
    }
}

/// The words of a choice that is between words only, and what is told of them.
fn words_of(forms: &[Value]) -> Option<(Vec<Value>, Vec<String>)> {
    let (mut words, mut meanings) = (Vec::new(), Vec::new());
    for form in forms {
        let listed = form["enum"].as_array().cloned();
        let own = listed.unwrap_or_else(|| vec![form["const"].clone()]);
        if own.iter().any(|word| !word.is_string()) {
            return None;
        }
        if let (Some(about), [word]) = (form["description"].as_str(), own.as_slice()) {
            meanings.push(format!("`{}`: {about}", word.as_str().unwrap_or_default()));
        }
        words.extend(own);
    }
    Some((words, meanings))
}

fn operation(route: &Route) -> Value {
    let tag = route.kind.map_or("system", Kind::name);
    let name: Vec<&str> = route
        .path
        .split('/')
        .filter(|part| !part.is_empty())
        .map(|part| part.trim_matches(['{', '}']))
        .collect();
    let mut told = json!({
        "operationId": format!("{}_{}", route.method.as_str().to_lowercase(), name.join("_").replace(['-', '.'], "_")),
        "summary": route.summary,
        "tags": [tag],
        "parameters": parameters(route),
        "responses": responses::of(route),
    });
    if let Some(schema) = body(&route.body) {
        told["requestBody"] = json!({
            "required": route.body != Body::Ids,
            "content": {"application/json": {"schema": schema}},
        });
    }
    if matches!(route.path.as_str(), "/auth/login" | "/auth/refresh") {
        told["security"] = json!([]);
    }
    told
}

fn parameters(route: &Route) -> Vec<Value> {
    let mut told = Vec::new();
    if route.path.contains("{id}") {
        told.push(json!({
            "name": "id", "in": "path", "required": true,
            "description": "Id or name", "schema": {"type": "string"},
        }));
    }
    for name in &route.query {
        let schema = match *name {
            "limit" => json!({"type": "integer", "minimum": 1, "maximum": PAGE_OBJECTS_MAX}),
            "bytes" if route.path == "/audit" => json!({"type": "boolean"}),
            "bytes" => json!({"type": "integer", "minimum": 1, "maximum": CONSOLE_BYTES_MAX}),
            "confirm" => json!({"type": "integer", "minimum": 0, "maximum": bulk::ITEMS_MAX}),
            "outcome" if route.path == "/audit" => {
                json!({"type": "string", "enum": audit::OUTCOMES})
            }
            "from" | "to" if route.path == "/audit" => {
                json!({"type": "string", "format": "date-time"})
            }
            "from" => json!({"type": "integer", "minimum": 0}),
            "force" | "watch" | "dry_run" | "deleted" | bulk::ATOMIC => json!({"type": "boolean"}),
            _ => json!({"type": "string"}),
        };
        let mut parameter = json!({"name": name, "in": "query", "schema": schema});
        if route.needs.contains(name) {
            parameter["required"] = true.into();
        }
        if let Gives::Page(kind) = route.gives
            && let Some(filter) = kind.filters().iter().find(|filter| filter.name == *name)
        {
            parameter["description"] = match filter.by {
                By::Any => json!("The object, of any kind: `kind/name`, or an id"),
                By::Object(what) => format!("Name or id of {}", what.with_article()).into(),
                By::Name => "Those of this name".into(),
                By::Word | By::Text => format!("Those whose {name} this is").into(),
                By::Label => "Those with this label, `key=value`".into(),
                By::Labels => "Those whose labels are such: requirements by commas, `env=prod,tier!=db,backup,!draft,zone in (a,b),zone notin (c)`".into(),
            };
        }
        if let (Gives::Page(kind), "sort") = (&route.gives, *name) {
            let known: Vec<&str> = kind.sorts().iter().map(|sort| sort.name.as_str()).collect();
            parameter["description"] = format!(
                "Order: {}; with `-` before it the other way round",
                known.join(", ")
            )
            .into();
        }
        let moment = match *name {
            "at" => true,
            "to" => route.path == "/diff",
            "from" => route.path == "/diff",
            _ => false,
        };
        if moment {
            parameter["schema"] = json!({"type": "string"});
            parameter["description"] = "After this index, or at this time".into();
        }
        if *name == "role" && route.kind.is_none() {
            parameter["schema"] = json!({"enum": TargetRole::ALL});
            parameter["description"] = "Only those; both if absent".into();
        }
        if *name == "q" {
            parameter["description"] =
                "Words that all have to be in the name or in a text of the spec".into();
        }
        if *name == "fields" {
            parameter["description"] = "Parts of each object by commas, each where it stands in the whole: `name,spec.labels.env,status.phase`. Objects then have these and no others, whatever their schema requires".into();
        }
        told.push(parameter);
    }
    if route.method != axum::http::Method::GET {
        told.push(json!({
            "name": "Idempotency-Key", "in": "header",
            "description": "A repeated request with the same key is done once",
            "schema": {"type": "string"},
        }));
    }
    let is_of_one = route.body != Body::Ids;
    if is_of_one && matches!(route.method.as_str(), "PUT" | "PATCH" | "DELETE") {
        told.push(json!({
            "name": "If-Match", "in": "header",
            "description": "The ETag that was read: refused if the object has changed since",
            "schema": {"type": "string"},
        }));
    }
    told
}

fn body(body: &Body) -> Option<Value> {
    let of = |kind: &Kind, form: &str| json!({"$ref": format!("#/components/schemas/{}{form}", type_name(*kind))});
    match body {
        Body::Empty => None,
        Body::Create(kind) => Some(of(kind, "Create")),
        Body::Replace(kind) => Some(of(kind, "Replace")),
        Body::Merge(kind) => Some(of(kind, "Merge")),
        Body::CreateMany(kind) => Some(many("items", of(kind, "Create"), &["items"])),
        Body::Ids => Some(many(
            "ids",
            json!({"type": "string", "description": "Id or name"}),
            &[],
        )),
        Body::Other(schema) => Some(schema.clone()),
    }
}

fn many(field: &str, item: Value, required: &[&str]) -> Value {
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": required,
        "properties": {field: {"type": "array", "minItems": 1, "maxItems": bulk::ITEMS_MAX, "items": item}},
    })
}

/// The objects of a kind, as they are shown.
pub(crate) fn shown_as(kind: Kind) -> Value {
    json!({"$ref": format!("#/components/schemas/{}", type_name(kind))})
}

/// What makes an object of one of these kinds.
pub(crate) fn any_creation(kinds: &[Kind]) -> Value {
    any_form(kinds, "Create")
}

/// What replaces the spec of an object of one of these kinds.
pub(crate) fn any_replacement(kinds: &[Kind]) -> Value {
    any_form(kinds, "Replace")
}

fn any_form(kinds: &[Kind], form: &str) -> Value {
    let forms = kinds.iter();
    let forms = forms
        .map(|kind| json!({"$ref": format!("#/components/schemas/{}{form}", type_name(*kind))}));
    json!({"anyOf": forms.collect::<Vec<_>>()})
}

fn schemas() -> Map<String, Value> {
    let mut schemas = Map::new();
    schemas.insert(
        "Meta".into(),
        json!({
            "type": "object",
            "required": ["request_id"],
            "properties": {
                "request_id": {"type": "string", "description": "Stands in every log line about the request"},
                "controller": {"type": "string", "description": "Which controller answered"},
                "index": {"type": "integer", "description": "The index that the answer is as new as"},
                "dry_run": {"type": "boolean", "description": "Nothing was done: this is what would have been"},
                "replayed": {"type": "boolean", "description": "The answer to an earlier request with this idempotency key"},
                "next_cursor": {"type": "string", "description": "Where the next page begins"},
            },
        }),
    );
    schemas.insert(
        "Failure".into(),
        json!({
            "type": "object",
            "required": ["meta", "status", "error"],
            "properties": {
                "meta": {"$ref": "#/components/schemas/Meta"},
                "status": {"const": "error"},
                "error": {"$ref": "#/components/schemas/Problem"},
            },
        }),
    );
    schemas.insert("Problem".into(), problem());
    for kind in Kind::ALL {
        let (name, rules) = (type_name(*kind), kind.rules());
        schemas.insert(name.clone(), shown(*kind));
        let spec = asked_for(*kind);
        if !matches!(rules.create, ByPeople::Never(_)) {
            schemas.insert(format!("{name}Create"), creation(*kind, &spec));
        }
        if !matches!(rules.update, ByPeople::Never(_)) {
            schemas.insert(format!("{name}Replace"), wrapped(spec.clone()));
            schemas.insert(format!("{name}Merge"), wrapped(of_changes(spec)));
        }
    }
    schemas
}

/// What is told of an error.
fn problem() -> Value {
    json!({
        "type": "object",
        "required": ["code", "message", "fields"],
        "properties": {
            "code": {"enum": ErrorCode::ALL, "type": "string", "description": "One word for programs"},
            "message": {"type": "string", "description": "What was tried, on what, and why it was refused"},
            "advice": {"type": "string", "description": "What to do now"},
            "fields": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["field", "problem"],
                    "properties": {
                        "field": {"type": "string"},
                        "problem": {"type": "string"},
                    },
                },
            },
            "details": {"description": "Figures that belong to the code"},
        },
    })
}

/// A kind's name as a type: `VirtualMachine`.
fn type_name(kind: Kind) -> String {
    kind.name()
        .split('_')
        .map(|word| {
            let mut letters = word.chars();
            letters
                .next()
                .map(|first| first.to_uppercase().chain(letters).collect::<String>())
                .unwrap_or_default()
        })
        .collect()
}

/// A spec as it may be sent: what it refers to is named by id or by name.
fn asked_for(kind: Kind) -> Value {
    let mut schema = kind.spec_schema();
    for reference in kind.rules().references {
        let named = format!("Name or id of {}", reference.kind.with_article());
        name_or_id(&mut schema, reference.field, &named);
    }
    if let Some(anything) = kind.rules().anything {
        let system = if anything.or_system {
            ", or `system`"
        } else {
            ""
        };
        name_or_id(
            &mut schema,
            anything.field,
            &format!("`kind/name`, or an id{system}"),
        );
    }
    if let Some(schema) = schema.as_object_mut()
        && schema
            .get("required")
            .is_some_and(|required| *required == json!([]))
    {
        schema.remove("required");
    }
    schema
}

/// Lets a spec name something as `field` instead of by id as `field_id`.
fn name_or_id(schema: &mut Value, field: &str, named: &str) {
    let id_field = format!("{field}_id");
    let mut instead = format!("{named}; instead of `{id_field}`");
    if let Some(Value::Array(required)) = schema.get_mut("required")
        && let Some(at) = required.iter().position(|field| *field == *id_field)
    {
        required.remove(at);
        instead.push_str(", and one of the two is needed");
    }
    schema["properties"][field] = json!({"type": ["string", "null"], "description": instead});
}

/// A merge patch of it: anything may be left out, and null removes. What is no object is replaced whole.
fn of_changes(mut schema: Value) -> Value {
    if let Some(schema) = schema.as_object_mut() {
        schema.remove("required");
        schema.remove("default");
        for field in schema
            .get_mut("properties")
            .and_then(Value::as_object_mut)
            .into_iter()
            .flatten()
        {
            let changed = of_changes(field.1.take());
            *field.1 = or_null(changed);
        }
        if let Some(values) = schema
            .get_mut("additionalProperties")
            .filter(|values| values.is_object())
        {
            *values = or_null(of_changes(values.take()));
        }
    }
    schema
}

/// The same, or null.
pub(crate) fn or_null(mut schema: Value) -> Value {
    let is_of_words = ["enum", "const"]
        .iter()
        .any(|word| schema.get(word).is_some());
    match schema.get_mut("type") {
        Some(Value::Array(types)) if !is_of_words => {
            if !types.contains(&"null".into()) {
                types.push("null".into());
            }
        }
        Some(one @ Value::String(_)) if !is_of_words => *one = json!([one.take(), "null"]),
        _ => {
            for of in ["oneOf", "anyOf"] {
                if let Some(Value::Array(forms)) = schema.get_mut(of) {
                    let null = json!({"type": "null"});
                    if !forms.contains(&null) {
                        forms.push(null);
                    }
                    return schema;
                }
            }
            // What may be anything may be null.
            if is_of_words || schema.get("type").is_some() {
                return json!({"anyOf": [schema, {"type": "null"}]});
            }
        }
    }
    schema
}

fn wrapped(spec: Value) -> Value {
    json!({
        "type": "object",
        "required": ["spec"],
        "additionalProperties": false,
        "properties": {"spec": spec},
    })
}

fn creation(kind: Kind, spec: &Value) -> Value {
    struct IsNamed;
    impl PerKind for IsNamed {
        type Out = bool;
        fn run<R: Resource>(self) -> bool {
            R::NAMED
        }
    }
    let mut properties = json!({"spec": spec});
    let mut required = vec!["spec"];
    let mut example = json!({"spec": kind.example()});
    if kind.dispatch(IsNamed) {
        example["name"] = "example".into();
        properties["name"] = json!({"type": "string", "description": "Unique within its parent"});
        required.push("name");
    }
    if kind.scope() != virtflow_model::Scope::System {
        properties["tenant"] =
            json!({"type": "string", "description": "Name or id; your own if left out"});
    }
    if kind == Kind::User {
        properties["password"] = json!({"type": "string", "description": "Its first password"});
    }
    if kind == Kind::ApiToken {
        properties["parent"] = json!({"type": "string", "description": "The user, by name or id; yourself if left out"});
    }
    json!({
        "type": "object",
        "required": required,
        "additionalProperties": false,
        "properties": properties,
        "examples": [example],
    })
}

/// An object as it is shown.
fn shown(kind: Kind) -> Value {
    let id =
        |what: &str| json!({"type": ["string", "null"], "format": "uuid", "description": what});
    let time = |what: &str| json!({"type": "string", "format": "date-time", "description": what});
    json!({
        "type": "object",
        "description": kind.rules().about,
        "required": [
            "id", "kind", "name", "tenant_id", "parent_id", "generation", "version", "created_at",
            "created_by", "updated_at", "updated_by", "names", "spec", "status",
        ],
        "properties": {
            "id": {"type": "string", "format": "uuid"},
            "kind": {"const": kind.name()},
            "name": {"type": "string"},
            "tenant_id": id("The tenant it belongs to"),
            "parent_id": id("The object it lives under"),
            "generation": {"type": "integer", "description": "Grows when the spec changes: the ETag"},
            "version": {"type": "integer", "description": "Grows with any change"},
            "created_at": time("When it was made"),
            "created_by": {"type": "string", "description": "Who made it: a user's id, or `system`"},
            "updated_at": time("When it last changed"),
            "updated_by": {"type": "string", "description": "Who changed it last"},
            "names": {"type": "object", "description": "Names of what it refers to"},
            "spec": kind.spec_schema(),
            "status": kind.status_schema(),
        },
    })
}
