//! A long-lived credential of a user. Shown once; only its hash is kept.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use virtflow_types::{ObjectId, Timestamp};

use crate::print::key;
use crate::{Action, ByPeople, Invalid, Kind, Meta, Owner, Print, Resource, Rules, Scope};

/// A token. Its parent is its user.
#[derive(Debug)]
pub enum ApiToken {}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApiTokenSpec {
    /// After which it is refused; absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// Permissions it is narrowed to; empty: all that its user has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub permissions: Vec<String>,
}

/// What is kept of the secret.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct ApiTokenStatus {
    /// Hash of the secret, hexadecimal; never returned.
    #[serde(default)]
    pub secret_hash: String,
    /// When it was last used, to within some minutes; absent if it never was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used_at: Option<Timestamp>,
}

impl Resource for ApiToken {
    const KIND: Kind = Kind::ApiToken;
    const SCOPE: Scope = Scope::Either;
    const RULES: Rules = Rules {
        create: ByPeople::ByVerb,
        update: ByPeople::Never("delete it and make another"),
        owner: Owner::Parent,
        own: &[Action::Read, Action::Create, Action::Delete],
        while_suspended: true,
        ..Rules::plain("A program's credential, of one user")
    };
    type Spec = ApiTokenSpec;
    type Status = ApiTokenStatus;

    fn example() -> ApiTokenSpec {
        ApiTokenSpec::default()
    }

    fn validate(spec: &ApiTokenSpec) -> Result<(), Invalid> {
        super::Role::validate(&super::role::RoleSpec {
            permissions: spec.permissions.clone(),
            ..Default::default()
        })
    }

    fn print(meta: &Meta, spec: &ApiTokenSpec, _: &ApiTokenStatus, print: &mut Print) {
        let user = meta.parent.unwrap_or(ObjectId::NIL);
        print.key(key::CREDENTIAL_USER, user.to_string());
        if let Some(at) = spec.expires_at {
            print.expires(at);
        }
    }
}
