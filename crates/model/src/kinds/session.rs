//! A login: what a short access token names, and what a refresh rotates.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use virtflow_types::{ObjectId, Timestamp};

use crate::print::key;
use crate::{Action, ByPeople, Invalid, Kind, Meta, Owner, Print, Resource, Rules, Scope};

/// A session. Its parent is its user.
#[derive(Debug)]
pub enum Session {}

/// What the login said of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionSpec {
    /// The device's own name for itself.
    #[serde(default)]
    pub device: String,
    /// The address it came from.
    #[serde(default)]
    pub address: String,
    /// When it ends, whatever happens.
    pub expires_at: Timestamp,
}

/// What rotates.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct SessionStatus {
    /// Hash of the refresh secret in force, hexadecimal; never returned.
    #[serde(default)]
    pub refresh_hash: String,
    /// How often it was rotated.
    #[serde(default)]
    pub rotations: u64,
    /// When something was last asked in it, to within some minutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_active_at: Option<Timestamp>,
}

impl Resource for Session {
    const KIND: Kind = Kind::Session;
    const SCOPE: Scope = Scope::Either;
    const NAMED: bool = false;
    const RULES: Rules = Rules {
        create: ByPeople::Never("log in: POST /api/v1/auth/login"),
        update: ByPeople::Never("log in again"),
        owner: Owner::Parent,
        own: &[Action::Read, Action::Delete],
        while_suspended: true,
        ..Rules::plain("Where a user is logged in")
    };
    type Spec = SessionSpec;
    type Status = SessionStatus;

    fn example() -> SessionSpec {
        SessionSpec {
            device: "virtflow on laptop".into(),
            address: "192.0.2.7".into(),
            expires_at: Timestamp::from_ms(1_795_456_800_000),
        }
    }

    fn validate(spec: &SessionSpec) -> Result<(), Invalid> {
        Invalid::text("device", &spec.device, 256)?;
        Invalid::text("address", &spec.address, 64)
    }

    fn print(meta: &Meta, spec: &SessionSpec, _: &SessionStatus, print: &mut Print) {
        let user = meta.parent.unwrap_or(ObjectId::NIL);
        print.key(key::CREDENTIAL_USER, user.to_string());
        print.expires(spec.expires_at);
    }
}
