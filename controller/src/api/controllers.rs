//! Controllers: who they are, how far each has come, and changes of the membership.
//!
//! The objects say who may be a member, the Raft membership who is one. Answers show both; they are
//! given by the leader, which alone knows how far the others have come.

use std::sync::Arc;

use axum::extract::{Extension, Path, State};
use serde_json::{Map, Value, json};
use virtflow_logic::{self as logic, ControllerVerb, Request, decoded};
use virtflow_model::kinds::Controller;
use virtflow_model::{Action, Kind, Permission};
use virtflow_raft::{HandOverError, Member, MemberRole, MembershipError, RaftStatus};
use virtflow_state::Object;
use virtflow_types::{Error, ErrorCode};

use super::Api;
use super::envelope::{Answer, Failure};
use super::json;
use super::kinds::{self, Answered, TheCall};
use super::request::Call;
use super::write::{DRY_RUN, add};

/// A member as the leader sees it.
pub(crate) fn member(member: &Member, status: &RaftStatus) -> Value {
    let is_leader = status.leader == Some(member.node_id);
    let matched = if is_leader && status.node_id == member.node_id {
        Some(status.last_log)
    } else {
        member.matched
    };
    let role = match member.role {
        MemberRole::Voter => "voter",
        MemberRole::Learner => "learner",
    };
    json!({
        "node_id": member.node_id,
        "role": role,
        "is_leader": is_leader,
        "matched": matched,
        "lag": matched.map(|matched| status.last_log.saturating_sub(matched)),
        "last_ack_ms_ago": member.last_ack_ms_ago,
    })
}

fn with_member(mut data: Value, status: &RaftStatus) -> Value {
    let node_id = data["spec"]["node_id"].as_u64();
    let found = status
        .members
        .iter()
        .find(|member| Some(member.node_id) == node_id);
    let mut shown = Map::new();
    shown.insert(
        "member".into(),
        found.map_or(Value::Null, |found| member(found, status)),
    );
    add(&mut data, shown);
    data
}

/// `GET /controllers`
pub(crate) async fn list(State(api): State<Api>, Extension(call): TheCall) -> Answered {
    let page = kinds::page(&call, Kind::Controller)?;
    let status = api.app().node().status();
    let data: Vec<Value> = page
        .objects
        .into_iter()
        .map(|object| with_member(object, &status))
        .collect();
    let index = call.image()?.index();
    Ok(Answer::ok(index, data.into()).next(page.next_cursor))
}

/// `GET /controllers/{id}`
pub(crate) async fn get(
    State(api): State<Api>,
    Extension(call): TheCall,
    Path(id): Path<String>,
) -> Answered {
    call.query.only(&[])?;
    let image = call.image()?;
    let object = logic::get(image, &call.cx()?, Kind::Controller, &id, None)?;
    let status = api.app().node().status();
    let data = with_member(logic::public(image, &object), &status);
    Ok(Answer::ok(image.index(), data).etag(object.id, object.generation))
}

/// `POST /controllers/{id}/promote`: makes a learner a voter, once it has caught up.
pub(crate) async fn promote(
    State(api): State<Api>,
    Extension(call): TheCall,
    Path(target): Path<String>,
) -> Answered {
    call.query.only(&[DRY_RUN])?;
    json::nothing(&call)?;
    let object = logic::get(call.image()?, &call.cx()?, Kind::Controller, &target, None)?;
    let node_id = decoded::<Controller>(&object)?.spec.node_id;
    let request = Request::Controller(ControllerVerb::Promote, target);
    let (committed, is_tried) = api.write_or_try(&call, request).await?;
    let node = api.app().node();
    if !is_tried {
        node.promote(node_id)
            .await
            .map_err(|error| membership(&error))?;
    }
    let image = node.image();
    let object = image.get(object.id).cloned().unwrap_or(object);
    let data = with_member(logic::public(&image, &object), &node.status());
    Ok(Answer::ok(committed.index, data).tried_if(is_tried))
}

/// `DELETE /controllers/{id}`: out of the membership first, then its certificate is worth nothing.
/// In that order a failure in the middle leaves a controller that can be removed again, never a
/// voter whom nobody talks to.
pub(crate) async fn remove(
    State(api): State<Api>,
    Extension(call): TheCall,
    Path(target): Path<String>,
) -> Answered {
    call.query.only(&["force", DRY_RUN])?;
    let permission = Permission::new(Kind::Controller, Action::Delete);
    let cx = call.cx()?;
    let image = call.image()?;
    let found = logic::authorize_only(image, &cx, permission, Some(&target), None)?;
    let object = found.ok_or_else(|| Error::not_found(Kind::Controller.name(), &target))?;
    if !call.query.flag(DRY_RUN)? {
        api.leave(&call, &object).await?;
    }
    kinds::delete(&api, &call, Kind::Controller, object.id.to_string()).await
}

/// `POST /controllers/hand-over`: the leader makes another one lead.
pub(crate) async fn hand_over(State(api): State<Api>, Extension(call): TheCall) -> Answered {
    call.query.only(&[DRY_RUN])?;
    json::nothing(&call)?;
    let manage = Permission::new(Kind::Controller, Action::Manage);
    logic::authorize_only(call.image()?, &call.cx()?, manage, None, None)?;
    let app = api.app();
    let request = Request::Controller(ControllerVerb::HandOver, app.store_id().to_string());
    let (committed, is_tried) = api.write_or_try(&call, request).await?;
    let nobody = || {
        Error::new(
            ErrorCode::Conflict,
            "there is no other voter to hand over to, or this controller no longer leads",
        )
        .advise("see `virtflow controller list`")
    };
    if is_tried {
        let (members, own) = (app.node().members(), app.node().node_id());
        let mut others = members.iter().filter(|member| member.node_id != own);
        if !others.any(|member| member.role == MemberRole::Voter) {
            return Err(nobody().into());
        }
        // Who it will be is known when it has happened: the one that is up to date first.
        return Ok(Answer::ok(committed.index, json!({"leader": null})).tried());
    }
    let next = app.node().hand_over().await;
    let next = next.map_err(|error| handing(&error))?;
    let next = next.ok_or_else(nobody)?;
    let name = app.node().member(next).map(|info| info.name);
    let data = json!({"leader": {"node_id": next, "name": name}});
    Ok(Answer::ok(committed.index, data))
}

impl Api {
    /// Takes a controller out of the membership. Who leads cannot take itself out: it hands over, and
    /// the next leader does it.
    async fn leave(&self, call: &Arc<Call>, object: &Object) -> Result<(), Failure> {
        let node_id = decoded::<Controller>(object)?.spec.node_id;
        let node = self.app().node();
        if !node
            .members()
            .iter()
            .any(|member| member.node_id == node_id)
        {
            return Ok(());
        }
        if node_id == node.node_id() {
            if call.caller.hops > 0 {
                return Err(Error::new(
                    ErrorCode::Conflict,
                    "this controller leads and cannot be removed while it does",
                )
                .advise("hand over first: `virtflow controller hand-over`")
                .into());
            }
            node.hand_over().await.map_err(|error| handing(&error))?;
            return Err(Failure::NotLeader);
        }
        match node.remove(node_id).await {
            Ok(()) | Err(MembershipError::NoSuchMember { .. }) => Ok(()),
            Err(error) => Err(membership(&error)),
        }
    }
}

fn membership(error: &MembershipError) -> Failure {
    match error {
        MembershipError::NotLeader { .. } => Failure::NotLeader,
        other => other.to_error().into(),
    }
}

fn handing(error: &HandOverError) -> Failure {
    Error::new(
        ErrorCode::Unavailable,
        format!("leadership was not handed over: {error}"),
    )
    .advise("look at `virtflow controller list`: another voter must be up to date")
    .into()
}
