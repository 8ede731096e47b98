//! The controller: configuration, wiring, the REST routes, the sessions of agents, and what a leader runs.
//!
//! What it decides stands in `virtflow-logic`, how it agrees with the others in `virtflow-raft`, what it
//! keeps in `virtflow-shadow`. Here they are put together and given listeners.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod agents;
pub mod api;
pub mod app;
pub mod commands;
pub mod config;
pub mod daemon;
pub mod leader;
pub mod metrics;
mod noted;
mod off_loop;
#[cfg(virtflow_sim)]
pub mod simulated;
pub mod store;
pub mod testing;

#[cfg(test)]
#[global_allocator]
static MEMORY: virtflow_testkit::fuzz::memory::Counting = virtflow_testkit::fuzz::memory::Counting;
