//! The replicated state: a plain value in memory and one pure function over it.
//!
//! [`State::apply`] takes a [`Changeset`] and either makes all of its changes or none. It reads no
//! clock, draws no chance, does no I/O and knows nothing of VMs or tenants: what must never break
//! travels in the changeset as a condition (a version, a claim, a link, a limit on an account) and is
//! checked here, the same way on every replica.
//!
//! A [`State`] is made of structurally shared maps: a clone costs a few reference counts, so a reader
//! holds an unmoving image while writes go on, a snapshot needs no pause, and a leader lays what it has
//! decided but not committed over a copy.
//!
//! What is deliberately absent: kinds of objects (see `virtflow-model`), durability (`virtflow-shadow`),
//! agreement (`virtflow-raft`). [`port`] has the words in which those two meet.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod account;
mod apply;
mod changeset;
mod ledger;
mod object;
pub mod port;
mod refused;
mod state;
mod verify;
mod version;

pub use account::Account;
pub use apply::Applied;
pub use changeset::{
    Batch, CHANGESET_BYTES_MAX, CHANGESET_OPS_MAX, Changeset, DecodeError, ENTRY_BYTES_MAX, Expect,
    FORMAT, Op, Record, wire,
};
pub use object::{Change, Object};
pub use refused::Refused;
pub use state::{RecordRow, SUPPORTS_KEY, State, StreamHead};
pub use verify::{Divergence, verify};
pub use version::{CLUSTER_VERSION, ClusterVersionTooNew};
pub use virtflow_types::{
    AccountDef, AccountKey, Charge, Claim, Footprint, IndexKey, Limit, Supply, Text,
};
