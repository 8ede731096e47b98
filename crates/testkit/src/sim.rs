//! The whole control plane in one thread, from one seed.
//!
//! Controllers, agents and clients are the product's own code, each on a simulated machine with its own
//! runtime; between them is a simulated network (with the real TLS over it), under them are simulated disks and
//! guests. Time is virtual, chance follows from the seed, and so a run can be repeated event by event.
//!
//! A run has three parts: the cluster is made and joined as people would do it; then clients work while a
//! nemesis breaks things; then the faults end, and within a bound everything must have come to rest.
//!
//! A machine is two things: its kernel, which the network knows, and the process on it, with a runtime of its
//! own that is turned by the simulation, or stands still as after SIGSTOP.
//!
//! Outside: the log's files and SQLite, which have threads of their own (their crash states are enumerated where
//! they live).

mod api;
mod catalogue;
mod clients;
mod clock;
mod controller;
mod graves;
mod host;
mod judge;
mod kernel;
mod ledger;
mod machines;
mod nemesis;
mod process;
mod setup;
mod shadow;
mod skew;
mod system;
mod trace;
mod watcher;
#[path = "../../raft/tests/common/whole.rs"]
mod whole;
mod witness;
mod world;

pub use nemesis::Faults;
pub use trace::Digest;
pub use world::{Options, Report, run};
