//! The shadow against the state, through crashes, installs and damage.

mod backup;
mod crash;
mod cuts;
mod equal;
mod flips;
mod fuzz;
mod install;
mod machine;
mod open;
mod power;
mod read;
mod search;
mod size;
