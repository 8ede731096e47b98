//! People who look after things together.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use virtflow_types::ObjectId;

use crate::states::ActiveState;
use crate::{Invalid, Kind, Meta, Print, Reference, Resource, Rules, Scope};

/// A group of maintainers.
#[derive(Debug)]
pub enum MaintainerGroup {}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MaintainerGroupSpec {
    /// The maintainer who answers for the group; need not be a member.
    pub manager_id: ObjectId,
    /// For people.
    #[serde(default)]
    pub description: String,
    /// Administrative state; an inactive one is given nothing new to look after.
    #[serde(default)]
    pub state: ActiveState,
}

/// Nothing is observed of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct MaintainerGroupStatus {}

impl Resource for MaintainerGroup {
    const KIND: Kind = Kind::MaintainerGroup;
    const SCOPE: Scope = Scope::System;
    const RULES: Rules = Rules {
        references: &[Reference::to("manager", Kind::Maintainer)],
        ..Rules::plain("People who look after things together")
    };
    type Spec = MaintainerGroupSpec;
    type Status = MaintainerGroupStatus;

    fn example() -> MaintainerGroupSpec {
        MaintainerGroupSpec {
            manager_id: ObjectId::from_u128(1),
            description: "Storage team".into(),
            state: ActiveState::Active,
        }
    }

    fn validate(spec: &MaintainerGroupSpec) -> Result<(), Invalid> {
        Invalid::text("description", &spec.description, 1024)
    }

    fn print(_: &Meta, spec: &MaintainerGroupSpec, _: &MaintainerGroupStatus, print: &mut Print) {
        print.link(spec.manager_id);
    }
}
