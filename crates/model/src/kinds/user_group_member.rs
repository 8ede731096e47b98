//! That a user is in a group.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use virtflow_types::ObjectId;

use crate::print::{key, space};
use crate::{ByPeople, Invalid, Kind, Meta, Print, Reference, Resource, Rules, Scope};

/// A membership. Its parent is the group.
#[derive(Debug)]
pub enum UserGroupMember {}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UserGroupMemberSpec {
    /// The group.
    pub user_group_id: ObjectId,
    /// The user, of the same tenant.
    pub user_id: ObjectId,
}

/// Nothing is observed of it; when it began is when it was made.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct UserGroupMemberStatus {}

impl Resource for UserGroupMember {
    const KIND: Kind = Kind::UserGroupMember;
    const SCOPE: Scope = Scope::Tenant;
    const NAMED: bool = false;
    const RULES: Rules = Rules {
        references: &[
            Reference::under("user_group", Kind::UserGroup),
            Reference::to("user", Kind::User),
        ],
        update: ByPeople::Never("delete it and make another"),
        cascades: true,
        ..Rules::plain("That a user is in a group")
    };
    type Spec = UserGroupMemberSpec;
    type Status = UserGroupMemberStatus;

    fn example() -> UserGroupMemberSpec {
        UserGroupMemberSpec {
            user_group_id: ObjectId::from_u128(1),
            user_id: ObjectId::from_u128(2),
        }
    }

    fn validate(_spec: &UserGroupMemberSpec) -> Result<(), Invalid> {
        Ok(())
    }

    fn print(_: &Meta, spec: &UserGroupMemberSpec, _: &UserGroupMemberStatus, print: &mut Print) {
        print
            .claim(
                space::PAIR,
                format!("user_group_member/{}/{}", spec.user_group_id, spec.user_id),
            )
            .link(spec.user_id)
            .key(key::MEMBER_USER, spec.user_id.to_string());
    }
}
