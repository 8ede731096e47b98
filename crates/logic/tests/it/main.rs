//! The rules as stories over a state in memory.
#![allow(clippy::unwrap_used)]

mod access;
mod alerts;
mod asking;
mod billing;
mod cloud_boxes;
mod configs;
mod credentials;
mod filters;
mod help;
mod hosts;
mod instances;
mod kubernetes;
mod ontologies;
mod people;
mod placing;
mod random;
mod reading;
mod requests;
mod roles;
mod story;
mod tenants;
mod user_groups;
mod vms;
mod world;
