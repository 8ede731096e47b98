//! Tags: they point to a version of their own image, and never move once they are immutable.

use virtflow_model::kinds::image_tag::ImageTagSpec;
use virtflow_model::kinds::{ImageTag, ImageVersion};
use virtflow_state::Object;
use virtflow_types::{Error, ErrorCode};

use super::Writing;
use crate::explain::call;
use crate::typed::decoded;
use crate::verbs::parse_spec;

pub(super) fn on_write(writing: &Writing<'_, '_>) -> Result<(), Error> {
    let new: ImageTagSpec = parse_spec(writing.new)?;
    let version = writing.draft.typed::<ImageVersion>(new.version_id)?;
    if Some(version.spec.image_id) != writing.parent {
        return Err(Error::invalid(
            "spec.version_id",
            "is a version of another image: a tag points to one of its own",
        ));
    }
    Ok(())
}

pub(super) fn on_delete(tag: &Object) -> Result<(), Error> {
    if !decoded::<ImageTag>(tag)?.spec.immutable {
        return Ok(());
    }
    Err(Error::new(
        ErrorCode::Conflict,
        format!("{} is immutable: it stays", call(tag)),
    )
    .advise("it goes with the version that it points to"))
}
