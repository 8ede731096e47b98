//! The rules as stories over a state in memory.
#![allow(clippy::unwrap_used)]

mod access;
mod credentials;
mod filters;
mod hosts;
mod placing;
mod random;
mod reading;
mod requests;
mod roles;
mod tenants;
mod vms;
mod world;
