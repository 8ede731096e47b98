//! What people ask of a world, in one line each, and how they are refused.

use serde_json::Value;
use virtflow_logic::{Create, Delete, Reply, Request, Update, decide, explain};
use virtflow_model::Kind;
use virtflow_state::{Changeset, Refused};
use virtflow_types::{Error, ErrorCode, ObjectId};

use crate::world::World;

pub(crate) fn create(kind: Kind, name: &str, tenant: Option<&str>, spec: Value) -> Request {
    let mut body = Create::new(kind, name, spec);
    body.tenant = tenant.map(Into::into);
    Request::Create(body)
}

pub(crate) fn patch(kind: Kind, target: ObjectId, spec: Value) -> Request {
    Request::Update(Update {
        kind,
        target: target.to_string(),
        tenant: None,
        spec,
        merge: true,
    })
}

pub(crate) fn delete(kind: Kind, target: ObjectId) -> Request {
    removal(kind, &target.to_string())
}

/// By name or id.
pub(crate) fn removal(kind: Kind, target: &str) -> Request {
    Request::Delete(Delete {
        kind,
        target: target.into(),
        tenant: None,
        force: false,
    })
}

impl World {
    pub(crate) fn made(&mut self, user: ObjectId, request: &Request) -> Result<ObjectId, Error> {
        self.ask(user, request)
            .map(|reply| reply.object_id.expect("a create answers with what it made"))
    }

    /// Made by that user, in their own tenant.
    pub(crate) fn create_as(
        &mut self,
        user: ObjectId,
        kind: Kind,
        name: &str,
        spec: Value,
    ) -> Result<ObjectId, Error> {
        self.made(user, &create(kind, name, None, spec))
    }

    /// Changed by that user.
    pub(crate) fn patch(
        &mut self,
        user: ObjectId,
        kind: Kind,
        target: ObjectId,
        spec: Value,
    ) -> Result<Reply, Error> {
        self.ask(user, &patch(kind, target, spec))
    }

    /// Deleted by that user.
    pub(crate) fn delete(
        &mut self,
        user: ObjectId,
        kind: Kind,
        target: ObjectId,
    ) -> Result<Reply, Error> {
        self.ask(user, &delete(kind, target))
    }

    /// Both are decided on the state as it is, and applied in turn; the first is taken. How the state takes the
    /// second.
    fn race_of(&mut self, requests: [(ObjectId, &Request); 2]) -> Result<(), Refused> {
        let [first, second]: [Changeset; 2] =
            requests.map(|(user, request)| decide(&self.state, &self.cx(user), request).unwrap().0);
        self.commit(&first).unwrap();
        self.commit(&second)
    }

    /// How the state takes the second.
    pub(crate) fn race(
        &mut self,
        first: (ObjectId, Request),
        second: (ObjectId, Request),
    ) -> Result<(), Refused> {
        self.race_of([(first.0, &first.1), (second.0, &second.1)])
    }

    /// What the second runs into, in words.
    pub(crate) fn race_told(
        &mut self,
        first: (ObjectId, Request),
        second: (ObjectId, Request),
    ) -> String {
        let refused = self.race(first, second).unwrap_err();
        explain(&self.state, &refused).message
    }

    /// What the second of one user's runs into, if anything.
    pub(crate) fn contest(&mut self, user: ObjectId, requests: [&Request; 2]) -> Option<Refused> {
        self.race_of(requests.map(|request| (user, request))).err()
    }
}

pub(crate) fn spec(world: &World, id: ObjectId) -> Value {
    serde_json::from_str(&world.state.get(id).unwrap().spec).unwrap()
}

pub(crate) fn status(world: &World, id: ObjectId) -> Value {
    let stored: Value = serde_json::from_str(&world.state.get(id).unwrap().status).unwrap();
    stored["status"].clone()
}

/// Refused for one field, and which.
pub(crate) fn field_of(error: &Error) -> &str {
    assert_eq!(error.code, ErrorCode::Invalid, "{}", error.message);
    error.fields[0].field.as_str()
}

/// The refusal names this field of the spec and no other.
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
