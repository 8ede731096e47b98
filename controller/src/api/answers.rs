//! What answers hold that are neither an object nor a page of objects, as the API's document tells it. A test
//! compares each with what is really answered.

use serde_json::{Map, Value, json};

use super::openapi::or_null;

/// An object of these members, all of which are there; more may come with a later release.
fn members<const N: usize>(all: [(&str, Value); N]) -> Value {
    let names: Vec<&str> = all.iter().map(|(name, _)| *name).collect();
    let fields: Map<String, Value> = all
        .into_iter()
        .map(|(name, schema)| (name.to_owned(), schema))
        .collect();
    json!({"type": "object", "required": names, "properties": fields})
}

/// The same, with members that may be missing.
fn members_and<const N: usize, const M: usize>(
    all: [(&str, Value); N],
    some: [(&str, Value); M],
) -> Value {
    let mut told = members(all);
    for (name, schema) in some {
        told["properties"][name] = schema;
    }
    told
}

fn list(of: Value) -> Value {
    json!({"type": "array", "items": of})
}
fn map(of: Value) -> Value {
    json!({"type": "object", "additionalProperties": of})
}
fn text() -> Value {
    json!({"type": "string"})
}
fn truth() -> Value {
    json!({"type": "boolean"})
}
fn number() -> Value {
    json!({"type": "integer"})
}
fn id() -> Value {
    json!({"type": "string", "format": "uuid"})
}
fn time() -> Value {
    json!({"type": "string", "format": "date-time"})
}
fn object() -> Value {
    json!({"type": "object"})
}
fn anything() -> Value {
    json!({})
}
fn component(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

/// Something that has a kind, and an id and a name unless it is the system.
fn named() -> Value {
    members_and([("kind", text())], [("id", id()), ("name", text())])
}

pub(crate) fn index() -> Value {
    let kind = members([("kind", text()), ("paths", list(text()))]);
    members([("version", text()), ("kinds", list(kind))])
}
pub(crate) fn permissions() -> Value {
    list(text())
}
pub(crate) fn tokens() -> Value {
    members([
        ("access_token", text()),
        ("token_type", text()),
        ("expires_in_s", number()),
        ("refresh_token", text()),
        ("session_id", id()),
        ("user_id", id()),
        ("ca_pem", text()),
        ("endpoints", list(text())),
    ])
}
pub(crate) fn whoami() -> Value {
    let role = members([
        ("role", text()),
        ("permissions", list(text())),
        ("scope", text()),
        ("scope_id", or_null(id())),
        ("scope_kind", text()),
        ("group", or_null(text())),
    ]);
    members([
        ("user", component("User")),
        ("via", text()),
        ("credential_id", or_null(id())),
        ("narrowed_to", or_null(list(text()))),
        ("roles", list(role)),
        ("endpoints", list(text())),
    ])
}
pub(crate) fn can_i() -> Value {
    members([("allowed", truth())])
}
/// By what somebody may do something.
fn by() -> Value {
    members_and(
        [("how", text())],
        [
            ("binding_id", or_null(id())),
            ("group", or_null(object())),
            ("role", or_null(object())),
            ("scope", or_null(object())),
            ("user", or_null(object())),
        ],
    )
}
pub(crate) fn who_can() -> Value {
    members([
        ("permission", text()),
        ("object", or_null(object())),
        ("subjects", list(by())),
        ("also", list(anything())),
        ("is_whole", truth()),
    ])
}
pub(crate) fn explain() -> Value {
    members([
        ("permission", text()),
        ("user", named()),
        ("object", or_null(object())),
        ("decision", text()),
        ("by", list(by())),
        ("by_not_shown", number()),
        ("cut_by_token", truth()),
        ("looked_at", list(named())),
    ])
}
pub(crate) fn audit() -> Value {
    list(members_and(
        [("place", number()), ("head", text())],
        [
            ("at", time()),
            ("actor", text()),
            ("action", text()),
            ("object", text()),
            ("outcome", text()),
            ("request_id", text()),
            ("source", text()),
            ("user_agent", text()),
            ("actor_name", text()),
            ("kind", text()),
            ("name", text()),
            ("tenant", text()),
            ("note", text()),
            ("changes", list(object())),
            ("request", text()),
            ("code", text()),
            ("count", number()),
            ("first", time()),
            ("last", time()),
            ("bytes", text()),
        ],
    ))
}
/// A change that was recorded.
fn cause() -> Value {
    members([
        ("index", number()),
        ("at", time()),
        ("actor", text()),
        ("request_id", text()),
    ])
}
pub(crate) fn diff() -> Value {
    let field = members([("from", anything()), ("to", anything())]);
    list(members_and(
        [
            ("change", json!({"enum": ["created", "changed", "deleted"]})),
            ("id", id()),
            ("kind", text()),
            ("name", text()),
            ("tenant_id", or_null(id())),
            ("last", cause()),
        ],
        [("fields", map(field))],
    ))
}
pub(crate) fn effective() -> Value {
    let field = members([
        ("from", list(text())),
        ("ignored", list(anything())),
        ("merge", text()),
        ("secret", truth()),
    ]);
    let layer = members([
        ("layer", text()),
        ("kind", text()),
        ("id", id()),
        ("generation", number()),
    ]);
    members([
        ("scope", text()),
        ("sub_scope", or_null(text())),
        ("tenant_id", or_null(id())),
        ("user_id", or_null(id())),
        ("layers", list(layer)),
        ("fields", map(field)),
        ("values", object()),
    ])
}
/// A controller as the leader sees it.
fn member() -> [(&'static str, Value); 6] {
    [
        ("node_id", number()),
        ("role", json!({"enum": ["voter", "learner"]})),
        ("is_leader", truth()),
        ("matched", or_null(number())),
        ("lag", or_null(number())),
        ("last_ack_ms_ago", or_null(number())),
    ]
}
pub(crate) fn status() -> Value {
    let cluster = members([
        ("id", id()),
        ("incarnation", or_null(id())),
        ("version", number()),
    ]);
    let who = [("id", id()), ("name", text()), ("api_address", text())];
    let controller = members_and(who, member());
    members([
        ("cluster", cluster),
        ("leader", or_null(text())),
        ("term", number()),
        ("index", number()),
        ("controllers", list(controller)),
        ("node", object()),
    ])
}
pub(crate) fn upgrade() -> Value {
    let controller = members_and([("id", id()), ("name", text())], member());
    let block = members([("why", text()), ("advice", text())]);
    members([
        ("cluster_version", number()),
        ("raise_to", or_null(number())),
        ("blocks", list(block)),
        ("controllers", list(controller)),
        ("agents", object()),
    ])
}
pub(crate) fn finish() -> Value {
    members_and([("cluster_version", number())], [("before", number())])
}
pub(crate) fn node() -> Value {
    members([
        ("status", object()),
        ("settings", object()),
        ("metrics", text()),
    ])
}
pub(crate) fn targets() -> Value {
    list(members([
        ("targets", list(text())),
        ("labels", map(text())),
    ]))
}
pub(crate) fn verify() -> Value {
    let account = members([("account", text()), ("used", number())]);
    members([
        ("index", number()),
        ("digest", text()),
        ("objects", number()),
        ("accounts", number()),
        ("accounts_in_use", list(account)),
        ("divergences", list(anything())),
    ])
}
pub(crate) fn capacity() -> Value {
    let amounts = members([
        ("cpu_milli", number()),
        ("memory_mib", number()),
        ("storage_gib", number()),
    ]);
    let host = members_and(
        [("id", id()), ("name", text())],
        [
            ("live", or_null(object())),
            ("health", text()),
            ("health_since", text()),
            ("health_reasons", list(text())),
        ],
    );
    members([(
        "groups",
        list(members_and(
            [("id", id()), ("name", text())],
            [
                ("total", amounts.clone()),
                ("allocated", amounts.clone()),
                ("available", amounts),
                ("hosts", list(host)),
            ],
        )),
    )])
}
/// Versions of an object of the kind whose component this is.
pub(crate) fn history(of: &Value) -> Value {
    let more = members([("deleted", truth()), ("change", cause())]);
    list(json!({"allOf": [of, more]}))
}
pub(crate) fn blame() -> Value {
    map(members([
        ("value", anything()),
        ("change", json!({"anyOf": [cause(), {"type": "null"}]})),
    ]))
}
pub(crate) fn many() -> Value {
    let item = members_and(
        [("status", number())],
        [
            ("data", object()),
            ("error", component("Problem")),
            ("replayed", truth()),
        ],
    );
    members([
        ("done", number()),
        ("failed", number()),
        ("items", list(item)),
    ])
}
pub(crate) fn console() -> Value {
    members([("data", text()), ("total_bytes", number())])
}
pub(crate) fn placement() -> Value {
    members_and(
        [("vm_id", id()), ("placed", truth())],
        [("message", text())],
    )
}
pub(crate) fn domains() -> Value {
    members([
        ("domains", list(object())),
        ("unlisted", number()),
        ("take", object()),
    ])
}
pub(crate) fn merged() -> Value {
    members([
        ("parts", list(object())),
        ("entity_classes", list(object())),
        ("object_properties", list(object())),
        ("conflicts", list(object())),
        ("conflicts_not_told", number()),
        ("missing_classes", list(anything())),
    ])
}
pub(crate) fn report_every() -> Value {
    members([("report_every_s", number())])
}
pub(crate) fn usage() -> Value {
    let account = account();
    let quota = members([
        ("id", id()),
        ("group", text()),
        ("group_id", id()),
        ("accounts", map(account.clone())),
    ]);
    members([
        ("tenant", text()),
        ("tenant_id", id()),
        ("accounts", map(account)),
        ("quotas", list(quota)),
    ])
}
/// What is used of a limit, and what may still be.
fn account() -> Value {
    members([
        ("used", number()),
        ("limit", or_null(number())),
        ("available", or_null(number())),
    ])
}
pub(crate) fn usage_of_level() -> Value {
    let account = account();
    let level = members([
        ("kind", text()),
        ("id", id()),
        ("name", text()),
        ("accounts", map(account)),
    ]);
    members([("levels", list(level))])
}
pub(crate) fn bill() -> Value {
    let sum = members([("lines", list(object())), ("total", text())]);
    members([
        ("period", text()),
        ("period_id", id()),
        ("state", text()),
        ("currency", text()),
        ("billed", sum.clone()),
        ("unbilled", sum),
        ("usages", number()),
    ])
}
pub(crate) fn leader() -> Value {
    let one = members([("node_id", number()), ("name", or_null(text()))]);
    members([("leader", or_null(one))])
}
/// The secret of a token, told once: nothing where an idempotency key comes again.
pub(crate) fn token() -> Value {
    members_and(
        [("token", or_null(text()))],
        [("ca_fingerprint", text()), ("ca_pem", text())],
    )
}
pub(crate) fn secrets() -> Value {
    members([("secrets", or_null(map(text())))])
}
/// What was deleted.
pub(crate) fn gone() -> Value {
    members([
        ("id", or_null(id())),
        ("kind", text()),
        ("deleted", json!({"const": true})),
    ])
}
/// An operation that was begun, and the object that it is about.
pub(crate) fn begun() -> Value {
    let target = json!({"type": ["object", "null"], "description": "The object as it is now; null if it goes"});
    members([("operation", component("Operation")), ("object", target)])
}
