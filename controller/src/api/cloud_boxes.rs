//! What only cloud boxes have: they tell of themselves.

use axum::extract::{Extension, Path, State};
use schemars::JsonSchema;
use serde::Deserialize;
use virtflow_logic::{self as logic, CloudBoxTells, Request};
use virtflow_model::Kind;
use virtflow_model::kinds::cloud_box::CloudBoxReport;

use super::Api;
use super::envelope::Failure;
use super::json;
use super::kinds::{Answered, TheCall};
use super::write::{DRY_RUN, answer};

/// What a box tells of itself; everything may be left out.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct HeartbeatBody {
    /// What it tells.
    #[serde(default)]
    report: CloudBoxReport,
}

/// `POST /cloud_boxes/{id}/heartbeat`: the box is heard. The answer is the box, with what it should have and be, and how
/// soon it is to tell again.
pub(crate) async fn heartbeat(
    State(api): State<Api>,
    Extension(call): TheCall,
    Path(id): Path<String>,
) -> Answered {
    call.query.only(&["tenant", DRY_RUN])?;
    let HeartbeatBody { report } = json::body(&call)?;
    let tells = CloudBoxTells {
        target: id,
        tenant: call.query.get("tenant").map(str::to_owned),
        report,
    };
    // Writes are decided where the lead is: only there is what was heard kept.
    let Some(leader) = api.app().leader() else {
        return Err(Failure::NotLeader);
    };
    let (mut committed, is_tried) = api.write_or_try(&call, Request::CloudBox(tells)).await?;
    if let Some(id) = committed.value.object_id.filter(|_| !is_tried) {
        leader.heard(id);
    }
    let every = logic::CLOUD_BOX_REPORT_EVERY.as_secs();
    let told = &mut committed.value.extra;
    told.insert("report_every_s".into(), every.into());
    Ok(answer(committed, Kind::CloudBox).tried_if(is_tried))
}
