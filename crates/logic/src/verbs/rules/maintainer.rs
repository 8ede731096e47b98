//! Maintainers: their memberships go with them; a group keeps its manager.

use virtflow_model::Kind;
use virtflow_types::{Error, ErrorCode, ObjectId};

use crate::draft::Draft;
use crate::limits::CASCADE_MAX;

pub(super) fn on_delete(draft: &mut Draft<'_>, maintainer: ObjectId) -> Result<(), Error> {
    let state = draft.state;
    let memberships: Vec<ObjectId> = state
        .linking_to(maintainer)
        .filter(|id| {
            state
                .get(*id)
                .is_some_and(|object| object.kind == Kind::MaintainerGroupMember.name())
        })
        .take(CASCADE_MAX + 1)
        .collect();
    if memberships.len() > CASCADE_MAX {
        return Err(Error::new(
            ErrorCode::Conflict,
            format!(
                "the maintainer is in more than {CASCADE_MAX} groups, more than one step takes"
            ),
        )
        .advise("take them out of some groups first"));
    }
    for membership in memberships {
        draft.delete(membership);
    }
    Ok(())
}
