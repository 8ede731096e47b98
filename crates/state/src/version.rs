//! The cluster version: which stored formats and operations every member can read, and so may be used.

/// The newest cluster version that this code reads and writes.
pub const CLUSTER_VERSION: u32 = 1;

/// A state is of a cluster version that this software does not support: it must neither be changed nor answered from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the cluster is at version {needed}, this controller supports {supports} at most; install a release that supports \
     {needed} on this machine: `virtflow upgrade status` shows what the others run"
)]
pub struct ClusterVersionTooNew {
    /// The version that the state is at.
    pub needed: u32,
    /// The highest that this software supports.
    pub supports: u32,
}

impl ClusterVersionTooNew {
    /// Refuses what is above what is supported.
    pub fn check(needed: u32, supports: u32) -> Result<(), Self> {
        if needed > supports {
            return Err(Self { needed, supports });
        }
        Ok(())
    }
}
