//! The cluster as its people see it: who leads, who is alive, what is late, what is left, and whether
//! every number still follows from its entries.

use std::collections::BTreeMap;

use axum::extract::{Extension, State};
use serde_json::{Map, Value, json};
use virtflow_logic as logic;
use virtflow_model::{Action, Kind, Permission};
use virtflow_types::ObjectId;

use super::Api;
use super::controllers::member;
use super::envelope::Answer;
use super::kinds::{Answered, TheCall};
use super::write::add;
use crate::app::HostLive;
use crate::daemon::status::{metrics as metrics_of, report as status_of};
use crate::off_loop::work_out;

/// `GET /status`
pub(crate) async fn status(State(api): State<Api>, Extension(call): TheCall) -> Answered {
    call.query.only(&[])?;
    let image = call.image()?;
    let view = logic::cluster_view(image, &call.cx()?)?;
    let app = api.app();
    let raft = app.node().status();
    let leader = raft
        .leader
        .and_then(|id| raft.members.iter().find(|member| member.node_id == id));
    let controllers: Vec<Value> = raft
        .members
        .iter()
        .map(|each| {
            let mut shown = member(each, &raft);
            let mut who = Map::new();
            who.insert("id".into(), each.info.store_id.to_string().into());
            who.insert("name".into(), each.info.name.as_str().into());
            who.insert("api_address".into(), each.info.api_address.as_str().into());
            add(&mut shown, who);
            shown
        })
        .collect();
    let mut data = json!({
        "cluster": {
            "id": app.cluster_id().to_string(),
            "incarnation": raft.incarnation.map(|life| life.to_string()),
            "version": raft.cluster_version,
        },
        "leader": leader.map(|member| member.info.name.as_str()),
        "term": raft.term,
        "index": raft.applied,
        "controllers": controllers,
        "node": app.cluster_status().await,
    });
    if let Value::Object(view) = view {
        add(&mut data, view);
    }
    Ok(Answer::ok(image.index(), data))
}

/// `GET /node`: what the controller that was asked knows of itself, its settings and its numbers. It is for who looks at
/// each controller on its own, so nobody else answers it.
pub(crate) async fn node(State(api): State<Api>, Extension(call): TheCall) -> Answered {
    call.query.only(&[])?;
    let image = call.image()?;
    let permission = Permission::new(Kind::Controller, Action::Read);
    logic::authorize_only(image, &call.cx()?, permission, None, None)?;
    let app = api.app().clone();
    let index = image.index();
    let data = work_out("looking at this controller", move || {
        Ok(json!({
            "status": status_of(&app),
            "settings": app.config(),
            "metrics": metrics_of(&app).unwrap_or_default(),
        }))
    });
    Ok(Answer::ok(index, data.await?))
}

/// `GET /verify`: derives every ledger, index and footprint again from the rows and compares.
pub(crate) async fn verify(Extension(call): TheCall) -> Answered {
    call.query.only(&[])?;
    let image = call.image()?.clone();
    let cx = call.cx()?;
    let index = image.index();
    // Seconds of a core for a large state: not on an async thread.
    let report = work_out("verifying", move || logic::verify_report(&image, &cx)).await?;
    Ok(Answer::ok(index, report))
}

/// `GET /capacity`: what each group and host has and has given away, and how loaded it is just now.
pub(crate) async fn capacity(State(api): State<Api>, Extension(call): TheCall) -> Answered {
    call.query.only(&[])?;
    let image = call.image()?.clone();
    let cx = call.cx()?;
    let index = image.index();
    let live = api.app().live().await;
    // Tens of milliseconds for ten thousand hosts: not on an async thread.
    let data = work_out("adding up what there is", move || {
        let mut data = logic::capacity(&image, &cx)?;
        let groups = data["groups"].as_array_mut().into_iter().flatten();
        for host in groups
            .filter_map(|group| group["hosts"].as_array_mut())
            .flatten()
        {
            add_live(host, &live);
        }
        Ok(data)
    });
    Ok(Answer::ok(index, data.await?))
}

/// What the host's last heartbeat said of it.
fn add_live(host: &mut Value, live: &BTreeMap<ObjectId, HostLive>) {
    let id = host["id"].as_str().and_then(|id| id.parse().ok());
    let load = id.and_then(|id: ObjectId| live.get(&id));
    let mut shown = Map::new();
    shown.insert("live".into(), json!(load));
    add(host, shown);
}
