//! VirtFlow itself on a [`rig`](crate::rig): controllers and hosts as machines of their own, run by
//! the programs that a user would run, with the configuration files that a user would write.
//!
//! [`Place`] knows the machines and their daemons, [`Person`] somebody with the command line tool,
//! [`Api`] somebody with curl. [`Cloud`] is all of it, started in one go, for tests. Nothing here
//! shares a line of code with the programs: what they say is JSON, files and exit codes.

mod api;
pub mod json;
mod person;
mod place;
pub mod shadow;
mod whole;

pub use api::{Answer, Api, Connection, Sent};
pub use person::{Person, Refusal};
pub use place::{
    AGENT, CONTROLLER, Cluster, HOST_MEMORY_MIB, HOST_STORAGE_GIB, Hypervisor, Place, Plan,
};
pub use whole::{Cloud, GROUP, SMALL_MEMORY_MIB, SPECIFICATION, TENANT};
