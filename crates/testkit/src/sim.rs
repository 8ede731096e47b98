//! The whole control plane in one thread, from one seed.
//!
//! Controllers, agents and clients are the product's own code, each on a simulated machine with its own
//! runtime; between them is a simulated network (with the real TLS over it), under them are simulated disks and
//! guests. Time is virtual, chance follows from the seed, and so a run can be repeated event by event.
//!
//! A run has three parts: the cluster is made and joined as people would do it; then clients work while a
//! nemesis breaks things; then the faults end, and within a bound everything must have come to rest.
//!
//! Outside: the log's files and SQLite, which have threads of their own (their crash states are enumerated where
//! they live), and the order in which a paused process sees time: a machine here is held up by its network and
//! its disk, its clock goes on.

mod api;
mod clients;
mod clock;
mod controller;
mod graves;
mod host;
mod judge;
mod ledger;
mod nemesis;
mod setup;
mod shadow;
mod system;
mod trace;
mod witness;
mod world;

pub use nemesis::Faults;
pub use trace::Digest;
pub use world::{Options, Report, run};
