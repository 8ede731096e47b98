//! The rules as stories over a state in memory.
#![allow(clippy::unwrap_used)]

mod access;
mod addresses;
mod addresses_random;
mod alerts;
mod asking;
mod billing;
mod cloud_boxes;
mod configs;
mod credentials;
mod discovery;
mod disks;
mod filters;
mod help;
mod hosts;
mod images;
mod instances;
mod kubernetes;
mod net;
mod networks;
mod numbers;
mod ontologies;
mod people;
mod placing;
mod pools;
mod random;
mod reading;
mod rental;
mod requests;
mod roles;
mod tenants;
mod upgrades;
mod user_groups;
mod vms;
mod world;
