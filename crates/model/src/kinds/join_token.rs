//! A one-time right to join: a host to a group, or a controller to the cluster.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use virtflow_types::{ObjectId, Timestamp};

use crate::{ByPeople, Invalid, Kind, Meta, Print, Reference, Resource, Rules, Scope};

/// A join token. Only the hash of its secret is kept.
#[derive(Debug)]
pub enum JoinToken {}

/// What may join with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum JoinRole {
    /// A host.
    #[default]
    Agent,
    /// A controller.
    Controller,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JoinTokenSpec {
    /// What may join with it.
    #[serde(default)]
    pub role: JoinRole,
    /// The group a host joins; required for hosts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_id: Option<ObjectId>,
    /// The rack a host stands in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rack_id: Option<ObjectId>,
    /// Only a machine with this serial number may use it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial_number: Option<String>,
    /// Name the host is given; absent: its own host name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_name: Option<String>,
    /// After which it is refused.
    #[serde(default)]
    pub expires_at: Timestamp,
}

/// Whether it was used.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct JoinTokenStatus {
    /// Hash of the secret, hexadecimal; never returned.
    #[serde(default)]
    pub secret_hash: String,
    /// Fingerprint of the key that used it: that key alone may use it again.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub used_by_key: String,
    /// The host or controller that came of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_for: Option<ObjectId>,
}

impl Resource for JoinToken {
    const KIND: Kind = Kind::JoinToken;
    const SCOPE: Scope = Scope::System;
    const NAMED: bool = false;
    const RULES: Rules = Rules {
        references: &[
            Reference::within("group", Kind::BaremetalGroup),
            Reference::to("rack", Kind::Rack),
        ],
        create: ByPeople::ByVerb,
        update: ByPeople::Never("delete it and make another"),
        ..Rules::plain("An invitation, by which a host or a controller joins once")
    };
    type Spec = JoinTokenSpec;
    type Status = JoinTokenStatus;

    fn example() -> JoinTokenSpec {
        JoinTokenSpec {
            group_id: Some(ObjectId::from_u128(1)),
            expires_at: Timestamp::from_ms(1_795_456_800_000),
            ..JoinTokenSpec::default()
        }
    }
    fn validate(spec: &JoinTokenSpec) -> Result<(), Invalid> {
        if spec.role == JoinRole::Agent && spec.group_id.is_none() {
            return Err(Invalid::new("group_id", "a host joins a group: name one"));
        }
        Invalid::text(
            "serial_number",
            spec.serial_number.as_deref().unwrap_or_default(),
            128,
        )
    }
    /// Once used it needs nothing any more: what it made has links of its own.
    fn print(_: &Meta, spec: &JoinTokenSpec, status: &JoinTokenStatus, print: &mut Print) {
        if status.used_by_key.is_empty() {
            print.link(spec.group_id).link(spec.rack_id);
        }
        print.expires(spec.expires_at);
    }
}
