//! Cloud boxes that fall silent.

use virtflow_model::Kind;
use virtflow_model::kinds::CloudBox;
use virtflow_model::kinds::cloud_box::CloudBoxPhase;
use virtflow_state::{Changeset, State};
use virtflow_types::{ObjectId, Timestamp};

use crate::audit::Entry;
use crate::limits::Limits;
use crate::loops::packed;
use crate::typed::decoded;

/// The boxes that count as heard.
pub fn cloud_boxes_heard(state: &State) -> Vec<ObjectId> {
    let boxes = state.of_kind(Kind::CloudBox.name(), None);
    boxes
        .filter(|object| {
            decoded::<CloudBox>(object).is_ok_and(|typed| is_heard(typed.status.phase))
        })
        .map(|object| object.id)
        .collect()
}

/// These boxes were silent for too long: they are offline. What they told stays, with when.
pub fn cloud_boxes_silent(
    state: &State,
    now: Timestamp,
    limits: &Limits,
    silent: &[ObjectId],
) -> Vec<Changeset> {
    packed(state, now, limits, silent, |draft, id| {
        if !is_heard(draft.typed::<CloudBox>(*id)?.status.phase) {
            return Ok(());
        }
        let object = draft.update::<CloudBox>(*id, |_, status| {
            status.phase = CloudBoxPhase::Offline;
            status.phase_since = Some(now);
        })?;
        draft.audit(&Entry {
            action: "cloud_box.offline",
            object: &object,
            before: None,
            note: "it is silent",
        });
        Ok(())
    })
}

const fn is_heard(phase: CloudBoxPhase) -> bool {
    matches!(phase, CloudBoxPhase::Online | CloudBoxPhase::Error)
}
