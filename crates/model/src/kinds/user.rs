//! A person or program that logs in.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use virtflow_types::{Limit, Timestamp};

use super::tenant::Quota;
use crate::print::{dimension, space};
use crate::{Action, ByPeople, Invalid, Kind, Meta, Owner, Print, Resource, Rules, Scope, checks};

/// Idempotency keys one principal may hold at once.
pub const IDEMPOTENCY_KEYS_MAX: u64 = 10_000;

/// A user. Only a user of the system has no tenant.
#[derive(Debug)]
pub enum User {}

/// What an administrator decided about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UserState {
    /// May log in.
    #[default]
    Active,
    /// May not.
    Inactive,
    /// May not, by the operator's order.
    Suspended,
    /// Has not set a password yet.
    Pending,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UserSpec {
    /// Address, unique if given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// For people.
    #[serde(default)]
    pub display_name: String,
    /// Where their picture is: an `http://` or `https://` URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub avatar_url: Option<String>,
    /// Administrative state.
    #[serde(default)]
    pub state: UserState,
    /// Limits of what this user's VMs, their addresses and this user's disks take.
    #[serde(default)]
    pub quota: Quota,
}

/// What the system keeps. The password hash is here and not in the spec: it is never returned.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct UserStatus {
    /// Argon2id in PHC form; empty if there is no password.
    #[serde(default)]
    pub password_hash: String,
    /// Until when logins are refused after repeated failures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locked_until: Option<Timestamp>,
    /// The last login.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_login_at: Option<Timestamp>,
    /// True from the moment its deletion was asked for, while what it holds is removed in batches.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deleting: bool,
}

impl Resource for User {
    const KIND: Kind = Kind::User;
    const SCOPE: Scope = Scope::Either;
    const RULES: Rules = Rules {
        create: ByPeople::ByVerb,
        delete: ByPeople::ByVerb,
        owner: Owner::Itself,
        own: &[Action::Read],
        while_suspended: true,
        ..Rules::plain("Who logs in")
    };
    type Spec = UserSpec;
    type Status = UserStatus;

    fn example() -> UserSpec {
        UserSpec {
            email: Some("ada@example.org".into()),
            display_name: "Ada".into(),
            ..UserSpec::default()
        }
    }

    fn validate(spec: &UserSpec) -> Result<(), Invalid> {
        Invalid::text("display_name", &spec.display_name, 256)?;
        if let Some(url) = &spec.avatar_url {
            checks::url("avatar_url", url)?;
        }
        spec.email.as_deref().map_or(Ok(()), Invalid::email)
    }

    /// User names are unique in the whole cloud: one logs in without naming a tenant.
    fn name_space(_: &Meta, _: &Self::Spec) -> String {
        space::names(Kind::User, None)
    }

    fn print(_meta: &Meta, spec: &UserSpec, _status: &UserStatus, print: &mut Print) {
        if let Some(email) = &spec.email {
            print.claim(space::EMAIL, email.to_lowercase());
        }
        for (dimension, limit) in spec.quota.limits() {
            print.account(dimension, limit, None);
        }
        print.account(
            dimension::IDEMPOTENCY_KEYS,
            Limit::Fixed(IDEMPOTENCY_KEYS_MAX),
            None,
        );
    }
}
