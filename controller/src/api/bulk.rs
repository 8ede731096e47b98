//! Many objects in one request: each is made or deleted on its own and has its own outcome, in order; or, with
//! `?atomic=true`, all of them are or none is.

use axum::extract::{Extension, State};
use axum::routing::{self, MethodRouter};
use futures::{StreamExt, stream};
use serde::Deserialize;
use serde_json::{Value, json};
use virtflow_logic::{self as logic, Cx, Delete, Idempotency, IfMatch, Reply, Request};
use virtflow_model::Kind;
use virtflow_raft::Committed;
use virtflow_types::{Error, ErrorCode};

use super::Api;
use super::envelope::{Answer, Failure};
use super::json;
use super::kinds::{Answered, CreateBody, TheCall, query_of};
use super::request::Call;
use super::write::{self, DRY_RUN, Together};

/// Objects of one request.
pub(crate) const ITEMS_MAX: usize = 100;
/// So many are on their way at once; they are handed over in order.
const AT_ONCE: usize = 16;
/// Pages that are looked at to find what is to be deleted.
const PAGES_MAX: usize = 20;
/// The parameter with the number of objects that a deletion by filters is expected to find.
const CONFIRM: &str = "confirm";
/// The parameter for all or none.
pub(crate) const ATOMIC: &str = "atomic";

/// Parameters of a deletion of many.
pub(crate) fn deletion_parameters(kind: Kind) -> Vec<&'static str> {
    let filters = kind.filters().iter().map(|filter| filter.name);
    let mut known: Vec<&str> = filters.chain([CONFIRM, "force", ATOMIC, DRY_RUN]).collect();
    if !known.contains(&"tenant") {
        known.push("tenant");
    }
    known
}

/// The body of a creation: each item is the body that would make it alone.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Items {
    items: Vec<Value>,
}

/// The body of a deletion; without it filters say what goes.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ids {
    #[serde(default)]
    ids: Vec<String>,
}

/// One of many: what to do, whether its spec must still be as it was seen, and what tells it from the others.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) request: Result<Request, Error>,
    pub(crate) generation: Option<u64>,
    /// The same in a repetition of the request.
    pub(crate) mark: String,
    /// All that is asked of it.
    pub(crate) said: String,
}

/// `POST /bulk/{kinds}`
pub(crate) fn create(kind: Kind) -> MethodRouter<Api> {
    routing::post(
        move |State(api): State<Api>, Extension(call): TheCall| async move {
            create_of(&api, &call, kind).await
        },
    )
}

/// `DELETE /bulk/{kinds}`
pub(crate) fn delete(kind: Kind) -> MethodRouter<Api> {
    routing::delete(
        move |State(api): State<Api>, Extension(call): TheCall| async move {
            delete_of(&api, &call, kind).await
        },
    )
}

async fn create_of(api: &Api, call: &Call, kind: Kind) -> Answered {
    call.query.only(&[ATOMIC, DRY_RUN])?;
    let Items { items } = json::body(call)?;
    check_number("items", items.len())?;
    let items = items.into_iter().enumerate().map(|(at, item)| Item {
        said: item.to_string(),
        request: creation(kind, item),
        generation: None,
        mark: at.to_string(),
    });
    carry_out(api, call, kind, items.collect()).await
}

fn creation(kind: Kind, item: Value) -> Result<Request, Error> {
    let body: CreateBody = json::typed(item)?;
    if body.password.is_some() {
        return Err(Error::invalid(
            "password",
            "is set alone: by `POST /users/{id}/password`",
        ));
    }
    Ok(Request::Create(body.of(kind)))
}

async fn delete_of(api: &Api, call: &Call, kind: Kind) -> Answered {
    call.query.only(&deletion_parameters(kind))?;
    let Ids { ids } = json::body(call)?;
    let tenant = call.query.get("tenant").map(str::to_owned);
    let force = call.query.flag("force")?;
    let item = |target: String, tenant: Option<String>, generation| Item {
        mark: target.clone(),
        said: target.clone(),
        generation,
        request: Ok(Request::Delete(Delete {
            kind,
            target,
            tenant,
            force,
        })),
    };
    let mut filters = kind.filters().iter();
    let filter = filters.find(|filter| call.query.get(filter.name).is_some());
    if !ids.is_empty() {
        let filter = filter
            .map(|filter| filter.name)
            .filter(|name| *name != "tenant");
        let extra = call.query.get(CONFIRM).map(|_| CONFIRM);
        if let Some(name) = filter.or(extra) {
            let problem = "is for a deletion by filters; the body names what goes already";
            return Err(Error::invalid(name, problem).into());
        }
        check_number("ids", ids.len())?;
        let items = ids.into_iter().map(|id| item(id, tenant.clone(), None));
        return carry_out(api, call, kind, items.collect()).await;
    }
    if filter.is_none() {
        let problem = "is missing: name what goes, or filters that find it";
        return Err(Error::invalid("ids", problem).into());
    }
    let found = matching(call, kind)?;
    confirm(call, found.len())?;
    let items = found.into_iter();
    let items = items.map(|(id, generation)| item(id, None, Some(generation)));
    carry_out(api, call, kind, items.collect()).await
}

/// Ids and generations of what the filters find.
fn matching(call: &Call, kind: Kind) -> Result<Vec<(String, u64)>, Failure> {
    let mut query = query_of(call, kind)?;
    let mut found = Vec::new();
    for _ in 0..PAGES_MAX {
        let page = logic::list(call.image()?, &call.cx()?, &query)?;
        found.extend(page.objects.iter().filter_map(|object| {
            Some((
                object["id"].as_str()?.to_owned(),
                object["generation"].as_u64()?,
            ))
        }));
        query.cursor = page.next_cursor;
        if found.len() > ITEMS_MAX || query.cursor.is_none() {
            break;
        }
    }
    if found.len() > ITEMS_MAX || query.cursor.is_some() {
        return Err(Error::new(
            ErrorCode::LimitExceeded,
            format!("the filters find more than {ITEMS_MAX} objects, or search too long for them"),
        )
        .advise("narrow them; nothing was deleted")
        .into());
    }
    Ok(found)
}

/// Nothing goes by a slip of the finger: whoever deletes by filters says how many they find.
fn confirm(call: &Call, found: usize) -> Result<(), Error> {
    if call.query.flag(DRY_RUN)? {
        return Ok(());
    }
    let confirmed: Option<usize> = call.query.parsed(CONFIRM, "a number of objects")?;
    match confirmed {
        Some(number) if number == found => Ok(()),
        Some(number) => Err(Error::new(
            ErrorCode::Conflict,
            format!("the filters find {found} objects, not {number}; nothing was deleted"),
        )
        .advise("see with `dry_run=true` what they find")),
        None => Err(Error::invalid(
            CONFIRM,
            format!("must be the number of objects that go; the filters find {found}"),
        )
        .advise("see with `dry_run=true` what they find")),
    }
}

fn check_number(field: &str, number: usize) -> Result<(), Error> {
    if (1..=ITEMS_MAX).contains(&number) {
        return Ok(());
    }
    let problem = format!("must have 1 to {ITEMS_MAX} entries, not {number}");
    Err(Error::invalid(field, problem))
}

async fn carry_out(api: &Api, call: &Call, kind: Kind, items: Vec<Item>) -> Answered {
    let is_tried = is_tried(call)?;
    if call.query.flag(ATOMIC)? {
        return all_or_none(api, call, kind, items, is_tried).await;
    }
    let outcomes = outcomes_of(api, call, kind, items, is_tried).await?;
    told_of(api, call, outcomes, is_tried)
}

/// As [`carry_out()`], each on its own; what is refused of every one of them is refused of all.
pub(crate) async fn carry_out_some(
    api: &Api,
    call: &Call,
    kind: Kind,
    items: Vec<Item>,
) -> Answered {
    let is_tried = is_tried(call)?;
    let mut outcomes = outcomes_of(api, call, kind, items, is_tried).await?;
    if !outcomes.is_empty() && outcomes.iter().all(Result::is_err) {
        return outcomes.swap_remove(0);
    }
    told_of(api, call, outcomes, is_tried)
}

/// Whether many are only tried; refuses what can be asked of one alone.
fn is_tried(call: &Call) -> Result<bool, Failure> {
    if call.cx()?.if_match.is_some() {
        let problem = "is about one object, and these are many";
        return Err(Error::invalid("If-Match", problem).into());
    }
    Ok(call.query.flag(DRY_RUN)?)
}

async fn outcomes_of(
    api: &Api,
    call: &Call,
    kind: Kind,
    items: Vec<Item>,
    is_tried: bool,
) -> Result<Vec<Answered>, Failure> {
    let cx = call.cx()?;
    let outcomes = stream::iter(items).map(|item| {
        let mut cx = cx.clone();
        cx.if_match = item.generation.map(IfMatch::generation);
        cx.idempotency = of_item(&cx, call, &item, &[]);
        async move { api.change_as(cx, item.request?, kind, is_tried).await }
    });
    let outcomes: Vec<Answered> = outcomes.buffered(AT_ONCE).collect().await;
    let leads = |outcome: &Answered| !matches!(outcome, Err(Failure::NotLeader));
    if !outcomes.is_empty() && !outcomes.iter().any(leads) {
        return Err(Failure::NotLeader);
    }
    Ok(outcomes)
}

fn told_of(api: &Api, call: &Call, outcomes: Vec<Answered>, is_tried: bool) -> Answered {
    let (mut newest, mut done) = (call.image()?.index(), 0);
    let mut told = Vec::with_capacity(outcomes.len());
    for outcome in outcomes {
        match outcome {
            Ok(answer) => {
                let (at, item) = answer.item();
                newest = newest.max(at);
                done += 1;
                told.push(item);
            }
            Err(failure) => {
                api.refusals().note(call, "bulk", &failure);
                told.push(failure.item());
            }
        }
    }
    let data = json!({"done": done, "failed": told.len() - done, "items": told});
    let answer = Answer::ok(newest, data);
    Ok(answer.tried_if(is_tried))
}

/// All of them in one changeset. If any is refused, the request is: with the first refusal's code, and every one of them
/// at its place in the details.
async fn all_or_none(
    api: &Api,
    call: &Call,
    kind: Kind,
    items: Vec<Item>,
    is_tried: bool,
) -> Answered {
    let cx = call.cx()?;
    let asked = items.into_iter().map(|item| {
        let mut own = cx.clone();
        own.if_match = item.generation.map(IfMatch::generation);
        own.idempotency = of_item(&cx, call, &item, &[ATOMIC]);
        if let Ok(request) = &item.request {
            own = api.sealing(own, request);
        }
        (own, item.request)
    });
    let asked: Vec<logic::Item> = asked.collect();
    let committed = api.together(cx, asked, is_tried).await?;
    let (index, term) = (committed.index, committed.term);
    let Together { replies, access } = committed.value;
    if let Some(error) = refusal(&replies) {
        return Err(error.into());
    }
    let told: Vec<Value> = replies
        .into_iter()
        .flatten()
        .map(|value| {
            let answer = write::answer(Committed { value, index, term }, kind);
            answer.tried_if(is_tried).item().1
        })
        .collect();
    let mut data = json!({"done": told.len(), "failed": 0, "items": told});
    if let Some(access) = access {
        data["access"] = access;
    }
    Ok(Answer::ok(index, data).tried_if(is_tried))
}

/// What is told if any is refused: what was wrong with each.
fn refusal(replies: &[Result<Reply, Error>]) -> Option<Error> {
    let refused = replies.iter().enumerate();
    let refused = refused.filter_map(|(at, reply)| Some((at, reply.as_ref().err()?)));
    let refused: Vec<(usize, &Error)> = refused.collect();
    let (first, error) = refused.first()?;
    let problems = refused.iter().map(|(at, error)| {
        let mut item = Failure::from((*error).clone()).item();
        item["item"] = (*at).into();
        item
    });
    let problems: Vec<Value> = problems.collect();
    let others = match refused.len() {
        1 => String::new(),
        more => format!(", and {} others cannot be done either", more - 1),
    };
    Some(
        Error::new(
            error.code,
            format!("nothing was done: item {first}: {}{others}", error.message),
        )
        .advise(
            "`details.items` tells what was wrong with each; mend them, or ask without `atomic`",
        )
        .with_details(json!({ "items": problems }).to_string()),
    )
}

/// Each item is done once, however often the request comes: its key follows from the request's. What the request says
/// beside its items tells it from others, too.
fn of_item(cx: &Cx, call: &Call, item: &Item, beside: &[&str]) -> Option<Idempotency> {
    let key = &cx.idempotency.as_ref()?.key;
    let hash = |parts: &[&str]| {
        let mut hasher = blake3::Hasher::new();
        for part in parts {
            hasher.update(&(part.len() as u64).to_be_bytes());
            hasher.update(part.as_bytes());
        }
        hasher.finalize().to_hex().to_string()
    };
    let path = call.uri.path();
    Some(Idempotency {
        key: format!("bulk:{}", hash(&[key, &item.mark])),
        request_hash: hash(&[&[call.method.as_str(), path, &item.said], beside].concat()),
    })
}
