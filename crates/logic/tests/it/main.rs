//! The rules as stories over a state in memory.
#![allow(clippy::unwrap_used)]

mod access;
mod alerts;
mod asking;
mod billing;
mod configs;
mod credentials;
mod hosts;
mod instances;
mod kubernetes;
mod ontologies;
mod placing;
mod random;
mod reading;
mod requests;
mod tenants;
mod vms;
mod world;
