//! Who holds which role over what.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use virtflow_types::ObjectId;

use crate::print::{key, space};
use crate::{Action, Anything, ByPeople, Invalid, Kind, Meta, Owner, Print, Reference, Resource, Rules, Scope};

/// A binding of a role to a subject, a user or a user group, over a scope.
#[derive(Debug)]
pub enum RoleBinding {}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RoleBindingSpec {
    /// The user; either this or a group is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject_id: Option<ObjectId>,
    /// The user group, whose direct members hold the role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject_group_id: Option<ObjectId>,
    /// The role.
    pub role_id: ObjectId,
    /// A tenant, a baremetal group or any one object; absent: the whole system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope_id: Option<ObjectId>,
}

/// Nothing is observed of a binding.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct RoleBindingStatus {}

impl Resource for RoleBinding {
    const KIND: Kind = Kind::RoleBinding;
    const SCOPE: Scope = Scope::Either;
    const NAMED: bool = false;
    const RULES: Rules = Rules {
        references: &[
            Reference::to("subject", Kind::User),
            Reference::to("subject_group", Kind::UserGroup),
            Reference::to("role", Kind::Role),
        ],
        anything: Some(Anything {
            field: "scope",
            or_system: true,
        }),
        create: ByPeople::ByVerb,
        update: ByPeople::Never("delete it and make another"),
        owner: Owner::Named("subject_id"),
        own: &[Action::Read],
        while_suspended: true,
        ..Rules::plain("Who holds which role over what")
    };
    type Spec = RoleBindingSpec;
    type Status = RoleBindingStatus;

    fn example() -> RoleBindingSpec {
        RoleBindingSpec {
            subject_id: Some(ObjectId::from_u128(1)),
            subject_group_id: None,
            role_id: ObjectId::from_u128(2),
            scope_id: Some(ObjectId::from_u128(3)),
        }
    }

    fn validate(spec: &RoleBindingSpec) -> Result<(), Invalid> {
        match (spec.subject_id, spec.subject_group_id) {
            (Some(_), None) | (None, Some(_)) => Ok(()),
            (None, None) => Err(Invalid::new(
                "subject",
                "is missing: name a user as `subject` or a group as `subject_group`",
            )),
            (Some(_), Some(_)) => Err(Invalid::new(
                "subject_group",
                "is one subject too many: name a user or a group, not both",
            )),
        }
    }

    fn validate_update(old: &RoleBindingSpec, new: &RoleBindingSpec) -> Result<(), Invalid> {
        if old == new {
            Ok(())
        } else {
            Err(Invalid::new(
                "subject_id",
                "a binding does not change; delete it and make another",
            ))
        }
    }

    fn print(_: &Meta, spec: &RoleBindingSpec, _: &RoleBindingStatus, print: &mut Print) {
        let scope = spec.scope_id.unwrap_or(ObjectId::NIL);
        for subject in [spec.subject_id, spec.subject_group_id]
            .into_iter()
            .flatten()
        {
            print
                .claim(
                    space::PAIR,
                    format!("binding/{subject}/{}/{scope}", spec.role_id),
                )
                .link(subject)
                .key(key::BINDING_SUBJECT, subject.to_string());
        }
        print.link(spec.role_id).link(spec.scope_id);
    }
}
