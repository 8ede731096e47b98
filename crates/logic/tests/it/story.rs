//! Short ways to ask, for stories about kinds that have no verbs of their own.

use serde_json::Value;
use virtflow_logic::{Create, Delete, Reply, Request, Update, decide};
use virtflow_model::Kind;
use virtflow_state::{Changeset, Refused};
use virtflow_types::{Error, ErrorCode, ObjectId};

use crate::world::World;

pub(crate) fn creation(kind: Kind, name: &str, spec: Value) -> Request {
    Request::Create(Create::new(kind, name, spec))
}

pub(crate) fn make(
    world: &mut World,
    user: ObjectId,
    kind: Kind,
    name: &str,
    spec: Value,
) -> Result<ObjectId, Error> {
    let reply = world.ask(user, &creation(kind, name, spec))?;
    Ok(reply.object_id.unwrap())
}

pub(crate) fn change(
    world: &mut World,
    user: ObjectId,
    kind: Kind,
    target: ObjectId,
    spec: Value,
) -> Result<Reply, Error> {
    let update = Update {
        kind,
        target: target.to_string(),
        tenant: None,
        spec,
        merge: true,
    };
    world.ask(user, &Request::Update(update))
}

pub(crate) fn removal(kind: Kind, target: &str) -> Request {
    Request::Delete(Delete {
        kind,
        target: target.into(),
        tenant: None,
        force: false,
    })
}

pub(crate) fn remove(
    world: &mut World,
    user: ObjectId,
    kind: Kind,
    target: ObjectId,
) -> Result<Reply, Error> {
    world.ask(user, &removal(kind, &target.to_string()))
}

/// Both are decided on the image as it is; the first is applied. How the state takes the second.
pub(crate) fn race(
    world: &mut World,
    first: (ObjectId, Request),
    second: (ObjectId, Request),
) -> Result<(), Refused> {
    let decided = |(user, request): (ObjectId, Request)| -> Changeset {
        decide(&world.state, &world.cx(user), &request).unwrap().0
    };
    let (first, second) = (decided(first), decided(second));
    world.commit(&first).unwrap();
    world.commit(&second)
}

pub(crate) fn spec(world: &World, id: ObjectId) -> Value {
    serde_json::from_str(&world.state.get(id).unwrap().spec).unwrap()
}

pub(crate) fn status(world: &World, id: ObjectId) -> Value {
    let stored: Value = serde_json::from_str(&world.state.get(id).unwrap().status).unwrap();
    stored["status"].clone()
}

/// The refusal names this field of the spec.
#[track_caller]
pub(crate) fn refuses_field<T: std::fmt::Debug>(result: Result<T, Error>, field: &str) {
    let error = result.unwrap_err();
    assert_eq!(error.code, ErrorCode::Invalid, "{error:?}");
    let fields: Vec<&str> = error.fields.iter().map(|it| it.field.as_str()).collect();
    assert_eq!(fields, [field], "{error:?}");
}

#[track_caller]
pub(crate) fn refuses<T: std::fmt::Debug>(result: Result<T, Error>, code: ErrorCode, says: &str) {
    let error = result.unwrap_err();
    assert_eq!(error.code, code, "{error:?}");
    assert!(error.message.contains(says), "{error:?}");
}
