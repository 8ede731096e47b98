//! Amounts as quotas and capacity count them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Amounts of what VMs take, as quotas and capacity count them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Amounts {
    /// Whole vCPUs.
    #[serde(default)]
    pub cpu_cores: u64,
    /// MiB of memory.
    #[serde(default)]
    pub memory_mib: u64,
    /// GiB of storage.
    #[serde(default)]
    pub storage_gib: u64,
}
