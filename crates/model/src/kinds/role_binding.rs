//! Who holds which role over what.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use virtflow_types::ObjectId;

use crate::print::{key, space};
use crate::{Action, ByPeople, Invalid, Kind, Meta, Owner, Print, Reference, Resource, Rules, Scope};

/// A binding of a role to a subject over a scope.
#[derive(Debug)]
pub enum RoleBinding {}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RoleBindingSpec {
    /// The user.
    pub subject_id: ObjectId,
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
            Reference::to("role", Kind::Role),
        ],
        create: ByPeople::ByVerb,
        update: ByPeople::Never("delete it and make another"),
        owner: Owner::Named("subject_id"),
        own: &[Action::Read],
        ..Rules::plain("Who holds which role over what")
    };
    type Spec = RoleBindingSpec;
    type Status = RoleBindingStatus;

    fn example() -> RoleBindingSpec {
        RoleBindingSpec {
            subject_id: ObjectId::from_u128(1),
            role_id: ObjectId::from_u128(2),
            scope_id: Some(ObjectId::from_u128(3)),
        }
    }

    fn validate(_spec: &RoleBindingSpec) -> Result<(), Invalid> {
        Ok(())
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
        print.claim(
            space::PAIR,
            format!("binding/{}/{}/{scope}", spec.subject_id, spec.role_id),
        );
        print
            .link(spec.subject_id)
            .link(spec.role_id)
            .link(spec.scope_id)
            .key(key::BINDING_SUBJECT, spec.subject_id.to_string());
    }
}
