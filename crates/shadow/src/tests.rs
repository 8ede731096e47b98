//! The shadow against the state, through crashes, installs and damage.

mod backup;
mod crash;
mod equal;
mod fuzz;
mod install;
mod machine;
mod open;
pub(crate) mod power;
mod read;
mod size;
