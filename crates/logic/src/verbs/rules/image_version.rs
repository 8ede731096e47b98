//! Versions of images: exactly one of an image is its latest, at most one its default. Claims keep either from being
//! two.

use virtflow_model::kinds::{ImageTag, ImageVersion};
use virtflow_model::{Kind, space};
use virtflow_state::{Object, State};
use virtflow_types::{Error, ErrorCode, ObjectId};

use super::Writing;
use crate::draft::Draft;
use crate::explain::call;
use crate::limits::CASCADE_MAX;
use crate::typed::decoded;
use crate::verbs::images;

pub(super) fn on_write(writing: &mut Writing<'_, '_>) -> Result<(), Error> {
    let default = writing
        .parent
        .and_then(|image| images::default_of(writing.draft.state, image))
        .filter(|former| Some(*former) != writing.id);
    if writing.new["default"] == true
        && let Some(former) = default
    {
        writing
            .draft
            .update::<ImageVersion>(former, |spec, _| spec.default = false)?;
    }
    let former = writing
        .parent
        .and_then(|image| latest_of(writing.draft.state, image))
        .filter(|former| Some(*former) != writing.id);
    if writing.new["latest"] == true {
        if let Some(former) = former {
            writing
                .draft
                .update::<ImageVersion>(former, |spec, _| spec.latest = false)?;
        }
        return Ok(());
    }
    if writing.old.is_some_and(|old| old["latest"] == true) {
        return Err(Error::invalid(
            "spec.latest",
            "an image has a latest version: make another one the latest, and this one steps back",
        ));
    }
    if former.is_none() {
        return Err(Error::invalid(
            "spec.latest",
            "the first version of an image is its latest",
        ));
    }
    Ok(())
}

/// The latest goes last. Tags that may not move go with the version that they point to: nothing else may take them
/// away.
pub(super) fn on_delete(draft: &mut Draft<'_>, version: &Object) -> Result<(), Error> {
    let state = draft.state;
    refuse_latest(state, version)?;
    let tags: Vec<ObjectId> = state
        .linking_to(version.id)
        .filter_map(|id| state.get(id))
        .filter(|object| object.kind == Kind::ImageTag.name())
        .filter(|tag| decoded::<ImageTag>(tag).is_ok_and(|tag| tag.spec.immutable))
        .take(CASCADE_MAX + 1)
        .map(|tag| tag.id)
        .collect();
    if tags.len() > CASCADE_MAX {
        return Err(Error::new(
            ErrorCode::Conflict,
            format!(
                "more than {CASCADE_MAX} tags point to {}, more than one step takes",
                call(version)
            ),
        )
        .advise("keep the version, or mark it as archived"));
    }
    for tag in tags {
        draft.delete_bindings_over(tag)?;
        draft.delete(tag);
    }
    Ok(())
}

fn refuse_latest(state: &State, version: &Object) -> Result<(), Error> {
    let Some(image) = version.parent else {
        return Ok(());
    };
    if !decoded::<ImageVersion>(version)?.spec.latest {
        return Ok(());
    }
    let other = state
        .linking_to(image)
        .filter(|id| *id != version.id)
        .filter_map(|id| state.get(id))
        .find(|other| other.kind == Kind::ImageVersion.name() && other.parent == Some(image));
    match other {
        None => Ok(()),
        Some(other) => Err(Error::new(
            ErrorCode::InUse,
            format!(
                "{} is the latest of its image, which has others: {}",
                call(version),
                call(other)
            ),
        )
        .advise("make another version the latest first")),
    }
}

fn latest_of(state: &State, image: ObjectId) -> Option<ObjectId> {
    let holder = state.holder(space::LATEST, image.as_bytes())?;
    Some(holder.id)
}
