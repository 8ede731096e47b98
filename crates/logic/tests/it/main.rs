//! The rules as stories over a state in memory.
#![allow(clippy::unwrap_used)]

mod access;
mod addresses;
mod addresses_random;
mod asking;
mod credentials;
mod disks;
mod hosts;
mod images;
mod net;
mod networks;
mod placing;
mod pools;
mod random;
mod reading;
mod requests;
mod tenants;
mod vms;
mod world;
