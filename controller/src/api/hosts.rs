//! What only hosts have: cordon, uncordon, and the end of a quarantine.

use axum::extract::{Extension, Path, State};
use virtflow_logic::{HostAct, HostVerb, Request};
use virtflow_model::Kind;

use super::Api;
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
