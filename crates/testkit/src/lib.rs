//! Clusters and hosts for tests and for the demo, and judges of what was seen there.
//!
//! The [`rig`] is a small data centre on one machine: a private network and any number of
//! machines on it, each a set of Linux namespaces of its own. [`cloud`] puts VirtFlow on it. [`guest`]
//! builds the image that the rig's virtual machines boot. [`packages`] says which Debian packages all
//! this needs. [`history`] holds what clients were told against what a cluster promises.
//! [`fuzz`] gives decoders what no encoder ever wrote.
//!
//! All of these are synchronous and share no code with VirtFlow: they start programs, kill them, ask them as a
//! user would, and look at what the kernel says about them.
//!
//! `sim` is the other way: the product's code in one thread, over a simulated network, simulated disks and
//! guests, from one seed. It exists in builds with `--cfg virtflow_sim` only.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod cloud;
pub mod command;
pub mod fuzz;
pub mod guest;
pub mod history;
pub mod machine;
pub mod packages;
pub mod poll;
pub mod prometheus;
pub mod rig;
#[cfg(virtflow_sim)]
pub mod sim;
#[cfg(virtflow_sim)]
pub mod sim_main;
