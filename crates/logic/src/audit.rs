//! The audit record: every change carries its own, in the same changeset.
//!
//! The body is JSON; `actor`, `object` and `tenant` are text at its top, which is what readers filter
//! by. Specs hold no secrets, so the fields that changed may be told; what statuses hold never is.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use virtflow_model::kinds::{Session, User};
use virtflow_model::{Kind, Resource};
use virtflow_state::{Changeset, Expect, Object, Op, Record, State};
use virtflow_types::{ErrorCode, ObjectId, RequestId, Timestamp};

use crate::cx::Cx;
use crate::draft::Draft;
use crate::read::named;

/// Where paths of the API begin.
const API: &str = "/api/v1/";
/// The stream's name.
pub const AUDIT_STREAM: &str = "audit";
/// Changed fields told in one record; the rest is counted.
const FIELDS_MAX: usize = 64;
/// Longest value of a field in a record, in bytes of JSON.
const VALUE_BYTES_MAX: usize = 512;
/// Refusals in one summary.
pub const REFUSALS_MAX: usize = 500;

/// What happened to what.
#[derive(Debug)]
pub(crate) struct Entry<'a> {
    pub(crate) action: &'a str,
    pub(crate) object: &'a Object,
    /// As it was, where its spec changed.
    pub(crate) before: Option<&'a Object>,
    /// One sentence, where the fields do not tell it.
    pub(crate) note: &'a str,
}

impl Draft<'_> {
    /// Records a success.
    pub(crate) fn audit(&mut self, entry: &Entry<'_>) {
        let mut body = header(self.state, self.cx);
        let object = entry.object;
        // Whoever shows a session's secret has not signed in yet, and is whose session it is.
        let is_session = object.kind == Session::KIND.name() && !self.cx.source.is_empty();
        if let Some(user) = object
            .parent
            .filter(|_| is_session && self.cx.user_id().is_none())
        {
            tell_actor(self.state, user, &mut body);
        }
        body.insert("action".into(), entry.action.into());
        body.insert("outcome".into(), "success".into());
        body.insert("object".into(), object.id.to_string().into());
        body.insert("kind".into(), object.kind.as_str().into());
        if !object.name.is_empty() {
            body.insert("name".into(), object.name.as_str().into());
        }
        if let Some(tenant) = tenant_of(self.state, object) {
            body.insert("tenant".into(), tenant.to_string().into());
        }
        if !entry.note.is_empty() {
            body.insert("note".into(), entry.note.into());
        }
        let changes = changed_fields(entry.before, object);
        if !changes.is_empty() {
            body.insert("changes".into(), changes.into());
        }
        self.record(Record {
            stream: AUDIT_STREAM.into(),
            body: Value::Object(body).to_string().into(),
        });
    }
}

/// What was refused, counted by who, what and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// A user's id or name as given, or `anonymous`.
    pub actor: String,
    /// `login`, or method and route of the request: `DELETE /api/v1/tenants/{id}`.
    pub action: String,
    /// What it was about, as given.
    pub object: String,
    /// The address it came from.
    pub source: String,
    /// Why.
    pub code: ErrorCode,
    /// How often.
    pub count: u64,
    /// The first time.
    pub first: Timestamp,
    /// The last time.
    pub last: Timestamp,
}

/// Records refusals that were counted in memory; at most [`REFUSALS_MAX`], the rest is told as a number.
pub fn refusals_summary(
    state: &State,
    request_id: RequestId,
    now: Timestamp,
    refusals: &[Refusal],
) -> Changeset {
    let mut changeset = Changeset::new(request_id, now, "system");
    if refusals.is_empty() {
        return changeset;
    }
    let count = state.stream(AUDIT_STREAM).count;
    changeset
        .ops
        .push(Op::Expect(Expect::StreamCount(AUDIT_STREAM.into(), count)));
    let mut record = |body: Value| {
        changeset.ops.push(Op::Record(Record {
            stream: AUDIT_STREAM.into(),
            body: body.to_string().into(),
        }));
    };
    for refusal in refusals.iter().take(REFUSALS_MAX) {
        let mut body = json!({
            "at": now,
            "request_id": request_id,
            "actor": refusal.actor,
            "action": refusal.action,
            "object": refusal.object,
            "outcome": if refusal.code == ErrorCode::Internal { "failed" } else { "denied" },
            "code": refusal.code,
            "source": refusal.source,
            "count": refusal.count,
            "first": refusal.first,
            "last": refusal.last,
        });
        About::of(state, refusal).tell(&mut body);
        record(body);
    }
    if refusals.len() > REFUSALS_MAX {
        let left: u64 = refusals[REFUSALS_MAX..].iter().map(|r| r.count).sum();
        record(json!({
            "at": now,
            "request_id": request_id,
            "actor": "system",
            "action": "summary",
            "object": "",
            "outcome": "denied",
            "note": "further refusals, not told one by one",
            "count": left,
        }));
    }
    changeset
}

/// What a refused request was about, as far as its path and who asked tell it, in the words in which changes are told.
#[derive(Debug, Default)]
struct About {
    actor_name: Option<String>,
    tenant: Option<ObjectId>,
    /// The kind of its path, and what was to be done.
    action: Option<(Kind, String)>,
    object: Option<Arc<Object>>,
}

impl About {
    fn of(state: &State, refusal: &Refusal) -> Self {
        let actor = refusal.actor.parse::<ObjectId>().ok();
        let actor = actor.and_then(|id| state.get(id));
        let mut about = Self {
            actor_name: actor.map(|actor| actor.name.to_string()),
            tenant: actor.and_then(|actor| actor.tenant),
            ..Self::default()
        };
        let Some((method, route)) = refusal.action.split_once(' ') else {
            return about;
        };
        let Some(route) = route.strip_prefix(API) else {
            return about;
        };
        let mut parts = route.split('/');
        let plural = parts.next().unwrap_or_default();
        let Some(kind) = Kind::ALL.iter().find(|kind| kind.plural() == plural) else {
            return about;
        };
        let verb = match (parts.nth(1), method) {
            (Some(verb), _) => verb.replace('-', "_"),
            (None, "POST") => "create".into(),
            (None, "PUT" | "PATCH") => "update".into(),
            (None, "DELETE") => "delete".into(),
            (None, _) => "read".into(),
        };
        about.action = Some((*kind, verb));
        let path = refusal.object.strip_prefix(API).unwrap_or_default();
        if let Some(target) = path.split('/').nth(1) {
            about.object = found(state, *kind, about.tenant, target);
        }
        if let Some(object) = &about.object {
            about.tenant = tenant_of(state, object).or(about.tenant);
        }
        about
    }

    fn tell(self, body: &mut Value) {
        if let Some(name) = self.actor_name {
            body["actor_name"] = name.into();
        }
        if let Some(tenant) = self.tenant {
            body["tenant"] = tenant.to_string().into();
        }
        if let Some((kind, verb)) = self.action {
            body["request"] = body["action"].take();
            body["action"] = format!("{}.{verb}", kind.name()).into();
            body["kind"] = kind.name().into();
        }
        if let Some(object) = self.object {
            body["object"] = object.id.to_string().into();
            if !object.name.is_empty() {
                body["name"] = object.name.as_str().into();
            }
        }
    }
}

/// What a path names, by id or as whoever asked would call it.
fn found(state: &State, kind: Kind, tenant: Option<ObjectId>, target: &str) -> Option<Arc<Object>> {
    match target.parse::<ObjectId>() {
        Ok(id) => state.get(id).filter(|it| it.kind == kind.name()).cloned(),
        Err(_) => named(state, kind, tenant, target).or_else(|| named(state, kind, None, target)),
    }
}

fn tenant_of(state: &State, object: &Object) -> Option<ObjectId> {
    match object.kind.as_str() {
        "tenant" => Some(object.id),
        _ => object.tenant.or_else(|| parents_tenant(state, object)),
    }
}

fn header(state: &State, cx: &Cx) -> Map<String, Value> {
    let mut body = Map::new();
    body.insert("at".into(), json!(cx.now));
    body.insert("request_id".into(), json!(cx.request_id));
    match cx.user_id() {
        Some(user) => tell_actor(state, user, &mut body),
        None => drop(body.insert("actor".into(), cx.actor().into())),
    }
    if !cx.source.is_empty() {
        body.insert("source".into(), cx.source.as_str().into());
    }
    if !cx.user_agent.is_empty() {
        body.insert("user_agent".into(), cx.user_agent.as_str().into());
    }
    body
}

fn tell_actor(state: &State, user: ObjectId, body: &mut Map<String, Value>) {
    body.insert("actor".into(), user.to_string().into());
    if let Some(user) = state.get(user) {
        body.insert("actor_name".into(), user.name.as_str().into());
    }
}

fn parents_tenant(state: &State, object: &Object) -> Option<ObjectId> {
    let parent = state.get(object.parent?)?;
    (parent.kind == User::KIND.name())
        .then_some(parent.tenant)
        .flatten()
}

/// `[{"field": "quota.memory_mib", "from": 1024, "to": 2048}]`: the top two levels of the spec.
fn changed_fields(before: Option<&Object>, after: &Object) -> Vec<Value> {
    let Some(before) = before else {
        return Vec::new();
    };
    let parse =
        |object: &Object| serde_json::from_str::<Value>(&object.spec).unwrap_or(Value::Null);
    let mut changes = Vec::new();
    compare("", &parse(before), &parse(after), 2, &mut changes);
    if before.name != after.name {
        changes.push(
            json!({"field": "name", "from": before.name.as_str(), "to": after.name.as_str()}),
        );
    }
    if changes.len() > FIELDS_MAX {
        let left = changes.len() - FIELDS_MAX;
        changes.truncate(FIELDS_MAX);
        changes.push(json!({"field": "…", "from": null, "to": format!("{left} more")}));
    }
    changes
}

fn compare(path: &str, from: &Value, to: &Value, depth: usize, changes: &mut Vec<Value>) {
    if from == to {
        return;
    }
    if let (Value::Object(old), Value::Object(new), true) = (from, to, depth > 0) {
        let mut names: Vec<&String> = old.keys().chain(new.keys()).collect();
        names.sort_unstable();
        names.dedup();
        for name in names {
            let path = match path {
                "" => name.clone(),
                _ => format!("{path}.{name}"),
            };
            let value = |object: &Map<String, Value>| object.get(name).cloned().unwrap_or_default();
            compare(&path, &value(old), &value(new), depth - 1, changes);
        }
        return;
    }
    changes.push(json!({"field": path, "from": short(from), "to": short(to)}));
}

fn short(value: &Value) -> Value {
    let text = value.to_string();
    if text.len() <= VALUE_BYTES_MAX {
        value.clone()
    } else {
        format!("({} bytes)", text.len()).into()
    }
}
