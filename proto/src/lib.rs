//! The wire between VirtFlow's parts, generated from the `.proto` files beside this crate.
//!
//! Packages are versioned; a field's meaning never changes once released.

pub mod bounded;

/// Agents and controllers.
pub mod agent {
    /// Version 1.
    #[allow(
        clippy::all,
        reason = "generated code, which changes with its generator"
    )]
    pub mod v1 {
        tonic::include_proto!("virtflow.agent.v1");
    }
}

/// Controllers among themselves.
pub mod raft {
    /// Version 1.
    #[allow(
        clippy::all,
        reason = "generated code, which changes with its generator"
    )]
    pub mod v1 {
        tonic::include_proto!("virtflow.raft.v1");
    }
}
