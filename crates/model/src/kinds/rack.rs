//! A rack: where a host stands, and what fails together.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use virtflow_types::ObjectId;

use crate::print::space;
use crate::{Invalid, Kind, Meta, Print, Reference, Resource, Rules, Scope};

/// A rack.
#[derive(Debug)]
pub enum Rack {}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RackSpec {
    /// The data centre it stands in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_center_id: Option<ObjectId>,
    /// For people.
    #[serde(default)]
    pub description: String,
    /// BGP number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bgp_number: Option<u32>,
    /// Autonomous system number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_number: Option<u32>,
    /// The id another system knows it by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_system_id: Option<String>,
}

/// Nothing is observed of it directly.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct RackStatus {}

impl Resource for Rack {
    const KIND: Kind = Kind::Rack;
    const SCOPE: Scope = Scope::System;
    const RULES: Rules = Rules {
        references: &[Reference::to("data_center", Kind::DataCenter)],
        ..Rules::plain("Where a host stands, and what fails together")
    };
    type Spec = RackSpec;
    type Status = RackStatus;

    fn example() -> RackSpec {
        RackSpec {
            bgp_number: Some(65_001),
            as_number: Some(64_512),
            ..RackSpec::default()
        }
    }
    fn validate(spec: &RackSpec) -> Result<(), Invalid> {
        Invalid::text("description", &spec.description, 1024)?;
        Invalid::text(
            "external_system_id",
            spec.external_system_id.as_deref().unwrap_or_default(),
            128,
        )
    }
    fn name_space(_: &Meta, _: &Self::Spec) -> String {
        space::names(Kind::Rack, None)
    }
    fn print(_: &Meta, spec: &RackSpec, _: &RackStatus, print: &mut Print) {
        print.link(spec.data_center_id);
    }
}
