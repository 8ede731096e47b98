use virtflow_model::Kind;
use virtflow_model::kinds::VirtualMachine;
use virtflow_state::{Changeset, Object, State};
use virtflow_types::Timestamp;

use super::{expired, packed};
use crate::limits::Limits;

/// Cuts off what VMs have used at the end of each month, so that it comes onto the bill of its month however long they
/// run on. What is cut off is billed with the change.
pub fn meter(state: &State, now: Timestamp, limits: &Limits) -> Vec<Changeset> {
    let is_vm = |object: &Object| object.kind == Kind::VirtualMachine.name();
    let due = expired(state, now, limits, is_vm);
    let month = now.month_start();
    packed(state, now, limits, due, |draft, id| {
        draft.update::<VirtualMachine>(id, |_, status| {
            for since in [
                &mut status.running_unbilled_since,
                &mut status.storage_unbilled_since,
            ] {
                *since = since.map(|since| since.max(month));
            }
        })?;
        Ok(())
    })
}
