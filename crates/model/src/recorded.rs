//! The status of what is recorded but cannot be realised yet: it says so, and claims nothing more.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RecordedPhase {
    /// Written down; nothing was made of it.
    #[default]
    Pending,
}

/// Why it is no further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RecordedReason {
    /// Nothing in this version realises its kind.
    #[default]
    NotAvailable,
}

/// What is known of it: that it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Recorded {
    /// How far it is.
    pub phase: RecordedPhase,
    /// Why it is no further.
    pub reason: RecordedReason,
}
