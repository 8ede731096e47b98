//! Upgrades: which releases run together, and the raise of the cluster version that ends one.
//!
//! What members announced is in the state; who is a member and answers, only the leader knows.

use axum::extract::{Extension, State};
use serde_json::{Value, json};
use virtflow_logic::{self as logic, Group, GroupMember, Reply, Request};
use virtflow_raft::RaftStatus;

use super::Api;
use super::controllers::member;
use super::envelope::Answer;
use super::json;
use super::kinds::{Answered, TheCall};
use super::write::{DRY_RUN, add};

/// `GET /upgrade`
pub(crate) async fn status(State(api): State<Api>, Extension(call): TheCall) -> Answered {
    call.query.only(&[])?;
    let image = call.image()?;
    let raft = api.app().node().status();
    let mut data = logic::upgrade_view(image, &call.cx()?, &group(&raft))?;
    for controller in data["controllers"].as_array_mut().into_iter().flatten() {
        let id = controller["id"].as_str().unwrap_or_default().to_owned();
        let mut members = raft.members.iter();
        let found = members.find(|it| it.info.store_id.to_string() == id);
        if let Some(Value::Object(shown)) = found.map(|found| member(found, &raft)) {
            add(controller, shown);
        }
    }
    Ok(Answer::ok(image.index(), data))
}

/// `POST /upgrade/finish`: raises the cluster version to what all members support. Repeated, it answers what is so.
pub(crate) async fn finish(State(api): State<Api>, Extension(call): TheCall) -> Answered {
    call.query.only(&[DRY_RUN])?;
    json::nothing(&call)?;
    let is_tried = call.query.flag(DRY_RUN)?;
    let node = api.app().node();
    let request = Request::FinishUpgrade(group(&node.status()));
    let committed = match is_tried {
        true => api.try_as(call.cx()?, request).await?,
        false => api.write(&call, request).await?,
    };
    let Reply {
        extra, replayed, ..
    } = committed.value;
    // What an earlier request with this key was answered is not kept; what is so now is.
    let mut data = json!({"cluster_version": node.image().cluster_version()});
    add(&mut data, extra);
    let answer = Answer::ok(committed.index, data);
    let answer = match replayed {
        true => answer.replayed(),
        false => answer,
    };
    Ok(answer.tried_if(is_tried))
}

fn group(raft: &RaftStatus) -> Group {
    let members = raft.members.iter().map(|member| GroupMember {
        store_id: member.info.store_id,
        name: member.info.name.clone(),
        answered_ms_ago: match member.node_id == raft.node_id {
            true => Some(0),
            false => member.last_ack_ms_ago,
        },
    });
    Group {
        leader: raft.store_id,
        members: members.collect(),
    }
}
