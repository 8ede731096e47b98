//! Agreement: the log on disk, the transport between members, the one who decides, and who belongs.
//!
//! [`Node`] is the handle. On the leader, [`Node::decide`] evaluates a decision on the newest state,
//! committed or not, and answers once what it rests on is committed and applied. Everywhere,
//! [`Node::read`] gives an image that shows all that was acknowledged before. [`Node::changes`] tells
//! every applied entry in order.
//!
//! Invariants:
//! - A vote and an entry are flushed before they are acknowledged; neither overtakes the other.
//! - No entry is skipped. What cannot be read, or gives another state than the leader found, stops the
//!   node.
//! - Every proposal is bound to the leadership that decided it.
//! - Nothing above the flushed log reaches the shadow, nothing above the shadow's durable index is
//!   claimed by a snapshot or purged from the log.
//! - A member is its store: a wiped or restored store is refused under its old number.
//!
//! The consensus library's types stay inside this crate.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod config;
mod confirm;
mod desk;
mod digest;
mod error;
mod fatal;
mod feed;
mod files;
mod leadership;
mod link;
mod log;
mod machine;
mod measure;
mod member;
mod membership;
mod network;
mod node;
mod observe;
pub mod offline;
mod phase;
mod reads;
mod sequencer;
mod service;
#[cfg(virtflow_sim)]
mod simulated;
mod start;
mod status;
mod tasks;
mod types;
mod wire;

pub use config::{RaftConfig, RaftLimits, Timing};
pub use error::{BootstrapError, Committed, DecideError, MembershipError, ReadError, StartError};
pub use feed::{ChangeEvent, ChangeStream};
pub use leadership::Leadership;
pub use link::{MESSAGE_BYTES_MAX, PeerError, PeerTls, peer_channel_to};
#[cfg(any(test, virtflow_sim))]
pub use log::simulated::{DiskBehaviour, DiskFault, SimulatedDisk};
pub use measure::{Histogram, Measured};
pub use member::{Member, MemberInfo, MemberRole};
pub use membership::HandOverError;
pub use node::Node;
pub use service::RaftService;
pub use status::{RaftRole, RaftStatus};

#[cfg(test)]
#[global_allocator]
static MEMORY: virtflow_testkit::fuzz::memory::Counting = virtflow_testkit::fuzz::memory::Counting;
