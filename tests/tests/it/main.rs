//! One program for all of them, so that it is linked once.
#![allow(clippy::unwrap_used, reason = "a test may say so by panicking")]

mod architecture;
mod cli_kinds;
mod doors;
mod fuzzing;
mod guests;
mod leader_kill;
mod lifetimes;
mod members;
mod monitoring;
mod recipe;
mod request_ids;
mod rig;
mod snapshots;
mod sources;
mod stores;
mod support;
mod upgrades;
