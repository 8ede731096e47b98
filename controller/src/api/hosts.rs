//! What only hosts have: cordon, uncordon, the end of a quarantine, and domains that are not VirtFlow's.

use axum::extract::{Extension, Path, State};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use virtflow_logic::{self as logic, Adopt, HostAct, HostVerb, Request};
use virtflow_model::Kind;

use super::Api;
use super::envelope::Answer;
use super::json;
use super::kinds::{Answered, TheCall};
use super::request::Call;
use super::write::DRY_RUN;

/// `POST /hosts/{id}/cordon`
pub(crate) async fn cordon(
    State(api): State<Api>,
    Extension(call): TheCall,
    Path(id): Path<String>,
) -> Answered {
    act(&api, &call, id, HostVerb::Cordon).await
}

/// `POST /hosts/{id}/uncordon`
pub(crate) async fn uncordon(
    State(api): State<Api>,
    Extension(call): TheCall,
    Path(id): Path<String>,
) -> Answered {
    act(&api, &call, id, HostVerb::Uncordon).await
}

/// `POST /hosts/{id}/release-quarantine`
pub(crate) async fn release_quarantine(
    State(api): State<Api>,
    Extension(call): TheCall,
    Path(id): Path<String>,
) -> Answered {
    act(&api, &call, id, HostVerb::ReleaseQuarantine).await
}

async fn act(api: &Api, call: &Call, target: String, act: HostVerb) -> Answered {
    call.query.only(&[DRY_RUN])?;
    json::nothing(call)?;
    let request = Request::Host(HostAct { target, act });
    api.change(call, request, Kind::Baremetal).await
}

/// `GET /hosts/{id}/domains`: what runs there or is defined and is not VirtFlow's.
pub(crate) async fn domains(Extension(call): TheCall, Path(id): Path<String>) -> Answered {
    call.query.only(&[])?;
    let image = call.image()?;
    let data = logic::foreign_domains(image, &call.cx()?, &id)?;
    Ok(Answer::ok(image.index(), data))
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AdoptBody {
    /// The domain, by its UUID or by its name on the host.
    domain: String,
    /// The VM's name; absent: the domain's.
    #[serde(default)]
    name: Option<String>,
    /// The VM's tenant, by id or name; absent: your own.
    #[serde(default)]
    tenant: Option<String>,
    /// What a VM's spec may say, but for sizes and power: those are as the host tells.
    #[serde(default = "nothing")]
    spec: Value,
}

fn nothing() -> Value {
    serde_json::json!({})
}

/// `POST /hosts/{id}/adopt`
pub(crate) async fn adopt(
    State(api): State<Api>,
    Extension(call): TheCall,
    Path(host): Path<String>,
) -> Answered {
    call.query.only(&[DRY_RUN])?;
    let body: AdoptBody = json::body(&call)?;
    let request = Request::Adopt(Adopt {
        host,
        domain: body.domain,
        name: body.name,
        tenant: body.tenant,
        spec: body.spec,
    });
    api.change(&call, request, Kind::VirtualMachine).await
}
