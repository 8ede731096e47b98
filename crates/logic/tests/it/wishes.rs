//! What people ask of a world, in one line each.

use serde_json::Value;
use virtflow_logic::{Create, Delete, Reply, Request, Update, decide, explain};
use virtflow_model::Kind;
use virtflow_types::{Error, ObjectId};

use crate::world::World;

impl World {
    /// Made by that user, in their own tenant.
    pub(crate) fn create_as(
        &mut self,
        user: ObjectId,
        kind: Kind,
        name: &str,
        spec: Value,
    ) -> Result<ObjectId, Error> {
        let reply = self.ask(user, &Request::Create(Create::new(kind, name, spec)))?;
        Ok(reply.object_id.unwrap())
    }

    /// Changed by that user.
    pub(crate) fn patch(
        &mut self,
        user: ObjectId,
        kind: Kind,
        target: ObjectId,
        spec: Value,
    ) -> Result<Reply, Error> {
        let patch = Update {
            kind,
            target: target.to_string(),
            tenant: None,
            spec,
            merge: true,
        };
        self.ask(user, &Request::Update(patch))
    }

    /// Deleted by that user.
    pub(crate) fn delete(
        &mut self,
        user: ObjectId,
        kind: Kind,
        target: ObjectId,
    ) -> Result<Reply, Error> {
        let delete = Delete {
            kind,
            target: target.to_string(),
            tenant: None,
            force: false,
        };
        self.ask(user, &Request::Delete(delete))
    }

    /// What two requests of one moment give: both are decided on the same state, and applied in turn. Gives
    /// the refusal of the second, in words.
    pub(crate) fn race(
        &mut self,
        first: (ObjectId, Request),
        second: (ObjectId, Request),
    ) -> String {
        let decided = [first, second]
            .map(|(user, request)| decide(&self.state, &self.cx(user), &request).unwrap().0);
        self.commit(&decided[0]).unwrap();
        let refused = self.commit(&decided[1]).unwrap_err();
        explain(&self.state, &refused).message
    }
}
