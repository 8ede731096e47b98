//! What all kinds have: list, get, create, update, delete. Written once.

use std::sync::Arc;

use axum::extract::{Extension, Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{self, MethodRouter};
use serde::Deserialize;
use serde_json::{Value, json};
use virtflow_logic::{self as logic, Create, Delete, Fields, ListQuery, Request, Update};
use virtflow_model::{Action, By, Kind};
use virtflow_types::Error;

use super::Api;
use super::envelope::{Answer, Failure};
use super::json;
use super::request::Call;
use super::write::DRY_RUN;
use super::{moment, password, past, search, watch};

/// A request, as handlers take it.
pub(crate) type TheCall = Extension<Arc<Call>>;
/// The outcome of a handler.
pub(crate) type Answered = Result<Answer, Failure>;

/// The parameter that chooses parts of what is shown.
pub(crate) const FIELDS: &str = "fields";
/// What a list has beside its filters: its order, words to search for, where a page begins, how long it is, and what
/// of each object is on it.
const PAGING: [&str; 5] = [search::SORT, search::TEXT, "limit", "cursor", FIELDS];

/// Parameters of a kind's list: its filters, and the page.
pub(crate) fn list_parameters(kind: Kind) -> Vec<&'static str> {
    let filters = kind.filters().iter().map(|filter| filter.name);
    match kind {
        // Controllers are shown with more than what is kept of them, and there are few.
        Kind::Controller => filters.chain(["limit", "cursor"]).collect(),
        _ => filters.chain(PAGING).collect(),
    }
}

/// Those, and what makes a stream of a list, or a list of what is no more.
pub(crate) fn listed(kind: Kind) -> Vec<&'static str> {
    let mut known = list_parameters(kind);
    known.extend(["watch", "from", "deleted", "at"]);
    known
}

/// What a list of the past knows: it is in the order in which the objects were made.
fn listed_at(kind: Kind) -> Vec<&'static str> {
    let filters = kind.filters().iter().map(|filter| filter.name);
    filters.chain(["at", "limit", "cursor", FIELDS]).collect()
}

/// What a stream knows: it has no pages.
fn watched(kind: Kind) -> Vec<&'static str> {
    let filters = kind.filters().iter().map(|filter| filter.name);
    filters.chain(["watch", "from", FIELDS]).collect()
}

/// The body of a create.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateBody {
    #[serde(default)]
    pub(crate) name: Option<String>,
    /// Id or name.
    #[serde(default, alias = "tenant_id")]
    pub(crate) tenant: Option<String>,
    /// Id or name.
    #[serde(default, alias = "parent_id")]
    pub(crate) parent: Option<String>,
    #[serde(default = "nothing")]
    pub(crate) spec: Value,
    /// Of a user.
    #[serde(default)]
    pub(crate) password: Option<String>,
}

impl CreateBody {
    /// The creation of an object of a kind; a password is not in it.
    pub(crate) fn of(self, kind: Kind) -> Create {
        Create {
            kind,
            name: self.name,
            tenant: self.tenant,
            parent: self.parent,
            spec: self.spec,
            secret: None,
            password_hash: None,
        }
    }
}

/// The body of an update.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct UpdateBody {
    spec: Value,
}

fn nothing() -> Value {
    json!({})
}

/// `GET /{kinds}`
pub(crate) fn list(kind: Kind) -> MethodRouter<Api> {
    routing::get(
        move |State(api): State<Api>, Extension(call): TheCall| async move {
            list_or_watch(&api, &call, kind).await
        },
    )
}

/// `POST /{kinds}`
pub(crate) fn create(kind: Kind) -> MethodRouter<Api> {
    routing::post(
        move |State(api): State<Api>, Extension(call): TheCall| async move {
            create_of(&api, &call, kind).await
        },
    )
}

/// `GET /{kinds}/{id}`
pub(crate) fn get(kind: Kind) -> MethodRouter<Api> {
    routing::get(
        move |State(api): State<Api>, Extension(call): TheCall, Path(id): Path<String>| async move {
            get_of(&api, &call, kind, &id).await
        },
    )
}

/// `PUT /{kinds}/{id}`
pub(crate) fn replace(kind: Kind) -> MethodRouter<Api> {
    routing::put(
        move |State(api): State<Api>, Extension(call): TheCall, Path(id): Path<String>| async move {
            update(&api, &call, kind, id, false).await
        },
    )
}

/// `PATCH /{kinds}/{id}`
pub(crate) fn merge(kind: Kind) -> MethodRouter<Api> {
    routing::patch(
        move |State(api): State<Api>, Extension(call): TheCall, Path(id): Path<String>| async move {
            update(&api, &call, kind, id, true).await
        },
    )
}

/// `DELETE /{kinds}/{id}`
pub(crate) fn delete_one(kind: Kind) -> MethodRouter<Api> {
    routing::delete(
        move |State(api): State<Api>, Extension(call): TheCall, Path(id): Path<String>| async move {
            delete(&api, &call, kind, id).await
        },
    )
}

/// The parts of each object that a request asks for; all of it where it names none.
pub(crate) fn fields_of(call: &Call, kind: Kind) -> Result<Option<Fields>, Error> {
    let fields = call.query.get(FIELDS);
    fields.map(|text| Fields::read(kind, text)).transpose()
}

/// An object, or the chosen parts of it.
pub(crate) fn chosen(fields: Option<&Fields>, object: Value) -> Value {
    match fields {
        Some(fields) => fields.of(&object),
        None => object,
    }
}

/// Objects, or the chosen parts of them.
pub(crate) fn all_chosen(fields: Option<&Fields>, objects: Vec<Value>) -> Vec<Value> {
    let objects = objects.into_iter();
    objects.map(|object| chosen(fields, object)).collect()
}

/// What a list asks for.
pub(crate) fn query_of(call: &Call, kind: Kind) -> Result<ListQuery, Failure> {
    let mut query = ListQuery::of(kind);
    query.limit = call.query.limit()?;
    query.cursor = call.query.get("cursor").map(str::to_owned);
    for filter in kind.filters() {
        let Some(text) = call.query.get(filter.name).map(str::to_owned) else {
            continue;
        };
        match filter.name {
            "tenant" => query.tenant = Some(text),
            "parent" => query.parent = Some(text),
            "name" if filter.by == By::Name => query.name = Some(text),
            "host" => query.host = Some(text),
            "phase" => query.phase = Some(text),
            "group" => query.group = Some(text),
            "subject" => query.subject = Some(text),
            "state" => query.state = Some(text),
            "label" => query.label = Some(text),
            "labels" => query.labels = Some(text),
            "scope" => query.scope = Some(text),
            word if matches!(filter.by, By::Word | By::Text) => {
                query.words.push((word.to_owned(), text));
            }
            reference => query.references.push((reference.to_owned(), text)),
        }
    }
    Ok(query)
}

/// One page of a kind, as the caller may see it.
pub(crate) fn page(call: &Call, kind: Kind) -> Result<logic::Page, Failure> {
    call.query.only(&list_parameters(kind))?;
    let query = query_of(call, kind)?;
    Ok(logic::list(call.image()?, &call.cx()?, &query)?)
}

/// A page, or with `?watch=true` a stream.
async fn list_or_watch(api: &Api, call: &Call, kind: Kind) -> Result<Response, Failure> {
    call.query.only(&listed(kind))?;
    if call.query.flag("deleted")? {
        return past::deleted(api, call, kind)
            .await
            .map(IntoResponse::into_response);
    }
    if let Some(at) = call.query.get("at") {
        call.query.only(&listed_at(kind))?;
        let query = query_of(call, kind)?;
        let then = moment::list(api, call, &query, at).await;
        return then.map(IntoResponse::into_response);
    }
    if !call.query.flag("watch")? {
        if call.query.get("from").is_some() {
            return Err(
                Error::invalid("from", "is where a stream goes on: it needs `watch=true`").into(),
            );
        }
        if search::is_asked(call) {
            let query = query_of(call, kind)?;
            let found = search::page(api, call, kind, &query).await;
            return found.map(IntoResponse::into_response);
        }
        return listed_now(call, kind).map(IntoResponse::into_response);
    }
    call.query.only(&watched(kind))?;
    let seen = call.single("last-event-id")?.map(|id| {
        id.parse().map_err(|_| {
            Error::invalid(
                "Last-Event-ID",
                "must be the id of an event of such a stream",
            )
        })
    });
    let from = match seen {
        Some(id) => Some(id?),
        None => call.query.parsed("from", "an index")?,
    };
    let fields = fields_of(call, kind)?;
    watch::begin(api, call, query_of(call, kind)?, fields, from)
}

fn listed_now(call: &Call, kind: Kind) -> Answered {
    let (image, cx, query) = (call.image()?, call.cx()?, query_of(call, kind)?);
    let Some(fields) = fields_of(call, kind)? else {
        let page = logic::list_text(image, &cx, &query)?;
        return Ok(Answer::written(image.index(), page.objects).next(page.next_cursor));
    };
    let page = logic::list(image, &cx, &query)?;
    let objects = all_chosen(Some(&fields), page.objects);
    Ok(Answer::ok(image.index(), objects.into()).next(page.next_cursor))
}

pub(crate) async fn get_of(api: &Api, call: &Call, kind: Kind, id: &str) -> Answered {
    call.query.only(&["tenant", "at", FIELDS])?;
    if let Some(at) = call.query.get("at") {
        return past::at(api, call, kind, id, at).await;
    }
    let fields = fields_of(call, kind)?;
    let image = call.image()?;
    let cx = call.cx()?;
    let object = logic::get(image, &cx, kind, id, call.query.get("tenant"))?;
    let answer = match fields {
        fields if logic::depends_on_asker(kind) => {
            let shown = logic::shown(image, &cx, &object)?;
            Answer::ok(image.index(), chosen(fields.as_ref(), shown))
        }
        None => Answer::written(image.index(), logic::public_text(image, &object)),
        Some(fields) => Answer::ok(image.index(), fields.of(&logic::public(image, &object))),
    };
    Ok(answer.etag(object.id, object.generation))
}

pub(crate) async fn create_of(api: &Api, call: &Call, kind: Kind) -> Answered {
    call.query.only(&[DRY_RUN])?;
    let mut body: CreateBody = json::body(call)?;
    let password_hash = match (body.password.take(), kind) {
        (Some(password), Kind::User) => {
            password::check_for(body.name.as_deref().unwrap_or_default(), &password)?;
            Some(api.hashing().hash(password).await?)
        }
        (Some(_), _) => {
            return Err(Error::invalid("password", "only users have one").into());
        }
        (None, _) => None,
    };
    let create = Request::Create(Create {
        password_hash,
        ..body.of(kind)
    });
    api.change(call, create, kind).await
}

pub(crate) async fn update(
    api: &Api,
    call: &Call,
    kind: Kind,
    target: String,
    merge: bool,
) -> Answered {
    call.query.only(&["tenant", DRY_RUN])?;
    let body: UpdateBody = json::body(call)?;
    let update = Update {
        kind,
        target,
        tenant: call.query.get("tenant").map(str::to_owned),
        spec: body.spec,
        merge,
    };
    api.change(call, Request::Update(update), kind).await
}

/// Deletes an object, or begins to.
pub(crate) async fn delete(api: &Api, call: &Call, kind: Kind, target: String) -> Answered {
    call.query.only(&["tenant", "force", DRY_RUN])?;
    let delete = Delete {
        kind,
        target,
        tenant: call.query.get("tenant").map(str::to_owned),
        force: call.query.flag("force")?,
    };
    api.change(call, Request::Delete(delete), kind).await
}

/// `GET /api/v1`: what there is.
pub(crate) async fn index(Extension(call): TheCall) -> Answered {
    call.query.only(&[])?;
    let kinds: Vec<Value> = Kind::ALL
        .iter()
        .map(|kind| json!({"kind": kind.name(), "paths": super::paths(*kind).collect::<Vec<_>>()}))
        .collect();
    let data = json!({"version": crate::app::VERSION, "kinds": kinds});
    Ok(Answer::ok(call.image()?.index(), data))
}

/// `GET /api/v1/permissions`: the catalogue that roles are made from.
pub(crate) async fn permissions(Extension(call): TheCall) -> Answered {
    call.query.only(&[])?;
    let catalogue: Vec<String> = Kind::ALL
        .iter()
        .flat_map(|kind| Action::ALL.iter().map(move |action| (kind, action)))
        .map(|(kind, action)| format!("{}.{}", kind.name(), action.name()))
        .collect();
    Ok(Answer::ok(call.image()?.index(), catalogue.into()))
}
