//! An alert: something is wrong, by a rule of the controllers', until that rule says that it is over.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use virtflow_types::{ObjectId, Timestamp};

use crate::print::space;
use crate::{ByPeople, Invalid, Kind, Meta, Print, Resource, Rules, Scope};

/// An alert.
#[derive(Debug)]
pub enum Alert {}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing.
    #[default]
    Info,
    /// May become worse.
    Warning,
    /// Something does not work.
    Error,
    /// Much does not work.
    Critical,
}

/// Whether it is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AlertState {
    /// It is not.
    #[default]
    #[serde(alias = "raised")]
    Active,
    /// It is.
    Resolved,
}

/// What is wrong. Only `silenced_until` is for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AlertSpec {
    /// The rule that raised it: `host_lost`.
    pub rule: String,
    /// Kind of the object that it is about.
    pub source_kind: Kind,
    /// The object; it may be gone by now.
    pub source_id: ObjectId,
    /// Its name at the time.
    #[serde(default)]
    pub source_name: String,
    /// How bad it is.
    pub severity: Severity,
    /// One sentence for people.
    pub message: String,
    /// Until when nobody wants to hear of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silenced_until: Option<Timestamp>,
}

/// Whether it is over.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct AlertStatus {
    /// Whether it is over.
    pub state: AlertState,
    /// Since when it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved_at: Option<Timestamp>,
    /// When its record may leave the state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retire_at: Option<Timestamp>,
}

impl Resource for Alert {
    const KIND: Kind = Kind::Alert;
    const SCOPE: Scope = Scope::Either;
    const NAMED: bool = false;
    const RULES: Rules = Rules {
        create: ByPeople::Never("the controllers' own rules raise alerts"),
        delete: ByPeople::Never("it goes some time after it is over; silence it until then"),
        ..Rules::plain("Something is wrong with an object, until it is over")
    };
    type Spec = AlertSpec;
    type Status = AlertStatus;

    fn example() -> AlertSpec {
        AlertSpec {
            rule: "host_lost".into(),
            source_kind: Kind::Baremetal,
            source_id: ObjectId::from_u128(1),
            source_name: "host-1".into(),
            severity: Severity::Critical,
            message: "host `host-1` is silent".into(),
            silenced_until: None,
        }
    }
    fn validate(spec: &AlertSpec) -> Result<(), Invalid> {
        Invalid::text("rule", &spec.rule, 63)?;
        Invalid::text("source_name", &spec.source_name, 63)?;
        Invalid::text("message", &spec.message, 512)
    }
    fn validate_update(old: &AlertSpec, new: &AlertSpec) -> Result<(), Invalid> {
        let silenced_until = new.silenced_until;
        if (AlertSpec { silenced_until, ..old.clone() }) == *new {
            Ok(())
        } else {
            Err(Invalid::new("message", "of an alert, only `silenced_until` changes"))
        }
    }
    /// One of a rule about an object, as long as it is not over.
    fn print(_: &Meta, spec: &AlertSpec, status: &AlertStatus, print: &mut Print) {
        match status.retire_at {
            Some(at) => print.expires(at),
            None => print.claim(space::ALERT, format!("{}/{}", spec.source_id, spec.rule)),
        };
    }
}
