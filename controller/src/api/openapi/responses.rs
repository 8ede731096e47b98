//! What an operation is answered with: the forms of success under their statuses, and the refusals that it can meet.

use axum::http::Method;
use serde_json::{Map, Value, json};
use virtflow_model::Kind;

use super::shown_as;
use crate::api::answers;
use crate::api::request::PUBLIC;
use crate::api::routes::{Body, Gives, Route};
use crate::api::write::DRY_RUN;

/// Statuses of refusals, each with the name of its response, and what it says.
const REFUSALS: &[(u16, &str, &str)] = &[
    (
        400,
        "Invalid",
        "The request, or a field of it, is malformed or out of bounds",
    ),
    (
        401,
        "Unauthenticated",
        "No credentials, or such as are not valid any more",
    ),
    (403, "Forbidden", "You may see it, but not do this"),
    (
        404,
        "NotFound",
        "There is no such object, or none that you may see",
    ),
    (408, "TooSlow", "The body did not arrive in time"),
    (
        409,
        "Conflict",
        "The state of things does not allow it: something is taken, in use, changed meanwhile, or there is no room",
    ),
    (
        410,
        "Expired",
        "What happened since that index is not kept any more",
    ),
    (
        412,
        "PreconditionFailed",
        "It is not of the generation that `If-Match` named",
    ),
    (413, "TooLarge", "The body is too large"),
    (
        415,
        "NotJson",
        "The body is not JSON in UTF-8, or is compressed",
    ),
    (422, "QuotaExceeded", "A quota would be passed"),
    (
        429,
        "LimitExceeded",
        "Too much: requests, streams, or objects of a kind",
    ),
    (431, "HeadersTooLarge", "The headers are too large"),
    (500, "Internal", "A mistake of VirtFlow's"),
    (
        503,
        "Unavailable",
        "Nothing was done, or it is not known whether it was: `error.code` tells which",
    ),
];

/// Kinds that it takes time to make.
const MADE_IN_TIME: &[Kind] = &[Kind::VirtualMachine, Kind::Instance];
/// Kinds that it takes time to delete.
const GONE_IN_TIME: &[Kind] = &[Kind::VirtualMachine, Kind::Instance, Kind::Tenant];

/// The refusals, to be referred to.
pub(super) fn refusals() -> Map<String, Value> {
    let told = REFUSALS.iter().map(|(_, name, about)| {
        let schema = json!({"$ref": "#/components/schemas/Failure"});
        let response = json!({
            "description": about,
            "content": {"application/json": {"schema": schema}},
        });
        ((*name).to_owned(), response)
    });
    told.collect()
}

/// The responses of an operation by their statuses.
pub(super) fn of(route: &Route) -> Map<String, Value> {
    let mut told = Map::new();
    for (status, about, schema) in successes(route) {
        let mut content = json!({"application/json": {"schema": schema}});
        if route.query.contains(&"watch") {
            content["text/event-stream"] = json!({"schema": {
                "type": "string",
                "description": "With `watch=true`: events `added`, `changed`, `removed` and `bookmark`, each with an index as its id",
            }});
        }
        let response = json!({"description": about, "content": content});
        told.insert(status.to_string(), response);
    }
    for (status, name, _) in REFUSALS {
        if is_met(route, *status) {
            let response = json!({"$ref": format!("#/components/responses/{name}")});
            told.insert(status.to_string(), response);
        }
    }
    told
}

/// True if an operation can be refused with this status.
fn is_met(route: &Route, status: u16) -> bool {
    let is_public = PUBLIC.contains(&format!("/api/v1{}", route.path).as_str());
    let is_change = route.method != Method::GET;
    match status {
        403 => !is_public,
        // Whatever is named may not be there: in the path, in the query, in the body.
        404 => {
            !is_public
                && (route.path.contains("{id}")
                    || !route.query.is_empty()
                    || route.body != Body::Empty)
        }
        409 | 412 | 422 => is_change && !is_public,
        415 => is_change,
        410 => route.query.contains(&"watch"),
        _ => true,
    }
}

type Success = (u16, &'static str, Value);

fn successes(route: &Route) -> Vec<Success> {
    let is_tried = route.query.contains(&DRY_RUN);
    let made = |schema: Value| {
        let mut told = vec![(201, "It was made", enveloped(schema.clone()))];
        if is_tried {
            told.push((200, "It would be made", enveloped(schema)));
        }
        told
    };
    match &route.gives {
        Gives::One(kind) => vec![(200, "The object", enveloped(shown_as(*kind)))],
        Gives::OneOf(kinds) => vec![(200, "The object", enveloped(any_of(kinds)))],
        Gives::OneAnd(kind, more) => {
            vec![(200, "The object, and more", enveloped(both(*kind, more)))]
        }
        Gives::Page(kind) => {
            let page = json!({"type": "array", "items": shown_as(*kind)});
            vec![(200, "A page of objects", enveloped(page))]
        }
        Gives::Made(kind) if MADE_IN_TIME.contains(kind) => begun(answers::begun(), is_tried),
        Gives::Made(kind) => made(shown_as(*kind)),
        Gives::MadeOne(kinds) => made(any_of(kinds)),
        Gives::MadeAnd(kind, more) => made(both(*kind, more)),
        Gives::Begun(kind) => begun(either(shown_as(*kind), answers::begun()), true),
        Gives::Gone(kind) if GONE_IN_TIME.contains(kind) => {
            begun(either(answers::gone(), answers::begun()), true)
        }
        Gives::Gone(_) => vec![(200, "It is gone", enveloped(answers::gone()))],
        Gives::Data(schema) => vec![(200, "What was asked for", enveloped(schema.clone()))],
        Gives::Document(schema) => vec![(200, "What was asked for", schema.clone())],
    }
}

/// An operation that was begun; and what is answered at once, where something may be.
fn begun(at_once: Value, is_at_once: bool) -> Vec<Success> {
    let mut told = vec![(202, "An operation was begun", enveloped(answers::begun()))];
    if is_at_once {
        told.push((
            200,
            "It is so already, or was only tried",
            enveloped(at_once),
        ));
    }
    told
}

fn either(one: Value, other: Value) -> Value {
    json!({"anyOf": [one, other]})
}

fn both(kind: Kind, more: &Value) -> Value {
    json!({"allOf": [shown_as(kind), more]})
}

fn any_of(kinds: &[Kind]) -> Value {
    let kinds = kinds.iter().map(|kind| shown_as(*kind));
    json!({"anyOf": kinds.collect::<Vec<_>>()})
}

fn enveloped(data: Value) -> Value {
    json!({
        "type": "object",
        "required": ["meta", "status", "data"],
        "properties": {
            "meta": {"$ref": "#/components/schemas/Meta"},
            "status": {"enum": ["ok", "accepted"], "type": "string"},
            "data": data,
        },
    })
}
