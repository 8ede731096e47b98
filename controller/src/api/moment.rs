//! Lists as they were at a moment, and what lies between two moments. Rights are those of now: what is there is shown
//! to who sees it, what is no more to who would see it as it last was.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::extract::{Extension, State};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use virtflow_logic::{self as logic, EffectiveQuery, Layers, ListQuery, PastList};
use virtflow_model::Kind;
use virtflow_shadow::{HistoryRow, Moment, Then};
use virtflow_state::Object;
use virtflow_types::{Error, ErrorCode, ObjectId};

use super::Api;
use super::configs::LAYERS;
use super::envelope::{Answer, Failure};
use super::kinds::{Answered, TheCall, all_chosen, fields_of};
use super::past::{HISTORY, cause, found, leaves, moment_of, object_of, shown, unread};
use super::request::Call;
use super::sql;

/// Objects that one request looks at: a page may be short, even empty, and still have a next one.
const LOOKED_MAX: usize = 2000;
/// Objects that are looked up in one go.
const BATCH: usize = 500;

/// Parameters of a comparison.
pub(crate) const DIFF: &[&str] = &["from", "to", "kind", "object", "tenant", "limit", "cursor"];

/// An object that may have been there: as it is now, or as it last was.
#[derive(Debug)]
enum Candidate {
    There(Arc<Object>),
    Gone(Box<HistoryRow>),
}

impl Candidate {
    fn id(&self) -> ObjectId {
        match self {
            Self::There(object) => object.id,
            Self::Gone(row) => row.object,
        }
    }
    fn tenant(&self) -> Option<ObjectId> {
        match self {
            Self::There(object) => object.tenant,
            Self::Gone(row) => row.tenant,
        }
    }
    /// Its version, if it is there now.
    fn version(&self) -> Option<u64> {
        match self {
            Self::There(object) => Some(object.version),
            Self::Gone(_) => None,
        }
    }
}

/// Candidates behind `after` in the order of their ids, and where the next begin.
async fn candidates(
    api: &Api,
    call: &Call,
    query: &ListQuery,
    moment: Moment,
    after: Option<ObjectId>,
) -> Result<(Vec<Candidate>, Option<ObjectId>), Failure> {
    let cx = call.cx()?;
    let there = PastList::open(call.image()?, &cx, query)?.there(after, BATCH);
    let (mut all, end) = with_gone(api, query.kind, moment, after, there).await?;
    let list = PastList::open(call.image()?, &cx, query)?;
    all.retain(|candidate| match candidate {
        Candidate::There(object) => list.sees(object),
        Candidate::Gone(row) => list.sees(&object_of(row)),
    });
    Ok((all, end))
}

/// Objects of a kind that are there behind `after`, and where the next begin; with them those that were deleted since a
/// moment, in the order of their ids, as far as both are known.
async fn with_gone(
    api: &Api,
    kind: Kind,
    moment: Moment,
    after: Option<ObjectId>,
    (there, there_next): (Vec<Arc<Object>>, Option<ObjectId>),
) -> Result<(Vec<Candidate>, Option<ObjectId>), Failure> {
    let shadow = api.app().shadow();
    let limit = u32::try_from(BATCH).unwrap_or(u32::MAX);
    let gone = shadow
        .deleted_after(kind.name(), moment, after, limit)
        .await;
    let gone = gone.map_err(unread)?;
    // Up to here both are known.
    let end = [there_next, gone.next].into_iter().flatten().min();
    let mut all: BTreeMap<ObjectId, Candidate> = BTreeMap::new();
    for row in gone.rows {
        all.insert(row.object, Candidate::Gone(Box::new(row)));
    }
    // One that was deleted after the image counts as there: so it was seen.
    for object in there {
        all.insert(object.id, Candidate::There(object));
    }
    let all = all.into_values();
    let all = all.filter(|candidate| end.is_none_or(|end| candidate.id() <= end));
    Ok((all.collect(), end))
}

/// What candidates were at a moment.
async fn then(api: &Api, all: &[Candidate], moment: Moment) -> Result<(Vec<Then>, u64), Failure> {
    let ids: Vec<_> = all.iter().map(|it| (it.id(), it.version())).collect();
    let (then, seen) = api
        .app()
        .shadow()
        .then(&ids, moment)
        .await
        .map_err(unread)?;
    Ok((then, seen.index))
}

/// What held of a scope of configuration at a moment, for whom the asker may read it now.
pub(crate) async fn effective(
    api: &Api,
    call: &Call,
    query: &EffectiveQuery,
    at: &str,
) -> Answered {
    let moment = moment_of(call, "at", at)?;
    sql::caught_up(api, call.image()?, HISTORY).await?;
    let whom = logic::effective_for(call.image()?, &call.cx()?, query)?;
    let mut index = call.image()?.index();
    let mut layers = [None, None, None];
    for (layer, kind) in layers.iter_mut().zip(LAYERS) {
        let is_it = |object: &Object| whom.is_layer(query, kind, object);
        let (found, seen) = only(api, call, kind, moment, whom.tenant(), &is_it).await?;
        (*layer, index) = (found, seen);
    }
    let [system, tenant, user] = layers.each_ref().map(Option::as_ref);
    let layers = Layers {
        system,
        tenant,
        user,
    };
    Ok(Answer::ok(index, logic::effective_of(query, whom, layers)?))
}

/// The one object of a kind that was so at a moment, whoever asks.
async fn only(
    api: &Api,
    call: &Call,
    kind: Kind,
    moment: Moment,
    tenant: Option<ObjectId>,
    is_it: &(dyn Fn(&Object) -> bool + Sync),
) -> Result<(Option<Object>, u64), Failure> {
    let image = call.image()?;
    let mut after = None;
    for _ in 0..LOOKED_MAX / BATCH {
        let there: Vec<Arc<Object>> = image
            .of_kind(kind.name(), after)
            .take(BATCH)
            .cloned()
            .collect();
        let there_next = there.last().map(|object| object.id);
        let there_next = there_next.filter(|_| there.len() == BATCH);
        let (mut all, end) = with_gone(api, kind, moment, after, (there, there_next)).await?;
        all.retain(|candidate| {
            let owner = candidate.tenant();
            tenant.is_none() || owner.is_none() || owner == tenant
        });
        let (then, seen) = then(api, &all, moment).await?;
        for (candidate, then) in all.iter().zip(then) {
            let object = match (then, candidate) {
                (Then::Was(row), _) => object_of(&row),
                (Then::AsNow, Candidate::There(object)) => (**object).clone(),
                _ => continue,
            };
            if is_it(&object) {
                return Ok((Some(object), seen));
            }
        }
        if end.is_none() {
            return Ok((None, seen));
        }
        after = end;
    }
    Err(Error::new(
        ErrorCode::LimitExceeded,
        format!("more than {LOOKED_MAX} layers would have to be looked at"),
    )
    .into())
}

/// `GET /{kinds}?at=`: a page of what there was.
pub(crate) async fn list(api: &Api, call: &Call, query: &ListQuery, at: &str) -> Answered {
    let moment = moment_of(call, "at", at)?;
    let fields = fields_of(call, query.kind)?;
    sql::caught_up(api, call.image()?, HISTORY).await?;
    let cx = call.cx()?;
    let mut after = PastList::open(call.image()?, &cx, query)?.after(at)?;
    let mut rows = Vec::new();
    let mut next = None;
    let mut index = call.image()?.index();
    for looked in 0..=LOOKED_MAX / BATCH {
        if looked == LOOKED_MAX / BATCH {
            next = after;
            break;
        }
        let (all, end) = candidates(api, call, query, moment, after).await?;
        let (then, seen) = then(api, &all, moment).await?;
        index = seen;
        let list = PastList::open(call.image()?, &cx, query)?;
        for (candidate, then) in all.iter().zip(then) {
            let row = match (then, candidate) {
                (Then::Was(row), _) if list.matches(object_of(&row)) => shown(call, &row)?,
                (Then::AsNow, Candidate::There(object)) if list.matches((**object).clone()) => {
                    logic::public(call.image()?, object)
                }
                _ => continue,
            };
            if rows.len() == query.limit {
                // The one before it was the last.
                break;
            }
            rows.push(row);
            next = Some(candidate.id());
        }
        after = end;
        if rows.len() == query.limit {
            break;
        }
        next = None;
        if after.is_none() {
            break;
        }
    }
    let list = PastList::open(call.image()?, &cx, query)?;
    let rows = all_chosen(fields.as_ref(), rows);
    let next = next.map(|last| list.cursor(last, at));
    Ok(Answer::ok(index, rows.into()).next(next))
}

/// `GET /diff`: what was made, changed and deleted between two moments.
pub(crate) async fn diff(State(api): State<Api>, Extension(call): TheCall) -> Answered {
    call.query.only(DIFF)?;
    let limit = call.query.limit()?;
    let newest = call.image()?.index().to_string();
    let from = call.query.get("from");
    let from = from.ok_or_else(|| Error::invalid("from", "is missing: an index or a time"))?;
    let between = Between {
        from: moment_of(&call, "from", from)?,
        to: moment_of(&call, "to", call.query.get("to").unwrap_or(&newest))?,
    };
    between.check()?;
    let kind = call.query.get("kind").map(kind_of).transpose()?;
    sql::caught_up(&api, call.image()?, HISTORY).await?;
    if let Some(object) = call.query.get("object") {
        let missing = || Error::invalid("object", "is of a kind: name that too, as `kind`");
        let kind = kind.ok_or_else(missing)?;
        let id = found(&api, &call, kind, object).await?;
        return between.one(&api, &call, kind, id).await;
    }
    between.page(&api, &call, kind, limit).await
}

fn kind_of(text: &str) -> Result<Kind, Error> {
    Kind::parse(text).ok_or_else(|| {
        let shown: String = text.chars().take(64).collect();
        Error::invalid("kind", format!("`{shown}` is no kind"))
            .advise("`GET /api/v1` shows those there are")
    })
}

#[derive(Debug, Clone, Copy)]
struct Between {
    from: Moment,
    to: Moment,
}

impl Between {
    fn check(&self) -> Result<(), Error> {
        let is_backwards = match (self.from, self.to) {
            (Moment::Index(from), Moment::Index(to)) => from > to,
            (Moment::Time(from), Moment::Time(to)) => from > to,
            _ => false,
        };
        match is_backwards {
            true => Err(Error::invalid("to", "lies before `from`")),
            false => Ok(()),
        }
    }

    async fn page(self, api: &Api, call: &Call, kind: Option<Kind>, limit: usize) -> Answered {
        let kinds: Vec<Kind> = match kind {
            Some(kind) => vec![kind],
            None => Kind::ALL.to_vec(),
        };
        let begin = call.query.get("cursor").map(read_cursor).transpose()?;
        let mut at = 0;
        let mut after = None;
        if let Some((kind, id)) = begin {
            let place = kinds.iter().position(|known| *known == kind);
            at = place.ok_or_else(not_ours)?;
            after = Some(id);
        }
        let mut changes = Vec::new();
        let (mut looked, mut index) = (0, call.image()?.index());
        let mut next = None;
        while let Some(kind) = kinds.get(at) {
            let mut query = ListQuery::of(*kind);
            query.tenant = call.query.get("tenant").map(str::to_owned);
            let is_of_tenants = kind.filters().iter().any(|filter| filter.name == "tenant");
            if query.tenant.is_some() && !is_of_tenants {
                (at, after) = (at + 1, None);
                continue;
            }
            if looked >= LOOKED_MAX {
                next = Some(cursor(*kind, after.unwrap_or(ObjectId::from_u128(0))));
                break;
            }
            let (all, end) = candidates(api, call, &query, self.from, after).await?;
            looked += all.len().max(1);
            let (more, seen) = self.of(api, call, &all).await?;
            index = seen.unwrap_or(index);
            for (id, change) in more {
                if changes.len() == limit {
                    break;
                }
                changes.push(change);
                after = Some(id);
            }
            if changes.len() == limit {
                next = after.map(|after| cursor(*kind, after));
                break;
            }
            after = end;
            if end.is_none() {
                at += 1;
            }
        }
        Ok(Answer::ok(index, changes.into()).next(next))
    }

    async fn one(self, api: &Api, call: &Call, kind: Kind, id: ObjectId) -> Answered {
        let candidate = match call.image()?.get(id) {
            Some(object) => Candidate::There(Arc::clone(object)),
            None => {
                let page = api
                    .app()
                    .shadow()
                    .history(id, None, 1)
                    .await
                    .map_err(unread)?;
                let last = page.rows.into_iter().next();
                let missing = || Error::not_found(kind.name(), &id.to_string());
                Candidate::Gone(Box::new(last.ok_or_else(missing)?))
            }
        };
        let (changes, seen) = self.of(api, call, &[candidate]).await?;
        let changes: Vec<Value> = changes.into_iter().map(|(_, change)| change).collect();
        let index = seen.unwrap_or(call.image()?.index());
        Ok(Answer::ok(index, changes.into()))
    }

    /// What became of candidates between the two.
    async fn of(
        self,
        api: &Api,
        call: &Call,
        all: &[Candidate],
    ) -> Result<(Vec<(ObjectId, Value)>, Option<u64>), Failure> {
        if all.is_empty() {
            return Ok((Vec::new(), None));
        }
        let (before, _) = then(api, all, self.from).await?;
        let (after, seen) = then(api, all, self.to).await?;
        let mut changes = Vec::new();
        for ((candidate, before), after) in all.iter().zip(before).zip(after) {
            let change = match (&before, &after) {
                (Then::Absent, Then::Was(row)) => told("created", row, None),
                (Then::Was(row), Then::Absent) => match candidate {
                    Candidate::Gone(last) => told("deleted", last, None),
                    // It went after the image that this rests on.
                    Candidate::There(_) => told("deleted", row, None),
                },
                (Then::Was(old), Then::Was(row)) if old.version != row.version => {
                    let (old, new) = (shown(call, old)?, shown(call, row)?);
                    told("changed", row, Some(fields(&old, &new)))
                }
                _ => continue,
            };
            changes.push((candidate.id(), change));
        }
        Ok((changes, Some(seen)))
    }
}

fn told(change: &str, row: &HistoryRow, fields: Option<Value>) -> Value {
    let mut told = json!({
        "change": change,
        "id": row.object,
        "kind": row.kind,
        "name": row.name,
        "tenant_id": row.tenant,
        "last": cause(row),
    });
    if let Some(fields) = fields {
        told["fields"] = fields;
    }
    told
}

/// What differs, by path: what it was and what it became.
fn fields(old: &Value, new: &Value) -> Value {
    let of = |object: &Value| {
        let mut found = BTreeMap::new();
        for part in ["name", "spec", "status"] {
            leaves(&object[part], part, &mut found);
        }
        found
    };
    let (old, new) = (of(old), of(new));
    let paths: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let differ = paths
        .into_iter()
        .filter(|path| old.get(*path) != new.get(*path));
    let told = differ.map(|path| {
        let (from, to) = (old.get(path), new.get(path));
        (path.clone(), json!({"from": from, "to": to}))
    });
    Value::Object(told.collect())
}

/// Where a page ended. It carries no rights: a forged one shows nothing that another query would not.
fn cursor(kind: Kind, last: ObjectId) -> String {
    URL_SAFE_NO_PAD.encode(format!("{}.{last}", kind.name()))
}

fn read_cursor(text: &str) -> Result<(Kind, ObjectId), Error> {
    let read = || {
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
        let (kind, id) = text.split_once('.')?;
        Some((Kind::of_name(kind)?, id.parse().ok()?))
    };
    read().ok_or_else(not_ours)
}

fn not_ours() -> Error {
    Error::invalid(
        "cursor",
        "is not one of ours; use `meta.next_cursor` of the page before",
    )
}
