//! Operations: begun with what they are about, moved along and ended by whoever sees it happen.

use std::sync::Arc;
use std::time::Duration;

use virtflow_model::kinds::Operation;
use virtflow_model::kinds::operation::{OperationSpec, OperationState, OperationStatus};
use virtflow_model::{Kind, Resource, key};
use virtflow_state::{Object, State};
use virtflow_types::{Error, ErrorCode, ObjectId, Timestamp};

use crate::draft::{Draft, Place};
use crate::limits::OPERATION_KEPT;
use crate::typed::decoded;

/// How an operation ends.
#[derive(Debug, Clone)]
pub(crate) enum End {
    Completed(String),
    Failed(Error),
    Cancelled(String),
}

impl Draft<'_> {
    /// Begins an operation about `target`.
    pub(crate) fn begin(
        &mut self,
        verb: &str,
        target: &Object,
        power_serial: u64,
        message: &str,
        allowed: Duration,
    ) -> Result<Arc<Object>, Error> {
        let target_kind = Kind::of_name(&target.kind).unwrap_or(Kind::Operation);
        // A tenant's own deletion must not be held up by the record of it.
        let tenant = target.tenant.filter(|_| target_kind != Kind::Tenant);
        let place = Place {
            tenant,
            ..Place::default()
        };
        let spec = OperationSpec {
            verb: verb.to_owned(),
            target_kind,
            target_id: target.id,
            target_name: target.name.to_string(),
            power_serial,
        };
        let status = OperationStatus {
            state: OperationState::Pending,
            message: message.to_owned(),
            deadline: Some(self.cx.now.plus(allowed)),
            request_id: Some(self.cx.request_id),
            ..OperationStatus::default()
        };
        self.create::<Operation>(place, spec, status)
    }

    /// Moves an operation along; nothing happens to one that has ended.
    pub(crate) fn advance(
        &mut self,
        id: ObjectId,
        state: OperationState,
        progress: u32,
        message: &str,
        waiting_for: Option<Error>,
    ) -> Result<(), Error> {
        self.update::<Operation>(id, |_, status| {
            if !status.state.is_final() {
                status.state = state;
                status.progress = progress;
                message.clone_into(&mut status.message);
                status.error = waiting_for;
            }
        })
        .map(drop)
    }

    /// Ends an operation; nothing happens to one that has ended.
    pub(crate) fn end(&mut self, id: ObjectId, end: &End) -> Result<(), Error> {
        let now = self.cx.now;
        self.update::<Operation>(id, |_, status| {
            if status.state.is_final() {
                return;
            }
            status.error = None;
            match end {
                End::Completed(message) => {
                    status.state = OperationState::Completed;
                    status.progress = 100;
                    status.message.clone_from(message);
                }
                End::Failed(error) => {
                    status.state = OperationState::Failed;
                    status.message.clone_from(&error.message);
                    status.error = Some(error.clone());
                }
                End::Cancelled(message) => {
                    status.state = OperationState::Cancelled;
                    status.message.clone_from(message);
                }
            }
            status.deadline = None;
            status.finished_at = Some(now);
            status.retire_at = Some(now.plus(OPERATION_KEPT));
        })
        .map(drop)
    }

    /// Ends the unfinished operations about an object, all but one.
    pub(crate) fn end_all(
        &mut self,
        target: ObjectId,
        but: Option<ObjectId>,
        end: &End,
    ) -> Result<(), Error> {
        for operation in unfinished(self.state, target) {
            if Some(operation.id) != but {
                self.end(operation.id, end)?;
            }
        }
        Ok(())
    }
}

/// The unfinished operations about an object.
pub(crate) fn unfinished(state: &State, target: ObjectId) -> Vec<Arc<Object>> {
    state
        .by_key(key::OPERATION_TARGET, &target.to_string(), None)
        .filter(|object| {
            decoded::<Operation>(object).is_ok_and(|typed| !typed.status.state.is_final())
        })
        .cloned()
        .collect()
}

/// What an operation says that ran out of time.
pub(crate) fn too_late(what: &str, deadline: Timestamp) -> Error {
    Error::new(
        ErrorCode::Unavailable,
        format!("{what} did not happen before {deadline}"),
    )
    .advise("look at the object's status and at its host; the request may be made again")
}

/// The word for what an operation does: `virtual_machine.start`.
pub(crate) fn verb<R: Resource>(act: &str) -> String {
    format!("{}.{act}", R::KIND.name())
}
