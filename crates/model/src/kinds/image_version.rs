//! A version of an image: bytes that never change, told by their hash. Its name is the version.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use virtflow_types::ObjectId;

use super::image::ImageState;
use super::vpc::yes;
use crate::print::space;
use crate::recorded::Recorded;
use crate::{Invalid, Kind, Meta, Print, Reference, Resource, Rules, Scope, checks};

/// A version. Its parent is its image.
#[derive(Debug)]
pub enum ImageVersion {}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImageVersionSpec {
    /// The image; stays.
    pub image_id: ObjectId,
    /// What people call it, beside the version.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub title: String,
    /// What is new in it, for people.
    #[serde(default)]
    pub release_notes: String,
    /// Whether it is the image's latest. Exactly one is: a new one that says nothing becomes it, and the
    /// former one steps back.
    #[serde(default = "yes")]
    pub latest: bool,
    /// Whether the image stands for it where no version is named. At most one does, and a former one steps back; where
    /// none does the image stands for its latest.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub default: bool,
    /// SHA-256 of its bytes, 64 lower-case hexadecimal digits; stays.
    pub sha256: String,
    /// MD5 of its bytes, 32 lower-case hexadecimal digits, for other systems; stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub md5: Option<String>,
    /// How many bytes it has; stays.
    pub size_bytes: u64,
    /// Where it is fetched from: an `http://` or `https://` URL.
    pub source_url: String,
    /// The version it was made from, of whichever image; stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_version_id: Option<ObjectId>,
    /// Administrative state.
    #[serde(default)]
    pub state: ImageState,
}

fn hexadecimal(field: &str, text: &str, digits: usize) -> Result<(), Invalid> {
    let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if text.len() == digits && text.as_bytes().iter().all(is_digit) {
        return Ok(());
    }
    Err(Invalid::new(
        field,
        format!("must be {digits} lower-case hexadecimal digits"),
    ))
}

impl Resource for ImageVersion {
    const KIND: Kind = Kind::ImageVersion;
    const SCOPE: Scope = Scope::Either;
    const RULES: Rules = Rules {
        references: &[
            Reference::under("image", Kind::Image),
            Reference::to("parent_version", Kind::ImageVersion),
        ],
        ..Rules::plain("A version of an image: bytes that never change")
    };
    type Spec = ImageVersionSpec;
    type Status = Recorded;

    fn example() -> ImageVersionSpec {
        ImageVersionSpec {
            image_id: ObjectId::from_u128(1),
            title: String::new(),
            release_notes: "Kernel 6.12".into(),
            latest: true,
            default: false,
            sha256: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08".into(),
            size_bytes: 536_870_912,
            source_url: "https://images.example/debian-13.qcow2".into(),
            md5: None,
            parent_version_id: None,
            state: ImageState::Active,
        }
    }

    fn validate(spec: &ImageVersionSpec) -> Result<(), Invalid> {
        Invalid::text("release_notes", &spec.release_notes.replace('\n', " "), 4096)?;
        hexadecimal("sha256", &spec.sha256, 64)?;
        if let Some(md5) = &spec.md5 {
            hexadecimal("md5", md5, 32)?;
        }
        Invalid::outside("size_bytes", spec.size_bytes, 1, 1 << 50)?;
        Invalid::text("title", &spec.title, 128)?;
        checks::url("source_url", &spec.source_url)
    }

    fn validate_update(old: &ImageVersionSpec, new: &ImageVersionSpec) -> Result<(), Invalid> {
        let changed = [
            ("sha256", old.sha256 != new.sha256),
            ("md5", old.md5 != new.md5),
            ("size_bytes", old.size_bytes != new.size_bytes),
            ("parent_version_id", old.parent_version_id != new.parent_version_id),
        ];
        match changed.iter().find(|(_, changed)| *changed) {
            Some((field, _)) => Err(Invalid::new(*field, "stays: make another version")),
            None => Self::validate(new),
        }
    }

    fn print(_: &Meta, spec: &ImageVersionSpec, _: &Recorded, print: &mut Print) {
        print.link(spec.parent_version_id);
        if spec.latest {
            print.claim(space::LATEST, spec.image_id.as_bytes());
        }
        if spec.default {
            print.claim(space::SINGLE, format!("default/{}", spec.image_id));
        }
    }
}
