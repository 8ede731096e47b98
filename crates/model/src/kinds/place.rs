//! A named location of a tenant.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use virtflow_types::ObjectId;

use crate::print::space;
use crate::{Invalid, Kind, Meta, Print, Reference, Resource, Rules, Scope};

/// A place.
#[derive(Debug)]
pub enum Place {}

/// What its tenant decided about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PlaceState {
    /// In use.
    #[default]
    Active,
    /// Not in use now.
    Inactive,
    /// Not to be used.
    Disabled,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlaceSpec {
    /// For people.
    #[serde(default)]
    pub description: String,
    /// Where it is.
    #[serde(default)]
    pub location: String,
    /// The subnet of its machines, which is no other place's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subnet_id: Option<ObjectId>,
    /// Administrative state.
    #[serde(default)]
    pub state: PlaceState,
}

/// Nothing is observed of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct PlaceStatus {}

impl Resource for Place {
    const KIND: Kind = Kind::Place;
    const SCOPE: Scope = Scope::Tenant;
    const RULES: Rules = Rules {
        references: &[Reference::to("subnet", Kind::Subnet)],
        ..Rules::plain("A named location of a tenant")
    };
    type Spec = PlaceSpec;
    type Status = PlaceStatus;

    fn example() -> PlaceSpec {
        PlaceSpec {
            description: "The branch's machines".into(),
            location: "Lulea, second floor".into(),
            ..PlaceSpec::default()
        }
    }
    fn validate(spec: &PlaceSpec) -> Result<(), Invalid> {
        Invalid::text("description", &spec.description, 1024)?;
        Invalid::text("location", &spec.location, 256)
    }
    fn print(_: &Meta, spec: &PlaceSpec, _: &PlaceStatus, print: &mut Print) {
        print.link(spec.subnet_id);
        if let Some(subnet) = spec.subnet_id {
            print.claim(space::SUBNET_PLACE, subnet.as_bytes());
        }
    }
}
