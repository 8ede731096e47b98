use virtflow_model::Kind;
use virtflow_model::kinds::CloudBox;
use virtflow_state::{Changeset, Object, State};
use virtflow_types::Timestamp;

use super::{expired, packed};
use crate::audit::Entry;
use crate::limits::Limits;

/// Ends bindings of VMs to cloud boxes when their time is over.
pub fn cloud_boxes(state: &State, now: Timestamp, limits: &Limits) -> Vec<Changeset> {
    let is_box = |object: &Object| object.kind == Kind::CloudBox.name();
    let expired = expired(state, now, limits, is_box);
    packed(state, now, limits, expired, |draft, id| {
        let before = draft.get(id);
        let after = draft.update::<CloudBox>(id, |spec, _| {
            spec.bound_vm_id = None;
            spec.bound_until = None;
        })?;
        draft.audit(&Entry {
            action: "cloud_box.unbind",
            object: &after,
            before: before.as_deref(),
            note: "the time of its binding is over",
        });
        Ok(())
    })
}
