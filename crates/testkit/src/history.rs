//! Checkers for recorded runs: what clients asked and were told, held against what a cluster promises.
//!
//! A run is a list of [`Operation`]s on named registers, each with the times of its call and of its
//! answer, and the committed [`Log`]. Keys, values and requests are opaque texts. A value may be a
//! version or a serial; unique ones make the checkers sharper, for two equal ones cannot be told apart.
//!
//! - [`witness::check`] takes the log as the order of all effects and asks whether every answer agrees
//!   with it. It takes n log n steps, so it is the one for long runs.
//! - [`linear::check`] knows neither log nor indexes. It looks for any order that explains the answers,
//!   key by key, and so also finds what a log that lies would hide. It is meant for short runs.
//! - [`watch::check`] holds what a watcher was sent against the log.
//!
//! Not checked here: that the cluster makes progress, that replicas are equal, and that a conditional
//! write was refused for the right reason beyond its condition. An operation writes one key at most.
//!
//! Times are one clock's. Two operations that touch at one instant count as concurrent, unless one
//! client made both.

mod effects;
mod floor;
pub mod linear;
mod log;
mod operation;
mod replay;
mod values;
mod violation;
pub mod watch;
pub mod witness;

pub use log::{Change, Entry, Log, Step};
pub use operation::{Call, Condition, Image, Operation, Outcome};
pub use violation::{Named, ValueFault, Violation};

#[cfg(test)]
mod tests;
