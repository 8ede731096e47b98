//! A page of documentation.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Invalid, Kind, Meta, Print, Resource, Rules, Scope};

/// A page of documentation. Once published, whoever may read any may read it.
#[derive(Debug)]
pub enum Doc {}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DocSpec {
    /// Its heading.
    pub title: String,
    /// Its text, as Markdown; at most 64 KiB.
    #[serde(default)]
    pub body: String,
    /// The part of the documentation it belongs to.
    #[serde(default)]
    pub category: String,
    /// Words to find it by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Whether it may be read by others than those who write it.
    #[serde(default)]
    pub published: bool,
}

/// Nothing is observed of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct DocStatus {}

impl Resource for Doc {
    const KIND: Kind = Kind::Doc;
    const SCOPE: Scope = Scope::System;
    const RULES: Rules = Rules {
        shared: true,
        ..Rules::plain("A page of documentation")
    };
    type Spec = DocSpec;
    type Status = DocStatus;

    fn example() -> DocSpec {
        DocSpec {
            title: "Your first VM".into(),
            body: "# Your first VM\n\nChoose a specification.".into(),
            category: "guides".into(),
            tags: vec!["vm".into()],
            published: true,
        }
    }

    fn validate(spec: &DocSpec) -> Result<(), Invalid> {
        Invalid::title("title", &spec.title)?;
        Invalid::prose("body", &spec.body, 64 * 1024)?;
        Invalid::text("category", &spec.category, 64)?;
        Invalid::tags("tags", &spec.tags)
    }

    fn print(_: &Meta, _: &DocSpec, _: &DocStatus, _: &mut Print) {}
}
