//! Something that takes time: what was asked, how far it is, how it ended.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use virtflow_types::{ObjectId, RequestId, Timestamp};

use crate::print::key;
use crate::{Action, ByPeople, Invalid, Kind, Meta, Owner, Print, Resource, Rules, Scope};

/// An operation.
#[derive(Debug)]
pub enum Operation {}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OperationState {
    /// Nothing was done yet.
    #[default]
    Pending,
    /// Under way.
    Running,
    /// Ended as asked.
    Completed,
    /// Ended otherwise; the error says how.
    Failed,
    /// Given up on request.
    Cancelled,
}

impl OperationState {
    /// The word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
    /// True once nothing more will happen.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

/// What was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OperationSpec {
    /// The verb: `virtual_machine.create`.
    pub verb: String,
    /// The kind of the object it is about.
    pub target_kind: Kind,
    /// The object it is about; it may be gone by now.
    pub target_id: ObjectId,
    /// Its name at the time.
    #[serde(default)]
    pub target_name: String,
    /// The power act it waits for, for power verbs.
    #[serde(default)]
    pub power_serial: u64,
}

/// How far it is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct OperationStatus {
    /// How far it is.
    pub state: OperationState,
    /// 0 to 100.
    #[serde(default)]
    pub progress: u32,
    /// What it waits for, or how it ended, in one sentence.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<virtflow_types::Error>,
    /// When it is given up as failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    /// The request that began it: it stands in the logs of controllers and agents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<RequestId>,
    /// When its record may leave the state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retire_at: Option<Timestamp>,
}

impl Resource for Operation {
    const KIND: Kind = Kind::Operation;
    const SCOPE: Scope = Scope::Either;
    const NAMED: bool = false;
    const RULES: Rules = Rules {
        create: ByPeople::Never("the system makes these"),
        update: ByPeople::Never("`cancel` gives one up"),
        delete: ByPeople::Never(
            "an operation goes by itself some time after it ended; `cancel` gives one up",
        ),
        owner: Owner::Creator,
        own: &[Action::Read],
        ..Rules::plain("Something that takes time")
    };
    type Spec = OperationSpec;
    type Status = OperationStatus;

    fn example() -> OperationSpec {
        OperationSpec {
            verb: "virtual_machine.create".into(),
            target_kind: Kind::VirtualMachine,
            target_id: ObjectId::from_u128(1),
            target_name: "web-1".into(),
            power_serial: 0,
        }
    }
    fn validate(_: &OperationSpec) -> Result<(), Invalid> {
        Ok(())
    }
    /// No link to its target: an operation outlives what it was about.
    fn print(_: &Meta, spec: &OperationSpec, status: &OperationStatus, print: &mut Print) {
        print
            .key(key::OPERATION_STATE, status.state.name())
            .key(key::OPERATION_TARGET, spec.target_id.to_string());
        if let Some(at) = status.retire_at {
            print.expires(at);
        }
    }
}
