//! A group of users: a node of its tenant's tree, with a quota that its members and all below it share.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use virtflow_types::{AccountKey, ObjectId};

use super::tenant::Quota;
use crate::{Invalid, Kind, Meta, Print, Reference, Resource, Rules, Scope};

/// Groups on the way from a group up to the top of its tree, itself included.
pub const USER_GROUP_LEVELS_MAX: usize = 8;

/// A user group.
#[derive(Debug)]
pub enum UserGroup {}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UserGroupSpec {
    /// For people.
    #[serde(default)]
    pub description: String,
    /// The group above it; absent: it stands directly under its tenant. A tree has at most 8 levels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_group_id: Option<ObjectId>,
    /// Limits of what the group and all groups below it take together.
    #[serde(default)]
    pub quota: Quota,
}

/// Nothing is observed of it directly.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct UserGroupStatus {}

impl Resource for UserGroup {
    const KIND: Kind = Kind::UserGroup;
    const SCOPE: Scope = Scope::Tenant;
    const RULES: Rules = Rules {
        references: &[Reference::within("parent_group", Kind::UserGroup)],
        ..Rules::plain("Users of a tenant who share a quota and may be given roles together")
    };
    type Spec = UserGroupSpec;
    type Status = UserGroupStatus;

    fn example() -> UserGroupSpec {
        UserGroupSpec {
            description: "Research".into(),
            quota: Quota {
                cpu_cores: Some(32),
                memory_mib: Some(131_072),
                storage_gib: Some(2048),
                vms: Some(20),
                disks: Some(40),
                addresses: Some(32),
                gpus: Some(4),
                clusters: Some(2),
            },
            ..UserGroupSpec::default()
        }
    }

    fn validate(spec: &UserGroupSpec) -> Result<(), Invalid> {
        Invalid::text("description", &spec.description, 1024)
    }

    /// What is charged to a group counts in every group above it and in the tenant.
    fn print(meta: &Meta, spec: &UserGroupSpec, _: &UserGroupStatus, print: &mut Print) {
        let above = spec.parent_group_id.or(meta.tenant);
        for (dimension, limit) in spec.quota.limits() {
            let parent = above.map(|above| AccountKey::new(above, dimension));
            print.account(dimension, limit, parent);
        }
        print.link(spec.parent_group_id);
    }
}
