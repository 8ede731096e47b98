//! The VirtFlow agent: makes the virtual machines of one host what they should be.
//!
//! ```text
//! session   orders in, observations out     identity  key, certificate, where controllers are
//!    |                                      inventory what the machine has, how busy it is
//! local     orders on disk                  status    how the agent is
//!    |
//! reconcile one task a VM: look, decide, step
//!    |
//! hypervisor libvirt | simulated   <-  xml  definitions, written and read back
//! ```
//!
//! The agent may stop, crash, be upgraded or removed at any time: no guest notices.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod agent;
pub mod arguments;
pub mod check;
pub mod config;
pub mod desired;
pub mod hypervisor;
pub mod identity;
pub mod inventory;
pub mod local;
pub mod logging;
mod memory;
pub mod metrics;
mod off_loop;
pub mod reconcile;
pub mod session;
mod status;
pub mod xml;

pub use agent::Agent;

#[cfg(test)]
#[global_allocator]
static MEMORY: virtflow_testkit::fuzz::memory::Counting = virtflow_testkit::fuzz::memory::Counting;
