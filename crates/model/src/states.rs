//! Administrative states that kinds share.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Whether something is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ActiveState {
    /// In use.
    #[default]
    Active,
    /// Kept, but nothing new refers to it.
    Inactive,
}
