//! The rules as stories over a state in memory.
#![allow(clippy::unwrap_used)]

mod access;
mod asking;
mod cloud_boxes;
mod credentials;
mod filters;
mod help;
mod hosts;
mod people;
mod placing;
mod random;
mod reading;
mod requests;
mod roles;
mod tenants;
mod user_groups;
mod vms;
mod world;
