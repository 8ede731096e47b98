//! Versions of templates: one is always the latest.

use serde_json::Value;
use virtflow_model::kinds::Template;
use virtflow_model::kinds::TemplateVersion;
use virtflow_model::kinds::template::TemplateState;
use virtflow_model::kinds::template_version::TemplateVersionSpec;
use virtflow_model::{Kind, space};
use virtflow_state::{Object, State};
use virtflow_types::{Error, ErrorCode, ObjectId};

use super::Writing;
use crate::door::Door;
use crate::draft::{Draft, Place};
use crate::typed::decoded;
use crate::verbs::{images, parse_spec};

/// The version that a template stands for.
pub(crate) fn latest_of(state: &State, template: ObjectId) -> Option<&Object> {
    let holder = state.holder(space::SINGLE, format!("latest/{template}").as_bytes());
    holder.map(|object| &**object)
}

/// A template's first version is its latest by itself.
pub(super) fn complete(door: &Door<'_>, place: &Place, spec: &mut Value) -> Result<(), Error> {
    if let Some(template) = place.parent
        && latest_of(door.state, template).is_none()
    {
        spec["latest"] = true.into();
    }
    images::fill(door.state, spec)
}

/// The former latest steps back.
pub(super) fn on_write(writing: Writing<'_, '_>) -> Result<(), Error> {
    let Some(template) = writing.parent else {
        return Ok(());
    };
    let state = writing.door.state;
    if writing.old.is_none() {
        let new: TemplateVersionSpec = parse_spec(writing.new)?;
        let (cpu, memory, storage) = (new.cpu_cores, new.memory_mib, new.storage_gib);
        images::check_size(state, new.image_id, cpu, memory, storage)?;
    }
    if writing.old.is_none()
        && let Some(object) = state.get(template)
        && decoded::<Template>(object)?.spec.state == TemplateState::Archived
    {
        return Err(Error::new(
            ErrorCode::Conflict,
            format!(
                "template `{}` is archived: it gets no new versions",
                object.name
            ),
        )
        .advise("make it active first"));
    }
    if writing.new["latest"] == true
        && let Some(former) = latest_of(state, template)
        && Some(former.id) != writing.id
    {
        let former = former.id;
        writing
            .draft
            .update::<TemplateVersion>(former, |spec, _| spec.latest = false)?;
    }
    Ok(())
}

/// The latest goes last, or with its template.
pub(super) fn on_delete(draft: &Draft<'_>, object: &Object) -> Result<(), Error> {
    let Some(template) = object.parent else {
        return Ok(());
    };
    let state = draft.state;
    let is_latest = latest_of(state, template).is_some_and(|latest| latest.id == object.id);
    let others = state.linking_to(template).any(|id| {
        id != object.id
            && state
                .get(id)
                .is_some_and(|other| other.kind == Kind::TemplateVersion.name())
    });
    if is_latest && others {
        return Err(Error::new(
            ErrorCode::Conflict,
            format!("version `{}` is its template's latest", object.name),
        )
        .advise("make another version the latest first"));
    }
    Ok(())
}
