//! That a maintainer is in a group of maintainers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use virtflow_types::ObjectId;

use crate::print::space;
use crate::{ByPeople, Invalid, Kind, Meta, Print, Reference, Resource, Rules, Scope};

/// A membership. Its parent is the group; it goes with the group and with the maintainer.
#[derive(Debug)]
pub enum MaintainerGroupMember {}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MaintainerGroupMemberSpec {
    /// The group.
    pub maintainer_group_id: ObjectId,
    /// The maintainer.
    pub maintainer_id: ObjectId,
}

/// Nothing is observed of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct MaintainerGroupMemberStatus {}

impl Resource for MaintainerGroupMember {
    const KIND: Kind = Kind::MaintainerGroupMember;
    const SCOPE: Scope = Scope::System;
    const NAMED: bool = false;
    const RULES: Rules = Rules {
        references: &[
            Reference::under("maintainer_group", Kind::MaintainerGroup),
            Reference::to("maintainer", Kind::Maintainer),
        ],
        update: ByPeople::Never("delete it and make another"),
        cascades: true,
        ..Rules::plain("That a maintainer is in a group of maintainers")
    };
    type Spec = MaintainerGroupMemberSpec;
    type Status = MaintainerGroupMemberStatus;

    fn example() -> MaintainerGroupMemberSpec {
        MaintainerGroupMemberSpec {
            maintainer_group_id: ObjectId::from_u128(1),
            maintainer_id: ObjectId::from_u128(2),
        }
    }

    fn validate(_spec: &MaintainerGroupMemberSpec) -> Result<(), Invalid> {
        Ok(())
    }

    fn print(
        _: &Meta,
        spec: &MaintainerGroupMemberSpec,
        _: &MaintainerGroupMemberStatus,
        print: &mut Print,
    ) {
        let (group, maintainer) = (spec.maintainer_group_id, spec.maintainer_id);
        print
            .claim(
                space::PAIR,
                format!("maintainer_group_member/{group}/{maintainer}"),
            )
            .link(maintainer);
    }
}
