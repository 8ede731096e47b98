//! What begins as an image: which version it is, and whether it is large enough for it.
//!
//! A version may be named by a tag that points to it. What was named so keeps the version: the tag may move.

use std::sync::Arc;

use serde_json::{Value, json};
use virtflow_model::kinds::{Image, ImageTag};
use virtflow_model::{Kind, space};
use virtflow_state::{Object, State};
use virtflow_types::{Error, ErrorCode, ObjectId};

use super::create::id_in;
use crate::door::Door;
use crate::explain::call;
use crate::typed::decoded;

/// The version that an image stands for where none is named, if one was chosen.
pub(super) fn default_of(state: &State, image: ObjectId) -> Option<ObjectId> {
    let holder = state.holder(space::SINGLE, format!("default/{image}").as_bytes())?;
    Some(holder.id)
}

/// A version by its name or by that of a tag that points to it: of `image` if that is known, else of whichever the asker
/// sees.
pub(super) fn version_named(
    door: &Door<'_>,
    text: &str,
    image: Option<ObjectId>,
    tenant: Option<ObjectId>,
) -> Result<Arc<Object>, Error> {
    let text = match image {
        Some(image) if text.parse::<ObjectId>().is_err() && !text.contains('/') => {
            format!("{image}/{text}")
        }
        _ => text.to_owned(),
    };
    // The tenant's own come first, then the cloud's.
    let find = |kind| match door.find(kind, &text, tenant) {
        Err(error) if error.code == ErrorCode::NotFound && tenant.is_some() => {
            door.find(kind, &text, None)
        }
        found => found,
    };
    let missing = match find(Kind::ImageVersion) {
        Err(error) if error.code == ErrorCode::NotFound => error,
        found => return found,
    };
    let tag = find(Kind::ImageTag).map_err(|error| match error.code {
        ErrorCode::NotFound => missing,
        _ => error,
    })?;
    let version = decoded::<ImageTag>(&tag)?.spec.version_id;
    door.find(Kind::ImageVersion, &version.to_string(), None)
}

/// An image without a version stands for its default, or else for its latest; a version stands for its image.
pub(super) fn fill(state: &State, spec: &mut Value) -> Result<(), Error> {
    let image = id_in(spec, "image_id");
    let version = id_in(spec, "image_version_id").and_then(|id| state.get(id));
    let Some(version) = version else {
        let Some(image) = image else {
            return Ok(());
        };
        let latest = || Some(state.holder(space::LATEST, image.as_bytes())?.id);
        let version = default_of(state, image).or_else(latest).ok_or_else(|| {
            Error::invalid("spec.image", "has no version yet").advise("make a version of it first")
        })?;
        spec["image_version_id"] = json!(version);
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
