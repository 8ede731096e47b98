//! The way of every write: decided by `logic` on the leader's newest state, answered once what it
//! rests on is committed.

use axum::http::StatusCode;
use serde_json::{Map, Value, json};
use virtflow_logic::{Cx, Item, Reply, Request, access_effect, decide, decide_together, explain};
use virtflow_model::Kind;
use virtflow_raft::{Committed, DecideError};
use virtflow_state::{Changeset, State};
use virtflow_types::Error;

use super::Api;
use super::envelope::{Answer, Failure};
use super::request::Call;

/// The parameter that makes a trial of a change.
pub(crate) const DRY_RUN: &str = "dry_run";

impl Api {
    /// Decides a request of the one who is signed in.
    pub(crate) async fn write(
        &self,
        call: &Call,
        request: Request,
    ) -> Result<Committed<Reply>, Failure> {
        self.write_as(call.cx()?, request).await
    }

    /// Decides what can also be only tried, with `?dry_run=true`, and answers it. A trial is decided like the change
    /// itself, on the head and with all checks, and then nothing is proposed.
    pub(crate) async fn change(
        &self,
        call: &Call,
        request: Request,
        kind: Kind,
    ) -> Result<Answer, Failure> {
        let is_tried = call.query.flag(DRY_RUN)?;
        self.change_as(call.cx()?, request, kind, is_tried).await
    }

    /// The same in a context of its own.
    pub(crate) async fn change_as(
        &self,
        cx: Cx,
        request: Request,
        kind: Kind,
        is_tried: bool,
    ) -> Result<Answer, Failure> {
        let committed = self.write_or_try_as(cx, request, is_tried).await?;
        Ok(answer(committed, kind).tried_if(is_tried))
    }

    async fn write_or_try_as(
        &self,
        cx: Cx,
        request: Request,
        is_tried: bool,
    ) -> Result<Committed<Reply>, Failure> {
        match is_tried {
            true => self.try_as(cx, request).await,
            false => self.write_as(cx, request).await,
        }
    }

    /// Decides a request, or only tries to; true if it was only tried.
    pub(crate) async fn write_or_try(
        &self,
        call: &Call,
        request: Request,
    ) -> Result<(Committed<Reply>, bool), Failure> {
        let is_tried = call.query.flag(DRY_RUN)?;
        let committed = self.write_or_try_as(call.cx()?, request, is_tried).await?;
        Ok((committed, is_tried))
    }

    /// Decides a request and does nothing.
    pub(crate) async fn try_as(
        &self,
        cx: Cx,
        request: Request,
    ) -> Result<Committed<Reply>, Failure> {
        let cx = self.sealing(cx, &request);
        self.decided(move |head| {
            let (mut changeset, mut reply) = decide(head, &cx, &request)?;
            if let Some(effect) = access_effect(head, &cx, &changeset)? {
                reply.extra.insert("access".into(), effect);
            }
            changeset.ops.clear();
            Ok((changeset, reply))
        })
        .await
    }

    /// Decides a request in a context of its own. `logic` authenticates and authorises it again on
    /// the head, so what was found on the image before is never what it rests on.
    pub(crate) async fn write_as(
        &self,
        cx: Cx,
        request: Request,
    ) -> Result<Committed<Reply>, Failure> {
        let cx = self.sealing(cx, &request);
        self.decided(move |head| decide(head, &cx, &request)).await
    }

    /// Decides many requests at once, each in a context of its own: all of them are done, or none is, as if they were
    /// one. Only tried, none is.
    pub(crate) async fn together(
        &self,
        cx: Cx,
        items: Vec<Item>,
        is_tried: bool,
    ) -> Result<Committed<Together>, Failure> {
        self.decided(move |head| {
            let (mut changeset, replies) = decide_together(head, &cx, &items)?;
            let access = match is_tried {
                true => access_effect(head, &cx, &changeset)?,
                false => None,
            };
            if is_tried {
                changeset.ops.clear();
            }
            Ok((changeset, Together { replies, access }))
        })
        .await
    }

    async fn decided<T: Send + 'static>(
        &self,
        decide: impl FnMut(&State) -> Result<(Changeset, T), Error> + Send + 'static,
    ) -> Result<Committed<T>, Failure> {
        let node = self.app().node();
        node.decide(decide).await.map_err(|error| match error {
            DecideError::Conflict(refused) => explain(&node.image(), &refused).into(),
            other => other.into(),
        })
    }
}

/// What became of many requests that are done together or not at all.
#[derive(Debug)]
pub(crate) struct Together {
    /// Answers in order; if one is a refusal, nothing was done.
    pub(crate) replies: Vec<Result<Reply, Error>>,
    /// Of a trial: what it would do to people's rights.
    pub(crate) access: Option<Value>,
}

/// What a write on an object of `kind` is answered with.
pub(crate) fn answer(committed: Committed<Reply>, kind: Kind) -> Answer {
    let reply = committed.value;
    let id = reply.object_id.map(|id| id.to_string());
    let gone = json!({"id": id, "kind": kind.name(), "deleted": true});
    let (mut data, location) = match (reply.operation, reply.object) {
        (Some(operation), object) => (
            json!({"operation": operation, "object": object}),
            reply
                .operation_id
                .map(|id| format!("/api/v1/operations/{id}")),
        ),
        (None, Some(object)) => (
            object,
            id.map(|id| format!("/api/v1/{}/{id}", kind.plural())),
        ),
        (None, None) => (gone, None),
    };
    add(&mut data, reply.extra);
    // Every answer has an envelope, so none is without content.
    let status = match reply.http_status {
        204 => StatusCode::OK,
        other => StatusCode::from_u16(other).unwrap_or(StatusCode::OK),
    };
    let mut answer = Answer::ok(committed.index, data).status(status);
    if let (Some(id), Some(generation)) = (reply.object_id, reply.generation) {
        answer = answer.etag(id, generation);
    }
    if let Some(path) = location.filter(|_| status != StatusCode::OK) {
        answer = answer.location(path);
    }
    if reply.replayed {
        answer = answer.replayed();
    }
    answer
}

/// Adds members to an object.
pub(crate) fn add(data: &mut Value, members: Map<String, Value>) {
    if let Value::Object(map) = data {
        map.extend(members);
    }
}
