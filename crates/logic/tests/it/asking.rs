//! Short ways to ask for what all kinds have.

use serde_json::Value;
use virtflow_logic::{Create, Delete, Request, Update, decide};
use virtflow_model::Kind;
use virtflow_state::{Changeset, Refused};
use virtflow_types::{Error, ErrorCode, ObjectId};

use crate::world::World;

pub(crate) fn create(kind: Kind, name: &str, tenant: Option<&str>, spec: Value) -> Request {
    let mut create = Create::new(kind, name, spec);
    create.tenant = tenant.map(Into::into);
    Request::Create(create)
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
    Request::Delete(Delete {
        kind,
        target: target.to_string(),
        tenant: None,
        force: false,
    })
}

impl World {
    pub(crate) fn made(&mut self, user: ObjectId, request: &Request) -> Result<ObjectId, Error> {
        self.ask(user, request)
            .map(|reply| reply.object_id.expect("a create answers with what it made"))
    }

    /// Decides both on one state and applies them one after the other: what the second runs into, if anything.
    pub(crate) fn contest(&mut self, user: ObjectId, requests: [&Request; 2]) -> Option<Refused> {
        let decided: Vec<Changeset> = requests
            .iter()
            .map(|request| decide(&self.state, &self.cx(user), request).unwrap().0)
            .collect();
        self.commit(&decided[0]).unwrap();
        self.commit(&decided[1]).err()
    }
}

/// Refused for one field, and which.
pub(crate) fn field_of(error: &Error) -> &str {
    assert_eq!(error.code, ErrorCode::Invalid, "{}", error.message);
    error.fields[0].field.as_str()
}
