//! What is decided and recorded while no host carries it out yet.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where such an object is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UnrealisedPhase {
    /// Wanted; not there.
    #[default]
    Pending,
}

/// Why it is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UnrealisedReason {
    /// Hosts cannot do this yet.
    #[default]
    NotAvailable,
}

/// The status of an object that is recorded and not carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Unrealised {
    /// Where it is in its life.
    #[serde(default)]
    pub phase: UnrealisedPhase,
    /// Why it is not further.
    #[serde(default)]
    pub reason: UnrealisedReason,
}
