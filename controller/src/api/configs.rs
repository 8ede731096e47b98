//! Layers of configuration by one word: `/configs`. The layer follows from what a body names, or from whose the
//! object with an id is; then the handlers of that kind answer. And what is read of them beside the objects: what
//! they are together, and what is secret of one.

use axum::extract::{Extension, Path, State};
use axum::routing::{self, MethodRouter};
use serde::Deserialize;
use serde_json::{Map, Value};
use virtflow_logic::{self as logic, EffectiveQuery, Request, Reveal};
use virtflow_model::Kind;
use virtflow_types::{Error, ObjectId};

use super::Api;
use super::envelope::{Answer, Failure};
use super::json;
use super::kinds::{self, Answered, CreateBody, TheCall, all_chosen, fields_of, query_of};
use super::moment;
use super::request::Call;
use super::seal::Sealer;
use super::write::answer;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NoBody {}

/// The layers, the widest first.
pub(crate) const LAYERS: [Kind; 3] = [Kind::SystemConfig, Kind::TenantConfig, Kind::UserConfig];

/// Parameters of a list of a tenant's layers.
pub(crate) const OF_TENANT: &[&str] = &["scope", "limit", "cursor", kinds::FIELDS];

/// Parameters of what layers are together.
pub(crate) const EFFECTIVE: &[&str] = &[
    "scope",
    "sub_scope",
    "tenant",
    "user",
    "tenant_id",
    "user_id",
    "at",
];

/// `GET /configs/effective`
pub(crate) async fn effective(State(api): State<Api>, Extension(call): TheCall) -> Answered {
    call.query.only(EFFECTIVE)?;
    let scope = call.query.get("scope");
    let query = EffectiveQuery {
        scope: scope
            .ok_or_else(|| Error::invalid("scope", "is missing: what is configured there?"))?
            .to_owned(),
        sub_scope: call.query.get("sub_scope").map(str::to_owned),
        tenant: one_of(&call, "tenant", "tenant_id")?,
        user: one_of(&call, "user", "user_id")?,
    };
    if let Some(at) = call.query.get("at") {
        return moment::effective(&api, &call, &query, at).await;
    }
    let image = call.image()?;
    let data = logic::effective(image, &call.cx()?, &query)?;
    Ok(Answer::ok(image.index(), data))
}

/// A parameter that has two names.
fn one_of(call: &Call, name: &str, id_name: &str) -> Result<Option<String>, Error> {
    match (call.query.get(name), call.query.get(id_name)) {
        (Some(_), Some(_)) => {
            let problem = format!("is given twice, as `{name}` and as `{id_name}`");
            Err(Error::invalid(name, problem))
        }
        (one, other) => Ok(one.or(other).map(str::to_owned)),
    }
}

/// `POST /{kinds}/{id}/reveal`: what the secret fields of a layer hold. Who asks is on record before it is told.
pub(crate) fn reveal(kind: Kind) -> MethodRouter<Api> {
    routing::post(
        move |State(api): State<Api>, Extension(call): TheCall, Path(id): Path<String>| async move {
            reveal_of(&api, &call, kind, id).await
        },
    )
}

async fn reveal_of(api: &Api, call: &Call, kind: Kind, target: String) -> Answered {
    call.query.only(&["tenant"])?;
    let NoBody {} = json::body(call)?;
    let tenant = call.query.get("tenant").map(str::to_owned);
    let reveal = Reveal {
        kind,
        target,
        tenant,
    };
    let mut committed = api.write(call, Request::Reveal(reveal)).await?;
    let reply = &mut committed.value;
    let sealed = reply.extra.remove(logic::SEALED);
    // A repeated idempotency key gets no secrets: what was told then is not kept.
    let secrets = match (sealed, reply.object_id) {
        (Some(Value::Object(sealed)), Some(id)) => opened(api, kind, id, sealed)?.into(),
        _ => Value::Null,
    };
    reply.extra.insert("secrets".into(), secrets);
    Ok(answer(committed, kind))
}

fn opened(
    api: &Api,
    kind: Kind,
    id: ObjectId,
    sealed: Map<String, Value>,
) -> Result<Map<String, Value>, Error> {
    let sealer = Sealer::of(api.app());
    let mut secrets = Map::new();
    for (field, sealed) in sealed {
        let at = logic::SecretAt {
            kind: kind.name(),
            id,
            field: &field,
        };
        let secret = sealer.open(at, sealed.as_str().unwrap_or_default())?;
        secrets.insert(field, secret.into());
    }
    Ok(secrets)
}

/// `GET /configs/tenant/{id}`
pub(crate) async fn of_tenant(Extension(call): TheCall, Path(id): Path<String>) -> Answered {
    let kind = Kind::TenantConfig;
    call.query.only(OF_TENANT)?;
    let fields = fields_of(&call, kind)?;
    let mut query = query_of(&call, kind)?;
    query.tenant = Some(id);
    let page = logic::list(call.image()?, &call.cx()?, &query)?;
    let objects = all_chosen(fields.as_ref(), page.objects);
    let answer = Answer::ok(call.image()?.index(), objects.into());
    Ok(answer.next(page.next_cursor))
}

/// `POST /configs`: of a user if the spec names one, else of a tenant if the body names one.
pub(crate) async fn create(State(api): State<Api>, Extension(call): TheCall) -> Answered {
    let body: CreateBody = json::body(&call)?;
    let is_of_user = ["user", "user_id"]
        .iter()
        .any(|field| !body.spec[*field].is_null());
    let kind = match body.tenant {
        _ if is_of_user => Kind::UserConfig,
        Some(_) => Kind::TenantConfig,
        None => Kind::SystemConfig,
    };
    kinds::create_of(&api, &call, kind).await
}

/// `GET /configs/{id}`
pub(crate) async fn get(
    State(api): State<Api>,
    Extension(call): TheCall,
    Path(id): Path<String>,
) -> Answered {
    let kind = layer_of(&call, &id)?;
    kinds::get_of(&api, &call, kind, &id).await
}

/// `PUT /configs/{id}`
pub(crate) async fn replace(
    State(api): State<Api>,
    Extension(call): TheCall,
    Path(id): Path<String>,
) -> Answered {
    let kind = layer_of(&call, &id)?;
    kinds::update(&api, &call, kind, id, false).await
}

/// `DELETE /configs/{id}`
pub(crate) async fn delete(
    State(api): State<Api>,
    Extension(call): TheCall,
    Path(id): Path<String>,
) -> Answered {
    let kind = layer_of(&call, &id)?;
    kinds::delete(&api, &call, kind, id).await
}

/// The layer of an object that the caller sees. What they do not see reads like what is not there.
fn layer_of(call: &Call, id: &str) -> Result<Kind, Failure> {
    let cx = call.cx()?;
    let image = call.image()?;
    let sees = |kind: &Kind| logic::get(image, &cx, *kind, id, None).is_ok();
    Ok(LAYERS.into_iter().find(sees).unwrap_or(Kind::SystemConfig))
}
