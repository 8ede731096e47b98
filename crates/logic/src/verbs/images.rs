//! What begins as an image: which version it is, and whether it is large enough for it.

use serde_json::{Value, json};
use virtflow_model::kinds::Image;
use virtflow_model::space;
use virtflow_state::State;
use virtflow_types::{Error, ObjectId};

use super::create::id_in;
use crate::door::Door;
use crate::explain::call;
use crate::typed::decoded;

/// An image without a version stands for its latest, a version for its image.
pub(super) fn fill(state: &State, spec: &mut Value) -> Result<(), Error> {
    let image = id_in(spec, "image_id");
    let version = id_in(spec, "image_version_id").and_then(|id| state.get(id));
    let Some(version) = version else {
        let Some(image) = image else {
            return Ok(());
        };
        let latest = state
            .holder(space::LATEST, image.as_bytes())
            .ok_or_else(|| {
                Error::invalid("spec.image", "has no version yet")
                    .advise("make a version of it first")
            })?;
        spec["image_version_id"] = json!(latest.id);
        return Ok(());
    };
    if image.is_some() && image != version.parent {
        let problem = format!("{} is of another image", call(version));
        return Err(Error::invalid("spec.image_version", problem));
    }
    spec["image_id"] = json!(version.parent);
    Ok(())
}

/// A template that others see may name an image that they do not.
pub(super) fn refuse_unseen(door: &Door<'_>, image: Option<ObjectId>) -> Result<(), Error> {
    let image = image.and_then(|id| door.state.get(id));
    if image.is_none_or(|image| door.sees(image)) {
        return Ok(());
    }
    Err(Error::invalid(
        "spec.template_version",
        "begins as an image that is not there for you",
    )
    .advise("name another template, or have the image made public"))
}

/// Nothing is made smaller than its image says. What is there stays when the image asks for more.
pub(super) fn check_size(
    state: &State,
    image: Option<ObjectId>,
    cpu_cores: u32,
    memory_mib: u64,
    storage_gib: u64,
) -> Result<(), Error> {
    let Some(image) = image.and_then(|id| state.get(id)) else {
        return Ok(());
    };
    let least = &decoded::<Image>(image)?.spec;
    let sizes = [
        (
            "cpu_cores",
            u64::from(cpu_cores),
            u64::from(least.min_cpu_cores),
        ),
        ("memory_mib", memory_mib, least.min_memory_mib),
        ("storage_gib", storage_gib, least.min_storage_gib),
    ];
    match sizes.iter().find(|(_, size, least)| size < least) {
        None => Ok(()),
        Some((field, size, least)) => Err(Error::invalid(
            format!("spec.{field}"),
            format!("must be at least {least} for {}, not {size}", call(image)),
        )
        .advise("ask for more, name a larger specification, or another image")),
    }
}
