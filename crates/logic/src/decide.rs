//! The wrapper around every verb: who asks, have they asked before, may they, what is written, what is
//! recorded, would the state take it.

use virtflow_model::kinds::IdempotencyKey;
use virtflow_model::kinds::idempotency_key::{IdempotencyKeySpec, IdempotencyKeyStatus};
use virtflow_model::space;
use virtflow_state::{Changeset, State};
use virtflow_types::{Error, ErrorCode, IDEMPOTENCY_KEY_BYTES_MAX, ObjectId};

use crate::administrators;
use crate::audit::Entry;
use crate::cx::{Cx, Idempotency};
use crate::door::Door;
use crate::draft::{Draft, Place};
use crate::explain::explain_changeset;
use crate::limits::IDEMPOTENCY_KEY_KEPT;
use crate::read::public;
use crate::request::{Reply, Request};
use crate::typed::decoded;
use crate::verbs::{Outcome, run};

/// Decides a request on `state`: the changeset that does it, and the answer once it is committed.
///
/// A changeset without ops means that there is nothing to do: a repeated idempotency key, or a wish that
/// is fulfilled already. An error means that nothing may be done.
pub fn decide(state: &State, cx: &Cx, request: &Request) -> Result<(Changeset, Reply), Error> {
    let door = Door::open(state, cx)?;
    if let Some(reply) = replay(&door)? {
        let nothing = Changeset::new(cx.request_id, cx.now, cx.actor());
        return Ok((nothing, reply));
    }
    let (mut draft, outcome) = run(&door, request)?;
    administrators::keep(&draft)?;
    if outcome.is_recorded {
        draft.audit(&Entry {
            action: &outcome.action,
            object: &outcome.object,
            before: outcome.before.as_deref(),
            note: &outcome.note,
        });
    }
    if let Some(idempotency) = &cx.idempotency {
        remember(&mut draft, idempotency, &outcome)?;
    }
    let changeset = draft.finish();
    if !changeset.ops.is_empty() {
        state
            .check(&changeset)
            .map_err(|refused| explain_changeset(state, &changeset, &refused))?;
    }
    Ok((changeset, answer(state, outcome)))
}

fn answer(state: &State, outcome: Outcome) -> Reply {
    let object = &outcome.object;
    Reply {
        http_status: outcome.http_status,
        object_id: Some(object.id),
        generation: (!outcome.gone).then_some(object.generation),
        object: (!outcome.gone).then(|| public(state, object)),
        operation: outcome.operation.as_ref().map(|op| public(state, op)),
        operation_id: outcome.operation.as_ref().map(|op| op.id),
        extra: outcome.extra,
        replayed: false,
    }
}

/// The answer to a key that was seen before: the same object and operation, as they are now.
fn replay(door: &Door<'_>) -> Result<Option<Reply>, Error> {
    let (Some(idempotency), Some(user)) = (&door.cx.idempotency, door.cx.user_id()) else {
        return Ok(None);
    };
    check_key(&idempotency.key)?;
    let space = space::idempotency(user);
    let Some(kept) = door.state.holder(&space, idempotency.key.as_bytes()) else {
        return Ok(None);
    };
    let spec = &decoded::<IdempotencyKey>(kept)?.spec;
    if spec.expires_at <= door.cx.now {
        return Ok(None);
    }
    if spec.request_hash != idempotency.request_hash {
        return Err(Error::new(
            ErrorCode::Conflict,
            format!(
                "the idempotency key `{}` was used for another request",
                idempotency.key
            ),
        )
        .advise("use a new key for a new request"));
    }
    // Rights are as fresh as ever: what may not be seen any more is not shown.
    let show = |id: ObjectId| door.state.get(id).filter(|object| door.sees(object));
    let object = show(spec.object_id);
    let operation = spec.operation_id.and_then(show);
    Ok(Some(Reply {
        http_status: spec.http_status,
        object_id: Some(spec.object_id),
        generation: object.map(|object| object.generation),
        object: object.map(|object| public(door.state, object)),
        operation: operation.map(|operation| public(door.state, operation)),
        operation_id: spec.operation_id,
        extra: serde_json::Map::new(),
        replayed: true,
    }))
}

/// Keeps the key with what it did, in the same changeset: neither can be without the other.
fn remember(
    draft: &mut Draft<'_>,
    idempotency: &Idempotency,
    outcome: &Outcome,
) -> Result<(), Error> {
    let Some(user) = draft.cx.user_id() else {
        return Ok(());
    };
    // One whose time is over makes room for its successor.
    let space = space::idempotency(user);
    if let Some(old) = draft.state.holder(&space, idempotency.key.as_bytes()) {
        draft.delete(old.id);
    }
    let spec = IdempotencyKeySpec {
        key: idempotency.key.clone(),
        request_hash: idempotency.request_hash.clone(),
        object_id: outcome.object.id,
        operation_id: outcome.operation.as_ref().map(|operation| operation.id),
        http_status: outcome.http_status,
        expires_at: draft.cx.now.plus(IDEMPOTENCY_KEY_KEPT),
    };
    let place = Place {
        parent: Some(user),
        ..Place::default()
    };
    draft
        .create::<IdempotencyKey>(place, spec, IdempotencyKeyStatus::default())
        .map(drop)
}

fn check_key(key: &str) -> Result<(), Error> {
    let printable = key.bytes().all(|byte| byte.is_ascii_graphic());
    if key.is_empty() || key.len() > IDEMPOTENCY_KEY_BYTES_MAX || !printable {
        return Err(Error::invalid(
            "Idempotency-Key",
            format!("must be 1 to {IDEMPOTENCY_KEY_BYTES_MAX} printable characters without spaces"),
        ));
    }
    Ok(())
}
