use virtflow_model::kinds::CloudBox;
use virtflow_model::{Kind, key};
use virtflow_state::{Changeset, State};
use virtflow_types::{ObjectId, Timestamp};

use super::packed;
use crate::audit::Entry;
use crate::limits::Limits;

/// Ends bindings of VMs to cloud boxes when their time is over.
pub fn cloud_boxes(state: &State, now: Timestamp, limits: &Limits) -> Vec<Changeset> {
    let most = limits.objects_per_changeset * limits.changesets_per_pass;
    let expired: Vec<ObjectId> = state
        .key_values(key::EXPIRES, "")
        .take_while(|(at, _)| at.parse::<u64>().is_ok_and(|at| at <= now.ms()))
        .filter(|(_, object)| object.kind == Kind::CloudBox.name())
        .map(|(_, object)| object.id)
        .take(most)
        .collect();
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
