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
    /// Whole GPUs.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub gpus: u64,
}

fn is_zero(amount: &u64) -> bool {
    *amount == 0
}

/// Room as hosts hand it out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Room {
    /// Thousandths of a schedulable CPU, overcommit included.
    pub cpu_milli: u64,
    /// MiB of memory, overcommit included.
    pub memory_mib: u64,
    /// GiB of storage, overcommit included.
    pub storage_gib: u64,
    /// Whole GPUs.
    pub gpus: u64,
}

/// What hosts have together. It follows from their accounts whenever it is read, and is kept nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Capacity {
    /// Number of hosts.
    pub hosts: u64,
    /// What they can hand out.
    pub total: Room,
    /// What is promised of it.
    pub allocated: Room,
    /// What is left.
    pub available: Room,
}
