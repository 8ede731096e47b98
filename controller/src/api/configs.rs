//! Layers of configuration by one word: `/configs`. The layer follows from what a body names, or from whose the
//! object with an id is; then the handlers of that kind answer.

use axum::extract::{Extension, Path, State};
use virtflow_logic as logic;
use virtflow_model::Kind;

use super::Api;
use super::envelope::{Answer, Failure};
use super::json;
use super::kinds::{self, Answered, CreateBody, TheCall, all_chosen, fields_of, query_of};
use super::request::Call;

/// The layers, the widest first.
const LAYERS: [Kind; 3] = [Kind::SystemConfig, Kind::TenantConfig, Kind::UserConfig];

/// Parameters of a list of a tenant's layers.
pub(crate) const OF_TENANT: &[&str] = &["scope", "limit", "cursor", kinds::FIELDS];

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
