//! Who looks after what: any object, and a maintainer or a group of them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use virtflow_types::ObjectId;

use crate::print::{key, space};
use crate::{Anything, ByPeople, Invalid, Kind, Meta, Print, Reference, Resource, Rules, Scope};

/// An assignment. It must not keep either end from going, so nothing is linked: it goes after them.
#[derive(Debug)]
pub enum ResourceMaintainer {}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResourceMaintainerSpec {
    /// The object, of any kind; people may say `kind/name` as `resource`.
    pub resource_id: ObjectId,
    /// Who looks after it; either this or a group is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maintainer_id: Option<ObjectId>,
    /// The group that looks after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maintainer_group_id: Option<ObjectId>,
}

impl ResourceMaintainerSpec {
    /// Both ends; without either the assignment means nothing.
    pub fn ends(&self) -> impl Iterator<Item = ObjectId> {
        [
            Some(self.resource_id),
            self.maintainer_id,
            self.maintainer_group_id,
        ]
        .into_iter()
        .flatten()
    }
}

/// Nothing is observed of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct ResourceMaintainerStatus {}

impl Resource for ResourceMaintainer {
    const KIND: Kind = Kind::ResourceMaintainer;
    const SCOPE: Scope = Scope::System;
    const NAMED: bool = false;
    const RULES: Rules = Rules {
        references: &[
            Reference::to("maintainer", Kind::Maintainer),
            Reference::to("maintainer_group", Kind::MaintainerGroup),
        ],
        anything: Some(Anything {
            field: "resource",
            or_system: false,
        }),
        update: ByPeople::Never("delete it and make another"),
        ..Rules::plain("Who looks after what")
    };
    type Spec = ResourceMaintainerSpec;
    type Status = ResourceMaintainerStatus;

    fn example() -> ResourceMaintainerSpec {
        ResourceMaintainerSpec {
            resource_id: ObjectId::from_u128(1),
            maintainer_id: Some(ObjectId::from_u128(2)),
            maintainer_group_id: None,
        }
    }

    fn validate(spec: &ResourceMaintainerSpec) -> Result<(), Invalid> {
        match (spec.maintainer_id, spec.maintainer_group_id) {
            (Some(_), None) | (None, Some(_)) => Ok(()),
            (None, None) => Err(Invalid::new(
                "maintainer",
                "is missing: name a maintainer as `maintainer` or a group as `maintainer_group`",
            )),
            (Some(_), Some(_)) => Err(Invalid::new(
                "maintainer_group",
                "is one too many: name a maintainer or a group, not both",
            )),
        }
    }

    fn print(
        _: &Meta,
        spec: &ResourceMaintainerSpec,
        _: &ResourceMaintainerStatus,
        print: &mut Print,
    ) {
        let who = spec.maintainer_id.or(spec.maintainer_group_id);
        let who = who.unwrap_or(ObjectId::NIL);
        print.claim(
            space::PAIR,
            format!("resource_maintainer/{}/{who}", spec.resource_id),
        );
        for end in spec.ends() {
            print.key(key::MAINTAINER_END, end.to_string());
        }
    }
}
