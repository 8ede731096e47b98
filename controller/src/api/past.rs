//! What was: versions of an object, what it was at a moment, who set each field, what is no more. All of it comes
//! from SQL, with the index it is as new as; rights are those of now.

use std::collections::{BTreeMap, BTreeSet};

use axum::extract::{Extension, Path, State};
use axum::routing::{self, MethodRouter};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};
use virtflow_logic::{self as logic, Meant, Past};
use virtflow_model::Kind;
use virtflow_shadow::{DeletedCursor, HistoryRow, Moment, PAGE_RECORDS_MAX, StoreError, Then};
use virtflow_state::Object;
use virtflow_types::{Error, ObjectId, Timestamp};

use super::Api;
use super::envelope::{Answer, Failure};
use super::kinds::{Answered, FIELDS, TheCall, all_chosen, chosen, fields_of};
use super::request::Call;
use super::sql;
use super::write::add;

/// What cannot be read when it cannot.
pub(super) const HISTORY: &str = "the history";
/// Versions that are looked at to find who set a field.
const BLAME_VERSIONS_MAX: usize = 10_000;
/// Pages of deleted objects that are looked at for one page of those that the caller may see.
const DELETED_PAGES_MAX: usize = 10;

/// Parameters of a list of versions.
pub(crate) const PARAMETERS: &[&str] = &["tenant", "limit", "cursor"];
/// Parameters of a list of what is no more.
pub(crate) const DELETED: &[&str] = &["deleted", "limit", "cursor", FIELDS];

pub(super) fn unread(error: StoreError) -> Error {
    sql::unavailable(HISTORY, error)
}

/// A version as the object that it was; what it held of the shared is not kept.
pub(super) fn object_of(row: &HistoryRow) -> Object {
    let mut object = Object::new(row.kind.as_str(), row.object, row.name.as_str());
    object.tenant = row.tenant;
    object.parent = row.parent;
    object.generation = row.generation;
    object.version = row.version;
    object.closed = row.closed;
    object.spec = row.spec.as_str().into();
    object.status = row.status.as_str().into();
    object
}

pub(super) fn cause(row: &HistoryRow) -> Value {
    json!({
        "index": row.index,
        "at": row.at,
        "actor": row.actor,
        "request_id": row.request_id,
    })
}

pub(super) fn shown(call: &Call, row: &HistoryRow) -> Result<Value, Failure> {
    let mut data = logic::public(call.image()?, &object_of(row));
    let mut more = Map::new();
    more.insert("deleted".into(), row.deleted.into());
    more.insert("change".into(), cause(row));
    add(&mut data, more);
    Ok(data)
}

/// The object that a question means, after it was made sure that the caller may know of it.
pub(super) async fn found(
    api: &Api,
    call: &Call,
    kind: Kind,
    target: &str,
) -> Result<ObjectId, Failure> {
    sql::caught_up(api, call.image()?, HISTORY).await?;
    let cx = call.cx()?;
    let meant = {
        let past = Past::open(call.image()?, &cx)?;
        past.meant(kind, target, call.query.get("tenant"))?
    };
    match meant {
        Meant::There(id) => Ok(id),
        Meant::Gone(id) => {
            let page = api.app().shadow().history(id, None, 1).await;
            let last = page.map_err(unread)?.rows.into_iter().next();
            let past = Past::open(call.image()?, &cx)?;
            match last {
                Some(row) if row.kind == kind.name() && past.sees(&object_of(&row)) => Ok(id),
                _ => Err(Error::not_found(kind.name(), target).into()),
            }
        }
    }
}

/// `GET /{kinds}/{id}/history`
pub(crate) fn history(kind: Kind) -> MethodRouter<Api> {
    routing::get(
        move |State(api): State<Api>, Extension(call): TheCall, Path(id): Path<String>| async move {
            history_of(&api, &call, kind, &id).await
        },
    )
}

async fn history_of(api: &Api, call: &Call, kind: Kind, target: &str) -> Answered {
    call.query.only(PARAMETERS)?;
    let before = call
        .query
        .parsed("cursor", "the version that a page before ended with")?;
    let limit = u32::try_from(call.query.limit()?).unwrap_or(u32::MAX);
    let id = found(api, call, kind, target).await?;
    let page = api
        .app()
        .shadow()
        .history(id, before, limit)
        .await
        .map_err(unread)?;
    let rows: Result<Vec<Value>, _> = page.rows.iter().map(|row| shown(call, row)).collect();
    let next = page.next.map(|version| version.to_string());
    Ok(Answer::ok(page.seen.index, rows?.into()).next(next))
}

/// An index, or a time, that is not in the future.
pub(super) fn moment_of(call: &Call, parameter: &str, at: &str) -> Result<Moment, Failure> {
    let moment = match (at.parse::<u64>(), at.parse::<Timestamp>()) {
        (Ok(index), _) => Moment::Index(index),
        (_, Ok(time)) => Moment::Time(time),
        _ => {
            let problem = "must be an index such as 1234, or a time such as 2026-11-23T18:00:00Z";
            return Err(Error::invalid(parameter, problem).into());
        }
    };
    if let Moment::Index(index) = moment
        && index > call.image()?.index()
    {
        let problem = format!(
            "is in the future: the newest index is {}",
            call.image()?.index()
        );
        return Err(Error::invalid(parameter, problem).into());
    }
    Ok(moment)
}

/// `GET /{kinds}/{id}?at=`: what it was after an index, or at a time.
pub(crate) async fn at(api: &Api, call: &Call, kind: Kind, target: &str, at: &str) -> Answered {
    let moment = moment_of(call, "at", at)?;
    let fields = fields_of(call, kind)?;
    let id = found(api, call, kind, target).await?;
    let newest = call.image()?.get(id).map(|object| object.version);
    let asked = api.app().shadow().was(id, newest, moment).await;
    let (then, seen) = asked.map_err(unread)?;
    let was = match then {
        Then::Was(row) => Some(shown(call, &row)?),
        Then::AsNow => {
            let image = call.image()?;
            image.get(id).map(|object| logic::public(image, object))
        }
        Then::Absent => None,
    };
    let Some(data) = was else {
        let absent = Error::not_found(kind.name(), target);
        return Err(absent
            .advise("it was not there at that moment: see its history")
            .into());
    };
    Ok(Answer::ok(seen.index, chosen(fields.as_ref(), data)))
}

/// `GET /{kinds}/{id}/blame`: who set each field of the spec to what it is, and when.
pub(crate) fn blame(kind: Kind) -> MethodRouter<Api> {
    routing::get(
        move |State(api): State<Api>, Extension(call): TheCall, Path(id): Path<String>| async move {
            blame_of(&api, &call, kind, &id).await
        },
    )
}

async fn blame_of(api: &Api, call: &Call, kind: Kind, target: &str) -> Answered {
    call.query.only(&["tenant"])?;
    let id = found(api, call, kind, target).await?;
    let shadow = api.app().shadow();
    let mut blame = Blame::default();
    let (mut before, mut looked) = (None, 0);
    let index = loop {
        let page = shadow
            .history(id, before, PAGE_RECORDS_MAX)
            .await
            .map_err(unread)?;
        looked += page.rows.len();
        for row in &page.rows {
            blame.older(row);
        }
        before = page.next;
        if before.is_none() || looked >= BLAME_VERSIONS_MAX {
            break page.seen.index;
        }
    };
    Ok(Answer::ok(index, blame.end()))
}

/// Walks versions from the newest to the oldest: a field was set by the oldest of those that have had its value
/// without a break.
#[derive(Debug, Default)]
struct Blame {
    /// Fields as they are, by path.
    now: BTreeMap<String, Value>,
    /// The oldest version so far in which each field was as it is now.
    since: BTreeMap<String, Value>,
    /// Fields that were different in an older version: nothing more is to be learned.
    settled: BTreeSet<String>,
    /// The version that was looked at last.
    last: Option<u64>,
}

impl Blame {
    fn older(&mut self, row: &HistoryRow) {
        let spec: Value = serde_json::from_str(&row.spec).unwrap_or_default();
        let mut fields = BTreeMap::new();
        leaves(&spec, "", &mut fields);
        if self.last.is_none() {
            self.now.clone_from(&fields);
        }
        // A gap in what is kept: what was before it is not known.
        let is_next = self.last.is_none_or(|last| last == row.version + 1);
        self.last = Some(row.version);
        for (path, value) in &self.now {
            if self.settled.contains(path) {
                continue;
            }
            if is_next && fields.get(path) == Some(value) {
                // A deletion leaves everything as it was.
                if !row.deleted {
                    self.since.insert(path.clone(), cause(row));
                }
            } else {
                self.settled.insert(path.clone());
            }
        }
    }

    /// By path: the value, and the change that set it. Where the oldest version that is kept had it already, the
    /// change before is not known.
    fn end(self) -> Value {
        let reaches_the_first = self.last == Some(1);
        let fields = self.now.into_iter().map(|(path, value)| {
            let known = reaches_the_first || self.settled.contains(&path);
            let change = self.since.get(&path).filter(|_| known).cloned();
            (path, json!({"value": value, "change": change}))
        });
        Value::Object(fields.collect())
    }
}

/// The fields of a spec by their paths; a list is one value.
pub(super) fn leaves(value: &Value, at: &str, into: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(fields) if !fields.is_empty() || at.is_empty() => {
            for (name, field) in fields {
                let path = if at.is_empty() {
                    name.clone()
                } else {
                    format!("{at}.{name}")
                };
                leaves(field, &path, into);
            }
        }
        other => {
            into.insert(at.to_owned(), other.clone());
        }
    }
}

/// `GET /{kinds}?deleted=true`: what is no more, as it last was, latest first.
pub(crate) async fn deleted(api: &Api, call: &Call, kind: Kind) -> Answered {
    call.query.only(DELETED)?;
    let limit = call.query.limit()?;
    let fields = fields_of(call, kind)?;
    let mut after = call.query.get("cursor").map(read_cursor).transpose()?;
    sql::caught_up(api, call.image()?, HISTORY).await?;
    let cx = call.cx()?;
    let mut rows = Vec::new();
    let mut index = 0;
    for _ in 0..DELETED_PAGES_MAX {
        let wanted = u32::try_from(limit - rows.len()).unwrap_or(u32::MAX);
        let page = api.app().shadow().deleted(kind.name(), after, wanted).await;
        let page = page.map_err(unread)?;
        index = page.seen.index;
        let past = Past::open(call.image()?, &cx)?;
        for row in &page.rows {
            if past.sees(&object_of(row)) {
                rows.push(shown(call, row)?);
            }
        }
        after = page.next;
        if after.is_none() || rows.len() >= limit {
            break;
        }
    }
    let rows = all_chosen(fields.as_ref(), rows);
    Ok(Answer::ok(index, rows.into()).next(after.as_ref().map(cursor)))
}

/// Where a page ended. It carries no rights: a forged one shows nothing that another query would not.
fn cursor(cursor: &DeletedCursor) -> String {
    URL_SAFE_NO_PAD.encode(format!("{}.{}", cursor.index, cursor.object))
}

pub(super) fn read_cursor(text: &str) -> Result<DeletedCursor, Error> {
    let read = || {
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
        let (index, object) = text.split_once('.')?;
        Some(DeletedCursor {
            index: index.parse().ok()?,
            object: object.parse().ok()?,
        })
    };
    read().ok_or_else(|| {
        Error::invalid(
            "cursor",
            "is not one of ours; use `meta.next_cursor` of the page before",
        )
    })
}
