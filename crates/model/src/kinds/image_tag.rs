//! A name that points to a version of an image.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use virtflow_types::ObjectId;

use crate::{Invalid, Kind, Meta, Print, Reference, Resource, Rules, Scope};

/// A tag. Its parent is its image.
#[derive(Debug)]
pub enum ImageTag {}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImageTagSpec {
    /// The image; stays.
    pub image_id: ObjectId,
    /// The version of that image that it points to.
    pub version_id: ObjectId,
    /// Once it is true, it stays so, and the tag neither moves nor goes before its version does.
    #[serde(default)]
    pub immutable: bool,
}

/// Nothing is observed of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct ImageTagStatus {}

impl Resource for ImageTag {
    const KIND: Kind = Kind::ImageTag;
    const SCOPE: Scope = Scope::Either;
    const RULES: Rules = Rules {
        references: &[
            Reference::under("image", Kind::Image),
            Reference::to("version", Kind::ImageVersion),
        ],
        ..Rules::plain("A name that points to a version of an image")
    };
    type Spec = ImageTagSpec;
    type Status = ImageTagStatus;

    fn example() -> ImageTagSpec {
        ImageTagSpec {
            image_id: ObjectId::from_u128(1),
            version_id: ObjectId::from_u128(2),
            immutable: false,
        }
    }

    fn validate(_: &ImageTagSpec) -> Result<(), Invalid> {
        Ok(())
    }

    fn validate_update(old: &ImageTagSpec, new: &ImageTagSpec) -> Result<(), Invalid> {
        if old.immutable && old.version_id != new.version_id {
            return Err(Invalid::new("version_id", "an immutable tag does not move: make another tag"));
        }
        if old.immutable && !new.immutable {
            return Err(Invalid::new("immutable", "stays: who relies on the tag relies on that, too"));
        }
        Self::validate(new)
    }

    fn print(_: &Meta, spec: &ImageTagSpec, _: &ImageTagStatus, print: &mut Print) {
        print.link(spec.version_id);
    }
}
